"""
Rows put into PostgreSQL by COPY, in its text format: an INSERT of a thousand rows is parsed and planned by the server, and written by its
driver, value by value.

What escapes mean: PostgreSQL's documentation, "COPY", "Text Format".
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from types import NoneType
from typing import TYPE_CHECKING, Any

from muster.errors import SourceInvalid

if TYPE_CHECKING:
    from sqlalchemy import Connection

_SPECIAL = re.compile("[\\\\\t\n\r\0]")
_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})
_TEXTS: dict[type, Callable[[Any], str]] = {
    str: lambda value: value.translate(_ESCAPES),
    int: str,
    float: repr,
    bool: lambda value: "t" if value else "f",
    NoneType: lambda _: r"\N",
    bytes: lambda value: rf"\\x{value.hex()}",
    Decimal: str,
    datetime: datetime.isoformat,
    date: date.isoformat,
    time: time.isoformat,
}


def copier(connection: Connection, table: str, columns: Sequence[str]) -> Callable[[Sequence[Sequence[Any]]], None]:
    """
    What puts in rows of these columns, in the transaction of the connection.

    It raises SourceInvalid if PostgreSQL cannot hold one of them.
    """
    quote = connection.dialect.identifier_preparer.quote
    statement = f"COPY {quote(table)} ({', '.join(map(quote, columns))}) FROM STDIN"

    def put(rows: Sequence[Sequence[Any]]) -> None:
        import psycopg2
        from sqlalchemy.exc import DBAPIError

        fields = [_fields(table, values) for values in zip(*rows, strict=True)]
        lines = "\n".join(map("\t".join, zip(*fields, strict=True)))
        cursor = connection.connection.cursor()
        try:
            cursor.copy_expert(statement, io.StringIO(f"{lines}\n"))
        except psycopg2.Error as error:
            raise DBAPIError.instance(statement, None, error, psycopg2.Error, hide_parameters=True) from None
        finally:
            cursor.close()

    return put


def _fields(table: str, values: Sequence[Any]) -> Sequence[str]:
    """One column, as text."""
    found = set(map(type, values))
    if str in found:
        special = set(_SPECIAL.findall("".join(value for value in values if isinstance(value, str))))
        if "\0" in special:
            raise SourceInvalid(
                f"{table} holds text that PostgreSQL cannot hold: it has a NUL character", "restore to SQLite"
            )
        if found == {str} and not special:
            return values
    if len(found) == 1:
        return list(map(_TEXTS[found.pop()], values))
    return [_TEXTS[type(value)](value) for value in values]
