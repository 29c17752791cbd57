"""Chosen rows of a point, held against a registry that is in use, and put into it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muster.adapters.mlflow_closure import Closure
from muster.adapters.mlflow_fill import Here, Stored, for_here
from muster.adapters.mlflow_lines import Row, RowSum, in_batches, line_of, read_lines, sum_of, write_lines
from muster.adapters.mlflow_live import count_on
from muster.adapters.mlflow_location_map import LocationMap
from muster.adapters.mlflow_relations import Relations, picked
from muster.adapters.mlflow_revisions import VERSION_TABLES
from muster.adapters.mlflow_rows import Table, insert_rows, rows_of, updated_row
from muster.batches import batched
from muster.domain.merge_plan import (
    ALIASES,
    CONTAINERS,
    PROMPT_TAGS,
    VERSION_TAGS,
    AliasMove,
    Change,
    Conflict,
    RowCounts,
    Verdict,
    judge,
)
from muster.domain.selection import label_of
from muster.errors import IntegrityError, SourceChanged

if TYPE_CHECKING:
    from sqlalchemy import Connection

AT_ONCE = 200
"""Keys that are asked for by one statement."""


@dataclass(slots=True)
class TableMerge:
    """What is to be done about the chosen rows of a table. Rows lie in files, for they may be many."""

    table: Table
    chosen: Path
    counts: Counter[str] = field(default_factory=Counter)
    adds: list[int] = field(default_factory=list)
    changes: list[tuple[Row, Row]] = field(default_factory=list)
    due: RowSum | None = None

    @property
    def line(self) -> RowCounts:
        changed = self.counts["move"] + self.counts["revive"]
        stay = self.counts["left"] + self.counts["conflict"]
        return RowCounts(self.table.name, self.counts["add"], changed, self.counts["equal"], stay)


@dataclass(slots=True)
class RowMerge:
    """What is to be done about all chosen rows."""

    tables: list[TableMerge] = field(default_factory=list)
    aliases: list[AliasMove] = field(default_factory=list)
    added: list[Change] = field(default_factory=list)
    revived: list[Change] = field(default_factory=list)
    left: list[Change] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)


def choose(
    here: Here,
    stored: Stored,
    closure: Closure,
    locations: LocationMap,
    folder: Path,
) -> list[TableMerge]:
    """
    Write the chosen rows of a point to files, as the engine holds them and with their locations mapped; tables parents first.

    :raises IntegrityError: if a row names an old artifact root in a column that is not known to
    """
    merges = []
    tables = {table.name: table for table in stored.schema.tables}
    for number, name in enumerate(closure.links.relations.tables):
        table = tables.get(name)
        if table is None or name in VERSION_TABLES:
            continue
        chosen = closure.picker(table)
        rows = in_batches(row for row in read_lines(stored.files[name]) if chosen(row))
        path = folder / f"chosen-{number}.jsonl"
        mapped = locations.applied(table, for_here(here, table, rows, {}))
        if write_lines(locations.inspected(table, mapped), path).rows:
            merges.append(TableMerge(table, path))
    return merges


def weigh(
    connection: Connection, relations: Relations, merges: Sequence[TableMerge], *, lock: bool = False
) -> RowMerge:
    """
    Compare all chosen rows with those that are there now.

    :param lock: keep others from changing the things that are compared
    """
    found, held = RowMerge(), set[tuple[str, bytes]]()
    for before in merges:
        merge = TableMerge(before.table, before.chosen)
        name = merge.table.name
        locking = lock and (name in relations.referred or name == ALIASES)
        merge.due = sum_of(in_batches(_weighed(connection, relations, merge, found, held, locking)))
        found.tables.append(merge)
        if name == VERSION_TAGS:
            _added_to_prompts(connection, merge, found)
    return found


def _weighed(
    connection: Connection,
    relations: Relations,
    merge: TableMerge,
    found: RowMerge,
    held: set[tuple[str, bytes]],
    lock: bool,
) -> Iterator[Row]:
    """Judge each row of a table; give what it must be afterwards, if it must be there at all."""
    table, owner, number = merge.table, relations.owners.get(merge.table.name), 0
    shelf = owner if owner and owner.table in CONTAINERS else None
    for batch in batched(read_lines(merge.chosen), AT_ONCE):
        live, fresh = _live(connection, table, batch, lock), list[Row]()
        for row in batch:
            now = live.get(_key(table, row))
            verdict = judge(table.name, table.names, row, now)
            if shelf and (shelf.table, line_of(list(picked(table, shelf.columns, row)))) in held:
                merge.counts["equal" if verdict.action == "equal" else "left"] += 1
                yield from [now] if now else []
            else:
                merge.counts[verdict.action] += 1
                _noted(relations, merge, found, row, now, verdict, number)
                fresh += [row] if verdict.action == "add" else []
                yield verdict.due
            if table.name in CONTAINERS and now is not None:
                held.add((table.name, _key(table, row)))
            number += 1
        _unique(connection, relations, table, fresh, found)


def _noted(
    relations: Relations, merge: TableMerge, found: RowMerge, row: Row, live: Row | None, verdict: Verdict, number: int
) -> None:
    table = merge.table
    change = Change(table.name, _shown(table, row), verdict.differing)
    if verdict.action == "add":
        merge.adds.append(number)
        if table.name not in relations.owners and table.name not in (
            ALIASES,
            "inputs",
            "input_tags",
            "entity_associations",
        ):
            found.added.append(change)
    elif verdict.action in ("move", "revive") and live is not None:
        merge.changes.append((verdict.due, live))
    if table.name == ALIASES and verdict.action in ("add", "move"):
        values, now = dict(zip(table.names, row, strict=True)), dict(zip(table.names, live or (), strict=False))
        model = label_of(values.get("workspace"), values["name"])
        found.aliases.append(AliasMove(model, values["alias"], now.get("version"), values["version"]))
    elif verdict.action == "revive":
        found.revived.append(change)
        found.left += [replace(change, columns=verdict.staying)] if verdict.staying else []
    elif verdict.action == "left":
        found.left.append(change)
    elif verdict.action == "conflict":
        what = f"has another {', '.join(verdict.differing)} now"
        found.conflicts.append(Conflict(table.name, change.id, what, verdict.keepable))


def _unique(connection: Connection, relations: Relations, table: Table, fresh: Sequence[Row], found: RowMerge) -> None:
    """Rows to be added whose name, or whatever else must be unique, another row has by now."""
    for columns in relations.unique.get(table.name, ()):
        named = [row for row in fresh if None not in picked(table, columns, row)]
        if not named or set(columns) >= set(table.key) or not set(columns) <= set(table.names):
            continue
        wanted = {picked(table, columns, row) for row in named}
        taken = {picked(table, columns, r): r for r in rows_of(connection, table, _among(columns, wanted))}
        for row in named:
            if other := taken.get(picked(table, columns, row)):
                what = f"is gone, and its {', '.join(columns)} belongs to {_shown(table, other)} now"
                found.conflicts.append(Conflict(table.name, _shown(table, row), what, keepable=False))


def _added_to_prompts(connection: Connection, merge: TableMerge, found: RowMerge) -> None:
    """Tags that make prompts say something else, and that the point has not."""
    table = merge.table
    at = table.key.index("key")
    stored = {picked(table, table.key, row) for row in read_lines(merge.chosen)}
    prompts = sorted({key for key in stored if key[at] in PROMPT_TAGS}, key=repr)
    asked = {(*key[:at], tag, *key[at + 1 :]) for key in prompts for tag in PROMPT_TAGS} - stored
    for batch in batched(sorted(asked, key=repr), AT_ONCE):
        for row in rows_of(connection, table, _among(table.key, batch)):
            shown = _shown(table, row)
            found.conflicts.append(Conflict(table.name, shown, "was not there at the point", keepable=False))


# --- what is there ----------------------------------------------------------------------------------------------------


def _live(connection: Connection, table: Table, batch: Sequence[Row], lock: bool) -> dict[bytes, Row]:
    """The rows that have the keys of those in a batch."""
    key = table.key or tuple(table.names)
    kinds = {column.name: column.kind for column in table.columns}
    asked = [name for name in key if kinds[name] in ("text", "integer")]
    wanted = {picked(table, asked, row) for row in batch}
    return {_key(table, row): row for row in rows_of(connection, table, _among(asked, wanted), lock=lock)}


def _among(columns: Sequence[str], wanted: Iterable[tuple[Any, ...]]) -> Any:
    """The rows that have one of these combinations, written so that every engine looks each of them up by an index."""
    import sqlalchemy as sa

    keys = sorted(wanted, key=repr)
    named: list[Any] = [sa.column(name) for name in columns]
    if len(named) == 1:
        return named[0].in_([value for (value,) in keys])
    each = [sa.and_(*(column == value for column, value in zip(named, key, strict=True))) for key in keys]
    return sa.or_(*each) if named else None


def _key(table: Table, row: Row) -> bytes:
    return line_of(list(picked(table, table.key or table.names, row)))


def _shown(table: Table, row: Row) -> str:
    """The key of a row, for people: the workspace only where it is another one than the default."""
    values = dict(zip(table.key, picked(table, table.key, row), strict=True)) or dict(
        zip(table.names, row, strict=True)
    )
    if values.get("workspace") == "default" and len(values) > 1:
        del values["workspace"]
    return "/".join(str(value) for value in values.values())


# --- putting in -------------------------------------------------------------------------------------------------------


def put(connection: Connection, merge: RowMerge) -> None:
    """
    Add and change what `weigh` said, in the transaction of this connection, and read all of it again.

    :raises SourceChanged: if a row is not what it was any more
    :raises IntegrityError: if the rows are not what they must be afterwards
    """
    for one in merge.tables:
        chosen = set(one.adds)
        fresh = in_batches(row for number, row in enumerate(read_lines(one.chosen)) if number in chosen)
        if one.adds and insert_rows(connection, one.table, fresh).rows != len(one.adds):
            raise IntegrityError(f"not all rows of {one.table.name} were put in", "report this to us")
        for due, live in one.changes:
            if not updated_row(connection, one.table, due, live):
                raise SourceChanged(f"{one.table.name} {_shown(one.table, live)} changed just now", "run it again")
    count_on(connection, {one.table.name for one in merge.tables if one.adds})


def require_put(connection: Connection, relations: Relations, merge: RowMerge) -> None:
    """
    :raises IntegrityError: if the chosen rows, read anew, are not what `weigh` said that they must be
    """
    again = weigh(connection, relations, merge.tables)
    for due, found in zip(merge.tables, again.tables, strict=True):
        if found.due != due.due or found.adds or found.changes:
            raise IntegrityError(
                f"the rows of {due.table.name} are not what they must be after the rollback",
                "nothing was changed; see who else writes to this registry, and run it again",
            )
