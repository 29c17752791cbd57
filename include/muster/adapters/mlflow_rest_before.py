"""What the point before has of a registry that was captured by REST, so that it need not be fetched again."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from muster.adapters.mlflow_artifacts import Artifact
from muster.adapters.mlflow_missing import Earlier, known_holdings
from muster.adapters.mlflow_rest_attachments import ATTACHMENTS
from muster.adapters.mlflow_rest_kept import never
from muster.adapters.mlflow_rest_reading import Holder
from muster.domain.content import ContentRef, TreeEntry
from muster.domain.holdings import ABOUT
from muster.errors import IntegrityError, NotFound
from muster.ports import SourceFile, TreeReader

INDEX = "index.json"
"""Of a stored tree: what each run, logged model and trace was like when its content was taken."""


class Before:
    """
    The same component in the point before; everything is unknown if there is none.

    What has ended and is as it was is taken over. That is an assumption of MLflow's users, and no promise of MLflow's: an artifact of an
    ended run may be replaced by one of the same size, and a point may be added to a metric behind its latest one. So a thirtieth of all
    is fetched again each day (`muster.adapters.rereading`); whoever cannot wait for that restarts the run, which changes its state.
    """

    def __init__(self, previous: TreeReader | None) -> None:
        self._entries: dict[str, TreeEntry] = {e.path: e for e in previous.entries()} if previous else {}
        self._attached: dict[str, list[str]] = {}
        for path in self._entries:
            if path.startswith(f"{ATTACHMENTS}/"):
                self._attached.setdefault(path.rpartition("/")[0], []).append(path)
        self._index = _index_of(previous)
        self._holdings = known_holdings(_about_of(previous))

    def note(self, holder: Holder) -> Mapping[str, Any] | None:
        """What was noted of a run or logged model that has ended and has not changed since; None for any other."""
        noted: Mapping[str, Any] | None = self._index.get(holder.kind, {}).get(holder.id)
        same = noted is not None and holder.ended is not None and noted.get("state") == holder.state
        return noted if same else None

    def trace(self, trace: str, state: str, path: str) -> ContentRef | None:
        """The document of a trace that is as it was."""
        return self.content(path) if self._index.get("traces", {}).get(trace) == state else None

    def below(self, folder: str) -> list[SourceFile]:
        """All files that lie in a folder, taken over."""
        return [SourceFile(path, never, known=self.content(path)) for path in self._attached.get(folder, ())]

    def content(self, path: str, size: int | None = None) -> ContentRef | None:
        """The content of a file, if there is one of that size."""
        entry = self._entries.get(path)
        content = entry.content if entry else None
        return content if content and size in (None, content.size) else None

    def earlier(self, trees: Collection[str]) -> Earlier:
        """
        What it has of the artifacts of some holders, and what it lacks.

        :param trees: as they are stored: ``artifacts/<kind>/<id>``
        """
        found: dict[str, list[Artifact]] = {tree: [] for tree in trees}
        for path, entry in self._entries.items():
            tree, below = "/".join(path.split("/", 3)[:3]), path.split("/", 3)[3:]
            if tree in found and below and entry.content is not None:
                found[tree].append(Artifact(below[0], entry.content.size, 0))
        return Earlier(self._holdings, found)

    def same(self, path: str, sha256: str) -> ContentRef | None:
        """The content of a file that has a digest."""
        content = self.content(path)
        return content if content and content.sha256 == sha256 else None


def _index_of(previous: TreeReader | None) -> dict[str, Any]:
    if previous is None:
        return {}
    try:
        found = json.loads(previous.read(previous.entry(INDEX)))
    except (NotFound, ValueError):  # a capture of the store itself, or none of ours: nothing is known then
        return {}
    return found if isinstance(found, dict) else {}


def _about_of(previous: TreeReader | None) -> bytes | None:
    try:
        return previous.read(previous.entry(ABOUT)) if previous else None
    except (NotFound, IntegrityError):  # of an earlier Muster, or damaged, which `verify` names
        return None
