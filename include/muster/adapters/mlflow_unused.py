"""A database that nobody uses: what a server leaves when it starts on an empty one, or what a killed restore left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from muster.adapters import mlflow_mysql as mysql
from muster.adapters.mlflow_lines import Row, in_batches
from muster.adapters.mlflow_revisions import VERSION_TABLES, revisions_of
from muster.adapters.mlflow_rows import Table, insert_rows, rows_of, tables_of
from muster.adapters.mlflow_schema import create_schema, reflected

if TYPE_CHECKING:
    from sqlalchemy import Connection

MARK = "muster_restoring"
"""A table that lies in a database from the commit of a restore until it was found whole, locked as long as the restore lives."""


@dataclass(frozen=True, slots=True)
class Unused:
    """A schema that was made and never used: its revisions, and the few rows that come with it."""

    revisions: Mapping[str, str]
    rows: tuple[tuple[Table, list[Row]], ...]


def unused_of(connection: Connection) -> Unused:
    """The unused schema that a connection sees; what a killed restore left is nothing."""
    tables = tables_of(connection)
    if MARK in tables:
        return Unused({}, ())
    seeded = [(t, list(rows_of(connection, t))) for name, t in tables.items() if name not in VERSION_TABLES]
    return Unused(revisions_of(connection), tuple((table, rows) for table, rows in seeded if rows))


def make_unused(connection: Connection, unused: Unused) -> None:
    """Make it again, in an empty database."""
    create_schema(connection, unused.revisions)
    for table, rows in unused.rows:
        insert_rows(connection, table, in_batches(rows))


def make_mark(connection: Connection) -> None:
    """Say that this database is being restored; in the transaction that fills it."""
    from sqlalchemy import text

    connection.execute(text(f"CREATE TABLE {MARK} (held boolean)"))


def drop_mark(connection: Connection) -> None:
    """Take the mark away when the transaction is committed; until then it is locked, however long that takes."""
    from sqlalchemy import text

    connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
    connection.execute(text(f"DROP TABLE {MARK}"))


def _abandoned(connection: Connection) -> bool:
    """Whether nobody holds the mark (on MySQL, the claim that comes with it): the restore that made it was killed."""
    from sqlalchemy import text
    from sqlalchemy.exc import DBAPIError

    if connection.dialect.name == "mysql":
        return mysql.claim(connection)
    try:
        with connection.begin_nested():
            connection.execute(text(f"LOCK TABLE {MARK} IN ACCESS EXCLUSIVE MODE NOWAIT"))
    except DBAPIError:
        return False
    return True


def occupied(connection: Connection) -> list[str]:
    """
    Tables that hold more than a server leaves behind when it starts on an empty database; foreign tables count in any case.

    What a killed restore left is nothing; what a living one is making is not free.
    """
    from sqlalchemy import select

    metadata = reflected(connection)
    if not metadata.tables:
        return []
    if MARK in metadata.tables:
        return [] if _abandoned(connection) else [MARK]
    return [
        name
        for name, table in metadata.tables.items()
        if name not in VERSION_TABLES
        and (
            name not in _mlflow_tables()
            or any(not _seeded(name, row._mapping) for row in connection.execute(select(table).limit(2)))
        )
    ]


def _mlflow_tables() -> set[str]:
    import mlflow.store.db.utils  # registers the models of all its stores
    from mlflow.store.db.base_sql_model import Base
    from mlflow.store.tracking.dbmodels.initial_models import Base as InitialBase

    return {*mlflow.store.db.utils.Base.metadata.tables, *Base.metadata.tables, *InitialBase.metadata.tables}


def _seeded(table: str, row: Mapping[Any, Any]) -> bool:
    if table == "workspaces":
        return bool(row["name"] == "default")
    if table == "experiments":
        return bool(row["experiment_id"] == 0 and row["name"] == "Default")
    return False
