"""Where everything of the demonstration lies."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from muster.demo.processes import started_at
from muster.errors import Refused

PROJECT = Path(__file__).resolve().parents[3]
MARKER = "muster-demo"
OWNER = "owner.json"


@dataclass(frozen=True, slots=True)
class Layout:
    """
    The folders of a demonstration, all below one.

    :param home: ``.state/demo``; made anew at every start
    """

    home: Path

    @property
    def origin(self) -> Path:
        """All that the disaster takes: data, models, environment, configuration."""
        return self.home / "origin"

    @property
    def repository(self) -> Path:
        """The Git and DVC repository of the flights."""
        return self.origin / "flights"

    @property
    def remote(self) -> Path:
        """Its DVC remote."""
        return self.origin / "flights.remote"

    @property
    def registry(self) -> Path:
        """The MLflow server's database and artifacts."""
        return self.origin / "mlflow"

    @property
    def store_url(self) -> str:
        """Database URL of the MLflow store."""
        return f"sqlite:///{self.registry / 'mlflow.db'}"

    @property
    def artifacts(self) -> Path:
        """Artifact root of the MLflow server."""
        return self.registry / "artifacts"

    @property
    def environment(self) -> Path:
        """The Python environment in which the model answers."""
        return self.origin / "environment"

    @property
    def configuration(self) -> Path:
        """Configuration of the service that asks the model."""
        return self.origin / "configuration"

    @property
    def vault(self) -> Path:
        """The vault, which the disaster does not reach."""
        return self.home / "vault"

    @property
    def state(self) -> Path:
        """Muster's own folder: environments, wheels, reports, sandboxes."""
        return self.home / "muster"

    @property
    def airflow(self) -> Path:
        """AIRFLOW_HOME."""
        return self.home / "airflow"

    @property
    def logs(self) -> Path:
        """Output of every process that the demonstration starts."""
        return self.home / "logs"


def default_home() -> Path:
    """``$MUSTER_DEMO_HOME``, or ``.state/demo`` of the project."""
    return Path(os.environ.get("MUSTER_DEMO_HOME") or PROJECT / ".state" / "demo").absolute()


def claim(home: Path) -> Layout:
    """
    An empty home for a new demonstration. What an earlier one left there is removed; nothing else ever is.

    :raises Refused: if the folder holds something that no demonstration made, or one is running in it
    """
    if pid := owner_of(home):
        raise Refused(f"a demonstration is running in {home} (process {pid})", "end it first: make down")
    if home.exists() and any(home.iterdir()):
        if not (home / MARKER).exists():
            raise Refused(
                f"{home} holds something that no demonstration made", "set MUSTER_DEMO_HOME to an empty folder"
            )
        shutil.rmtree(home)
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)
    (home / MARKER).write_text("made by `muster demo`, which removes this folder when it starts\n")
    take_ownership(home)
    return Layout(home)


def take_ownership(home: Path) -> None:
    """Say that this process is the demonstration that runs here."""
    pid = os.getpid()
    (home / OWNER).write_text(json.dumps({"pid": pid, "started": started_at(pid)}))


def owner_of(home: Path) -> int | None:
    """The process whose demonstration is running here, or None. A process id that went to somebody else is not taken for it."""
    try:
        owner = json.loads((home / OWNER).read_text())
    except (OSError, ValueError):
        return None
    pid = int(owner["pid"])
    return pid if started_at(pid) == owner["started"] else None
