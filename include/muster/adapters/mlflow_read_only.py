"""MLflow's own client over a store that refuses to write."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from muster.adapters.mlflow_store import StoreUrl, translated
from muster.adapters.mlflow_view_further import ASKED_IF
from muster.domain.selection import DEFAULT_WORKSPACE
from muster.errors import IntegrityError


@dataclass(slots=True)
class Look:
    """
    A client over one store.

    :param holding: tables that have rows, of those that most stores have none in
    :param workspaces: those in which anything lies
    :param workspace: the one that is looked at now
    """

    client: Any = None
    holding: set[str] = field(default_factory=set)
    workspaces: list[str] = field(default_factory=lambda: [DEFAULT_WORKSPACE])
    workspace: str = DEFAULT_WORKSPACE


def require_answer(store: StoreUrl, error: Exception) -> None:
    """Tell a database that fails from rows that MLflow cannot show, as it could not in the source."""
    from sqlalchemy.exc import SQLAlchemyError

    cause = error.__cause__ or error
    if isinstance(cause, SQLAlchemyError):
        with translated(store.shown):
            raise cause


def what_said(error: Exception) -> str:
    """What kind of error it is; its message may carry rows."""
    code = getattr(error, "error_code", None)
    return f"{type(error).__name__} {code}" if code else type(error).__name__


@contextmanager
def reading_client(store: StoreUrl) -> Iterator[Look]:
    """
    An `mlflow.MlflowClient` over stores that refuse to write, brought in as MLflow's plugins for other stores are.

    Ordinarily MLflow makes a default experiment when it opens a store that has none.
    """
    from mlflow import MlflowClient
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as RegistryStore
    from mlflow.tracking._model_registry.utils import _get_store_registry
    from mlflow.tracking._tracking_service.utils import _tracking_store_registry

    engine, look = _reading_engine(store), Look()

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
            look.holding = _holding(engine)
            look.workspaces = _workspaces(engine, look.holding)
            kind = _tracking_store(look.workspaces)
            tracking = type("ReadingTrackingStore", (Reading, kind), {})(store.url, "/nowhere")
            registry = type("ReadingRegistryStore", (Reading, RegistryStore), {"_get_query": _keyless_query})(store.url)
            registries[0].register(scheme, lambda **_: tracking)
            registries[1].register(scheme, lambda **_: registry)
            look.client = MlflowClient(f"{scheme}://store", f"{scheme}://store")
        except Exception as error:  # noqa: BLE001 - MLflow's own, and those of what it is made of
            require_answer(store, error)
            raise IntegrityError(
                f"MLflow does not open the restored registry {store.shown}: {what_said(error)}", "report this to us"
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


def _keyless_query(registry: Any, session: Any, model: Any) -> Any:
    """
    The query of MLflow's own store. Webhooks come without their secrets, which would take the server's key to read, and in an order
    that does not change from page to page.
    """
    from mlflow.store.model_registry.dbmodels.models import SqlWebhook
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
    from sqlalchemy import event
    from sqlalchemy.orm import attributes, defer

    query = SqlAlchemyStore._get_query(registry, session, model)
    if model is not SqlWebhook:
        return query

    def without_secret(_session: Any, found: Any) -> None:
        if isinstance(found, SqlWebhook):
            attributes.set_committed_value(found, "secret", None)

    event.listen(session, "loaded_as_persistent", without_secret)
    return query.options(defer(SqlWebhook.secret)).order_by(SqlWebhook.webhook_id)


def _holding(engine: Any) -> set[str]:
    """Those of the tables that most stores have no rows in which are there and have some, in one statement."""
    import sqlalchemy as sa

    there = sorted({*ASKED_IF.values(), "guardrail_configs"} & set(sa.inspect(engine).get_table_names()))
    if not there:
        return set()
    with engine.connect() as connection:
        rows = [sa.exists(sa.select(sa.literal(1)).select_from(sa.table(name))).label(name) for name in there]
        found = connection.execute(sa.select(*rows)).one()
    return {name for name, holds in zip(there, found, strict=True) if holds}


def _workspaces(engine: Any, holding: set[str]) -> list[str]:
    """
    Those in which an experiment, a registered model or an evaluation dataset lies, or anything of the tables that have rows, and so all
    that is seen; the default one at least.
    """
    import sqlalchemy as sa

    found = {DEFAULT_WORKSPACE}
    inspector = sa.inspect(engine)
    workspace: sa.ColumnClause[str] = sa.column("workspace")
    with engine.connect() as connection:
        for table in ("experiments", "registered_models", "evaluation_datasets", *sorted(holding)):
            there = inspector.get_columns(table) if inspector.has_table(table) else ()
            if any(column["name"] == "workspace" for column in there):
                found |= set(connection.scalars(sa.select(workspace).select_from(sa.table(table)).distinct()))
    return sorted(found)


def _tracking_store(workspaces: list[str]) -> Any:
    """MLflow's ordinary store, which knows of no workspaces and need not ask for them, or the one that keeps them apart."""
    if workspaces == [DEFAULT_WORKSPACE]:
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        return SqlAlchemyStore
    from mlflow.store.tracking.sqlalchemy_workspace_store import WorkspaceAwareSqlAlchemyStore

    return WorkspaceAwareSqlAlchemyStore
