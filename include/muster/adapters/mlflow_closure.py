"""
Registered models with everything that they need: versions, aliases, runs, logged models, datasets, prompts, parents, traces of runs.

Rows that are things of their own are reached from the models that are meant, step by step; a row that is part of a thing, such as a
parameter of a run, goes with it. What a chosen row names by a foreign key is always chosen as well, so that the rows stand by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from muster.adapters.mlflow_lines import Row
from muster.adapters.mlflow_links import PAIR, Links, Read
from muster.adapters.mlflow_relations import Key, Node, Relations, picked
from muster.adapters.mlflow_revisions import VERSION_TABLES
from muster.adapters.mlflow_rows import Table
from muster.domain.selection import Wanted, label_of, selected

DEFAULT_EXPERIMENT = ("experiments", (0,))


@dataclass(frozen=True)
class Closure:
    """
    Rows that were chosen.

    :param models: labels of the models that were meant, and of their aliases; None where a model was meant as a whole
    :param reached: table to the keys of the things that were chosen
    """

    models: dict[str, set[str] | None]
    reached: dict[str, set[Key]]
    links: Links

    @staticmethod
    def of(relations: Relations, read: Read, wanted: Collection[Wanted], *, alone: bool = False) -> Closure:
        """
        Everything that models need.

        :param alone: choose so that a store of these rows alone works: with the default experiment, and with every alias that leads to
            a chosen version
        :raises NotFound: if no model is meant
        """
        links = Links.read(relations, read)
        aliases: dict[str, dict[str, Node]] = {}
        models: dict[str, Node] = {}
        for workspace, name in read("registered_models", ("workspace", "name")):
            models[label_of(workspace, name)] = relations.node("registered_models", workspace=workspace, name=name)
            aliases[label_of(workspace, name)] = {}
        for workspace, name, alias in read("registered_model_aliases", ("workspace", "name", "alias")):
            node = relations.node("registered_model_aliases", workspace=workspace, name=name, alias=alias)
            aliases.setdefault(label_of(workspace, name), {})[alias] = node
        chosen = selected(wanted, aliases)
        seeds = [DEFAULT_EXPERIMENT] if alone else []
        for label, named in chosen.items():
            seeds += [models[label], *(n for a, n in aliases[label].items() if named is None or a in named)]
            seeds += _versions_of(links, models[label]) if named is None else []
        closure = Closure(chosen, {}, links)
        closure._reach(seeds)
        if alone:
            closure._reach(
                node for found in aliases.values() for node in found.values() if closure._points_inside(node)
            )
        return closure

    def _reach(self, seeds: Iterable[Node]) -> None:
        waiting = list(seeds)
        while waiting:
            node = waiting.pop()
            if self.links.exists(node) and node not in self:
                self.reached.setdefault(node[0], set()).add(node[1])
                waiting += self.links.leads.get(node, ())

    def __contains__(self, node: Node | None) -> bool:
        return node is not None and node[1] in self.reached.get(node[0], ())

    def _points_inside(self, alias: Node) -> bool:
        return any(end in self for end in self.links.leads.get(alias, ()) if end[0] == "model_versions")

    def picker(self, table: Table) -> Callable[[Row], bool]:
        """Tells of each row of a table whether it was chosen."""
        if table.name in VERSION_TABLES:
            return lambda _row: True
        if table.name in ("inputs", "entity_associations"):
            return lambda row: all(end in self for end in self.links.ends(picked(table, PAIR, row)))
        if table.name == "input_tags":
            kept = {uuid for uuid, ends in self.links.inputs.items() if all(end in self for end in ends)}
            index = table.names.index("input_uuid")
            return lambda row: row[index] in kept
        root, columns = self.links.relations.root(table.name)
        keys, indexes = self.reached.get(root, set()), [table.names.index(column) for column in columns]
        if not columns or not keys:
            return lambda _row: False
        return lambda row: tuple(row[index] for index in indexes) in keys


class ChosenTables(dict[str, Table]):
    """
    Tables of which only chosen rows count.

    :param left: table to the number of its rows that were not chosen, as far as `chosen` has been through it
    """

    def __init__(self, tables: Mapping[str, Table], closure: Closure) -> None:
        super().__init__(tables)
        self.closure = closure
        self.left: dict[str, int] = {}

    @property
    def left_out(self) -> dict[str, int]:
        """Tables of which rows were left out, with their number."""
        return {name: rows for name, rows in sorted(self.left.items()) if rows}

    def picker(self, name: str) -> Callable[[Row], bool]:
        return self.closure.picker(self[name])

    def chosen(self, name: str, rows: Iterable[Row]) -> Iterator[Row]:
        """Those of a table's rows that were chosen; counts the others."""
        pick, left = self.picker(name), 0
        for row in rows:
            if pick(row):
                yield row
            else:
                left += 1
        self.left[name] = left


def _versions_of(links: Links, model: Node) -> list[Node]:
    """All versions of a model, deleted ones too: their numbers are taken."""
    tables = links.relations.tables
    indexes = [tables["model_versions"].key.index(column) for column in tables["registered_models"].key]
    return [
        ("model_versions", key)
        for key in links.there.get("model_versions", ())
        if tuple(key[index] for index in indexes) == model[1]
    ]
