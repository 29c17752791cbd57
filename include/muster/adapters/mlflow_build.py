"""A database that is being restored: nobody sees it before it is whole, and nothing is left of it if it does not become whole."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muster.adapters.made_folders import missing_folders, take_back
from muster.adapters.mlflow_schema import drop_unused, occupied
from muster.adapters.mlflow_store import StoreUrl, connect, translated
from muster.errors import StoreUnavailable, TargetNotEmpty

if TYPE_CHECKING:
    from sqlalchemy import Connection


def require_empty(store: StoreUrl) -> None:
    """
    See that a database can be restored to; change nothing.

    An SQLite file must not be there. A PostgreSQL database may hold what a server makes when it starts on an empty one.

    :raises TargetNotEmpty: if something is there
    :raises StoreUnavailable: if the server does not answer
    """
    if store.engine == "sqlite":
        file = store.file
        for path in (file, *(file.with_name(file.name + end) for end in ("-wal", "-shm", "-journal"))):
            if path.exists() or path.is_symlink():
                raise TargetNotEmpty(f"{path} is there already", "restore to another file, or move this one away")
        return
    with translated(store.shown), connect(store).connect() as connection:
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

    SQLite is built in a file beside the wanted one and gets its name at the end; on PostgreSQL all is one transaction.

    :raises TargetNotEmpty: if something is there, also if it came meanwhile
    """
    with _building_file(store) if store.engine == "sqlite" else _building_schema(store) as connection:
        yield connection


@contextmanager
def _building_schema(store: StoreUrl) -> Iterator[Connection]:
    with translated(store.shown), connect(store).begin() as connection:
        _require_unused(store, connection)
        drop_unused(connection)
        yield connection


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
