"""
What there was before the disaster, and what there is after: taken by plain means, without any of Muster's own code.

Files by SHA-256, the registry row by row, the history by Git, the models by asking them.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muster.demo.layout import Layout
from muster.demo.repository import DATA, git_environment
from muster.errors import MusterError

PROCESS_STATE = frozenset({"job_locks", "scheduler_leases"})
"""Tables of the registry that say what a running server is doing; they mean nothing to the next one."""
PACKAGES = "from importlib.metadata import distributions as d; print(*sorted(f'{x.name}=={x.version}' for x in d()))"


@dataclass(frozen=True, slots=True)
class Evidence:
    """
    The state of everything that the disaster takes; each part maps names to digests or values.

    :param answers: model URI to what it said, as hexadecimal floats
    """

    dataset: Mapping[str, str]
    history: Mapping[str, str]
    remote: Mapping[str, str]
    registry: Mapping[str, str]
    artifacts: Mapping[str, str]
    environment: Mapping[str, str]
    configuration: Mapping[str, str]
    answers: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """
    One line of the reckoning.

    :param differences: names of what is missing, new or changed; empty if all is as it was
    """

    what: str
    count: int
    by: str
    differences: tuple[str, ...]


NAMES = {
    "dataset": ("dataset files", "SHA-256"),
    "history": ("Git and DVC status", "facts"),
    "remote": ("DVC remote objects", "SHA-256"),
    "registry": ("MLflow registry rows", "every column"),
    "artifacts": ("model artifacts", "SHA-256"),
    "environment": ("packages of the model", "name, version"),
    "configuration": ("configuration", "SHA-256"),
    "answers": ("models that answer", "every bit"),
}


def testify(layout: Layout, tracking_uri: str, models: Sequence[str], rows: Mapping[str, Any]) -> Evidence:
    """
    Look at everything.

    :raises MusterError: if the model does not answer, or Git or DVC fails
    """
    python = layout.environment / "bin" / "python"
    return Evidence(
        dataset=digests(layout.repository / DATA),
        history=_history(layout.repository),
        remote=digests(layout.remote),
        registry=registry_rows(layout.registry / "mlflow.db"),
        artifacts=digests(layout.artifacts),
        environment=dict.fromkeys(_said([str(python), "-I", "-c", PACKAGES]).split(), "installed"),
        configuration=_configuration(layout.configuration),
        answers=ask(python, tracking_uri, models, rows),
    )


def compare(before: Evidence, after: Evidence) -> list[Comparison]:
    """Every part of the evidence, side by side."""
    found = []
    for part, (what, by) in NAMES.items():
        old, new = getattr(before, part), getattr(after, part)
        differences = tuple(sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name)))
        found.append(Comparison(what, len(old), by, differences))
    return found


def ask(python: Path, tracking_uri: str, models: Sequence[str], rows: Mapping[str, Any]) -> dict[str, list[str]]:
    """
    What the models say to some rows, in their own environment.

    :raises MusterError: if they cannot be asked; the message is the last line of what was said
    """
    script = Path(__file__).with_name("ask.py")
    quiet = {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
    command = [str(python), "-I", str(script), tracking_uri, *models]
    answers: dict[str, list[str]] = json.loads(_said(command, quiet, json.dumps(rows)))
    return answers


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder."""
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as file:
            found[str(path.relative_to(folder))] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _history(repository: Path) -> dict[str, str]:
    dvc = [sys.executable, "-m", "dvc", "--cd", str(repository), "status", "--json"]
    git = ["git", "-C", str(repository)]
    env = git_environment()
    return {
        "commit": _said([*git, "rev-parse", "HEAD"], env),
        "branch": _said([*git, "branch", "--show-current"], env),
        "uncommitted": _said([*git, "status", "--porcelain"], env),
        "dvc status": _said(dvc, env),
        "dvc status --cloud": _said([*dvc, "--cloud"], env),
    }


def registry_rows(database: Path) -> dict[str, str]:
    """Every row of every table but `PROCESS_STATE`, by its digest; a row that is there twice counts twice."""
    found = {}
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        named = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in sorted(named):
            if table in PROCESS_STATE or table.startswith("sqlite_"):
                continue
            seen: dict[str, int] = {}
            for row in connection.execute(f'SELECT * FROM "{table}"'):
                digest = hashlib.sha256(repr(row).encode()).hexdigest()
                seen[digest] = seen.get(digest, 0) + 1
                found[f"{table} {digest} {seen[digest]}"] = "present"
    return found


def _configuration(folder: Path) -> dict[str, str]:
    """Files by their bare names, since a restore may keep their folders; variables and secrets by their digests."""
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.yaml")}
    for line in (folder / "environment.env").read_text().splitlines():
        name, _, value = line.partition("=")
        found[f"env:{name}"] = hashlib.sha256(value.strip("\"'").encode()).hexdigest()
    for name, value in json.loads((folder / "secrets.json").read_text()).items():
        found[name] = hashlib.sha256(str(value).encode()).hexdigest()
    return found


def _said(command: Sequence[str], more: Mapping[str, str] | None = None, text: str = "") -> str:
    keep = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    try:
        done = subprocess.run(command, env={**keep, **(more or {})}, input=text, capture_output=True, text=True)
    except OSError as error:
        raise MusterError(f"{Path(command[0]).name} cannot be run: {error.strerror}: {command[0]}") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise MusterError(f"{Path(command[0]).name} failed: {lines[-1]}")
    return done.stdout.strip()
