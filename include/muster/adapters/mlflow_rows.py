"""
Tables as canonical rows: the same rows give the same bytes, from whichever engine they are read.

A table is a file of JSON lines, ended by ``\\n`` alone, ordered by primary key (text by code point; by all columns where there is
no key). A line is an array with one value for each column, in the order of ``schema.json``; computed columns are left out:

* ``null``, ``true``, integers, strings, and finite floats (always with ``.`` or ``e``) as JSON has them; a column of JSON is the
  string of its text, as it was written
* ``{"float": "nan"}``, ``{"float": "inf"}``, ``{"float": "-inf"}``
* ``{"bytes": BASE64}``, ``{"date": ISO}``, ``{"datetime": ISO}``, ``{"time": ISO}``, ``{"decimal": DIGITS}``
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from muster.adapters import mlflow_mysql_types as mysql_types
from muster.adapters.mlflow_engines import inserter
from muster.adapters.mlflow_lines import BATCH, BATCH_SIZE, Batch, Row, RowSum, size_of, sum_of
from muster.adapters.mlflow_values import canonical, decoder, for_engine
from muster.batches import batched_by
from muster.errors import IntegrityError, SourceInvalid

if TYPE_CHECKING:
    from sqlalchemy import Connection

_FEW = 16
"""Rows that are read at once while nobody knows how long they are: a span of a trace may hold pictures."""


@dataclass(frozen=True, slots=True)
class Column:
    """
    A stored column.

    :param kind: ``text``, ``integer``, ``float``, ``boolean``, ``bytes``, ``json``, ``decimal``, ``date``, ``datetime`` or ``time``
    """

    name: str
    kind: str
    nullable: bool


@dataclass(frozen=True, slots=True)
class Table:
    """A table: its columns without computed ones, and the names of those that make its primary key."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]


# --- what the tables are ----------------------------------------------------------------------------------------------


def tables_of(connection: Connection) -> dict[str, Table]:
    """
    All tables of the default schema, by name, parents before children.

    :raises SourceInvalid: if a column has a type that cannot be carried
    """
    from sqlalchemy import inspect

    # `MetaData.reflect` would ask for indexes and checks, too, which takes five times as long
    asked = inspect(connection)
    columns = {name: found for (_, name), found in asked.get_multi_columns().items()}
    keys = {name: found["constrained_columns"] for (_, name), found in asked.get_multi_pk_constraint().items()}
    kinds = mysql_types.kinds_of(connection, columns) if connection.dialect.name == "mysql" else {}
    return {
        name: Table(
            name,
            tuple(
                Column(
                    c["name"], kinds.get((name, c["name"])) or _kind(name, c["name"], c["type"]), bool(c["nullable"])
                )
                for c in columns[name]
                if "computed" not in c
            ),
            tuple(keys[name]),
        )
        for name, _ in asked.get_sorted_table_and_fkc_names()
        if name is not None
    }


def _kind(table: str, column: str, type_: Any) -> str:
    import sqlalchemy as sa

    kinds: list[tuple[Any, str]] = [
        (sa.Boolean, "boolean"),
        (sa.Integer, "integer"),
        (sa.Float, "float"),
        (sa.Numeric, "decimal"),
        (sa.JSON, "json"),
        (sa.LargeBinary, "bytes"),
        (sa.DateTime, "datetime"),
        (sa.Date, "date"),
        (sa.Time, "time"),
        (sa.String, "text"),
    ]
    for known, kind in kinds:
        if isinstance(type_, known):
            return kind
    raise SourceInvalid(f"{table}.{column} has the type {type_}, which cannot be carried", "report this type to us")


# --- reading ----------------------------------------------------------------------------------------------------------


def rows_of(connection: Connection, table: Table, only: Any = None, *, lock: bool = False) -> Iterator[Row]:
    """
    The canonical rows of a table, streamed.

    :param only: an SQL condition that they must meet
    :param lock: keep others from changing these rows until the transaction ends, for which their keys must stay; PostgreSQL lets others
        put in rows that refer to them; SQLite's whole file is locked anyway
    :raises SourceInvalid: if a value is not of its column's type (SQLite lets anything in)
    """
    for batch in batches_of(connection, table, only, lock=lock):
        yield from map(list, batch.rows)


def batches_of(connection: Connection, table: Table, only: Any = None, *, lock: bool = False) -> Iterator[Batch]:
    """As `rows_of`, some at a time: at most `BATCH`, and not many more bytes than `BATCH_SIZE`."""
    statement = _select(connection, table)
    if only is not None:
        statement = statement.where(only)
    if lock:
        statement = statement.with_for_update(key_share=True)
    kinds = [column.kind for column in table.columns]
    for raws in _read_raw(connection, statement, table.name):
        given = list(zip(*raws, strict=True))
        try:
            columns, types = zip(*map(canonical, kinds, given), strict=True)
        except (TypeError, ValueError, ArithmeticError):
            raise SourceInvalid(_misfit(table, raws), "mend the row: MLflow itself could not have written it") from None
        as_given = type(raws[0]) is tuple and all(map(operator.is_, columns, given))
        yield Batch(raws if as_given else list(zip(*columns, strict=True)), columns=columns, types=types)


