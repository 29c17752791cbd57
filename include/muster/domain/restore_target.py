"""Where a recovery point is put back."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Switch:
    """
    How a place is put to use.

    :param command: a program and its arguments; empty for none
    :param ready: URL that must answer with 200; None for none
    :param within_s: seconds that each of the two may take
    """

    command: tuple[str, ...] = ()
    ready: str | None = None
    within_s: float = 300.0

    @property
    def steps(self) -> tuple[str, ...]:
        """What is done, in words; two switches that say the same do the same."""
        within = f"within {self.within_s:g} s"
        run = (f"run {shlex.join(self.command)} {within}",) if self.command else ()
        return (*run, *((f"wait for 200 from {self.ready} {within}",) if self.ready else ()))


@dataclass(frozen=True, slots=True)
class RestoreTarget:
    """
    The place of every component in a restore. A component without a place is left out, and the plan says so.

    :param name: ``origin``, a target of the catalog, or the folder
    :param datasets: dataset name to the folder of its DVC repository
    :param remotes: dataset name to the URL of its default DVC remote; one that is missing is put beside the repository
    :param store: database URL of the registry's store; holds a password, so it is not shown
    :param artifacts: artifact root of the registry; may hold a password, so it is not shown
    :param auth_store: database URL of the registry's users and permissions, where they have one of their own; not shown either
    :param server: tracking URI of an MLflow server, in the place of store and artifacts; not shown
    :param token: bearer token for that server; not shown
    :param catalogued: whether the catalog names it, and it is not where the workload lives
    :param jurisdiction: whose law holds there, as the catalog says; None if it does not
    :param environment: folder of the model's Python environment
    :param configuration: folder for configuration files, variables and secrets
    :param switch: how it is put to use when all is back and proven; None if nothing is to be switched
    """

    name: str
    datasets: dict[str, str] = field(default_factory=dict)
    remotes: dict[str, str] = field(default_factory=dict)
    store: str | None = field(default=None, repr=False)
    artifacts: str | None = field(default=None, repr=False)
    environment: str | None = None
    configuration: str | None = None
    auth_store: str | None = field(default=None, repr=False)
    server: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    catalogued: bool = False
    jurisdiction: str | None = None
    switch: Switch | None = None


def percent_kept(path: str) -> str:
    """A path as it is written where ``%20`` is read as a space: in URLs, and in plain locations of MLflow."""
    return path.replace("%", "%25")


def sqlite_url(file: Path | str) -> str:
    """The URL of an SQLite database, as SQLAlchemy reads it since its version 2.1."""
    return f"sqlite:///{percent_kept(str(file)).replace('?', '%3F')}"


def target_below(directory: str, datasets: list[str]) -> RestoreTarget:
    """Everything below one folder: what a drill's sandbox and ``restore --to DIR`` use."""
    return RestoreTarget(
        name=directory,
        datasets={name: f"{directory}/datasets/{name}" for name in datasets},
        remotes={name: f"{directory}/datasets/{name}.remote" for name in datasets},
        store=sqlite_url(f"{directory}/registry/mlflow.db"),
        artifacts=percent_kept(f"{directory}/registry/artifacts"),
        environment=f"{directory}/environment",
        configuration=f"{directory}/configuration",
    )
