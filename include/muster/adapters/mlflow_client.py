"""
MLflow's own client, asked for everything that it shows of a store, without a way to write to it.

A client is in one workspace at a time. Where things lie in other ones than the default one, it is asked in each of them, as a server would
that has workspaces turned on: MLflow's stores for that ask their own method which one is meant, so neither the process's environment nor
its context is touched. Ids of models say the workspace (``team/model``); an experiment is seen as one of its workspace.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from muster.adapters.mlflow_entities import PROMPT_TAG
from muster.adapters.mlflow_store import StoreUrl, translated
from muster.adapters.mlflow_view import KINDS, View
from muster.batches import batched
from muster.domain.selection import DEFAULT_WORKSPACE, label_of
from muster.errors import IntegrityError

Item = tuple[str, str, list[Any]]
"""Kind, id, and what there is to see of it."""

PAGE = 1000
EXPERIMENTS_A_QUERY = 500
PROMPTS = f"tags.`{PROMPT_TAG}` = 'true'"
"""MLflow's searches leave prompts out, unless they are asked for by this tag."""


@dataclass(slots=True)
class _Look:
    """
    A client over one store.

    :param workspaces: those in which anything lies
    :param workspace: the one that is looked at now
    """

    client: Any = None
    workspaces: list[str] = field(default_factory=lambda: [DEFAULT_WORKSPACE])
    workspace: str = DEFAULT_WORKSPACE


@dataclass(slots=True)
class ClientView:
    """
    What MLflow's client shows of a store.

    :param unseen: kinds that it cannot show, with what it says of itself; `view` has none of them
    """

    view: View = field(default_factory=View)
    unseen: dict[str, str] = field(default_factory=dict)


def client_view(store: StoreUrl) -> ClientView:
    """
    Ask MLflow's client for everything that it shows of a store at the schema of the installed MLflow: all workspaces, all pages, deleted
    things too.

    Nothing can be written through it, and no connection is left.

    :raises IntegrityError: if MLflow does not open the store
    :raises StoreUnavailable: if the server does not answer
    """
    found = ClientView()
    with _reading_client(store) as look:
        for workspace in look.workspaces:
            look.workspace = workspace
            _add_workspace(found, store, look)
    return found


def _add_workspace(found: ClientView, store: StoreUrl, look: _Look) -> None:
    """What is seen in one workspace. A kind that cannot be shown in one of them counts as not shown at all."""
    client, workspace = look.client, look.workspace
    experiments: list[str] = []
    asked: dict[str, Callable[[], Iterator[Item]]] = {
        "experiments": lambda: _experiments(client, workspace, experiments),
        "runs": lambda: _runs(client, experiments),
        "registered models": lambda: _models(client, workspace),
        "model versions": lambda: _versions(client, workspace),
        "logged models": lambda: _logged_models(client, experiments),
        "traces": lambda: _traces(client, experiments),
    }
    for group, ask in asked.items():
        try:
            for kind, id_, item in ask():
                found.view.add(kind, id_, item)
        except Exception as error:  # noqa: BLE001 - whatever MLflow makes of rows that it does not like
            _require_answer(store, error)
            where = "" if workspace == DEFAULT_WORKSPACE else f" in the workspace {workspace}"
            found.unseen = {**dict.fromkeys(KINDS[group], f"{_said(error)}{where}"), **found.unseen}
    for kind in found.unseen:
        found.view.kinds.pop(kind, None)


def _require_answer(store: StoreUrl, error: Exception) -> None:
    """Tell a database that fails from rows that MLflow cannot show, as it could not in the source."""
    from sqlalchemy.exc import SQLAlchemyError

    cause = error.__cause__ or error
    if isinstance(cause, SQLAlchemyError):
        with translated(store.shown):
            raise cause


def _said(error: Exception) -> str:
    """What kind of error it is; its message may carry rows."""
    code = getattr(error, "error_code", None)
    return f"{type(error).__name__} {code}" if code else type(error).__name__


@contextmanager
def _reading_client(store: StoreUrl) -> Iterator[_Look]:
    """
    An `mlflow.MlflowClient` over stores that refuse to write, brought in as MLflow's plugins for other stores are.

    Ordinarily MLflow makes a default experiment when it opens a store that has none.
    """
    from mlflow import MlflowClient
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as RegistryStore
    from mlflow.tracking._model_registry.utils import _get_store_registry
    from mlflow.tracking._tracking_service.utils import _tracking_store_registry

    engine, look = _reading_engine(store), _Look()

    class Reading:
        @classmethod
        def _get_or_create_engine(cls, _uri: str) -> Any:
            return engine

        def _initialize_store_state(self) -> None:
            """Makes nothing."""

        def _get_active_workspace(self) -> str:
            return look.workspace

    scheme = f"muster-{secrets.token_hex(4)}"
    registries = (_tracking_store_registry, _get_store_registry())
    try:
        try:
            look.workspaces = _workspaces(engine)
            kind = _tracking_store(look.workspaces)
            tracking = type("ReadingTrackingStore", (Reading, kind), {})(store.url, "/nowhere")
            registry = type("ReadingRegistryStore", (Reading, RegistryStore), {})(store.url)
            registries[0].register(scheme, lambda **_: tracking)
            registries[1].register(scheme, lambda **_: registry)
            look.client = MlflowClient(f"{scheme}://store", f"{scheme}://store")
        except Exception as error:  # noqa: BLE001 - MLflow's own, and those of what it is made of
            _require_answer(store, error)
            raise IntegrityError(
                f"MLflow does not open the restored registry {store.shown}: {_said(error)}", "report this to us"
            ) from None
        yield look
    finally:
        engine.dispose()
        for known in registries:
            known._registry.pop(scheme, None)


