"""One database of MLflow as files: every table as canonical rows, and the schema that says how to read them."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from muster.adapters.beside import beside
from muster.adapters.mlflow_closure import ChosenTables, Closure
from muster.adapters.mlflow_digests import server_digests
from muster.adapters.mlflow_facts import values
from muster.adapters.mlflow_known import LOOK_FORMAT, Known, Look, table_path
from muster.adapters.mlflow_lines import Batch, RowSum, in_batches, write_lines
from muster.adapters.mlflow_locations import Root
from muster.adapters.mlflow_pages import page_digests
from muster.adapters.mlflow_reader import Reader
from muster.adapters.mlflow_relations import Relations
from muster.adapters.mlflow_revisions import mlflow_version, require_known, revisions_of
from muster.adapters.mlflow_rows import Column, Table, batches_of, rows_of, tables_of
from muster.adapters.mlflow_schema import sequences_of
from muster.adapters.mlflow_store import Copy
from muster.adapters.rereading import due
from muster.codec import from_json, to_json
from muster.domain.selection import Wanted
from muster.errors import IntegrityError, MusterError, SourceChanged, SourceInvalid

if TYPE_CHECKING:
    from sqlalchemy import Connection

logger = logging.getLogger(__name__)

FORMAT = 1
LEFT_OUT = {
    "job_locks": "locks of server processes that run no more",
    "scheduler_leases": "leases of server processes that run no more",
}
"""Tables that are not carried, and why: the state of processes, wrong as soon as another process reads it."""


@dataclass(frozen=True, slots=True)
class Schema:
    """
    What ``schema.json`` says of a stored database.

    :param revisions: version table to Alembic revision
    :param sequences: table to the last number that it gave out
    :param roots: artifact roots, the store's own one first (empty for the basic-auth database)
    :param cut_at: the moment of the cut, as seconds since the epoch
    """

    format: int
    engine: str
    mlflow: str
    cut_at: float
    revisions: dict[str, str]
    tables: tuple[Table, ...]
    sequences: dict[str, int]
    roots: tuple[dict[str, str], ...] = ()

    @staticmethod
    def read(data: Any) -> Schema:
        """
        :raises IntegrityError: if this is not a schema of a format that we know
        """
        schema = from_json(Schema, data)
        if schema.format != FORMAT:
            raise IntegrityError(f"the stored registry has format {schema.format}", "a newer Muster reads it")
        return schema


@dataclass(slots=True)
class Dump:
    """
    A database, written to files; those of tables that the point before has are written when somebody opens them.

    :param prefix: folder of the stored tree, empty or ending in ``/``
    :param folder: where the files lie
    :param copy: what is read again if somebody needs it: the copy of an SQLite store, or a server as it is then
    :param same: tables that are believed to be what the point before has
    :param reader: writes what is not written yet
    :param digests: of the tables, by which they are known again (`Look`)
    :param left_out: tables that were not carried, with the number of their rows
    """

    prefix: str
    schema: Schema
    tables: dict[str, Table]
    folder: Path
    copy: Copy
    same: Mapping[str, RowSum] = field(default_factory=dict)
    reader: Reader | None = None
    sums: dict[str, RowSum] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)

    def file(self, name: str) -> Path:
        """The rows of a table."""
        return self.folder / f"{list(self.tables).index(name):04d}.jsonl"

    def open(self, name: str) -> BinaryIO:
        """
        A stream of the rows of a table.

        :raises IntegrityError: if they are not what the point before was believed to have
        :raises SourceChanged: if they are not, and the store is a server, where somebody may have changed them since the cut
        """
        path = self.file(name)
        if not path.exists():
            anew = path.with_suffix(".anew")
            anew.unlink(missing_ok=True)
            with self.copy.again() as connection:
                found = write_lines(batches_of(connection, self.tables[name]), anew)
            if found != self.sums[name]:
                if self.schema.engine != "sqlite":
                    raise SourceChanged(f"the table {name} changed while it was captured", "take the snapshot again")
                raise IntegrityError(f"{name} is not what the point before has of it", "verify the vault")
            anew.rename(path)
        return path.open("rb")

    def begin(self, connection: Connection, stack: ExitStack) -> None:
        """Have what nobody read yet written by a process of its own, if it is much; `stack` ends it."""
        self.reader = Reader.of(connection, self.copy, self.unread())
        if self.reader:
            stack.callback(self.reader.close)

    def let_go(self, connection: Connection) -> None:
        """The connection is not needed after this."""
        if self.reader and not _joined(self.reader, self.copy.store.shown):
            self.reader = None
            _read(connection, self)
        if self.reader is None:
            self.finish()

    def finish(self) -> None:
        """See that all is written; then the copy of a store, which takes room, is kept only if a table may have to be read again."""
        if self.reader:
            self.note(self.reader.sums())
            self.reader = None
        if all(self.file(name).exists() for name in self.tables):
            self.copy.drop()

    def unread(self) -> list[tuple[Table, Path]]:
        """Tables that nobody read yet, and where they go."""
        return [(table, self.file(name)) for name, table in self.tables.items() if name not in self.sums]

    def note(self, written: Mapping[str, RowSum]) -> None:
        """These tables were read."""
        self.sums |= written
        for name in written.keys() & self.same.keys():
            if self.same[name] != written[name]:
                shown = self.copy.store.shown
                logger.error("%s has other rows in %s than the point before, but the same digest", shown, name)

    @property
    def look(self) -> Look | None:
        """By what the tables are known again at the next point; None if nothing is."""
        rows = {name: total.rows for name, total in self.sums.items()}
        return Look(LOOK_FORMAT, dict(sorted(self.digests.items())), rows) if self.digests else None

    def details(self) -> dict[str, Any]:
        """The facts that a restore is reconciled with; of a part of a store, what it is a part of as well."""
        chosen = self.tables if isinstance(self.tables, ChosenTables) else None
        part = {"models": sorted(chosen.closure.models), "rows_left_out": chosen.left_out} if chosen else None
        return {
            **({"selective": part} if part else {}),
            "engine": self.schema.engine,
            "mlflow_version": self.schema.mlflow,
            "revisions": self.schema.revisions,
            "tables": {name: to_json(total) for name, total in sorted(self.sums.items())},
        }


def dump_database(
    connection: Connection,
    copy: Copy,
    known: Known,
    folder: Path,
    *,
    prefix: str,
    version_table: str,
    cut_at: float,
    stack: ExitStack,
    wanted: Sequence[Wanted] = (),
) -> Dump:
    """
    Write all tables that a connection sees into a new folder, but for those of which nothing changed since the point before.

    Those of a large store are written when `Dump.finish` returns. The transaction of the connection must stay open until
    `Dump.let_go` does.

    :param stack: ends what is still at work then
    :param wanted: models that are taken alone, with what they need; then every table is read, since what they need may have changed
    :raises SourceInvalid: if this is no such store, or at a revision that the installed MLflow does not know, or damaged
    """
    folder.mkdir(parents=True)
    with beside(
        lambda still_wanted: page_digests(copy.file, still_wanted) if copy.file and not wanted else {}
    ) as digesting:
        schema, found = _schema(connection, copy, version_table, cut_at)
        dump = Dump(prefix, schema, {table.name: table for table in schema.tables}, folder, copy)
        if wanted:
            read = functools.partial(values, connection, found)
            closure = Closure.of(Relations.of(connection, found), read, wanted, alone=True)
            dump.tables = ChosenTables(dump.tables, closure)
        else:
            if known.nothing:  # all is read, whatever its digests are
                dump.begin(connection, stack)
            dump.digests = digesting.result() if copy.file else server_digests(connection, schema.tables, copy)
    dump.same = known.same_tables(prefix, dump.tables, dump.digests)
    dump.sums |= {name: total for name, total in dump.same.items() if copy.file or not _due(prefix, name, cut_at)}
    if not wanted and not known.nothing:
        dump.begin(connection, stack)
    if dump.sums.keys() != dump.tables.keys():
        copy.check()
    if not dump.reader:
        _read(connection, dump)
    for name in found.keys() & LEFT_OUT.keys():
        dump.left_out[name] = sum(1 for _ in rows_of(connection, found[name]))
    return dump


def _schema(connection: Connection, copy: Copy, version_table: str, cut_at: float) -> tuple[Schema, dict[str, Table]]:
    """
    What is stored of the schema, and all tables.

    :raises SourceInvalid: if this is no such store, or at a revision that the installed MLflow does not know
    """
    revisions = revisions_of(connection)
    if version_table not in revisions:
        raise SourceInvalid(
            f"{copy.store.shown} is no MLflow store: it has no table {version_table}",
            "see what `mlflow server` was given",
        )
    require_known(revisions, copy.store.shown, "the MLflow that this store's server runs, or a later one")
    found = tables_of(connection)
    carried = tuple(table for name, table in found.items() if name not in LEFT_OUT)
    sequences = sequences_of(connection)
    return Schema(FORMAT, copy.store.engine, mlflow_version(), cut_at, revisions, carried, sequences), found


def _joined(reader: Reader, shown: str) -> bool:
    try:
        reader.joined()
    except MusterError as error:
        logger.warning("%s cannot be read by two at the same moment, so it takes longer: %s", shown, error.message)
        reader.close()
        return False
    return True


def _read(connection: Connection, dump: Dump) -> None:
    for table, path in dump.unread():
        dump.note({table.name: write_lines(_wanted(connection, table, dump.tables), path)})


def _wanted(connection: Connection, table: Table, tables: Mapping[str, Table]) -> Iterator[Batch]:
    if isinstance(tables, ChosenTables):
        return in_batches(tables.chosen(table.name, rows_of(connection, table)))
    return batches_of(connection, table)


def _due(prefix: str, name: str, cut_at: float) -> bool:
    """Whether a table of a server is read on this day whatever its digest says, which is the server's word alone."""
    return due(table_path(prefix, name), datetime.fromtimestamp(cut_at, UTC))


def schema_document(schema: Schema, roots: Iterable[Root]) -> dict[str, Any]:
    """The content of ``schema.json``."""
    document: dict[str, Any] = to_json(schema)
    return {**document, "roots": [root.to_json() for root in roots]}


def same_columns(stored: Table, here: Table) -> bool:
    """Whether a table of this database takes the rows of a stored one."""

    def kinds(columns: Iterable[Column]) -> Mapping[str, str]:
        return {column.name: column.kind for column in columns}

    return kinds(stored.columns) == kinds(here.columns)
