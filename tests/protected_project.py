"""A small project to protect: a real DVC dataset and configuration, a catalog, a secrets file; and the command line run in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muster.adapters.local_store import LocalStore
from muster.adapters.system_clock import SystemClock
from muster.vault.vault import Passphrase, Vault
from vaults import ACTOR, CHEAP

INCLUDE = Path(__file__).parents[1] / "include"
PASSPHRASE = "correct horse battery staple"
VAULTS = "vaults:\n  primary: {url: conn:vault, passphrase: conn:passphrase}\n"
WORKLOAD = """\
workload: small
owner: ops
objectives: {rpo: 1d, rto: 15m}
datasets: [{name: numbers, repo: numbers, targets: [data]}]
configuration: {files: [conf/*.yaml], env: [THRESHOLD], secrets: [conn:token]}
vault: primary
targets:
  standby: {directory: standby}
"""


UNPROVEN = ("--override", "it was just sealed")
ALONE = ("--reason", "nobody else is here")
RESTORE = ("restore", "latest", *UNPROVEN, *ALONE)
"""Restore a point that nobody has verified, where nobody else approves."""


@dataclass(frozen=True)
class Project:
    """
    The project's folder, and the Python that runs the command line.

    :param package: the folder that has Muster; None if it is installed
    """

    root: Path
    python: Path
    package: Path | None = INCLUDE

    @property
    def vault(self) -> Path:
        return self.root / "vault"

    @property
    def recovery_key(self) -> Path:
        return self.root / "recovery-key"

    def run(self, *arguments: str, at: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        """``muster …`` in a process of its own; in the project's folder unless `at` says otherwise."""
        clean = {
            name: value for name, value in os.environ.items() if not name.startswith(("MUSTER_", "PYTHON", "VIRTUAL"))
        }
        clean |= {"PYTHONPATH": str(self.package)} if self.package else {}
        clean |= {"THRESHOLD": "0.5", "PATH": f"{self.python.parent}:{os.environ['PATH']}"}
        clean |= {"DVC_NO_ANALYTICS": "1", "XDG_STATE_HOME": str(self.root / "state")}
        return subprocess.run(
            [str(self.python), "-m", "muster", *arguments],
            cwd=at or self.root,
            env=clean | environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=240,
        )

    def ask(self, *arguments: str, **options: Any) -> Any:
        """The JSON document of a command that must succeed."""
        done = self.run("--json", *arguments, **options)
        assert done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}"
        return json.loads(done.stdout)

    def refuse(self, *arguments: str, **options: Any) -> dict[str, Any]:
        """The error of a command that must fail; its exit code is that of the process."""
        done = self.run("--json", *arguments, **options)
        error: dict[str, Any] = json.loads(done.stdout)["error"]
        assert done.returncode == error["exit_code"] != 0
        return error

    def make_vault(self) -> None:
        """As ``muster init`` does, but for a passphrase that is cheap to try: half a second less for each command that follows."""
        store = LocalStore(self.vault)
        _, recovery = Vault.create(store, Passphrase(PASSPHRASE), clock=SystemClock(), actor=ACTOR, cost=CHEAP)
        self.recovery_key.write_text(f"{recovery.text}\n")


def make_project(root: Path, python: Path = Path(sys.executable), package: Path | None = INCLUDE) -> Project:
    """Write the project; no vault yet."""
    workloads = root / "include" / "catalog" / "workloads"
    workloads.mkdir(parents=True)
    (workloads.parent / "vaults.yaml").write_text(VAULTS)
    (workloads / "small.yaml").write_text(WORKLOAD)
    (root / "conf").mkdir()
    (root / "conf" / "service.yaml").write_text("late_minutes: 15\n")
    secrets = root / ".muster" / "secrets.yaml"
    secrets.parent.mkdir()
    secrets.write_text(f"vault: {root}/vault\npassphrase: {PASSPHRASE}\ntoken: hunter2\n")
    secrets.chmod(0o600)
    _make_dataset(root / "numbers", python)
    return Project(root, python, package)


def sealed_project(root: Path) -> Project:
    """The same with a vault, and one point in it."""
    project = make_project(root)
    project.make_vault()
    project.ask("snapshot", "small")
    return project


def _make_dataset(repository: Path, python: Path) -> None:
    data = repository / "data"
    data.mkdir(parents=True)
    for part in range(5):
        (data / f"{part}.csv").write_text("".join(f"{part},{row}\n" for row in range(200 * part)))
    (data / "empty").mkdir()
    for command in (["init", "--no-scm", "-q"], ["add", "-q", "data"]):
        subprocess.run(
            [str(python), "-m", "dvc", *command], cwd=repository, check=True, env=os.environ | {"DVC_NO_ANALYTICS": "1"}
        )


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
