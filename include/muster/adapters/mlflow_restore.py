"""A captured MLflow registry, put back: same engine or another, same artifact root or another, same MLflow or a newer one."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muster.adapters.mlflow_artifacts import ArtifactFolder
from muster.adapters.mlflow_build import building, require_empty
from muster.adapters.mlflow_engines import NAMES, Fit, float_fits
from muster.adapters.mlflow_facts import models_of, server_keys
from muster.adapters.mlflow_lines import Row, RowSum, read_lines, sum_of_file, sum_of_rows
from muster.adapters.mlflow_locations import LocationMap, Root, root_place, roots_from_json
from muster.adapters.mlflow_mysql import commit_rows
from muster.adapters.mlflow_mysql_types import single_columns
from muster.adapters.mlflow_rows import Table, insert_rows, rows_of, tables_of
from muster.adapters.mlflow_s3 import S3Access, open_folder
from muster.adapters.mlflow_schema import create_schema, create_unknown, migrate, reserve_numbers, set_sequences
from muster.adapters.mlflow_store import StoreUrl, migration_scripts, mlflow_version, require_known, revisions_of
from muster.adapters.mlflow_tables import Schema, same_columns
from muster.codec import to_json
from muster.domain.content import TreeEntry, checked_path
from muster.errors import IntegrityError, SourceInvalid, TargetNotEmpty
from muster.ports import TreeReader

if TYPE_CHECKING:
    from sqlalchemy import Connection

UNFINISHED_JOBS = (0, 1, 6)
FAILED_JOB = 3
"""`mlflow.entities.JobStatus` as integers: pending, running and needs-recovery jobs would be run again by the next server."""


@dataclass(frozen=True, slots=True)
class _Database:
    """A stored database, verified and on disk, and where it goes."""

    store: StoreUrl
    schema: Schema
    files: dict[str, Path]
    expected: Mapping[str, Any]


class MlflowTarget:
    """
    An empty place for a registry.

    :param store_url: an SQLite file that is not there, or a PostgreSQL, MySQL or MariaDB database without content
    :param artifact_root: an empty or missing folder, or ``s3://…`` as for `MlflowSource`
    :param auth_store_url: where a basic-auth database of its own goes; else ``basic_auth.db`` beside an SQLite store, or the same
        database of the server
    """

    def __init__(self, store_url: str, artifact_root: str, *, auth_store_url: str | None = None) -> None:
        self._store = StoreUrl.parse(store_url)
        self._root = root_place(artifact_root)
        self._access = S3Access.of(artifact_root)
        self._auth = StoreUrl.parse(auth_store_url) if auth_store_url else _beside(self._store)

    def check(self, details: Mapping[str, Any]) -> None:
        """
        :raises TargetNotEmpty: if database or artifact root hold something
        :raises SourceInvalid: if the installed MLflow is older than the store was, or cannot make its tables there
        """
        parts = [(self._store, details), *([(self._auth, details["auth"])] if details.get("auth") else [])]
        for store, part in parts:
            if store.engine == "mysql" and "alembic_version_auth" in part["revisions"]:
                raise SourceInvalid(
                    "MLflow cannot make its basic-auth tables on MySQL: its migration gives two foreign keys one name",
                    "let `auth_store` of the target name an SQLite file or a PostgreSQL database",
                )
            needed = f"mlflow=={part['mlflow_version']} or later"
            require_known(dict(part["revisions"]), "the captured registry", needed)
            require_empty(store)
        self._empty_folder()

    def restore(self, details: Mapping[str, Any], tree: TreeReader) -> dict[str, Any]:
        """
        Artifacts first, then the tables that name them; every table and file is reconciled before anything becomes visible.

        :raises IntegrityError: if a table or file is not what was captured, or an old artifact root is left somewhere
        """
        self.check(details)
        with tempfile.TemporaryDirectory(prefix="muster-registry-") as scratch, ExitStack() as stack:
            main = self._fetch(tree, "", self._store, details, Path(scratch))
            databases = [main]
            if details.get("auth"):
                databases.append(self._fetch(tree, "auth/", self._auth, details["auth"], Path(scratch)))
            roots = roots_from_json(main.schema.roots)
            artifacts = stack.enter_context(self._artifacts(details, tree, roots))
            locations = LocationMap.between(roots, self._root)
            facts = self._tables(databases, locations)
        return {
            **facts,
            "artifacts": artifacts,
            "excluded": dict(details["excluded"]),
            "left_out": dict(details["left_out"]),
            "roots": [root.moved(self._root).location for root in roots],
            "mentions": locations.mentions,
        }

    # --- artifacts ----------------------------------------------------------------------------------------------------

    def _empty_folder(self) -> ArtifactFolder:
        folder = open_folder(self._root, self._access)
        if not folder.is_empty():
            raise TargetNotEmpty(
                f"the artifact root {self._root.location} is not empty", "restore to an empty or missing one"
            )
        return folder

    @contextmanager
    def _artifacts(
        self, details: Mapping[str, Any], tree: TreeReader, roots: tuple[Root, ...]
    ) -> Iterator[dict[str, int]]:
        folder = self._empty_folder()
        wanted = _artifact_entries(tree, roots)
        folder.receive(wanted, tree)
        try:
            expected = {path: e.content.size for e, path in wanted if e.content is not None}
            found = {a.path: a.size for a in folder.below([""]) if a.kind == "file"}
            _require_same("artifacts", expected, found)
            facts = {"files": len(found), "bytes": sum(found.values())}
            _require_same("artifact totals", dict(details["artifacts"]), facts)
            yield facts
        except BaseException:
            folder.give_back()
            raise
        folder.keep()

    # --- tables -------------------------------------------------------------------------------------------------------

    def _fetch(
        self, tree: TreeReader, prefix: str, store: StoreUrl, details: Mapping[str, Any], scratch: Path
    ) -> _Database:
        """Bring the tables of a database to disk, and hold each of them to its digest before any row is used."""
        schema = Schema.read(json.loads(tree.read(tree.entry(f"{prefix}schema.json"))))
        names = {table.name for table in schema.tables}
        _require_same("tables", dict.fromkeys(details["tables"]), dict.fromkeys(names))
        _require_same("schema revisions", dict(details["revisions"]), schema.revisions)
        files = {name: scratch / f"{prefix.strip('/')}-{n}.jsonl" for n, name in enumerate(sorted(names))}
        tree.extract((tree.entry(f"{prefix}tables/{name}.jsonl"), path) for name, path in files.items())
        measured = {name: to_json(sum_of_file(path)) for name, path in files.items()}
        _require_same("rows", dict(details["tables"]), measured)
        return _Database(store, schema, files, details["tables"])

    def _tables(self, databases: list[_Database], locations: LocationMap) -> dict[str, Any]:
        main, *others = databases
        with ExitStack() as stack:
            shared = [d for d in others if d.store.url == main.store.url]
            separate = [d for d in others if d not in shared]
            connection = stack.enter_context(building(main.store))
            found, *beside = _fill(connection, [main, *shared], locations)
            for database in separate:
                beside += _fill(stack.enter_context(building(database.store)), [database], locations)
            tables = tables_of(connection)
            return {
                **found,
                "alembic_revision": revisions_of(connection)["alembic_version"],
                "auth": beside[0] if beside else None,
                "models": models_of(connection, tables),
                "server_keys": server_keys(connection, tables),
            }


def _beside(store: StoreUrl) -> StoreUrl:
    if store.engine != "sqlite":
        return store
    return StoreUrl.parse(f"sqlite:///{store.file.with_name('basic_auth.db')}")


def _artifact_entries(tree: TreeReader, roots: tuple[Root, ...]) -> list[tuple[TreeEntry, str]]:
    """Every stored artifact with its path below the new root."""
    wanted = []
    for entry in tree.entries():
        for root in roots:
            if entry.path.startswith(f"{root.tree}/"):
                relative = checked_path(entry.path[len(root.tree) + 1 :])
                wanted.append((entry, relative if root.tree == "artifacts" else f"{root.folder}/{relative}"))
    return wanted


def _fill(connection: Connection, databases: list[_Database], locations: LocationMap) -> list[dict[str, Any]]:
    """
    Make the schemas as they were, put in every row, read every row again, then bring the schemas up to date.

    In this order: a change of a schema makes MySQL commit the rows.
    """
    orders = [_made(connection, database.schema) for database in databases]
    filled = [_rows(connection, d, order, locations) for d, order in zip(databases, orders, strict=True)]
    for schema in (database.schema for database in databases):
        for table, revision in schema.revisions.items():
            if migration_scripts(table).get_current_head() != revision:
                commit_rows(connection)
                migrate(connection, table, "heads")
    now = revisions_of(connection)
    return [
        {
            "engine": database.store.engine,
            "mlflow_version": mlflow_version(),
            "revisions": {table: now[table] for table in database.schema.revisions},
            **facts,
        }
        for database, facts in zip(databases, filled, strict=True)
    ]


def _made(connection: Connection, schema: Schema) -> list[Table]:
    create_schema(connection, schema.revisions)
    order = _order(connection, schema)
    reserve_numbers(connection, schema.sequences)
    return order


def _rows(connection: Connection, database: _Database, order: list[Table], locations: LocationMap) -> dict[str, Any]:
    schema = database.schema
    sums: dict[str, RowSum] = {}
    adapted: dict[str, int] = {}
    for table in order:
        rows = _for_here(connection, table, read_lines(database.files[table.name]), adapted)
        mapped = (locations.apply(table, row) for row in rows)
        wanted = sum_of_rows(mapped) if table.name in schema.revisions else insert_rows(connection, table, mapped)
        sums[table.name] = sum_of_rows(_inspected(connection, table, locations))
        _require_same(f"rows of {table.name}", to_json(wanted), to_json(sums[table.name]))
        if wanted.rows != database.expected[table.name]["rows"]:
            raise IntegrityError(f"{table.name} came back with {wanted.rows} rows", "verify the vault")
    set_sequences(connection, schema.sequences)
    return {"tables": {name: to_json(total) for name, total in sorted(sums.items())}, "adapted": adapted}


def _order(connection: Connection, schema: Schema) -> list[Table]:
    """The stored tables, parents first; tables that MLflow does not make are made."""
    stored = {table.name: table for table in schema.tables}
    for name in stored.keys() - tables_of(connection).keys():
        create_unknown(connection, stored[name])
    here = tables_of(connection)
    for name, table in stored.items():
        if not same_columns(table, here[name]):
            raise SourceInvalid(
                f"the captured table {name} has other columns than MLflow makes at this revision",
                f"captured: {', '.join(table.names)}; here: {', '.join(here[name].names)}",
            )
    return [stored[name] for name in here if name in stored]


def _inspected(connection: Connection, table: Table, locations: LocationMap) -> Iterator[Row]:
    for row in rows_of(connection, table):
        locations.inspect(table, row)
        yield row


def _for_here(connection: Connection, table: Table, rows: Iterator[Row], adapted: dict[str, int]) -> Iterator[Row]:
    """
    Rows as this engine can hold them, as MLflow itself would have written them here; what had to differ is counted.

    * a job that had not finished is failed: the process that ran it is gone, and a server would run it again
    * floats that the engine does not know: `muster.adapters.mlflow_engines`
    """
    fits = _fits(connection, table)
    status = table.names.index("status") if table.name == "jobs" else None
    for row in rows:
        for index, fit in fits:
            row[index], given_up = fit(row[index])
            if given_up:
                column = table.columns[index]
                where, engine = f"{table.name}.{column.name}", NAMES[connection.dialect.name]
                if row[index] is None and not column.nullable:
                    raise SourceInvalid(
                        f"{where} holds {given_up}, which {engine} cannot hold", "restore to PostgreSQL"
                    )
                _count(adapted, f"{where}: {given_up}")
        if status is not None and row[status] in UNFINISHED_JOBS:
            row[status] = FAILED_JOB
            _count(adapted, "jobs.status: unfinished")
        yield row


def _fits(connection: Connection, table: Table) -> list[tuple[int, Fit]]:
    floats = [column.name for column in table.columns if column.kind == "float"]
    engine = connection.dialect.name
    singles = single_columns(connection, table.name) if engine == "mysql" and floats else ()
    return [(table.names.index(name), fit) for name, fit in float_fits(engine, floats, singles).items()]


def _count(counts: dict[str, int], what: str) -> None:
    counts[what] = counts.get(what, 0) + 1


def _require_same(what: str, expected: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    if expected != found:
        differing = sorted(k for k in expected.keys() | found.keys() if expected.get(k, ...) != found.get(k, ...))
        raise IntegrityError(
            f"the {what} of the registry are not those that were captured: {', '.join(differing[:5])}",
            "verify the point, and restore an earlier one",
        )