READ_ONLY = {
    "sqlite": "PRAGMA query_only = ON",
    "postgresql": "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "mysql": "SET SESSION TRANSACTION READ ONLY",
}


def _reading_engine(store: StoreUrl) -> Any:
    from mlflow.store.db.utils import create_sqlalchemy_engine
    from sqlalchemy import event

    engine = create_sqlalchemy_engine(store.url)
    statement = READ_ONLY[store.engine]

    def only_read(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(statement)
        cursor.close()
        connection.commit()

    event.listen(engine, "connect", only_read)
    return engine


def _workspaces(engine: Any) -> list[str]:
    """Those in which an experiment or a registered model lies, and so all that there is; the default one at least."""
    import sqlalchemy as sa

    found = {DEFAULT_WORKSPACE}
    inspector = sa.inspect(engine)
    workspace: sa.ColumnClause[str] = sa.column("workspace")
    with engine.connect() as connection:
        for table in ("experiments", "registered_models"):
            if any(column["name"] == "workspace" for column in inspector.get_columns(table)):
                found |= set(connection.scalars(sa.select(workspace).select_from(sa.table(table)).distinct()))
    return sorted(found)


def _tracking_store(workspaces: list[str]) -> Any:
    """MLflow's ordinary store, which knows of no workspaces and need not ask for them, or the one that keeps them apart."""
    if workspaces == [DEFAULT_WORKSPACE]:
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        return SqlAlchemyStore
    from mlflow.store.tracking.sqlalchemy_workspace_store import WorkspaceAwareSqlAlchemyStore

    return WorkspaceAwareSqlAlchemyStore


def _pages(ask: Callable[[str | None], Any]) -> Iterator[Any]:
    token: str | None = None
    while True:
        page = ask(token)
        yield from page
        token = page.token
        if not token:
            return


def _experiments(client: Any, workspace: str, ids: list[str]) -> Iterator[Item]:
    from mlflow.entities import ViewType

    for e in _pages(lambda token: client.search_experiments(ViewType.ALL, PAGE, page_token=token)):
        ids.append(e.experiment_id)
        item = [e.name, e.artifact_location, e.lifecycle_stage, e.creation_time, e.last_update_time]
        yield "experiments", e.experiment_id, [*item, workspace]
        for key, value in e.tags.items():
            yield "experiment tags", e.experiment_id, [key, value]


def _runs(client: Any, experiments: list[str]) -> Iterator[Item]:
    from mlflow.entities import ViewType

    def asked(ids: list[str]) -> Callable[[str | None], Any]:
        return lambda token: client.search_runs(ids, "", ViewType.ALL, PAGE, page_token=token)

    for ids in batched(experiments, EXPERIMENTS_A_QUERY):
        for run in _pages(asked(ids)):
            info, data, id_ = run.info, run.data, run.info.run_id
            said = [info.status, info.lifecycle_stage, info.user_id, info.artifact_uri]
            yield "runs", id_, [info.experiment_id, *said, info.start_time, info.end_time]
            if info.run_name:
                yield "runs", id_, ["name", info.run_name]
            for kind, values in (("params", data.params), ("run tags", data.tags)):
                for key, value in values.items():
                    yield kind, id_, [key, value]
            for key, value in data.metrics.items():
                yield "latest metrics", id_, [key, repr(float(value))]


def _models(client: Any, workspace: str) -> Iterator[Item]:
    def asked(which: str | None) -> Callable[[str | None], Any]:
        return lambda token: client.search_registered_models(which, PAGE, page_token=token)

    for which in (None, PROMPTS):
        for m in _pages(asked(which)):
            id_ = label_of(workspace, m.name)
            yield "registered models", id_, [m.description, m.creation_timestamp, m.last_updated_timestamp]
            for key, value in m.tags.items():
                yield "registered model tags", id_, [key, value]
            for alias, version in m.aliases.items():
                yield "aliases", id_, [alias, str(version)]


def _versions(client: Any, workspace: str) -> Iterator[Item]:
    def asked(which: str | None) -> Callable[[str | None], Any]:
        return lambda token: client.search_model_versions(which, PAGE, page_token=token)

    for which in (None, PROMPTS):
        for v in _pages(asked(which)):
            id_ = f"{label_of(workspace, v.name)}/{v.version}"
            said = [v.source, v.run_id, v.status, v.current_stage, v.description, v.user_id, v.run_link]
            yield "model versions", id_, [*said, v.creation_timestamp, v.last_updated_timestamp]
            for key, value in v.tags.items():
                yield "model version tags", id_, [key, value]


def _logged_models(client: Any, experiments: list[str]) -> Iterator[Item]:
    def asked(ids: list[str]) -> Callable[[str | None], Any]:
        return lambda token: client.search_logged_models(ids, max_results=PAGE, page_token=token)

    for ids in batched(experiments, EXPERIMENTS_A_QUERY):
        for m in _pages(asked(ids)):
            said = [m.experiment_id, m.name, m.artifact_location, m.source_run_id, m.model_type]
            yield "logged models", m.model_id, [*said, m.creation_timestamp, m.last_updated_timestamp]
            for kind, values in (("logged model params", m.params), ("logged model tags", m.tags)):
                for key, value in (values or {}).items():
                    yield kind, m.model_id, [key, value]


def _traces(client: Any, experiments: list[str]) -> Iterator[Item]:
    def asked(ids: list[str]) -> Callable[[str | None], Any]:
        return lambda token: client.search_traces(locations=ids, max_results=500, page_token=token, include_spans=False)

    for ids in batched(experiments, EXPERIMENTS_A_QUERY):
        for trace in _pages(asked(ids)):
            t = trace.info
            yield "traces", t.trace_id, [t.experiment_id, t.state.value, t.request_time, t.execution_duration]
