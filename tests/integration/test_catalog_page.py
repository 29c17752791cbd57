"""docs/catalog.md holds what it says: its files are a catalog, its commands run as they stand, and every field is named."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from muster.catalog import model
from protected_project import Project, contents
from registry_seed import SmallStore

PAGE = Path(__file__).parents[2] / "docs" / "catalog.md"
SETTINGS = "late_minutes: 15\n"


@pytest.fixture
def project(tmp_path: Path, small_store: SmallStore) -> Project:
    """The project folder of the page, with its files as they stand there, but for the places outside of it."""
    root = tmp_path / "my-project"
    vaults, workload, secrets = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    secrets = secrets.replace("file:///backup", f"file://{tmp_path}/backup")
    secrets = secrets.replace("sqlite:////srv/mlflow/mlflow.db", small_store.url)
    secrets = secrets.replace("/srv/mlflow/artifacts", str(small_store.artifacts))
    for name, text in (
        ("catalog/vaults.yaml", vaults),
        ("catalog/workloads/prices.yaml", workload),
        (".muster/secrets.yaml", secrets),
        ("settings/service.yaml", SETTINGS),
        ("data/history/2026.csv", "day,price\n1,10\n"),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    made = Project(root, Path(sys.executable))
    for command in (["init", "--no-scm", "-q"], ["add", "-q", "history"]):
        subprocess.run([str(made.python), "-m", "dvc", *command], cwd=root / "data", check=True)
    return made


def test_its_commands_run_as_they_stand(project: Project, small_store: SmallStore) -> None:
    """From nothing to a restored point: the data, the registry and the settings are back."""
    small_store.add_run("r")
    small_store.artifacts.mkdir(exist_ok=True)
    block = next(part for part in PAGE.read_text().split("\n\n") if part.startswith("    chmod 600"))
    commands = [shlex.split(line, comments=True) for line in block.splitlines()]
    assert len(commands) == 8
    for command in commands:
        if command[0] != "muster":
            subprocess.run(command, cwd=project.root, check=True)
            continue
        if command[1] == "doctor":
            continue  # finds fault with a missing point, which comes next
        done = project.run(*command[1:])
        assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    back = project.root / "back"
    found = contents(back)
    assert [text for name, text in found.items() if name.endswith("history/2026.csv")] == [b"day,price\n1,10\n"]
    assert SETTINGS.encode() in found.values()
    assert any(name.endswith("mlflow.db") for name in found)
    assert project.run("doctor").returncode == 0


def test_every_field_is_named() -> None:
    """Whoever adds one says what it is for."""
    entries = [one for one in vars(model).values() if isinstance(one, type) and issubclass(one, model.Entry)]
    fields = {name for entry in entries for name in entry.model_fields}
    named = set(
        re.findall(r"[a-z_]+", " ".join(re.findall(r"`([^`\n]+)`", PAGE.read_text().partition("## Every field")[2])))
    )
    assert len(fields) > 50
    assert sorted(fields - named) == []
