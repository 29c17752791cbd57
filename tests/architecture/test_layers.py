"""Imports point one way, and the check that says so can fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]


def lint_imports(project: Path) -> subprocess.CompletedProcess[str]:
    """Check the import contracts of a checkout."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"]
    path = os.pathsep.join(str(project / part) for part in ("include", "plugins"))
    environment = {**os.environ, "PYTHONPATH": path, "COLUMNS": "200"}
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the project's code, to be spoiled."""
    for part in ("include/muster", "plugins/muster_airflow"):
        shutil.copytree(PROJECT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "pyproject.toml", tmp_path)
    return tmp_path


def test_imports_point_one_way() -> None:
    """All contracts are kept."""
    done = lint_imports(PROJECT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 kept, 0 broken" in done.stdout


@pytest.mark.parametrize(
    ("module", "statement", "contract"),
    [
        ("include/muster/domain/timing.py", "import muster.vault.vault", "imports point one way"),
        ("include/muster/vault/vault.py", "import muster.adapters.local_store", "imports point one way"),
        ("include/muster/bootstrap/platform.py", "import muster_airflow.policies", "imports point one way"),
        ("include/muster/adapters/stores.py", "def late(): import airflow.sdk", "the core knows nothing of Airflow"),
        ("include/muster/operations/seal.py", "def late(): import sqlalchemy", "only adapters touch the tools"),
        ("plugins/muster_airflow/policies.py", "def late(): import mlflow", "only adapters touch the tools"),
    ],
)
def test_an_import_that_points_the_wrong_way_is_found(
    checkout: Path, module: str, statement: str, contract: str
) -> None:
    """One forbidden import, also inside a function, breaks its contract by name."""
    with (checkout / module).open("a") as file:
        file.write(f"\n\n{statement}\n")
    done = lint_imports(checkout)
    assert done.returncode == 1
    assert f"{contract} BROKEN" in done.stdout
