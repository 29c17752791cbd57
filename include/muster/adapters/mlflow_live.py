"""A registry that is in use: looked at in one moment, or written to in one transaction, by one of us at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from muster.adapters import mlflow_mysql as mysql
from muster.adapters.mlflow_revisions import revisions_of
from muster.adapters.mlflow_store import StoreUrl, connect, translated
from muster.adapters.sqlite_copy import LOCK_WAIT
from muster.errors import Refused, SourceChanged, SourceInvalid

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

ADVISORY = 0x6D7573746572
"""The key of our lock in a PostgreSQL database."""

OVERTAKEN = ("40001", "40P01", "23505")
"""What PostgreSQL calls a row that was changed meanwhile, a deadlock, and a key that somebody else put in."""


@contextmanager
def working(store: StoreUrl, *, write: bool) -> Iterator[Connection]:
    """
    A transaction on a store, which sees one moment of it; given up, unless it is committed.

    :param write: whether rows are going to be written: then nobody else writes to an SQLite file meanwhile
    :raises SourceInvalid: if there is no such SQLite file (it is never created)
    :raises StoreUnavailable: if the server does not answer, or the file or a row stays locked
    :raises SourceChanged: if somebody else wrote what this transaction has seen
    """
    if store.engine == "sqlite" and not store.file.is_file():
        raise SourceInvalid(f"there is no MLflow store {store.file}", "see which file `mlflow server` was given")
    with translated(store.shown), _overtaken(store.shown):
        if store.engine == "sqlite":
            engine = connect(store)
            _begin_by_hand(engine, "BEGIN IMMEDIATE" if write else "BEGIN")
        else:
            engine = connect(store, isolation_level="REPEATABLE READ")
        with engine.connect() as connection:
            if store.engine == "postgresql" and not write:
                connection.execution_options(postgresql_readonly=True)
            if store.engine == "postgresql" and write:
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_WAIT:.0f}s'")
            if store.engine == "mysql" and not write:
                mysql.begin_look(connection)
            yield connection
            connection.rollback()


@contextmanager
def _overtaken(shown: str) -> Iterator[None]:
    """PostgreSQL says so if a row that is locked or put in was written by somebody else meanwhile."""
    from sqlalchemy.exc import DBAPIError

    try:
        yield
    except DBAPIError as error:
        if getattr(error.orig, "pgcode", None) in OVERTAKEN:
            raise SourceChanged(f"{shown} changed just now", "look at the plan again") from None
        raise


def _begin_by_hand(engine: Engine, begin: str) -> None:
    """Python's driver would begin a transaction only before the first change, too late for what was read."""
    from sqlalchemy import event

    def connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout = {int(LOCK_WAIT * 1000)}")
        connection.execute("PRAGMA foreign_keys = ON")

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))


@contextmanager
def alone(store: StoreUrl) -> Iterator[None]:
    """
    Keep other merges out of a store, so that none counts on artifacts that another one may take back.

    :raises Refused: if one is at work
    """
    busy = Refused(f"another rollback works on {store.shown}", "wait until it has ended")
    if store.engine == "sqlite":
        handle = os.open(store.file.parent, os.O_RDONLY)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise busy from None
            except OSError:
                pass  # a file system without locks
            yield
        finally:
            os.close(handle)
        return
    with translated(store.shown), connect(store).connect() as connection:
        if not _locked(connection):
            raise busy
        yield


def _locked(connection: Connection) -> bool:
    """Whether a lock was got that lasts as long as the connection."""
    if connection.dialect.name == "mysql":
        return mysql.claim(connection)
    return bool(connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({ADVISORY})").scalar())


def require_revision(connection: Connection, store: StoreUrl, wanted: str) -> None:
    """
    See that the schema is the one that rows were captured from.

    :raises SourceInvalid: if this is no MLflow store
    :raises Refused: if it is at another revision
    """
    found = revisions_of(connection).get("alembic_version")
    if found is None:
        raise SourceInvalid(f"{store.shown} is no MLflow store", "see what `mlflow server` was given")
    if found != wanted:
        raise Refused(
            f"{store.shown} is at schema revision {found}, and the point was taken at {wanted}",
            "restore the point to a place of its own, which brings it up to date, take a point of that, and roll back to it; "
            "if the registry is the older one, `mlflow db upgrade` it first",
        )


def count_on(connection: Connection, tables: set[str]) -> None:
    """
    Let PostgreSQL go on counting after numbers that were put in by hand. The other engines do so by themselves.

    Numbers that were given out and are not there any more stay given out.
    """
    import sqlalchemy as sa

    from muster.adapters.mlflow_schema import SEQUENCES

    if connection.dialect.name != "postgresql":
        return
    for table, column, sequence, last, _ in connection.execute(sa.text(SEQUENCES)).all():
        if table in tables:
            quote = connection.dialect.identifier_preparer.quote
            connection.exec_driver_sql(f"LOCK TABLE {quote(table)} IN SHARE ROW EXCLUSIVE MODE")
            highest = connection.execute(
                sa.select(sa.func.max(sa.column(column))).select_from(sa.table(table))
            ).scalar()
            if highest and highest > (last or 0):
                connection.execute(sa.text("SELECT setval(:name, :last)"), {"name": sequence, "last": highest})
