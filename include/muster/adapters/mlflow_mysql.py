"""
MySQL and MariaDB: how a session is set up and sees one moment, how a schema is made and removed, what errors mean.

Neither undoes changes of a schema, so that a restore cannot be one transaction there: `muster.adapters.mlflow_build` removes what it
has made instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from muster.errors import IntegrityError, MusterError, SourceInvalid, StoreUnavailable

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

DRIVER = "mysql+pymysql"
SCHEMES = ("mysql", "mariadb", DRIVER, "mariadb+pymysql")
SESSION = (
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO', time_zone = '+00:00', max_sort_length = 4096,"
    " default_storage_engine = InnoDB, lock_wait_timeout = 60, net_write_timeout = 600"
)
"""
Nothing is cut to fit, the default experiment keeps its number 0, times are not moved, keys (3072 bytes at most) are sorted to their end.
"""
COMMITTED = "muster_committed"
LOOK = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"

AWAY = {1021, 1040, 1041, 1042, 1043, 1045, 1049, 1053, 1114, 1129, 1130, 1152, 1158, 1159, 1160, 1161}
AWAY |= {1205, 1213, 1226, 1317, 1412, 1698, 1927, 1969, 3024, 4031}
"""Errors of the server after which trying again may help: it is full, busy or stopping, or it does not let us in."""
RIGHTS = {1044, 1142, 1143, 1227, 1370, 1419}
UNFIT = {1062, 1264, 1292, 1366, 1406, 1452, 3140, 3141, 3157, 4025}
TOO_LARGE = 1153
NO_SUCH_TABLE = 1146
_VALUE = re.compile(r"(entry|value:|near) '.*'(?= for | at |$)", re.DOTALL)
"""Where messages repeat what is in the rows, or in the statement."""

HINTS = {
    1062: "its collation takes for equal what MLflow tells apart (case, accents, spaces at the end): make the database with"
    " CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin; on MariaDB, utf8mb4_nopad_bin",
    1366: "make the database with CHARACTER SET utf8mb4",
    1419: "MLflow makes triggers: SET GLOBAL log_bin_trust_function_creators = 1, or let a user with SUPER restore",
}


# --- sessions ---------------------------------------------------------------------------------------------------------


def arguments(password: str | None) -> dict[str, Any]:
    """What PyMySQL is given besides the URL."""
    from pymysql.constants import FIELD_TYPE
    from pymysql.converters import conversions, convert_time

    given: dict[str, Any] = {
        "charset": "utf8mb4",
        "binary_prefix": True,
        "connect_timeout": 10,
        "program_name": "muster",
        "init_command": SESSION,
        "conv": {**conversions, FIELD_TYPE.TIME: convert_time},
    }
    if password and not password.isascii():
        given["password"] = password.encode()  # PyMySQL takes it for Latin-1
    return given


def guard(engine: Engine) -> None:
    """
    Let nothing be asked while an answer is still being read: PyMySQL would drop the rest of it with a mere warning.

    :raises IntegrityError: from then on, if it is tried
    """
    from sqlalchemy import event

    def refuse(_connection: Any, cursor: Any, *_: Any) -> None:
        answer = getattr(cursor.connection, "_result", None)
        if answer is not None and answer.unbuffered_active:
            raise IntegrityError("a table was left half read", "report this to us")

    event.listen(engine, "before_cursor_execute", refuse)


def begin_look(connection: Connection) -> None:
    """
    Let a connection under REPEATABLE READ see this moment from now on, all of it.

    :raises SourceInvalid: if it cannot: some tables would be hidden from this user, or know no snapshots
    """
    connection.exec_driver_sql(LOOK)
    require_sight(connection)
    other = connection.exec_driver_sql(
        "SELECT table_name, engine FROM information_schema.tables WHERE table_schema = DATABASE()"
        " AND table_type = 'BASE TABLE' AND engine <> 'InnoDB'"
    ).first()
    if other:
        table, engine = other
        raise SourceInvalid(
            f"the table {table} is kept by {engine}, which cannot show one moment of it",
            f"ALTER TABLE {table} ENGINE = InnoDB",
        )


def require_sight(connection: Connection) -> None:
    """
    See that no table is hidden from this user.

    A server does not list the tables that a user has no right to, so that nobody would miss them. Asked for one that is not there, it
    says so only to those who may read them all.

    :raises SourceInvalid: if some may be
    """
    from sqlalchemy.exc import DBAPIError

    try:
        connection.exec_driver_sql("SELECT 1 FROM muster_may_read_every_table")
    except DBAPIError as error:
        number, _ = _said(error.orig)
        if number == NO_SUCH_TABLE:
            return
        if number in RIGHTS:
            raise SourceInvalid(
                "this user may not read every table of the database, and those that it may not read are hidden from it",
                "GRANT SELECT ON the database, not on single tables",
            ) from None
        raise


def require_utf8(connection: Connection) -> None:
    """
    :raises SourceInvalid: if tables would be made in a character set that does not hold all text
    """
    found = connection.exec_driver_sql("SELECT @@character_set_database").scalar()
    if found != "utf8mb4":
        raise SourceInvalid(
            f"the database has the character set {found}, which does not hold all text",
            "ALTER DATABASE … CHARACTER SET utf8mb4, or make another one",
        )


# --- a schema that is made --------------------------------------------------------------------------------------------


def claim(connection: Connection) -> bool:
    """Keep other restores out of the database for as long as this connection lives; False if one is there already."""
    name = connection.exec_driver_sql("SELECT CONCAT('muster ', LEFT(SHA2(DATABASE(), 256), 40))").scalar()
    return connection.exec_driver_sql("SELECT GET_LOCK(%s, 0)", (name,)).scalar() == 1


@contextmanager
def locked_tables(connection: Connection) -> Iterator[list[str]]:
    """All tables of the database, which nobody else can use meanwhile."""
    from sqlalchemy import inspect

    tables = inspect(connection).get_table_names()
    if tables:
        quote = connection.dialect.identifier_preparer.quote
        connection.exec_driver_sql("LOCK TABLES " + ", ".join(f"{quote(table)} WRITE" for table in tables))
    try:
        yield tables
    finally:
        connection.exec_driver_sql("UNLOCK TABLES")


def drop(connection: Connection, tables: list[str]) -> None:
    """
    Drop tables that refer to each other, those that are referred to last: under a lock MySQL would drop them all, and yet say of one
    that it had dropped before that it is not there.
    """
    from sqlalchemy import inspect

    if tables:
        quote = connection.dialect.identifier_preparer.quote
        if len(tables) > 1:
            order = [name for name, _ in inspect(connection).get_sorted_table_and_fkc_names()]
            tables = sorted(tables, key=order.index, reverse=True)
        connection.exec_driver_sql("SET SESSION foreign_key_checks = 0")
        connection.exec_driver_sql(f"DROP TABLE {', '.join(map(quote, tables))}")
        connection.exec_driver_sql("SET SESSION foreign_key_checks = 1")


def commit_rows(connection: Connection) -> None:
    """
    Say that the rows put in so far are there to stay, before the schema is changed around them, which would commit them anyway.

    From then on what is in the tables is known to be ours, and removed if the restore fails.
    """
    if connection.dialect.name == "mysql":
        connection.execution_options(**{COMMITTED: True})


# --- rows -------------------------------------------------------------------------------------------------------------


def insert(connection: Connection, table: str, statement: Any, values: list[dict[str, Any]]) -> None:
    """
    Insert rows.

    :raises SourceInvalid: if the table does not take them as they are
    """
    longest = max(sum(len(v) for v in row.values() if isinstance(v, str | bytes)) for row in values)
    with taking(connection, table, "row", longest):
        connection.execute(statement, values)


@contextmanager
def taking(connection: Connection, where: str, what: str, longest: int) -> Iterator[None]:
    """
    Say what the server does not take, and how that is mended.

    :param longest: characters of the longest thing that is given to it within
    :raises SourceInvalid: if it does not take one
    """
    from sqlalchemy.exc import DBAPIError

    if longest > 1 << 16 and longest >= (limit := _longest_packet(connection)):
        raise _too_large(f"a {what} of {where} with {longest} characters", limit)
    try:
        yield
    except DBAPIError as error:
        number, said = _said(error.orig)
        if number == TOO_LARGE:
            raise _too_large(f"a {what} of {where}", _longest_packet(connection)) from None
        if number in UNFIT:
            hint = HINTS.get(number, "restore to PostgreSQL or SQLite, whose columns take it")
            raise SourceInvalid(f"{where} does not take a {what}: {said}", hint) from None
        raise


def _longest_packet(connection: Connection) -> int:
    return int(connection.exec_driver_sql("SELECT @@max_allowed_packet").scalar_one())


def _too_large(what: str, limit: int) -> SourceInvalid:
    return SourceInvalid(
        f"{what} is larger than the {limit} bytes that the server takes at once", "raise its max_allowed_packet"
    )


# --- errors -----------------------------------------------------------------------------------------------------------


def speaks(error: BaseException | None) -> bool:
    """Whether an error comes from PyMySQL."""
    return type(error).__module__.startswith("pymysql.")


def refusal(shown: str, error: BaseException | None) -> MusterError:
    """What an error of PyMySQL means, without values and statements."""
    number, said = _said(error)
    if number in AWAY or 2000 <= number < 3000 or not number:
        return StoreUnavailable(
            f"{shown} does not answer: {said}",
            "see that the server runs, that this machine may reach it, and that database and password are right",
        )
    if number in RIGHTS:
        return SourceInvalid(
            f"{shown} refuses: {said}",
            HINTS.get(
                number,
                "GRANT what is missing: SELECT on the whole database for a snapshot, all rights on it for a restore",
            ),
        )
    return SourceInvalid(
        f"{shown} refuses: {said}", HINTS.get(number, "compare its schema with the one of the installed MLflow")
    )


def _said(error: BaseException | None) -> tuple[int, str]:
    """Number and message: 0 if the connection is closed, -1 if the driver gave up by itself."""
    number, said = (*getattr(error, "args", ()), "", "")[:2]
    if not isinstance(number, int):
        return -1, str(number).splitlines()[0] if number else type(error).__name__
    message = _VALUE.sub(r"\1 …", str(said)) or "the connection is closed"
    return number, message.splitlines()[0]
