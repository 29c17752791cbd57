"""Something happens to a registry that was restored, right before it is read anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from muster.adapters import mlflow_restore
from muster.adapters.mlflow_artifacts import LocalFolder
from muster.domain.fidelity import FidelityReport
from registry_seed import driven, empty_store

Meddle = Callable[[str, Path], None]
"""Called with the URL of the database that was filled and the artifact root, right before they are compared."""


@pytest.fixture
def meddling(monkeypatch: pytest.MonkeyPatch) -> Callable[[Meddle], None]:
    """Lets something happen to what was restored before it is read anew."""
    compare = mlflow_restore.compare

    def prepare(meddle: Meddle) -> None:
        def meddled(filled: Any, places: Any, locations: Any, received: Any, left_out: Any) -> Any:
            assert isinstance(received.folder, LocalFolder)
            meddle(places[0].url, received.folder.root)
            return compare(filled, places, locations, received, left_out)

        monkeypatch.setattr(mlflow_restore, "compare", meddled)

    return prepare


@pytest.fixture(params=["sqlite", "postgresql"])
def started_target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An unused place: no file, or a database that a server was started on."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/new/mlflow.db"
    server = "embedded_postgres" if request.param == "postgresql" else "mariadb"
    url = str(request.getfixturevalue(server).database())
    empty_store(driven(url), tmp_path / "unused")
    return url


def found(report: FidelityReport) -> set[tuple[str, str, str, str]]:
    """What a report names."""
    return {(d.where, d.entity, d.id, d.what) for d in report.differences}


@contextmanager
def working_in(url: str, workspace: str) -> Iterator[Any]:
    """MLflow's client as somebody uses it who has turned workspaces on."""
    import mlflow
    from mlflow.utils.workspace_context import WorkspaceContext

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ENABLE_WORKSPACES", "true")
        with WorkspaceContext(workspace):
            yield mlflow.MlflowClient(url, url)
