"""A restored registry, read anew when all of it is written, beside the captured one: rows, files, and what MLflow's client shows."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from muster.adapters.beside import beside
from muster.adapters.mlflow_client import ClientView, client_view
from muster.adapters.mlflow_entities import EntityCount, Take, entity_of, finer_kinds, prompts_among
from muster.adapters.mlflow_facts import models_of, server_keys
from muster.adapters.mlflow_fill import Filled
from muster.adapters.mlflow_lines import Batch, Row, RowSum, in_batches, line_of, sum_of
from muster.adapters.mlflow_location_map import LocationMap
from muster.adapters.mlflow_received import Digests, Received, digests_of, files_line
from muster.adapters.mlflow_rows import Table, batches_of, rows_of, tables_of
from muster.adapters.mlflow_store import StoreUrl, connect, translated
from muster.adapters.mlflow_unused import MARK
from muster.adapters.mlflow_view import KINDS, ExpectedView, View
from muster.adapters.mlflow_view_further import FURTHER_KINDS
from muster.domain.fidelity import (
    MOST_DIFFERENCES,
    ClientLine,
    Counted,
    Difference,
    EntityLine,
    FidelityReport,
    FilesLine,
    TableLine,
)

if TYPE_CHECKING:
    from sqlalchemy import Connection

CLIENT = "MLflow's client"
LONGEST_ID = 80
NOTHING = Counted(0, hashlib.sha256().hexdigest())


@dataclass(slots=True)
class _Findings:
    """What differs: the first of it by name, all of it by number."""

    named: list[Difference] = field(default_factory=list)
    number: int = 0

    def add(self, where: str, entity: str, id_: str, what: str) -> None:
        self.number += 1
        if len(self.named) < MOST_DIFFERENCES:
            self.named.append(Difference(where, entity, id_, what))


@dataclass(slots=True)
class _Counts:
    """What there is and what there must be, entity by entity, over all databases."""

    due: EntityCount
    found: EntityCount
    tables: list[TableLine] = field(default_factory=list)

    def lines(self) -> tuple[EntityLine, ...]:
        due, found = self.due.totals(), self.found.totals()
        nothing: tuple[tuple[str, ...], Counted] = ((), NOTHING)
        return tuple(
            EntityLine(
                kind,
                tuple(sorted({*due.get(kind, nothing)[0], *found.get(kind, nothing)[0]})),
                due.get(kind, nothing)[1],
                found.get(kind, nothing)[1],
            )
            for kind in sorted(due.keys() | found.keys())
        )


def compare(
    filled: Sequence[Filled],
    places: Sequence[StoreUrl],
    locations: LocationMap,
    received: Received,
    left_out: Mapping[str, Any],
) -> tuple[FidelityReport, dict[str, Any]]:
    """
    Read everything that was restored, and hold it against what was captured.

    :param filled: the registry's database first
    :param places: where each of them can be read now
    :param left_out: as in the details of the capture: table to ``{"rows": …, "why": …}``
    :return: the report, and the facts that only the whole registry tells: its models, and the server keys that it needs
    :raises IntegrityError: if an old artifact root is left somewhere, or MLflow does not open the registry
    """
    databases = [place.file for place in places if place.engine == "sqlite"]
    with beside(lambda wanted: digests_of(received.folder, databases, wanted)) as digesting:
        return _compared(filled, places, locations, received.due, digesting, left_out)


def _compared(
    filled: Sequence[Filled],
    places: Sequence[StoreUrl],
    locations: LocationMap,
    files_due: Digests,
    digesting: Future[Digests],
    left_out: Mapping[str, Any],
) -> tuple[FidelityReport, dict[str, Any]]:
    main, findings = filled[0], _Findings()
    names = {table.name for one in filled for table in one.tables}
    with _reading(places[0]) as connection:
        prompts = _prompts(connection, main)
        counts, expected = _Counts(EntityCount(prompts), EntityCount(prompts)), ExpectedView()
        tables = tables_of(connection)
        _compare_tables(connection, tables, main, locations, counts, findings, expected.takers)
        if not main.upgraded:
            _refuse_others(connection, tables, names, findings)
            if findings.number:  # then what a client must see is not what was read
                expected = _expected(main, locations)
        facts = {"models": models_of(connection, tables), "server_keys": server_keys(connection, tables)}
    for other, place in zip(filled[1:], places[1:], strict=True):
        with _reading(place) as connection:
            there = tables_of(connection)
            _compare_tables(connection, there, other, locations, counts, findings, lambda _table: [])
    exact = not findings.number
    files = _compare_files(files_due, digesting.result(), findings)
    client = _compare_views(expected.finished(), client_view(places[0]), findings, exact=exact)
    report = FidelityReport(
        engines=(main.stored.schema.engine, main.stored.store.engine),
        tables=tuple(sorted(counts.tables, key=lambda line: line.table)),
        entities=counts.lines(),
        artifacts_captured=files_line(files_due),
        artifacts_restored=files,
        client=client,
        differences=tuple(findings.named),
        differing=findings.number,
        upgraded=_upgrade(main),
        left_out={name: str(said["why"]) for name, said in left_out.items()},
    )
    return report, facts


@contextmanager
def _reading(place: StoreUrl) -> Iterator[Connection]:
    options = {"isolation_level": "REPEATABLE READ"} if place.engine == "postgresql" else {}
    with translated(place.shown), connect(place, **options).connect() as connection:
        yield connection


def _upgrade(main: Filled) -> tuple[str, ...]:
    if not main.upgraded:
        return ()
    return (main.stored.schema.revisions["alembic_version"], main.revisions["alembic_version"])


def _prompts(connection: Connection, main: Filled) -> frozenset[tuple[Any, Any]]:
    """The models that are prompts, by what was stored: by what there is, once MLflow has migrated it."""
    for table in main.tables:
        if table.name == "registered_model_tags":
            rows = rows_of(connection, table) if main.upgraded else main.rows(table, LocationMap(()))
            return prompts_among(rows, table)
    return frozenset()


# --- rows -------------------------------------------------------------------------------------------------------------


def _compare_tables(
    connection: Connection,
    there: Mapping[str, Table],
    filled: Filled,
    locations: LocationMap,
    counts: _Counts,
    findings: _Findings,
    told: Callable[[Table], list[Take]],
) -> None:
    for table in filled.tables:
        name, due = f"{filled.stored.prefix}{table.name}", filled.due[table.name]
        found = RowSum(0, NOTHING.sha256)
        if table.name in there:
            batches = batches_of(connection, table)
            inspected = batches if filled.upgraded else locations.inspected(table, batches)
            found = _read(inspected, [*counts.found.takers(table), *told(table)])
            counts.found.done(table.name, found, name)
        if table.name in there and found == due:
            counts.due.same(counts.found, name)
        else:
            _name_differences(connection if table.name in there else None, filled, table, locations, counts, findings)
        counts.tables.append(_table_line(filled, table, name, found))


def _table_line(filled: Filled, table: Table, name: str, found: RowSum) -> TableLine:
    captured, due = filled.stored.expected[table.name], filled.due[table.name]
    return TableLine(
        name,
        Counted(int(captured["rows"]), str(captured["sha256"])),
        Counted(due.rows, due.sha256),
        Counted(found.rows, found.sha256),
        filled.mapped.get(table.name, 0),
        filled.adapted_in(table.name),
    )


def _read(batches: Iterable[Batch], takers: Sequence[Take]) -> RowSum:
    def give(batch: Batch) -> None:
        for row in map(list, batch.rows):
            line = line_of(row)
            for take in takers:
                take(row, line)

    return sum_of(batches, give if takers else None)


def _name_differences(
    connection: Connection | None,
    filled: Filled,
    table: Table,
    locations: LocationMap,
    counts: _Counts,
    findings: _Findings,
) -> None:
    """Which rows of a table differ. What MLflow migrated is in no file of ours: then only the table is named."""
    name = f"{filled.stored.prefix}{table.name}"
    if connection is None:
        findings.add(name, "table", table.name, "is lost")
    elif filled.upgraded:
        findings.add(name, "table", table.name, "changed after it was filled")
    if filled.upgraded:
        return
    total = _read(in_batches(filled.rows(table, locations)), counts.due.takers(table))
    counts.due.done(table.name, total, name)
    if connection is not None:
        kinds = finer_kinds(table, counts.due.prompts)
        for row, what in _differing(table, filled.rows(table, locations), rows_of(connection, table)):
            findings.add(name, kinds(row) if kinds else entity_of(table.name), _id(table, row), what)


def _differing(table: Table, due: Iterator[Row], found: Iterator[Row]) -> Iterator[tuple[Row, str]]:
    """Rows that differ, and how; both are sorted by the key of the table."""
    key = _key(table)
    left, right = next(due, None), next(found, None)
    while left is not None or right is not None:
        if left is not None and (right is None or key(left) < key(right)):
            yield left, "is lost"
            left = next(due, None)
        elif right is not None and (left is None or key(right) < key(left)):
            yield right, "was not captured"
            right = next(found, None)
        else:
            if left is not None and right is not None and left != right:
                columns = [n for n, a, b in zip(table.names, left, right, strict=True) if a != b]
                yield left, f"differs in {', '.join(columns)}"
            left, right = next(due, None), next(found, None)


def _key(table: Table) -> Callable[[Row], tuple[Any, ...]]:
    indexes = [table.names.index(name) for name in table.key or table.names]

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return float(value["float"]) if "float" in value else json.dumps(value, sort_keys=True)
        return value

    return lambda row: tuple((row[i] is not None, plain(row[i])) for i in indexes)


def _id(table: Table, row: Row) -> str:
    """The key of a row, for people; a row without a key is told by its digest, for its values may be secret."""
    if not table.key:
        return f"with digest {hashlib.sha256(line_of(row)).hexdigest()[:12]}"
    values = {name: str(row[table.names.index(name)]) for name in table.key}
    if values.get("workspace") == "default":
        del values["workspace"]
    short = {name: v if len(v) <= LONGEST_ID else f"{v[:LONGEST_ID]}…" for name, v in values.items()}
    return ", ".join(f"{name} {value}" for name, value in short.items())


def _refuse_others(connection: Connection, there: Mapping[str, Table], names: set[str], findings: _Findings) -> None:
    """Tables that were not captured may be there, as MLflow makes them, and must be empty."""
    for name, table in there.items():
        if name not in names and name != MARK:
            rows = sum(1 for _ in itertools.islice(rows_of(connection, table), MOST_DIFFERENCES))
            if rows:
                findings.add(name, "table", name, "holds rows that were not captured")


# --- what a client sees -----------------------------------------------------------------------------------------------


def _expected(main: Filled, locations: LocationMap) -> ExpectedView:
    """What a client must see, by the stored rows."""
    expected = ExpectedView()
    for table in main.tables:
        if takers := expected.takers(table):
            _read(in_batches(main.rows(table, locations)), takers)
    return expected


def _compare_views(due: View, seen: ClientView, findings: _Findings, *, exact: bool) -> tuple[ClientLine, ...]:
    """
    :param exact: whether all rows are those that were captured. Then what MLflow shows otherwise of the things that it shows by rules of
        its own is told, and is no difference: a restore is not to fail for our notion of them
    """
    for kind, id_ in due.left_open:
        for view in (due, seen.view):
            view.drop(kind, id_)
    lines = []
    for kind in (kind for kinds in KINDS.values() for kind in kinds):
        if kind in seen.unseen:
            lines.append(ClientLine(kind, due.counted(kind), None, seen.unseen[kind]))
            continue
        differing = list(due.differing(kind, seen.view))
        if (differing and exact and kind in FURTHER_KINDS) or kind in due.untold:
            why = (
                due.untold.get(kind) or f"{len(differing)} are shown otherwise than we read their rows, which are whole"
            )
            lines.append(ClientLine(kind, due.counted(kind), None, why))
            continue
        lines.append(ClientLine(kind, due.counted(kind), seen.view.counted(kind)))
        for id_, what in differing:
            findings.add(CLIENT, kind, id_[:LONGEST_ID], what)
    return tuple(lines)


# --- artifacts --------------------------------------------------------------------------------------------------------


def _compare_files(due: Digests, found: Digests, findings: _Findings) -> FilesLine:
    for path in sorted(due.keys() | found.keys()):
        expected, there = due.get(path), found.get(path)
        if expected != there:
            what = "is lost" if there is None else "was not captured" if expected is None else "has other content"
            findings.add("artifacts", "file", path, what)
    return files_line(found)
