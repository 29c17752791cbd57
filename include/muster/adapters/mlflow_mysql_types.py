"""How MySQL and MariaDB declare, show, sort and count what other engines hold."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from muster.errors import SourceInvalid

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from muster.adapters.mlflow_rows import Table


def kinds_of(connection: Connection, tables: Mapping[str, Sequence[Any]]) -> dict[tuple[str, str], str]:
    """
    Kinds of columns, by table and column, that reflection alone does not tell: ``BOOL`` is a small integer there, JSON a text.

    :param tables: name to what SQLAlchemy's inspector says of its columns
    """
    from sqlalchemy.dialects import mysql

    found: dict[tuple[str, str], str] = {}
    for table, columns in tables.items():
        texts = set()
        for column in columns:
            name, type_ = column["name"], column["type"]
            if isinstance(type_, mysql.TINYINT) and type_.display_width == 1:
                found[table, name] = "boolean"
            elif isinstance(type_, mysql.LONGTEXT):
                texts.add(name)
            elif isinstance(type_, mysql.LONGBLOB | mysql.MEDIUMBLOB | mysql.TINYBLOB):
                found[table, name] = "bytes"
        if texts and getattr(connection.dialect, "is_mariadb", False):
            found |= {(table, name): "json" for name in texts & _json_columns(connection, table)}
    return found


def _json_columns(connection: Connection, table: str) -> set[str]:
    """MariaDB keeps JSON as text with a check beside it."""
    quoted = connection.dialect.identifier_preparer.quote(table)
    (_, statement) = connection.exec_driver_sql(f"SHOW CREATE TABLE {quoted}").one()[:2]
    return set(re.findall(r"^\s*`([^`]+)` .*CHECK \(json_valid\(`\1`\)\)", statement, re.MULTILINE))


def single_columns(connection: Connection, table: str) -> set[str]:
    """Columns of single precision: what MLflow declares as a float without more."""
    from sqlalchemy import text

    statement = text(
        "SELECT column_name FROM information_schema.columns"
        " WHERE table_schema = DATABASE() AND table_name = :name AND data_type = 'float'"
    )
    return set(connection.execute(statement, {"name": table}).scalars())


def widened(column: str) -> Any:
    """A column of single precision as what it holds: asked for plainly, the server shows six digits of it."""
    import sqlalchemy as sa

    class Single(sa.TypeDecorator[float]):
        impl = sa.Double
        cache_ok = True

        def process_result_value(self, value: float | None, _dialect: Any) -> float | None:
            return None if value is None else shortest_single(value)

    plain: Any = sa.column(column)
    return sa.type_coerce(plain * sa.literal_column("1e0"), Single).label(column)


def shortest_single(number: float) -> float:
    """The number of six to nine digits, as few as will do, that has the same single-precision bits; itself if none has."""
    try:
        kept = struct.pack("<f", number)
    except OverflowError:  # the engine says so itself
        return number
    (wide,) = struct.unpack("<f", kept)
    return next(short for digits in range(6, 10) if struct.pack("<f", short := float(f"{wide:.{digits}g}")) == kept)


def ordered(connection: Connection, column: str, *, textual: bool) -> Any:
    """What sorts a column as other engines do: text by code point, whatever its collation. Null is first anyway."""
    import sqlalchemy as sa

    if not textual:
        return sa.column(column)
    quoted = connection.dialect.identifier_preparer.quote(column)
    return sa.cast(sa.literal_column(f"CONVERT({quoted} USING utf8mb4)"), sa.LargeBinary)


def row_text(connection: Connection, table: Table) -> str:
    """
    An SQL expression of text that stands for one row alone: each value as the server would show it, texts and bytes with their length
    before them, null told from all of them. Null if a text cannot be shown.
    """
    quote = connection.dialect.identifier_preparer.quote
    singles = single_columns(connection, table.name)
    parts = []
    for column in table.columns:
        name = quote(column.name)
        if column.kind in ("text", "json", "bytes"):
            shown = name if column.kind == "bytes" else f"CONVERT({name} USING utf8mb4)"
            parts += [f"IF({name} IS NULL, 'n', OCTET_LENGTH({shown})), ':', IF({name} IS NULL, '', {shown})"]
        else:
            shown = f"{name} * 1e0" if column.name in singles else name
            parts += [f"IF({name} IS NULL, 'n', {shown}), ';'"]
    return ", ".join(parts)


def unknown_types(table: Table) -> dict[str, Any]:
    """
    Types for the columns of a table that MLflow does not make, by kind; ``key text`` and ``key bytes`` for those of its key.

    :raises SourceInvalid: if it has a column that would not hold what is to go in
    """
    import sqlalchemy as sa
    from sqlalchemy.dialects import mysql

    if any(column.kind == "decimal" for column in table.columns):
        raise SourceInvalid(
            f"{table.name} holds decimals of any length, for which MySQL has no type", "restore to PostgreSQL or SQLite"
        )
    length = min(255, 700 // max(len(table.key), 1))
    return {
        "text": mysql.LONGTEXT(charset="utf8mb4", collation="utf8mb4_bin"),
        "key text": mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin"),
        "bytes": mysql.LONGBLOB,
        "key bytes": sa.VARBINARY(length),
        "float": mysql.DOUBLE,
        "datetime": mysql.DATETIME(fsp=6),
        "time": mysql.TIME(fsp=6),
    }


def last_numbers(connection: Connection) -> dict[str, int]:
    """The last number given out by each table that counts by itself and has begun to."""
    if not getattr(connection.dialect, "is_mariadb", False):
        connection.exec_driver_sql(
            "SET SESSION information_schema_stats_expiry = 0"
        )  # MySQL would say what was yesterday
    found = connection.exec_driver_sql(
        "SELECT table_name, auto_increment FROM information_schema.tables"
        " WHERE table_schema = DATABASE() AND auto_increment > 1"
    )
    return {str(table): int(following) - 1 for table, following in found}


def count_on(connection: Connection, last: Mapping[str, int]) -> None:
    """Let empty tables count on after the last number that was given out. Rows with numbers of their own count by themselves."""
    counting = connection.exec_driver_sql(
        "SELECT table_name FROM information_schema.columns WHERE table_schema = DATABASE() AND extra = 'auto_increment'"
    )
    quote = connection.dialect.identifier_preparer.quote
    for table in sorted({*counting.scalars()} & last.keys()):
        connection.exec_driver_sql(f"ALTER TABLE {quote(table)} AUTO_INCREMENT = {int(last[table]) + 1}")
