"""What the point before has of a registry, so that it need not be read again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from muster.adapters.mlflow_artifacts import Artifact
from muster.adapters.mlflow_lines import RowSum
from muster.adapters.mlflow_rows import Table
from muster.codec import from_json, to_json
from muster.domain.content import ContentRef, TreeEntry
from muster.errors import IntegrityError, NotFound
from muster.ports import TreeReader

VERSIONS = "versions.json"
"""What a bucket or a disk calls the content of each artifact (`Artifact.version`), by its path in the tree."""
LOOK_FORMAT = 2
"""Another one as soon as the same rows are written in another way."""
SETTLED = 2.0
"""Seconds by which a file must be older than a cut before equal size and time mean equal content (S3 tells whole seconds only)."""


@dataclass(frozen=True, slots=True)
class Look:
    """
    ``look.json``: by what the tables of a database are known again.

    :param digests: table to the digest of its pages (`muster.adapters.mlflow_pages`) or, on a server, of its content
        (`muster.adapters.mlflow_digests`)
    :param rows: table to its number of rows
    """

    format: int
    digests: dict[str, str]
    rows: dict[str, int]

    def document(self) -> Any:
        """As it is stored."""
        return to_json(self)


def table_path(prefix: str, name: str) -> str:
    """Where the rows of a table lie in the stored tree."""
    return f"{prefix}tables/{name}.jsonl"


class Known:
    """
    The stored tree of the point before.

    :param previous: None if there is none: then nothing is known
    """

    def __init__(self, previous: TreeReader | None) -> None:
        self._previous = previous
        self._entries: dict[str, TreeEntry] = {e.path: e for e in previous.entries()} if previous else {}
        cut_at = self._json("schema.json").get("cut_at")
        self._cut_at = float(cut_at) if isinstance(cut_at, int | float) else 0.0
        self._versions = self._json(VERSIONS)

    @property
    def nothing(self) -> bool:
        """Whether there is no point before."""
        return self._previous is None

    def read(self, path: str) -> bytes | None:
        """A small file; None if it is not there, or damaged, which `verify` names."""
        try:
            return self._previous.read(self._entries[path]) if self._previous else None
        except (KeyError, IntegrityError, NotFound):
            return None

    def artifacts(self, tree: str) -> Iterator[Artifact]:
        """What that point has of a root: path and size."""
        start = f"{tree}/"
        for path, entry in self._entries.items():
            if path.startswith(start) and entry.content is not None:
                yield Artifact(path[len(start) :], entry.content.size, entry.mtime_ns or 0)

    def same_digest(self, path: str, sha256: str) -> ContentRef | None:
        """The content of a file, if it has this digest."""
        content = self._content(path)
        return content if content and content.sha256 == sha256 else None

    def same_state(self, path: str, artifact: Artifact) -> ContentRef | None:
        """
        The content of an artifact that has the same size and time, and was old enough for that to mean something; and that its
        bucket or disk, if the point before has that, calls the same. Times of a bucket are whole seconds of another clock than ours, and
        a file gets whatever time somebody gives it.
        """
        entry, newest = self._entries.get(path), max(artifact.mtime_ns, artifact.ctime_ns)
        if entry is None or entry.content is None or newest >= (self._cut_at - SETTLED) * 1e9:
            return None
        if self._versions.get(path, artifact.version) != artifact.version:
            return None
        return entry.content if (entry.content.size, entry.mtime_ns) == (artifact.size, artifact.mtime_ns) else None

    def same_tables(self, prefix: str, tables: Mapping[str, Table], digests: Mapping[str, str]) -> dict[str, RowSum]:
        """
        What those tables add up to that have the same columns and the same digest as at the point before.

        :param digests: of the tables as they are now
        """
        try:
            look = from_json(Look, self._json(f"{prefix}look.json"))
            before = {stored["name"]: stored for stored in self._json(f"{prefix}schema.json")["tables"]}
        except (IntegrityError, KeyError, TypeError):
            return {}
        if look.format != LOOK_FORMAT:
            return {}
        same = {}
        for name, table in tables.items():
            content = self._content(table_path(prefix, name))
            unchanged = (
                name in digests and look.digests.get(name) == digests[name] and before.get(name) == to_json(table)
            )
            if unchanged and content and name in look.rows:
                same[name] = RowSum(look.rows[name], content.sha256)
        return same

    def _content(self, path: str) -> ContentRef | None:
        entry = self._entries.get(path)
        return entry.content if entry else None

    def _json(self, path: str) -> dict[str, Any]:
        """A document of that point; empty if it is not there, or damaged, which `verify` names."""
        try:
            found = json.loads(self.read(path) or "{}")
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}
