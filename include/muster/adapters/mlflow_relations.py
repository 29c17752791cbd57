"""What belongs to what in MLflow's tables: by their foreign keys, which are reflected, and by what MLflow links by value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from muster.adapters.mlflow_lines import Row
from muster.adapters.mlflow_rows import Table

if TYPE_CHECKING:
    from sqlalchemy import Connection

Key = tuple[Any, ...]
Node = tuple[str, Key]
"""A table, and the primary key of a row in it."""

APART = frozenset({"datasets", "model_versions", "registered_model_aliases"})
"""Tables whose key holds that of another one, and whose rows are nevertheless things of their own: one may be meant without its like."""
OWNED_BESIDES = {"assessments": "trace_info"}
"""Tables whose rows belong to another one although its key is no part of theirs."""


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """Columns of a table that name a row of another one."""

    columns: tuple[str, ...]
    table: str
    target: tuple[str, ...]


@dataclass(frozen=True)
class Relations:
    """
    How the tables of a store hang together.

    :param tables: by name, parents first
    :param foreign: table to its foreign keys
    :param unique: table to the sets of columns that are unique besides its primary key
    """

    tables: Mapping[str, Table]
    foreign: Mapping[str, tuple[ForeignKey, ...]]
    unique: Mapping[str, tuple[tuple[str, ...], ...]]

    @staticmethod
    def of(connection: Connection, tables: Mapping[str, Table]) -> Relations:
        """Read from the schema of a store."""
        from sqlalchemy import inspect

        inspector = inspect(connection)
        foreign, unique = {}, {}
        for name in tables:
            foreign[name] = tuple(
                ForeignKey(tuple(f["constrained_columns"]), str(f["referred_table"]), tuple(f["referred_columns"]))
                for f in inspector.get_foreign_keys(name)
                if f["referred_table"] in tables
            )
            sets: list[list[str | None]] = [list(u["column_names"]) for u in inspector.get_unique_constraints(name)]
            sets += [i["column_names"] for i in inspector.get_indexes(name) if i.get("unique")]
            unique[name] = tuple(sorted({tuple(map(str, columns)) for columns in sets if all(columns)}))
        return Relations(tables, foreign, unique)

    @cached_property
    def owners(self) -> dict[str, ForeignKey]:
        """Table to the foreign key by which each of its rows is a part of another row, such as the tags of a run."""
        return {name: owner for name in self.tables if (owner := self._owner(name))}

    def _owner(self, name: str) -> ForeignKey | None:
        if name in APART:
            return None
        key = self.tables[name].key
        owning = [f for f in self.foreign[name] if set(f.columns) <= set(key) or OWNED_BESIDES.get(name) == f.table]
        return min(owning, key=lambda f: [key.index(c) for c in f.columns if c in key], default=None)

    def root(self, name: str) -> tuple[str, tuple[str, ...]]:
        """The table of things that a table's rows are parts of in the end, and the columns that hold its key; itself, if of none."""
        owner = self.owners.get(name)
        if owner is None:
            return name, self.tables[name].key
        table, columns = self.root(owner.table)
        place = dict(zip(owner.target, owner.columns, strict=True))
        return table, tuple(place[column] for column in columns)

    def parents(self, name: str) -> list[ForeignKey]:
        """The foreign keys of a table that lead to something else than what its rows are a part of."""
        return [f for f in self.foreign[name] if f != self.owners.get(name)]

    @cached_property
    def referred(self) -> set[str]:
        """Tables that others name rows of."""
        return {f.table for keys in self.foreign.values() for f in keys}

    def node(self, table: str, **values: Any) -> Node:
        """A row of a table by the columns of its key; those that this schema's key does not have are passed over."""
        return table, tuple(values.get(column) for column in self.tables[table].key)


def picked(table: Table, columns: Sequence[str], row: Row) -> Key:
    """Some values of a row."""
    names = table.names
    return tuple(row[names.index(column)] for column in columns)
