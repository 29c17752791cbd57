"""Which rows of a registry lead to which others: by foreign keys, and by the names and ids that MLflow writes into values."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from muster.adapters.mlflow_relations import Key, Node, Relations

Read = Callable[[str, Sequence[str]], Iterable[tuple[Any, ...]]]
"""Chosen columns of all rows of a table: None for those that it does not have, nothing if there is no such table."""

PARENT_RUN = "mlflow.parentRunId"
SOURCE_RUN = "mlflow.sourceRun"
LINKED_PROMPTS = "mlflow.linkedPrompts"
ENDS = {
    "DATASET": "datasets",
    **dict.fromkeys(("RUN", "RUN_INPUT", "RUN_OUTPUT", "run"), "runs"),
    **dict.fromkeys(("MODEL_INPUT", "MODEL_OUTPUT", "model"), "logged_models"),
    "trace": "trace_info",
    "experiment": "experiments",
    "prompt_version": "model_versions",
    "evaluation_dataset": "evaluation_datasets",
}
"""What MLflow calls the ends of its inputs and associations, and the tables in which they lie."""
PAIR = ("source_type", "source_id", "destination_type", "destination_id")


@dataclass(slots=True)
class Links:
    """
    What leads where.

    :param there: table to the keys of its rows, for tables whose rows are things of their own
    :param leads: row to the rows that it cannot do without
    :param datasets: the UUID of a dataset to its row
    :param inputs: the UUID of an input to what it joins
    """

    relations: Relations
    there: dict[str, set[Key]] = field(default_factory=dict)
    leads: dict[Node, set[Node]] = field(default_factory=dict)
    datasets: dict[str, Node] = field(default_factory=dict)
    inputs: dict[str, tuple[Node | None, Node | None]] = field(default_factory=dict)

    @staticmethod
    def read(relations: Relations, read: Read) -> Links:
        """Look through the tables once."""
        links = Links(relations)
        spaces = _workspaces(read)
        links._foreign(read)
        for uuid, *key in read("datasets", ("dataset_uuid", *_key(relations, "datasets"))):
            links.datasets[str(uuid)] = ("datasets", tuple(key))
        for edges in (links._versions, links._runs, links._logged_models, links._aliases):
            edges(read)
        links._prompts(read, spaces)
        links._joined(read)
        return links

    def exists(self, node: Node) -> bool:
        return node[1] in self.there.get(node[0], ())

    def _add(self, start: Node, end: Node | None) -> None:
        if end is not None:
            self.leads.setdefault(start, set()).add(end)

    def _foreign(self, read: Read) -> None:
        """Keys of all things, and the parents of each; parts of things lead where their owner then leads."""
        for name, table in self.relations.tables.items():
            root, columns = self.relations.root(name)
            parents = self.relations.parents(name)
            if root != name:  # the experiment of a part is that of its owner
                parents = [f for f in parents if f.table != "experiments"]
                if not parents:
                    continue
            else:
                self.there[name] = set()
            spaced = ("workspace",) if root == name != "workspaces" and "workspace" in table.names else ()
            ends = [
                (f.table, [f.columns[f.target.index(c)] for c in self.relations.tables[f.table].key]) for f in parents
            ]
            ends += [("workspaces", list(spaced))] if spaced and "workspaces" in self.relations.tables else []
            wanted = [*columns, *(c for _, named in ends for c in named)]
            for values in read(name, wanted):
                start, rest = (root, tuple(values[: len(columns)])), values[len(columns) :]
                if root == name:
                    self.there[name].add(start[1])
                for end, named in ends:
                    key, rest = tuple(rest[: len(named)]), rest[len(named) :]
                    self._add(start, (end, key) if None not in key else None)

    def _versions(self, read: Read) -> None:
        columns = ("workspace", "name", "version", "run_id", "source", "storage_location")
        for workspace, name, version, run, *sources in read("model_versions", columns):
            start = self.relations.node("model_versions", workspace=workspace, name=name, version=version)
            self._add(start, ("runs", (run,)) if run else None)
            for source in sources:
                for end in self._named(source or "", workspace):
                    self._add(start, end)

    def _named(self, source: str, workspace: Any) -> Iterator[Node]:
        if match := re.match(r"models:/(m-[^/]+)", source):
            yield "logged_models", (match.group(1),)
        elif match := re.fullmatch(r"models:/([^/]+)/(\d+)", source):
            yield self.relations.node("model_versions", workspace=workspace, name=match[1], version=int(match[2]))
        elif match := re.match(r"runs:/+([^/]+)", source):
            yield "runs", (match.group(1),)

    def _runs(self, read: Read) -> None:
        for run, key, value in read("tags", ("run_uuid", "key", "value")):
            if key == PARENT_RUN:
                self._add(("runs", (run,)), ("runs", (value,)))
        for trace, key, value in read("trace_request_metadata", ("request_id", "key", "value")):
            if key == SOURCE_RUN:
                self._add(("runs", (value,)), ("trace_info", (trace,)))

    def _logged_models(self, read: Read) -> None:
        for model, run in read("logged_models", ("model_id", "source_run_id")):
            self._add(("logged_models", (model,)), ("runs", (run,)) if run else None)
        for model, uuid in read("logged_model_metrics", ("model_id", "dataset_uuid")):
            self._add(("logged_models", (model,)), self.datasets.get(str(uuid)))

    def _aliases(self, read: Read) -> None:
        for workspace, name, alias, version in read(
            "registered_model_aliases", ("workspace", "name", "alias", "version")
        ):
            start = self.relations.node("registered_model_aliases", workspace=workspace, name=name, alias=alias)
            self._add(start, self.relations.node("model_versions", workspace=workspace, name=name, version=version))

    def _prompts(self, read: Read, spaces: dict[Node, Any]) -> None:
        for table, owner, columns in (
            ("tags", "runs", ("run_uuid",)),
            ("logged_model_tags", "logged_models", ("model_id",)),
            ("model_version_tags", "model_versions", ("workspace", "name", "version")),
        ):
            named = ("tag_key", "tag_value") if table == "logged_model_tags" else ("key", "value")
            for *key, tag, value in read(table, (*columns, *named)):
                if tag != LINKED_PROMPTS:
                    continue
                start = self.relations.node(owner, **dict(zip(columns, key, strict=True)))
                workspace = key[0] if owner == "model_versions" else spaces.get(start)
                for name, version in _linked(value):
                    self._add(
                        start, self.relations.node("model_versions", workspace=workspace, name=name, version=version)
                    )

    def _joined(self, read: Read) -> None:
        """A run leads to its datasets and models, and to traces that are associated with it."""
        for *pair, uuid in read("inputs", (*PAIR, "input_uuid")):
            ends = self.ends(pair)
            self.inputs[str(uuid)] = ends
            self._from_run(ends)
        for joined in read("entity_associations", PAIR):
            ends = self.ends(joined)
            if {end[0] for end in ends if end} == {"runs", "trace_info"}:
                self._from_run(ends)

    def _from_run(self, ends: tuple[Node | None, Node | None]) -> None:
        first, second = ends
        if first and second:
            run, other = (first, second) if first[0] == "runs" else (second, first)
            if run[0] == "runs":
                self._add(run, other)

    def ends(self, pair: Sequence[Any]) -> tuple[Node | None, Node | None]:
        """What an input or association joins; None for an end that is unknown."""
        return self._end(pair[0], pair[1]), self._end(pair[2], pair[3])

    def _end(self, kind: str, id_: str) -> Node | None:
        table = ENDS.get(kind)
        if table == "datasets":
            return self.datasets.get(id_)
        if table == "experiments":
            return (table, (int(id_),)) if id_.isdecimal() else None
        if table == "model_versions":
            name, _, version = id_.rpartition("/")
            found = [
                self.relations.node(table, workspace=w, name=name, version=_number(version)) for w in self._spaces()
            ]
            return next((node for node in found if self.exists(node)), None)
        return (table, (id_,)) if table and table in self.relations.tables else None

    def _spaces(self) -> list[Any]:
        return ["default", *sorted(key[0] for key in self.there.get("workspaces", ()) if key[0] != "default")]


def _key(relations: Relations, table: str) -> tuple[str, ...]:
    return relations.tables[table].key if table in relations.tables else ()


def _workspaces(read: Read) -> dict[Node, Any]:
    """The workspace of each run and logged model, which is that of its experiment."""
    of = {row[0]: row[1] for row in read("experiments", ("experiment_id", "workspace"))}
    found: dict[Node, Any] = {}
    for table, key in (("runs", "run_uuid"), ("logged_models", "model_id")):
        for id_, experiment in read(table, (key, "experiment_id")):
            found[table, (id_,)] = of.get(experiment)
    return found


def _linked(value: Any) -> Iterator[tuple[str, int | None]]:
    """Names and versions in the tag by which prompts are linked; nothing if somebody wrote something else into it."""
    try:
        items = json.loads(value)
    except (TypeError, ValueError, RecursionError):
        return
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict) and isinstance(item.get("name"), str):
            yield item["name"], _number(item.get("version"))


def _number(text: Any) -> int | None:
    return int(text) if str(text).isdecimal() else None
