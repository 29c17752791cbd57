"""The command line comes back out of a rescue kit, on a machine that has Python and neither Airflow, nor Muster, nor a network."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from muster.adapters import rescue_install
from muster.vault.foreign import is_foreign
from protected_project import INCLUDE, RESTORE, Project, contents, make_project

ROOT = Path(__file__).parents[2]
NOTHING = {"PATH": os.defpath, "PIP_NO_INDEX": "1", "PIP_INDEX_URL": "http://127.0.0.1:9", "HOME": "/nowhere"}
"""Of the environment of a new machine: no package index, none of our folders."""


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One with its wheels."""
    folder = tmp_path_factory.mktemp("kit")
    told = run_muster("kit", folder / "restore.pyz", state=folder / "state")
    assert told["wheels"] > 50
    assert told["sha256"] == hashlib.sha256((folder / "restore.pyz").read_bytes()).hexdigest()
    return folder / "restore.pyz"


@pytest.fixture(scope="module")
def rescue_python(kit: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of the environment that the kit makes, whatever lies around it, and whatever this shell was told."""
    home = tmp_path_factory.mktemp("rescue") / "a folder of ada's"
    hostile = tmp_path_factory.mktemp("hostile")
    for name in ("pip", "muster", "click"):
        (hostile / f"{name}.py").write_text("raise SystemExit('what lies here was run')")
    done = install(kit, home, cwd=hostile, PYTHONPATH=str(hostile), PIP_TARGET=str(hostile), PIP_CONSTRAINT="/nowhere")
    assert done.returncode == 0, done.stderr
    assert f"{home}/bin/muster --vault VAULT points" in done.stdout
    return home / "bin" / "python"


def run_muster(*arguments: str | Path, state: Path, fails: bool = False) -> dict[str, Any]:
    """What a command of this checkout says: its result, or its error if it is to fail."""
    done = subprocess.run(
        [sys.executable, "-m", "muster", "--json", "--state", state, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(INCLUDE)},
    )
    assert bool(done.returncode) == fails, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return dict(told["error"]) if fails else told


def install(kit: Path, home: Path, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a kit as on a new machine."""
    command = [sys.executable, kit, home]
    return subprocess.run(command, capture_output=True, text=True, env=NOTHING | environment, cwd=cwd)


@pytest.fixture(scope="module")
def project(rescue_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose every command is run by the rescue environment, out of what the kit installed."""
    return make_project(tmp_path_factory.mktemp("project"), rescue_python, package=None)


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


# --- the kit ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A kit without wheels."""
    run_muster("kit", "--without-wheels", tmp_path / "bare.pyz", state=tmp_path)
    return tmp_path / "bare.pyz"


def test_the_command_is_there_and_needs_no_folder_of_ours(rescue_python: Path, tmp_path: Path) -> None:
    """It is installed, not found by a path; nothing that lies where it is run is taken for a part of it."""
    command = rescue_python.with_name("muster")
    (tmp_path / "muster.py").write_text("raise SystemExit('what lies here was run')")
    environment = NOTHING | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([command, "--version"], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.stdout.startswith("muster, version"), done.stderr


def test_the_installer_needs_nothing_but_python() -> None:
    """It runs before anything is installed."""
    tree = ast.parse(Path(rescue_install.__file__).read_text())
    names = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names


def test_the_same_kit_has_the_same_bytes(bare: Path, tmp_path: Path) -> None:
    """So its digest can be compared with that of another machine's."""
    run_muster("kit", "--without-wheels", tmp_path / "again.pyz", state=tmp_path)
    assert (tmp_path / "again.pyz").read_bytes() == bare.read_bytes()


def test_a_kit_is_never_written_over_anything(bare: Path, tmp_path: Path) -> None:
    """The one that is there may be the only one."""
    before = bare.read_bytes()
    told = run_muster("kit", "--without-wheels", bare, state=tmp_path, fails=True)
    assert "is there already" in told["message"]
    assert bare.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [bare.name]


def test_a_kit_of_another_lock_than_its_wheels_is_not_made(tmp_path: Path) -> None:
    """Whatever the index gives is held to the hashes of the lock."""
    lock = tmp_path / "lock.txt"
    lock.write_text(f"click==8.1.8 --hash=sha256:{'0' * 64}\n")
    told = run_muster("kit", "--lock", lock, tmp_path / "restore.pyz", state=tmp_path / "state", fails=True)
    assert "other bytes than the lock allows" in told["message"]
    assert not (tmp_path / "restore.pyz").exists()


def test_a_kit_without_wheels_says_that_it_needs_an_index(bare: Path, tmp_path: Path) -> None:
    """And what was begun is gone."""
    done = install(bare, tmp_path / "venv")
    assert done.returncode == 1
    assert "No matching distribution found" in done.stderr
    assert not (tmp_path / "venv").exists()


@pytest.mark.parametrize(
    "wrong",
    [{"python": "3.9"}, {"platform": "plan9-mips", "wheels": True}, {"glibc": "9.1", "wheels": True}],
)
def test_a_kit_for_another_machine_is_refused(bare: Path, tmp_path: Path, wrong: dict[str, object]) -> None:
    """Before anything is made."""
    other = tmp_path / "other.pyz"
    with zipfile.ZipFile(bare) as old, zipfile.ZipFile(other, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, json.dumps({**json.loads(content), **wrong}) if name == "kit.json" else content)
    done = install(other, tmp_path / "venv")
    assert done.returncode == 1
    assert "this kit is for" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_a_damaged_kit_installs_nothing(bare: Path, tmp_path: Path) -> None:
    """A byte of the package that changed on a disk that was kept for years."""
    data = bytearray(bare.read_bytes())
    data[len(data) // 2] ^= 1
    bare.write_bytes(data)
    done = install(bare, tmp_path / "venv")
    assert (done.returncode, "this kit is damaged" in done.stderr) == (1, True)
    assert not (tmp_path / "venv").exists()


def test_a_folder_that_is_there_is_left_alone(bare: Path, tmp_path: Path) -> None:
    """It may be somebody's."""
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / "mine").touch()
    done = install(bare, tmp_path / "venv")
    assert (done.returncode, "is there already" in done.stderr) == (1, True)
    assert [path.name for path in (tmp_path / "venv").iterdir()] == ["mine"]


def test_nobody_is_sent_to_a_program_that_lies_in_the_vault() -> None:
    """Whoever can write to the store could have put it there, and it is given the key; a verification calls it foreign."""
    said = files("muster.vault").joinpath("RESTORE.md").read_text()
    assert "Run no program that lies in the vault's own bucket" in said
    install = said.partition("## 1.")[2].partition("## 2.")[0]
    commands = [line for line in install.splitlines() if line.startswith("    ")]
    assert commands[0].split() == ["sha256sum", "restore.pyz"]
    assert not [line for line in commands if any(word in line for word in ("VAULT", "://", "aws", "curl", "wget"))]
    assert is_foreign("restore.pyz")
