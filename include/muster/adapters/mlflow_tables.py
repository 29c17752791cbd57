"""One database of MLflow as files: every table as canonical rows, and the schema that says how to read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muster.adapters.mlflow_lines import RowSum, write_lines
from muster.adapters.mlflow_locations import Root
from muster.adapters.mlflow_rows import Column, Table, rows_of, tables_of
from muster.adapters.mlflow_schema import sequences_of
from muster.adapters.mlflow_store import StoreUrl, mlflow_version, require_known, revisions_of
from muster.codec import from_json, to_json
from muster.errors import IntegrityError, SourceInvalid

if TYPE_CHECKING:
    from sqlalchemy import Connection

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
    A database, written to files.

    :param prefix: folder of the stored tree, empty or ending in ``/``
    :param files: path in the stored tree to the file on disk
    :param left_out: tables that were not carried, with the number of their rows
    """

    prefix: str
    schema: Schema
    tables: dict[str, Table]
    sums: dict[str, RowSum] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)

    def details(self) -> dict[str, Any]:
        """The facts that a restore is reconciled with."""
        return {
            "engine": self.schema.engine,
            "mlflow_version": self.schema.mlflow,
            "revisions": self.schema.revisions,
            "tables": {name: to_json(total) for name, total in sorted(self.sums.items())},
        }


def dump_database(
    connection: Connection, store: StoreUrl, folder: Path, *, prefix: str, version_table: str, cut_at: float
) -> Dump:
    """
    Write all tables that a connection sees into a new folder.

    :raises SourceInvalid: if this is no such store, or at a revision that the installed MLflow does not know
    """
    revisions = revisions_of(connection)
    if version_table not in revisions:
        raise SourceInvalid(
            f"{store.shown} is no MLflow store: it has no table {version_table}", "see what `mlflow server` was given"
        )
    require_known(revisions, store.shown, "the MLflow that this store's server runs, or a later one")
    tables = tables_of(connection)
    carried = tuple(table for name, table in tables.items() if name not in LEFT_OUT)
    schema = Schema(FORMAT, store.engine, mlflow_version(), cut_at, revisions, carried, sequences_of(connection))
    dump = Dump(prefix, schema, {table.name: table for table in carried})
    folder.mkdir(parents=True)
    for number, table in enumerate(carried):
        path = folder / f"{number:04d}.jsonl"
        dump.sums[table.name] = write_lines(rows_of(connection, table), path)
        dump.files[f"{prefix}tables/{table.name}.jsonl"] = path
    for name in tables.keys() & LEFT_OUT.keys():
        dump.left_out[name] = sum(1 for _ in rows_of(connection, tables[name]))
    return dump


def schema_document(schema: Schema, roots: Iterable[Root]) -> dict[str, Any]:
    """The content of ``schema.json``."""
    document: dict[str, Any] = to_json(schema)
    return {**document, "roots": [root.to_json() for root in roots]}


def same_columns(stored: Table, here: Table) -> bool:
    """Whether a table of this database takes the rows of a stored one."""

    def kinds(columns: Iterable[Column]) -> Mapping[str, str]:
        return {column.name: column.kind for column in columns}

    return kinds(stored.columns) == kinds(here.columns)
