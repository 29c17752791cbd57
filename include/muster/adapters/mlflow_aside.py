"""A registry's database that makes room for a restored one: an SQLite file by its name, a PostgreSQL schema by its name."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from muster.adapters.mlflow_store import StoreUrl, connect, translated
from muster.adapters.moved_aside import MovedPaths, require_named
from muster.errors import Refused
from muster.ports import Aside, Kept

if TYPE_CHECKING:
    from sqlalchemy import Connection

SQLITE_FILES = ("", "-wal", "-shm", "-journal")


def database_aside(store: StoreUrl) -> Aside:
    """
    :raises Refused: on MySQL and MariaDB, where a database has no name that could be changed
    """
    if store.engine == "sqlite":
        return MovedPaths(tuple(store.file.with_name(store.file.name + end) for end in SQLITE_FILES))
    if store.engine == "postgresql":
        return _SchemaAside(store)
    raise Refused(
        f"{store.shown} cannot be moved aside: MySQL has no way to rename a database",
        "restore to a new, empty database, and let the catalog name that",
    )


@dataclass(frozen=True, slots=True)
class _SchemaAside:
    """The schema in which a connection finds its tables. Renaming it is one short transaction, whatever it holds."""

    store: StoreUrl

    def kept(self, stamp: str) -> Kept:
        with self._connection() as connection:
            name = _current(connection)
            before, undone = _before(name, stamp), _undone(name, stamp)
            return Kept(
                (self._told(before),) if _exists(connection, before) else (),
                (self._told(undone),) if _exists(connection, undone) else (),
                (self._told(name),) if _holds_something(connection, name) else (),
            )

    def set_aside(self, stamp: str) -> tuple[str, ...]:
        with self._connection() as connection:
            name = _current(connection)
            if not _holds_something(connection, name):
                return ()
            _rename(connection, name, _before(name, stamp))
            _execute(connection, f"CREATE SCHEMA {_quoted(name)}")
            return (self._told(_before(name, stamp)),)

    def put_back(self, stamp: str) -> tuple[str, ...]:
        with self._connection() as connection:
            name = _current(connection)
            before = _before(name, stamp)
            if not _exists(connection, before):
                return ()
            if _holds_something(connection, name):
                _rename(connection, name, _undone(name, stamp))
            else:
                _execute(connection, f"DROP SCHEMA {_quoted(name)}")
            _rename(connection, before, name)
            return (self._told(name),)

    def discard(self, stamp: str, only: Collection[str]) -> tuple[str, ...]:
        with self._connection() as connection:
            name = _current(connection)
            asides = [s for s in (_before(name, stamp), _undone(name, stamp)) if _exists(connection, s)]
            require_named([self._told(schema) for schema in asides], only)
            for schema in asides:
                _execute(connection, f"DROP SCHEMA {_quoted(schema)} CASCADE")
            return tuple(self._told(schema) for schema in asides)

    def _told(self, schema: str) -> str:
        return f"schema {schema} of {self.store.shown}"

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        with translated(self.store.shown), connect(self.store).begin() as connection:
            yield connection


def _before(name: str, stamp: str) -> str:
    return f"{name}_before_{stamp}".lower()


def _undone(name: str, stamp: str) -> str:
    return f"{name}_undone_{stamp}".lower()


def _rename(connection: Connection, name: str, to: str) -> None:
    if _exists(connection, to):
        raise Refused(f"the schema {to} is there already", "look at what is in it; rename it, or discard it")
    _execute(connection, f"ALTER SCHEMA {_quoted(name)} RENAME TO {_quoted(to)}")


def _current(connection: Connection) -> str:
    from sqlalchemy import text

    return str(connection.execute(text("SELECT coalesce(current_schema(), 'public')")).scalar_one())


def _exists(connection: Connection, name: str) -> bool:
    from sqlalchemy import text

    found = connection.execute(text("SELECT 1 FROM pg_namespace WHERE nspname = :name"), {"name": name})
    return found.first() is not None


def _holds_something(connection: Connection, name: str) -> bool:
    from sqlalchemy import text

    query = "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = :name LIMIT 1"
    return connection.execute(text(query), {"name": name}).first() is not None


def _execute(connection: Connection, statement: str) -> None:
    from sqlalchemy import text

    connection.execute(text(statement))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
