"""The databases behind MLflow: how they are named, and opened for one consistent look."""

from __future__ import annotations

import re
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muster.adapters import mlflow_mysql as mysql
from muster.adapters.beside import beside
from muster.adapters.sqlite_copy import copy_sqlite
from muster.domain.restore_plan import without_secrets
from muster.domain.restore_target import sqlite_url
from muster.errors import MusterError, SourceInvalid, StoreUnavailable

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine
    from sqlalchemy.exc import DBAPIError

POSTGRESQL = "postgresql+psycopg2"
_SPELLED = "write /, : and @ of a password as %2F, %3A and %40"


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """
    The URL of a database, as SQLAlchemy wants it.

    ``postgresql://`` and ``postgres://`` are taken as psycopg2: since SQLAlchemy 2.1 the bare scheme would mean psycopg 3.
    ``mysql://`` and ``mariadb://`` are taken as PyMySQL.

    :param url: with password, so it is not shown
    """

    url: str
    shown: str

    @staticmethod
    def parse(url: str) -> StoreUrl:
        """
        :raises SourceInvalid: if the engine is none of SQLite, PostgreSQL, MySQL and MariaDB, or no file or database is named
        """
        scheme, separator, rest = url.partition("://")
        if scheme != "sqlite" and rest.partition("?")[0].count("@") > 1:
            raise SourceInvalid(
                f"{without_secrets(url)} has more than one @ before it, so that nobody can tell password and host apart",
                _SPELLED,
            )
        if separator and scheme in mysql.SCHEMES and re.match(r"[^?]*/[^/?]", rest):
            return StoreUrl(f"{mysql.DRIVER}://{rest}", without_secrets(f"mysql://{rest}"))
        if separator and scheme in ("postgresql", "postgres", POSTGRESQL):
            return StoreUrl(f"{POSTGRESQL}://{rest}", without_secrets(f"postgresql://{rest}"))
        path = rest.removeprefix("/").partition("?")[0]
        if scheme == "sqlite" and rest.startswith("/") and path not in ("", ":memory:"):
            return StoreUrl(f"sqlite:///{path}", f"sqlite:///{path}")
        raise SourceInvalid(
            f"{without_secrets(url)} names no MLflow store that can be read",
            "give sqlite:////absolute/path.db, or postgresql:// or mysql:// with user:password@host:port/database",
        )

    def __repr__(self) -> str:
        return f"StoreUrl({self.shown!r})"

    @property
    def engine(self) -> str:
        """``sqlite``, ``postgresql``, or ``mysql`` for MariaDB too: the name of SQLAlchemy's dialect."""
        return self.url.partition(":")[0].partition("+")[0]

    @property
    def file(self) -> Path:
        """The file of an SQLite store."""
        return Path(_database(self.url) if "%" in self.url else self.url.removeprefix("sqlite:///")).absolute()


def _database(url: str) -> str:
    from sqlalchemy import make_url

    return make_url(url).database or ""


_UNKNOWN_OPTION = re.compile(r"got an unexpected keyword argument '(\w+)'")
_NO_RIGHT = "42501"  # insufficient_privilege, https://www.postgresql.org/docs/current/errcodes-appendix.html
_GRANT = (
    "GRANT what is missing: for a snapshot SELECT on all tables and sequences of the schema, and BYPASSRLS where policies hide rows; for a "
    "restore CREATE on the schema"
)


@contextmanager
def translated(shown: str) -> Iterator[None]:
    """Turn what a database says into our errors, without statements, parameters or passwords."""
    try:
        yield
    except MusterError:
        raise
    except Exception as error:
        ours = _refusal(shown, error)
        if ours is None:
            raise
        raise ours from None


def _refusal(shown: str, error: Exception) -> MusterError | None:
    """What an error means; None if no database nor disk says it."""
    from sqlalchemy.exc import DBAPIError, SQLAlchemyError

    if isinstance(error, DBAPIError):
        return _refused_by_engine(shown, error)
    if isinstance(error, sqlite3.OperationalError) and ("locked" in str(error) or "is full" in str(error)):
        return StoreUnavailable(f"{shown} does not answer: {error}", "see who holds it, and the space of its disk")
    if isinstance(error, TypeError) and (unknown := _UNKNOWN_OPTION.search(str(error))):
        return SourceInvalid(f"{shown}: the driver knows no option {unknown[1]}", "leave it out of the URL")
    if isinstance(error, OSError):
        hint = "see space and permissions of the folder for temporary files"
        return StoreUnavailable(f"{shown} cannot be worked on: {error.strerror}", hint)
    if isinstance(error, _other_errors()):
        said = type(error).__name__ if isinstance(error, SQLAlchemyError) else _without_values(error)
        return SourceInvalid(f"{shown} cannot be used: {said}", "see that it is an MLflow store")
    return None


