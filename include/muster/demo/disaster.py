"""The disaster: everything of the workload is removed from the disk. Only the vault is somewhere else."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from muster.demo.layout import Layout
from muster.demo.repository import DATA
from muster.errors import MusterError


@dataclass(frozen=True, slots=True)
class Loss:
    """
    Something that was destroyed.

    :param size: bytes on the disk; a hard-linked file counts wherever it is
    """

    what: str
    files: int
    size: int


def destroy(layout: Layout) -> list[Loss]:
    """
    Remove data, cache, remote, history, registry, artifacts, environment and configuration; say what was lost.

    :raises MusterError: if anything of it is still there
    """
    places = {
        "DVC workspace": layout.repository / DATA,
        "DVC cache": layout.repository / ".dvc" / "cache",
        "Git history": layout.repository / ".git",
        "DVC remote": layout.remote,
        "MLflow database": layout.registry / "mlflow.db",
        "model artifacts": layout.artifacts,
        "model environment": layout.environment,
        "configuration": layout.configuration,
    }
    losses = [_measure(what, place) for what, place in places.items()]
    shutil.rmtree(layout.origin)
    if layout.origin.exists():
        raise MusterError(f"{layout.origin} survived the disaster", "see who holds files in it")
    return losses


def _measure(what: str, place: Path) -> Loss:
    files = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
    return Loss(what, len(files), sum(file.stat().st_size for file in files))
