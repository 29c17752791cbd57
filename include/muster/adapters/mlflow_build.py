"""A database that is being restored: nobody sees it before it is whole, and nothing is left of it if it does not become whole."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from muster.adapters import mlflow_mysql as mysql
from muster.adapters.made_folders import missing_folders, take_back
from muster.adapters.mlflow_schema import drop_unused
from muster.adapters.mlflow_store import StoreUrl, connect, translated
from muster.adapters.mlflow_unused import MARK, Unused, drop_mark, make_mark, make_unused, occupied, unused_of
from muster.domain.restore_target import sqlite_url
from muster.errors import IntegrityError, MusterError, StoreUnavailable, TargetNotEmpty

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
    tables = occupied(connection)
    if tables == [MARK]:
        raise TargetNotEmpty(f"{store.shown} is being restored to right now", "wait until that restore has ended")
    if tables:
        raise TargetNotEmpty(
            f"{store.shown} is not empty: {', '.join(sorted(tables)[:5])}", "restore to an empty database"
        )


class Building(Protocol):
    """
    A database that is being restored.

    :param store: its final place
    """

    store: StoreUrl
    connection: Connection

    def commit(self) -> StoreUrl:
        """All that was done through `connection` is written; whoever is given the URL can read it, and nobody else counts on it."""

    def publish(self) -> None:
        """It stands from now on, under its name."""


@contextmanager
def building(store: StoreUrl) -> Iterator[Building]:
    """
    An empty database to be filled, committed, compared and published, in this order.

    If the context is left by an error the place is as it was, also after `commit` and `publish`. SQLite is built in a file beside
    the wanted one and gets its name when it is published. PostgreSQL is built in one transaction; from its commit until it is
    published a mark lies in the database, locked, so that what a killed restore left is told from what somebody uses. MySQL keeps every
    table that is made, and rows whenever one is: there the mark lies in the database from the beginning, and all tables are removed
    again if the restore fails. If even that fails, since the server is gone, the next restore does it.

    :raises TargetNotEmpty: if something is there, also if it came meanwhile
    """
    ways: dict[str, Callable[[StoreUrl], AbstractContextManager[Building]]] = {
        "sqlite": _building_file,
        "postgresql": _building_schema,
        "mysql": _building_tables,
    }
    with ways[store.engine](store) as build:
        yield build


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Schema:
    store: StoreUrl
    connection: Connection
    committed: bool = False

    def commit(self) -> StoreUrl:
        with translated(self.store.shown):
            make_mark(self.connection)
            self.connection.commit()
            self.committed = True
            drop_mark(self.connection)  # not committed: so it is locked
        return self.store

    def publish(self) -> None:
        with translated(self.store.shown):
            self.connection.commit()

    def undo(self, before: Unused) -> None:
        """Rolled back, or emptied again."""
        with translated(self.store.shown):
            self.connection.rollback()
            if self.committed:
                drop_unused(self.connection)
                make_unused(self.connection, before)
                self.connection.commit()


@contextmanager
def _building_schema(store: StoreUrl) -> Iterator[_Schema]:
    with translated(store.shown), connect(store).connect() as connection:
        _require_unused(store, connection)
        before = unused_of(connection)
        drop_unused(connection)
        build = _Schema(store, connection)
        try:
            yield build
        except BaseException as error:
            _undo(build, before, error)
            raise


def _undo(build: _Schema, before: Unused, error: BaseException) -> None:
    try:
        build.undo(before)
    except MusterError as failed:
        if build.committed:
            said = error.message if isinstance(error, MusterError) else type(error).__name__
            raise IntegrityError(
                f"{said}; and {build.store.shown} could not be emptied again: {failed.message}",
                "drop its tables before somebody uses them",
            ) from error


# --- MySQL ------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Tables:
    store: StoreUrl
    connection: Connection

    def commit(self) -> StoreUrl:
        with translated(self.store.shown):
            mysql.commit_rows(self.connection)
            self.connection.commit()
        return self.store

    def publish(self) -> None:
        with translated(self.store.shown):
            mysql.drop(self.connection, [MARK])


@contextmanager
def _building_tables(store: StoreUrl) -> Iterator[_Tables]:
    require_empty(store)
    with translated(store.shown), connect(store, isolation_level="READ COMMITTED").connect() as connection:
        if not mysql.claim(connection):
            raise TargetNotEmpty(f"another restore fills {store.shown}", "wait for it")
        with mysql.locked_tables(connection) as tables:
            _require_unused(store, connection)
            mysql.drop(connection, tables)
        make_mark(connection)
        try:
            yield _Tables(store, connection)
        except BaseException:
            _take_tables_back(store, connection)
            raise


def _take_tables_back(store: StoreUrl, connection: Connection) -> None:
    """
    By another connection: this one may be broken. What failed is told, not that its traces stay: the next restore removes them.

    What is in the tables when nothing of ours was committed is somebody else's, and stays.
    """
    from sqlalchemy.exc import SQLAlchemyError

    ours = bool(connection.get_execution_options().get(mysql.COMMITTED))
    with suppress(SQLAlchemyError):
        connection.rollback()
        connection.close()
    with (
        suppress(MusterError),
        translated(store.shown),
        connect(store).connect() as another,
        mysql.locked_tables(another) as tables,
    ):
        if not ours:
            mysql.drop(another, [MARK])
            _require_unused(store, another)
        mysql.drop(another, [table for table in tables if ours or table != MARK])


# --- SQLite -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _File:
    store: StoreUrl
    partial: Path
    connection: Connection
    published: bool = False

    def commit(self) -> StoreUrl:
        with translated(self.store.shown):
            self.connection.commit()
            self.connection.close()
        return StoreUrl(sqlite_url(self.partial), self.store.shown)

    def publish(self) -> None:
        _publish(self.partial, self.store.file)
        self.published = True


@contextmanager
def _building_file(store: StoreUrl) -> Iterator[_File]:
    from sqlalchemy import event

    require_empty(store)
    made = missing_folders(store.file.parent)
    partial = store.file.with_name(f".{store.file.name}.{secrets.token_hex(4)}")
    try:
        _make_folder(store.file.parent)
        engine = connect(StoreUrl(sqlite_url(partial), store.shown))
        event.listen(engine, "connect", _no_sync)
        with translated(store.shown), engine.connect() as connection:
            build = _File(store, partial, connection)
            try:
                yield build
            except BaseException:
                if build.published:
                    store.file.unlink(missing_ok=True)
                raise
    finally:
        for path in (partial, partial.with_name(f"{partial.name}-journal")):
            with suppress(OSError):  # what failed before is what is told
                path.unlink()
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
