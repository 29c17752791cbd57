"""What the engines below MLflow can hold, and how their drivers want to be given it."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Collection, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from itertools import chain
from types import NoneType
from typing import TYPE_CHECKING, Any

from muster.adapters import mlflow_mysql as mysql
from muster.adapters import mlflow_mysql_types as mysql_types
from muster.adapters.mlflow_copy import copier

if TYPE_CHECKING:
    from sqlalchemy import Connection

NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mysql": "MySQL"}
"""Engines by the name of their SQLAlchemy dialect. MariaDB speaks MySQL's."""

Fit = Callable[[Any], tuple[Any, str | None]]
"""A canonical float to what an engine holds instead, and what was given up (None if nothing was)."""
NAN = {"float": "nan"}
INFINITIES = {"inf": sys.float_info.max, "-inf": -sys.float_info.max}
"""What MLflow itself writes for an infinite metric."""


# --- for drivers ------------------------------------------------------------------------------------------------------


TAKEN = frozenset({str, bool, float, NoneType})
"""Types of which `inserter` takes every value as it is, on each engine; integers, if a column can hold them."""


SQLITE_ROWS = 200
"""What one statement inserts."""


def for_driver(engine: str) -> Callable[[Any], Any]:
    """How a value is given to the driver of an engine."""
    return {"sqlite": _for_sqlite, "postgresql": _for_postgresql}.get(engine, _as_it_is)


def _as_it_is(value: Any) -> Any:
    return value


def _for_postgresql(value: Any) -> Any:
    """psycopg2 writes a float as a number literal, which PostgreSQL reads as numeric: that knows no negative zero."""
    return repr(value) if isinstance(value, float) else value


def _for_sqlite(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(" ", "microseconds")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, bool):
        return int(value)
    return str(value) if isinstance(value, Decimal) else value


def inserter(connection: Connection, table: str, columns: Sequence[str]) -> Callable[[Sequence[Sequence[Any]]], None]:
    """
    What inserts rows of these columns, as the driver takes them.

    It raises SourceInvalid if the engine cannot hold one of them.
    """
    import sqlalchemy as sa

    statement = sa.insert(sa.table(table, *map(sa.column, columns)))
    if connection.dialect.name == "sqlite":  # nothing is left for SQLAlchemy to do to the values
        return _sqlite_inserter(connection, str(statement.compile(connection)), len(columns))
    if connection.dialect.name == "postgresql":
        return copier(connection, table, columns)

    def insert(rows: Sequence[Sequence[Any]]) -> None:
        mysql.insert(connection, table, statement, [dict(zip(columns, row, strict=True)) for row in rows])

    return insert


def _sqlite_inserter(connection: Connection, statement: str, columns: int) -> Callable[[Sequence[Sequence[Any]]], None]:
    """Many rows with each statement take half as long as one: SQLite and Python change places for each of them."""
    most: int = connection.connection.dbapi_connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)  # type: ignore[union-attr]
    at_once = max(1, min(SQLITE_ROWS, most // columns))
    many = statement + f", ({', '.join('?' * columns)})" * (at_once - 1)

    def insert(rows: Sequence[Sequence[Any]]) -> None:
        whole = len(rows) - len(rows) % at_once
        for start in range(0, whole, at_once):
            connection.exec_driver_sql(many, tuple(chain.from_iterable(rows[start : start + at_once]))).close()
        if rest := list(map(tuple, rows[whole:])):
            connection.exec_driver_sql(statement, rest).close()

    return insert


# --- floats -----------------------------------------------------------------------------------------------------------


def float_fits(engine: str, columns: Collection[str], singles: Collection[str]) -> dict[str, Fit]:
    """
    How the floats of a table are fitted to an engine, by column; nothing where it holds them all.

    :param singles: those columns that have single precision
    """
    if engine == "sqlite":
        return dict.fromkeys(columns, _fit_sqlite)
    if engine == "mysql":
        return {column: _fit_mysql_single if column in singles else _fit_mysql for column in columns}
    return {}


def held_by_all(values: Collection[Any], types: Collection[type]) -> bool:
    """
    Whether every engine holds these as they are, in double precision: numbers but for zero, which may have a sign, and null.

    :param types: of the values
    """
    return set(types) <= {float, NoneType} and 0.0 not in values


def _fit_sqlite(value: Any) -> tuple[Any, str | None]:
    """Neither NaN (MLflow's rows there hold null) nor negative zero."""
    if value == NAN:
        return None, "NaN"
    return (0.0, "negative zero") if value == 0.0 and str(value) == "-0.0" else (value, None)


def _fit_mysql(value: Any) -> tuple[Any, str | None]:
    """As SQLite, and no infinity either."""
    if isinstance(value, dict) and value.get("float") in INFINITIES:
        return INFINITIES[value["float"]], "infinity"
    return _fit_sqlite(value)


def _fit_mysql_single(value: Any) -> tuple[Any, str | None]:
    fitted, given_up = _fit_mysql(value)
    if given_up or not isinstance(fitted, float):
        return fitted, given_up
    rounded = mysql_types.shortest_single(fitted)
    return (rounded, None) if rounded == fitted else (rounded, "single precision")