def _refused_by_engine(shown: str, error: DBAPIError) -> MusterError:
    from sqlalchemy.exc import InterfaceError, OperationalError

    if mysql.speaks(error.orig):
        return mysql.refusal(shown, error.orig)
    said = (_without_values(error.orig).splitlines() or [type(error.orig).__name__])[0]
    if getattr(error.orig, "pgcode", None) == _NO_RIGHT:
        return SourceInvalid(f"{shown} refuses: {said}", _GRANT)
    away = isinstance(error, OperationalError | InterfaceError) and not isinstance(error.orig, sqlite3.Error)
    if away or "locked" in said or "is full" in said:
        hint = "see that the server runs, that this machine may reach it, and that database and password are right"
        return StoreUnavailable(f"{shown} does not answer: {said}", hint)
    return SourceInvalid(f"{shown} refuses: {said}", "compare its schema with the one of the installed MLflow")


def _without_values(error: object) -> str:
    """What a driver says, without what stands in the row: SQLite's quotes a text that is not UTF-8."""
    return str(error).strip().partition(" with text ")[0]


def _other_errors() -> tuple[type[Exception], ...]:
    """What SQLAlchemy, SQLite and Alembic throw, this one if it was used: to import it takes half a second."""
    from sqlalchemy.exc import SQLAlchemyError

    used = sys.modules.get("alembic.util")
    return (SQLAlchemyError, sqlite3.Error, *([used.CommandError] if used else []))


def connect(store: StoreUrl, **options: Any) -> Engine:
    """
    An engine without a pool: when its connection closes, nothing of it is left.

    :raises SourceInvalid: if the URL cannot be read
    """
    from sqlalchemy import create_engine, make_url
    from sqlalchemy.pool import NullPool

    try:
        url = make_url(store.url)
    except ValueError:
        raise SourceInvalid(
            f"{store.shown} is no URL of a database: what stands where its port belongs is no number",
            _SPELLED,
        ) from None
    if store.engine == "postgresql":
        options["connect_args"] = {"connect_timeout": 10, "application_name": "muster"}
    if store.engine == "mysql":
        options["connect_args"] = mysql.arguments(url.password)
    engine = create_engine(url, poolclass=NullPool, hide_parameters=True, **options)
    if store.engine == "mysql":
        mysql.guard(engine)
    return engine


@dataclass(frozen=True, slots=True)
class Copy:
    """
    A moment of a store.

    :param file: the copy of an SQLite store; None for a server
    """

    store: StoreUrl
    file: Path | None

    @contextmanager
    def again(self, snapshot: str | None = None) -> Iterator[Connection]:
        """
        One more connection: to this moment of an SQLite store, to a server as it is now.

        :param snapshot: an earlier moment of a server, as `exported_snapshot` calls it
        """
        with translated(self.store.shown):
            if self.file is None:
                with _seeing_one_moment(self.store, snapshot) as connection:
                    yield connection
            else:
                with connect(_at(self.file, self.store)).connect() as connection:
                    yield connection

    def drop(self) -> None:
        """It is not needed any more, and may be large."""
        if self.file:
            self.file.unlink(missing_ok=True)

    def check(self) -> None:
        """
        :raises SourceInvalid: if the copy of an SQLite store is damaged
        """
        if self.file:
            with closing(sqlite3.connect(self.file)) as connection:
                (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
                if verdict != "ok":  # of tables without rowid it says so of what is sound
                    (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            if verdict != "ok":
                raise SourceInvalid(
                    f"the SQLite file {self.store.file} is damaged: {verdict}", "restore it from a recovery point"
                )


@contextmanager
def one_look(store: StoreUrl, scratch: Path) -> Iterator[tuple[Connection, Copy]]:
    """
    A connection that sees one moment of the store, whatever is written meanwhile; a copy of an SQLite store is yet to be checked.

    :param scratch: an existing folder for the copy of an SQLite store
    :raises SourceInvalid: if there is no such SQLite file (it is never created), or it is damaged
    :raises StoreUnavailable: if the server does not answer, or the file stays locked
    """
    copy = Copy(store, scratch / "store.db" if store.engine == "sqlite" else None)
    with translated(store.shown):
        if file := copy.file:
            with beside(lambda wanted: copy_sqlite(store.file, file, wanted)) as copying:
                import sqlalchemy  # noqa: F401 - takes as long as the copy

                copying.result()
    with copy.again() as connection:
        yield connection, copy


def exported_snapshot(connection: Connection) -> str | None:
    """What others may join the moment by that a connection sees, as long as its transaction is open; None but on PostgreSQL."""
    if connection.dialect.name != "postgresql":
        return None
    return str(connection.exec_driver_sql("SELECT pg_export_snapshot()").scalar_one())


@contextmanager
def _seeing_one_moment(store: StoreUrl, snapshot: str | None = None) -> Iterator[Connection]:
    with connect(store, isolation_level="REPEATABLE READ").connect() as connection:
        if store.engine == "postgresql":
            connection.execution_options(postgresql_readonly=True)
            if snapshot:  # before anything is asked
                connection.exec_driver_sql("SET TRANSACTION SNAPSHOT %s", (snapshot,))
            # all that a float has, whatever the role is set to
            connection.exec_driver_sql("SET LOCAL extra_float_digits = 3")
            # rows that a policy hides from this role are an error, not absent
            connection.exec_driver_sql("SET LOCAL row_security = off")
        if store.engine == "mysql":
            mysql.begin_look(connection)
        yield connection


def _at(file: Path, store: StoreUrl) -> StoreUrl:
    return StoreUrl(sqlite_url(file), store.shown)
