"""The newest thing with a time in what came back: the canary of a registry, the newest commit of a dataset's repository."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from muster.adapters.git_history import is_git_root, run_git
from muster.adapters.mlflow_canary import read_canary
from muster.adapters.mlflow_rest_api import RestServer
from muster.adapters.mlflow_store import StoreUrl
from muster.domain.freshness import Newest
from muster.domain.recovery_point import Component
from muster.domain.restore_target import RestoreTarget
from muster.errors import MusterError


def newest_in(target: RestoreTarget, workload: str, component: Component, server: RestServer | None) -> Newest | None:
    """
    What is found at the place of a component that was just restored. Never raises over what cannot be read: that is told in the value.

    :param server: where the registry came back to, if it is a server
    :return: None if nothing is looked for in such a component
    """
    try:
        if component.kind == "dataset":
            return newest_commit(Path(target.datasets[component.name]))
        if component.kind == "registry" and server:
            return read_canary(server, workload)
        if component.kind == "registry" and target.store:
            return read_canary(StoreUrl.parse(target.store), workload)
    except MusterError as error:
        return Newest("canary" if component.kind == "registry" else "commit", None, failure=error.message)
    return None


def newest_commit(repository: Path) -> Newest | None:
    """The newest commit of any branch or tag; None if it is no Git repository."""
    if not is_git_root(repository):
        return None
    told = run_git(repository, "log", "--all", "--max-count=1", "--format=%H %cI", accept=(0, 128)).split()
    if len(told) != 2:
        return Newest("commit", None, failure="there is no commit yet")
    return Newest("commit", datetime.fromisoformat(told[1]).astimezone(UTC), told[0])
