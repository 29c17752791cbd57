"""Old ids and new ones: what an import into a server made, and how documents of the old server read on the new one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from muster.adapters.mlflow_rest_reading import Holder

Json = Any
SOURCE_RUN = "muster.source_run_id"
"""The tag of an imported run that says which one it was."""
RUN_NAME = "mlflow.runName"
OF_RUNS = ("metrics", "trace_links")
"""Folders whose documents have the names of runs."""
KINDS = ("experiments", "runs", "logged_models")


@dataclass(slots=True)
class IdMap:
    """
    :param experiments: old id to new id; so too `runs` and `logged_models`
    :param holders: old kind and id to the run or logged model that took its place
    :param further: the same for other kinds, by kind: scorers, label schemas, …
    :param names: old id of a run that had no name, as runs of old versions have none, to the one that the server gave it
    :param gone: old ids of runs that are deleted, or whose experiment is
    :param altered: old id of a run some of whose points no server over SQL keeps as they were, to how many of them are gone
    :param latest: old id of a run and key of a metric to the latest point that the server makes of the same points, where it is another one
    """

    experiments: dict[str, str] = field(default_factory=dict)
    runs: dict[str, str] = field(default_factory=dict)
    logged_models: dict[str, str] = field(default_factory=dict)
    holders: dict[tuple[str, str], Holder] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    altered: dict[str, int] = field(default_factory=dict)
    latest: dict[tuple[str, str], Any] = field(default_factory=dict)
    further: dict[str, dict[str, str]] = field(default_factory=dict)

    def to_json(self) -> dict[str, dict[str, str]]:
        maps = {kind: getattr(self, kind) for kind in KINDS} | self.further
        return {kind: dict(sorted(ids.items())) for kind, ids in maps.items()}

    def path(self, path: str) -> str:
        """A path of the stored tree, as a capture of the new server would name it."""
        top, _, rest = path.partition("/")
        if top == "artifacts":
            kind, old, below = rest.split("/", 2)
            return f"artifacts/{kind}/{getattr(self, kind)[old]}/{below}"
        kind = "runs" if top in OF_RUNS else top
        ids = getattr(self, kind) if kind in KINDS else self.further.get(kind)
        if ids is None:
            return path
        old, dot, end = rest.rpartition(".")
        return f"{top}/{ids[old]}{dot}{end}"

    def version_source(self, version: Mapping[str, Json], held: Mapping[str, str] | None, captured: set[str]) -> str:
        """
        What an imported version names as its source.

        :param held: the run or logged model that has its artifacts; None for a prompt
        :param captured: all versions that are imported, each as ``name/number``
        """
        source = str(version.get("source", ""))
        if held is None:
            return source
        if match := re.fullmatch(r"models:/(.+/\d+)", source):
            if match.group(1) in captured:
                return source
        elif match := re.fullmatch(r"(models:/|runs:/+)([^/]+)(.*)", source):
            return f"{match.group(1)}{getattr(self, held['kind'])[held['id']]}{match.group(3)}"
        root = self.holders[held["kind"], held["id"]].root.rstrip("/")
        return f"{root}/{held['below']}" if held["below"] else root
