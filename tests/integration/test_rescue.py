"""The command line comes back with Airflow gone: in an environment of requirements-rescue.txt and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from protected_project import RESTORE, Project, contents, make_project

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def rescue_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment, built from the lock with its hashes checked."""
    home = tmp_path_factory.mktemp("rescue") / "venv"
    uv = str(Path(sys.executable).with_name("uv"))
    for command in (
        [uv, "venv", "--quiet", "--python", sys.executable, str(home)],
        [
            uv,
            "pip",
            "sync",
            "--quiet",
            "--require-hashes",
            "--python",
            str(home),
            str(ROOT / "requirements-rescue.txt"),
        ],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return home / "bin" / "python"


@pytest.fixture(scope="module")
def project(rescue_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose every command is run by the rescue environment."""
    return make_project(tmp_path_factory.mktemp("project"), rescue_python)


def test_airflow_is_not_there(rescue_python: Path) -> None:
    """The proof is worth nothing if Airflow is installed after all."""
    done = subprocess.run([str(rescue_python), "-c", "import airflow"], capture_output=True, text=True)
    assert "No module named 'airflow'" in done.stderr


def test_it_starts_and_checks_the_catalog(project: Project) -> None:
    """The commands that touch no tool need none."""
    assert project.run("--help").stdout.startswith("Usage: muster")
    assert project.ask("catalog", "check")["workloads"] == ["small"]


@pytest.mark.timeout(600)
def test_it_protects_and_brings_back(project: Project, tmp_path: Path) -> None:
    """init, snapshot, disaster, restore: by the recovery key alone, every byte comes back."""
    project.ask("init", "--recovery-key-file", str(project.recovery_key))
    project.ask("snapshot", "small")
    before = contents(project.root / "numbers" / "data")
    assert len(before) == 5
    for lost in ("numbers", "conf", "include", ".muster"):
        (project.root / lost).rename(tmp_path / f"lost-{lost.strip('.')}")
    key = ("--vault", str(project.vault), "--recovery-key-file", str(project.recovery_key))
    report = project.ask(
        *key,
        *RESTORE,
        "--to",
        f"{tmp_path}/back",
        at=tmp_path,
        MUSTER_STATE=f"{tmp_path}/state",
    )
    assert report["summary"]["passed"] is True
    assert contents(tmp_path / "back/datasets/numbers/data") == before
    assert (tmp_path / "back/configuration/conf/service.yaml").read_text() == "late_minutes: 15\n"
