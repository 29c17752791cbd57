"""A database that is being restored: nobody sees it before it is whole, and nothing is left of it if it does not become whole."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muster.adapters import mlflow_mysql as mysql
from muster.adapters.made_folders import missing_folders, take_back
from muster.adapters.mlflow_schema import drop_unused, occupied
from muster.adapters.mlflow_store import StoreUrl, connect, translated
from muster.errors import MusterError, StoreUnavailable, TargetNotEmpty

if TYPE_CHECKING:
    from sqlalchemy import Connection


def require_empty(store: StoreUrl) -> None:
    """
    See that a database can be restored to; change nothing.

    An SQLite file must not be there. A database of a server may hold what MLflow makes when it starts on an empty one.

    :raises TargetNotEmpty: if something is there
    :raises SourceInvalid: if the database would not hold all text, or hides tables from this user
    :raises StoreUnavailable: if the server does not answer
    """
    if store.engine == "sqlite":
        file = store.file
        for path in (file, *(file.with_name(file.name + end) for end in ("-wal", "-shm", "-journal"))):
            if path.exists() or path.is_symlink():
                raise TargetNotEmpty(f"{path} is there already", "restore to another file, or move this one away")
        return
    with translated(store.shown), connect(store).connect() as connection:
        if store.engine == "mysql":
            mysql.require_sight(connection)
            mysql.require_utf8(connection)
        _require_unused(store, connection)


def _require_unused(store: StoreUrl, connection: Connection) -> None:
    if tables := occupied(connection):
        raise TargetNotEmpty(
            f"{store.shown} is not empty: {', '.join(sorted(tables)[:5])}", "restore to an empty database"
        )


@contextmanager
def building(store: StoreUrl) -> Iterator[Connection]:
    """
    A connection to the empty database; what was done through it appears at once when the context is left without an error.

    SQLite is built in a file beside the wanted one and gets its name at the end; on PostgreSQL all is one transaction. MySQL keeps
    every table that is made: there the rows are one transaction, and the tables are removed if it fails. If even that fails, since the
    server is gone, tables are left as MLflow makes them, which count as nothing.

    :raises TargetNotEmpty: if something is there, also if it came meanwhile
    """
    ways = {"sqlite": _building_file, "postgresql": _building_schema, "mysql": _building_tables}
    with ways[store.engine](store) as connection:
        yield connection


@contextmanager
def _building_schema(store: StoreUrl) -> Iterator[Connection]:
    with translated(store.shown), connect(store).begin() as connection:
        _require_unused(store, connection)
        drop_unused(connection)
        yield connection


@contextmanager
def _building_tables(store: StoreUrl) -> Iterator[Connection]:
    require_empty(store)
    with translated(store.shown), connect(store, isolation_level="READ COMMITTED").connect() as connection:
        if not mysql.claim(connection):
            raise TargetNotEmpty(f"another restore fills {store.shown}", "wait for it")
        _drop_tables(store, connection)
        try:
            yield connection
            connection.commit()
        except BaseException:
            _take_tables_back(store, connection)
            raise


def _drop_tables(store: StoreUrl, connection: Connection, *, used: bool = False) -> None:
    """
    Drop all tables, while nobody else can put something into them.

    :param used: whatever is in them
    :raises TargetNotEmpty: if something is in them, and may be somebody else's
    """
    with mysql.locked_tables(connection) as tables:
        if not used:
            _require_unused(store, connection)
        mysql.drop(connection, tables)


def _take_tables_back(store: StoreUrl, connection: Connection) -> None:
    """By another connection: this one may be broken. What failed is told, not that its traces stay: the next restore removes them."""
    from sqlalchemy.exc import SQLAlchemyError

    ours = bool(connection.get_execution_options().get(mysql.COMMITTED))
    with suppress(SQLAlchemyError):
        connection.rollback()
        connection.close()
    with suppress(MusterError), translated(store.shown), connect(store).connect() as another:
        _drop_tables(store, another, used=ours)


@contextmanager
def _building_file(store: StoreUrl) -> Iterator[Connection]:
    from sqlalchemy import event

    require_empty(store)
    made = missing_folders(store.file.parent)
    partial = store.file.with_name(f".{store.file.name}.{secrets.token_hex(4)}")
    try:
        _make_folder(store.file.parent)
        engine = connect(StoreUrl(f"sqlite:///{partial}", store.shown))
        event.listen(engine, "connect", _no_sync)
        with translated(store.shown), engine.begin() as connection:
            yield connection
        _publish(partial, store.file)
    finally:
        for path in (partial, partial.with_name(f"{partial.name}-journal")):
            path.unlink(missing_ok=True)
        take_back(made)


def _no_sync(connection: Any, _record: Any) -> None:
    """The file is synced once, as a whole, before it gets its name."""
    connection.execute("PRAGMA synchronous = OFF")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailable(f"{folder} cannot be made: {error.strerror}", "see its place and permissions") from None


def _publish(partial: Path, file: Path) -> None:
    """Give the file its name, which a rename would take from another one."""
    for path in (partial, file.parent):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    try:
        os.link(partial, file)
    except FileExistsError:
        raise TargetNotEmpty(
            f"{file} appeared during the restore", "see who made it; nothing was overwritten"
        ) from None
    except OSError as error:
        raise StoreUnavailable(f"{file} cannot be made: {error.strerror}", "see its file system") from None
