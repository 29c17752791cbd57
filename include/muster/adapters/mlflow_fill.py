"""The stored tables of a database, put into an empty one as this engine can hold them."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muster.adapters import mlflow_mysql as mysql
from muster.adapters.mlflow_engines import NAMES, Fit, float_fits, held_by_all
from muster.adapters.mlflow_lines import Batch, Row, RowSum, read_batches, sum_of
from muster.adapters.mlflow_location_map import LocationMap
from muster.adapters.mlflow_mysql_json import MySqlJson
from muster.adapters.mlflow_mysql_types import single_columns
from muster.adapters.mlflow_revisions import newest_revision, revisions_of
from muster.adapters.mlflow_rows import Table, batches_of, insert_rows, tables_of
from muster.adapters.mlflow_schema import (
    add_unknown,
    create_schema,
    create_unknown,
    indexes_made_last,
    migrate,
    reserve_numbers,
    rows_in,
    rows_moved_by,
    set_sequences,
)
from muster.adapters.mlflow_store import StoreUrl
from muster.adapters.mlflow_tables import Schema, same_columns
from muster.codec import to_json
from muster.errors import IntegrityError, SourceInvalid

if TYPE_CHECKING:
    from sqlalchemy import Connection

logger = logging.getLogger(__name__)

UNFINISHED_JOBS = (0, 1, 6)
FAILED_JOB = 3
"""`mlflow.entities.JobStatus` as integers: pending, running and needs-recovery jobs would be run again by the next server."""


@dataclass(frozen=True, slots=True)
class Stored:
    """
    A stored database, verified and on disk, and where it goes.

    :param prefix: empty, or ``auth/``: before the names of its tables in a report
    :param expected: table to ``{"rows": …, "sha256": …}``, as it was captured
    """

    prefix: str
    store: StoreUrl
    schema: Schema
    files: dict[str, Path]
    expected: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Here:
    """
    The engine that rows go to.

    :param name: SQLAlchemy's
    :param singles: table to those of its columns that have single precision
    :param json: how it writes JSON; None if it keeps the texts
    """

    name: str
    singles: Mapping[str, Collection[str]] = field(default_factory=dict)
    json: MySqlJson | None = None

    @staticmethod
    def of(connection: Connection, store: StoreUrl, tables: Iterable[Table]) -> Here:
        """The engine behind a connection that has these tables."""
        if connection.dialect.name != "mysql":
            return Here(connection.dialect.name)
        floating = [table.name for table in tables if any(column.kind == "float" for column in table.columns)]
        singles = {name: single_columns(connection, name) for name in floating}
        return Here("mysql", singles, None if getattr(connection.dialect, "is_mariadb", False) else MySqlJson(store))


@dataclass(frozen=True, slots=True)
class Filled:
    """
    A database that was filled.

    :param here: the engine that holds it now
    :param tables: those that were stored, parents first, as they are read back
    :param due: table to what its rows must be when they are read back
    :param mapped: table to the number of values that were mapped
    :param adapted: ``table.column: what`` to the number of values that this engine holds otherwise
    :param revisions: of the schema now; others than the stored ones if MLflow brought it up to date
    """

    stored: Stored
    here: Here
    tables: tuple[Table, ...]
    due: dict[str, RowSum]
    mapped: dict[str, int]
    adapted: dict[str, int]
    revisions: dict[str, str]

    @property
    def upgraded(self) -> bool:
        return self.revisions != self.stored.schema.revisions

    def adapted_in(self, table: str) -> int:
        """Number of values of a table that this engine holds otherwise."""
        return sum(count for what, count in self.adapted.items() if what.startswith(f"{table}."))

    def rows(self, table: Table, locations: LocationMap) -> Iterator[Row]:
        """The rows of a table as they must be here, from what is stored; not after an upgrade, which only MLflow knows to do."""
        batches = for_here(self.here, table, read_batches(self.stored.files[table.name]), {})
        for batch in LocationMap(locations.prefixes, locations.places).applied(table, batches):
            yield from map(list, batch.rows)


def fill(connection: Connection, stored: Stored, locations: LocationMap) -> Filled:
    """
    Make the schema as it was, put in every row, then bring the schema up to date.

    Rows are read back when all is committed (`muster.adapters.mlflow_fidelity`); those of a schema that is brought up to date before that,
    too, for after it they are others.

    :raises IntegrityError: if a stored table does not have its rows
    """
    schema = stored.schema
    create_schema(connection, schema.revisions)
    order, engine = _order(connection, schema), connection.dialect.name
    reserve_numbers(connection, schema.sequences)
    here = Here.of(connection, stored.store, order)
    due: dict[str, RowSum] = {}
    adapted: dict[str, int] = {}
    for table in order:
        batches = read_batches(stored.files[table.name])
        held = for_here(here, table, batches, adapted)
        mapped = locations.applied(table, held)
        if table.name in schema.revisions:
            due[table.name] = sum_of(mapped)
        else:
            with indexes_made_last(connection, table.name):
                due[table.name] = insert_rows(connection, table, mapped)
        if due[table.name].rows != stored.expected[table.name]["rows"]:
            raise IntegrityError(f"{table.name} came back with {due[table.name].rows} rows", "verify the vault")
        if engine == "mysql" and rows_in(connection, table.name) != due[table.name].rows:
            raise IntegrityError(
                f"there are other rows of {table.name} than were put in", "see who else writes to this database"
            )
    keys = {table.name: table.key[0] for table in order if table.key}
    last = {name: number for name, number in schema.sequences.items() if name in keys}
    adapted |= {f"{name}.{keys[name]}: the last number given out": 1 for name in set_sequences(connection, last)}
    tables = tuple(order)
    old = [name for name in schema.revisions if newest_revision(name) != schema.revisions[name]]
    if old:
        tables = _upgraded(connection, tables, due, locations, {name: schema.revisions[name] for name in old})
        due = {table.name: sum_of(batches_of(connection, table)) for table in tables}
    moves = {table.name: locations.moves[table.name] for table in order if table.name in locations.moves}
    return Filled(stored, here, tables, due, moves, adapted, revisions_of(connection))


def already(connection: Connection, stored: Stored, locations: LocationMap) -> Filled | None:
    """
    What `fill` would have made of an empty database, if this one has the very schema; nothing is written.

    None for a schema that `fill` would have brought up to date, and on MySQL, which holds some floats otherwise.
    """
    schema, engine = stored.schema, connection.dialect.name
    heads = {name: newest_revision(name) for name in schema.revisions}
    if engine == "mysql" or revisions_of(connection) != schema.revisions or heads != schema.revisions:
        return None
    here, wanted = tables_of(connection), {table.name: table for table in schema.tables}
    if any(name not in here or not same_columns(table, here[name]) for name, table in wanted.items()):
        return None
    tables = tuple(wanted[name] for name in here if name in wanted)
    adapted: dict[str, int] = {}
    due: dict[str, RowSum] = {}
    for table in tables:
        batches = for_here(Here(engine), table, read_batches(stored.files[table.name]), adapted)
        due[table.name] = sum_of(locations.applied(table, batches))
    moves = {table.name: locations.moves[table.name] for table in tables if table.name in locations.moves}
    return Filled(stored, Here(engine), tables, due, moves, adapted, dict(schema.revisions))


def _upgraded(
    connection: Connection,
    tables: tuple[Table, ...],
    due: dict[str, RowSum],
    locations: LocationMap,
    old: Mapping[str, str],
) -> tuple[Table, ...]:
    """
    Hold all rows to what they must be, then let MLflow migrate them, and hold their numbers to what they were. The tables as they are then.

    :param old: version table to the revision before
    :raises IntegrityError: if rows are not as they must be, or fewer or more of them are left than MLflow means to leave
    """
    for table in tables:
        found = sum_of(locations.inspected(table, batches_of(connection, table)))
        if found != due[table.name]:
            require_same(f"rows of {table.name}", to_json(due[table.name]), to_json(found))
    mysql.commit_rows(connection)
    for version_table in old:
        migrate(connection, version_table, "heads")
    here, moved = tables_of(connection), rows_moved_by(old)
    for table in tables:
        before, after = due[table.name].rows, rows_in(connection, table.name) if table.name in here else None
        if after != before and not (table.name in moved and after is not None and after < before):
            left = "is gone" if after is None else f"has {after}"
            raise IntegrityError(
                f"{table.name} had {before} rows and {left} after MLflow brought its schema up to date",
                "report it to MLflow; restore with the MLflow that the registry was captured from: every row is in the point",
            )
    names = {table.name for table in tables}
    return tuple(table for name, table in here.items() if name in names)


def _order(connection: Connection, schema: Schema) -> list[Table]:
    """The stored tables, parents first; tables and columns that MLflow does not make are made."""
    stored = {table.name: table for table in schema.tables}
    here = tables_of(connection)
    unknown = [name for name, table in stored.items() if name not in here or {*table.names} > {*here[name].names}]
    for name in unknown:
        if name in here:
            add_unknown(connection, stored[name], here[name])
            logger.warning("%s has columns that MLflow did not make; they are made without limits and indexes", name)
        else:
            create_unknown(connection, stored[name])
    if unknown:
        here = tables_of(connection)
    for name, table in stored.items():
        if not same_columns(table, here[name]):
            raise SourceInvalid(
                f"the captured table {name} has other columns than MLflow makes at this revision",
                f"captured: {', '.join(table.names)}; here: {', '.join(here[name].names)}",
            )
    return [stored[name] for name in here if name in stored]


def for_here(here: Here, table: Table, batches: Iterable[Batch], adapted: dict[str, int]) -> Iterator[Batch]:
    """
    Rows as this engine can hold them, as MLflow itself would have written them here; what had to differ is counted.

    * a job that had not finished is failed: the process that ran it is gone, and a server would run it again
    * floats that the engine does not know: `muster.adapters.mlflow_engines`
    * JSON that it writes anew: `muster.adapters.mlflow_mysql_json`

    :raises SourceInvalid: if it cannot hold a value, nor what MLflow would have written
    """
    singles = here.singles.get(table.name, ())
    fits = _fits(here.name, table, singles)
    texts = [index for index, column in enumerate(table.columns) if here.json and column.kind == "json"]
    status = table.names.index("status") if table.name == "jobs" else None
    for batch in batches:
        unfit = [
            (index, fit)
            for index, fit in fits
            if table.columns[index].name in singles or not held_by_all(batch.columns[index], batch.types[index])
        ]
        if not unfit and not texts and status is None:
            yield batch
            continue
        rows = list(map(list, batch.rows))
        for index, fit in unfit:
            _fit_column(here.name, table, index, fit, rows, adapted)
        for index in texts:
            _rewrite_json(here, table, index, rows, adapted)
        if status is not None:
            _fail_unfinished(rows, status, adapted)
        yield Batch(rows)


def _rewrite_json(here: Here, table: Table, index: int, rows: Sequence[Row], adapted: dict[str, int]) -> None:
    """
    :raises SourceInvalid: if another text would move a row, or the server does not keep what one means
    """
    where = f"{table.name}.{table.columns[index].name}"
    texts = [row[index] for row in rows if isinstance(row[index], str)]
    written = here.json.written(where, texts) if here.json and texts else {}
    for row in rows:
        if not isinstance(row[index], str) or (there := written[row[index]]) == row[index]:
            continue
        if not table.key:
            raise SourceInvalid(
                f"{where} holds JSON that MySQL writes otherwise, by which rows without a primary key are told apart",
                f"give {table.name} a primary key, or restore to MariaDB, PostgreSQL or SQLite",
            )
        row[index] = there
        _count(adapted, f"{where}: JSON as MySQL writes it")


def _fail_unfinished(jobs: Iterable[Row], status: int, adapted: dict[str, int]) -> None:
    for row in jobs:
        if row[status] in UNFINISHED_JOBS:
            row[status] = FAILED_JOB
            _count(adapted, "jobs.status: unfinished")


def _fit_column(engine: str, table: Table, index: int, fit: Fit, rows: Iterable[Row], adapted: dict[str, int]) -> None:
    column = table.columns[index]
    where = f"{table.name}.{column.name}"
    for row in rows:
        row[index], given_up = fit(row[index])
        if given_up:
            if row[index] is None and not column.nullable:
                raise SourceInvalid(
                    f"{where} holds {given_up}, which {NAMES[engine]} cannot hold", "restore to PostgreSQL"
                )
            _count(adapted, f"{where}: {given_up}")


def _fits(engine: str, table: Table, singles: Collection[str]) -> list[tuple[int, Fit]]:
    floats = [column.name for column in table.columns if column.kind == "float"]
    return [(table.names.index(name), fit) for name, fit in float_fits(engine, floats, singles).items()]


def _count(counts: dict[str, int], what: str) -> None:
    counts[what] = counts.get(what, 0) + 1


def require_same(what: str, expected: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """
    :raises IntegrityError: if facts are not what was captured; names the first five of them
    """
    if expected != found:
        differing = sorted(k for k in expected.keys() | found.keys() if expected.get(k, ...) != found.get(k, ...))
        raise IntegrityError(
            f"the {what} of the registry are not those that were captured: {', '.join(differing[:5])}",
            "verify the point, and restore an earlier one",
        )