def _read_raw(connection: Connection, statement: Any, table: str) -> Iterator[Sequence[Sequence[Any]]]:
    """
    Rows as the driver gives them, those of SQLite without SQLAlchemy's, which take as long again.

    As many at once as a batch may have; `_FEW` at a time, until they are enough, if there is no telling how long they are.
    """
    engine = connection.dialect.name
    # MySQL answers nothing else before it has given all rows; elsewhere most tables have so few that nobody need ask
    any_length = engine == "mysql" and _any_length(connection, table)
    if engine == "sqlite":
        result = connection.execute(statement)
        fetch: Callable[[int], Sequence[Sequence[Any]]] = result.cursor.fetchmany
    else:
        result = connection.execute(statement, execution_options={"stream_results": True})
        fetch = result.fetchmany
    raws = list(fetch(_FEW))
    if any_length or (engine != "mysql" and len(raws) == _FEW and _any_length(connection, table)):
        more = iter(lambda: list(fetch(_FEW)), [])
        yield from batched_by(size_of, chain(raws, chain.from_iterable(more)), BATCH_SIZE, BATCH)
    else:
        while raws:
            yield raws
            raws = list(fetch(BATCH))
    # Not closed before its end: whoever gives up half way may have closed the connection before anybody looks at this generator again.
    result.close()


def _any_length(connection: Connection, table: str) -> bool:
    """
    Whether a row can be of any length: it has texts, bytes or JSON for which no limit is declared.

    SQLite lets in what is longer than declared; MLflow does not.
    """
    import sqlalchemy as sa

    types = [column["type"] for column in sa.inspect(connection).get_columns(table)]
    return any(isinstance(t, sa.String | sa.LargeBinary | sa.JSON) and not getattr(t, "length", None) for t in types)


def _select(connection: Connection, table: Table) -> Any:
    import sqlalchemy as sa

    engine = connection.dialect.name
    singles = mysql_types.single_columns(connection, table.name) if engine == "mysql" else set[str]()
    wanted = [_read(engine, column, column.name in singles) for column in table.columns]
    columns = {column.name: column for column in table.columns}
    order = [_ordered(connection, columns[name]) for name in table.key or table.names]
    return sa.select(*wanted).select_from(sa.table(table.name)).order_by(*order)


def _read(engine: str, column: Column, single: bool) -> Any:
    import sqlalchemy as sa

    plain: Any = sa.column(column.name)
    if engine == "postgresql" and column.kind == "json":
        return sa.cast(plain, sa.Text).label(column.name)
    return mysql_types.widened(column.name) if single else plain


def _ordered(connection: Connection, column: Column) -> Any:
    """Null first, text by code point."""
    import sqlalchemy as sa

    engine, textual = connection.dialect.name, column.kind in ("text", "json")
    if engine == "mysql":
        return mysql_types.ordered(connection, column.name, textual=textual)
    plain: Any = sa.column(column.name)
    as_text = sa.cast(plain, sa.Text) if column.kind == "json" else plain
    return sa.nulls_first(as_text.collate("C") if engine == "postgresql" and textual else as_text)


def _misfit(table: Table, raws: Iterable[Any]) -> str:
    for raw in raws:
        for column, value in zip(table.columns, raw, strict=True):
            try:
                canonical(column.kind, [value])
            except (TypeError, ValueError, ArithmeticError):
                return f"{table.name}.{column.name} holds a {type(value).__name__} where a {column.kind} belongs"
    return f"{table.name} holds a row that cannot be read"


# --- writing ----------------------------------------------------------------------------------------------------------


def insert_rows(connection: Connection, table: Table, batches: Iterable[Batch]) -> RowSum:
    """
    Insert canonical rows, and say what was inserted.

    :raises IntegrityError: if a row does not have the columns of the table
    """
    insert = inserter(connection, table.name, table.names)
    decode = decoder(connection.dialect.name)
    return sum_of(batches, lambda batch: insert(_decoded(table, decode, batch)))


def updated_row(connection: Connection, table: Table, due: Row, live: Row) -> bool:
    """Change what differs in the row that has the key of another; False if it is not there as it was."""
    import sqlalchemy as sa

    decode = decoder(connection.dialect.name)
    new, old = (dict(zip(table.names, map(decode, row), strict=True)) for row in (due, live))
    changed = [name for name, was, now in zip(table.names, live, due, strict=True) if was != now]
    same = [sa.column(name).is_not_distinct_from(old[name]) for name in {*table.key, *changed}]
    target = sa.table(table.name, *(sa.column(name) for name in table.names))
    done = connection.execute(sa.update(target).where(*same).values({name: new[name] for name in changed}))
    return done.rowcount == 1


def _decoded(table: Table, decode: Callable[[Any], Any], batch: Batch) -> Sequence[Sequence[Any]]:
    """The rows as the engine takes them."""
    names = table.names
    try:
        columns = [values for _, values in zip(names, batch.columns, strict=True)]
        given = [for_engine(decode, *column) for column in zip(columns, batch.types, strict=True)]
        return batch.rows if all(map(operator.is_, columns, given)) else list(zip(*given, strict=True))
    except (TypeError, ValueError, KeyError, ArithmeticError):
        raise IntegrityError(
            f"a stored row of {table.name} does not have its columns {', '.join(names)}", "verify the vault"
        ) from None
