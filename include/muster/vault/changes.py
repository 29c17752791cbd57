"""How a stored tree differs from an earlier one: counted by their lists, and a bounded sample of the contents looked at."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from muster.domain.anomaly import Profile
from muster.domain.content import TreeRef
from muster.domain.formats import WINDOW, format_of
from muster.vault.tree_reader import StoredTree
from muster.vault.trees import Content, Row

SAMPLE_FILES = 32
SAMPLE_BYTES = 16 * 1024 * 1024
"""How many lost contents, and how many new ones, are looked at, and the most that is read for either."""


Contents = dict[str, Content]
"""By their paths, as they stand in a list of entries."""


class Glimpse(NamedTuple):
    """A content that was looked at: the path where it lies or lay, its size in bytes, what it looks like."""

    path: str
    size: int
    format: str


@dataclass(frozen=True, slots=True)
class Changes:
    """
    The difference of two trees.

    :param lost: contents of the earlier tree that the later one has nowhere
    :param new: contents that took their places, and that the earlier tree had nowhere
    """

    profile: Profile
    lost: tuple[Glimpse, ...] = ()
    new: tuple[Glimpse, ...] = ()


def compare(before: StoredTree, after: StoredTree, below: str = "") -> Changes:
    """
    How `after` differs from `before`.

    Of equal trees nothing is read. Otherwise both lists are read side by side; memory: what differs. What is looked at is chosen by the
    smallest chunk ids, so that the same trees give the same sample, and one that nobody can steer who has no key of the vault: the ids
    are keyed.

    :param below: what the paths of the files begin with that are compared and counted; of equal trees all are counted
    :raises IntegrityError: if either list, or a content of the sample, cannot be read
    """
    if before.ref == after.ref:
        return Changes(_unchanged(before.ref, after.ref))
    earlier, later = _Side(before, below), _Side(after, below)
    gone: Contents = {}
    came: Contents = {}
    for old, new in _side_by_side(earlier.files(), later.files()):
        if old == new:
            continue
        if old and old.content:
            gone[old.path] = old.content
        if new and new.content:
            came[new.path] = new.content
    return _changes(earlier, later, gone, came)


class _Side:
    """A tree of which only what lies below a folder counts, with the number and size of the files that do."""

    def __init__(self, tree: StoredTree, below: str) -> None:
        self.tree, self._below = tree, below
        self.count = self.size = 0

    def files(self) -> Iterator[Row]:
        """The files that count, sorted by path."""
        for row in self.tree.rows():
            if row.content is not None and row.path.startswith(self._below):
                self.count += 1
                self.size += row.content.size
                yield row


def _side_by_side(earlier: Iterator[Row], later: Iterator[Row]) -> Iterator[tuple[Row | None, Row | None]]:
    """What two trees have at each path."""
    old, new = next(earlier, None), next(later, None)
    while old or new:
        first = min(row.path for row in (old, new) if row)
        yield (old if old and old.path == first else None), (new if new and new.path == first else None)
        if old and old.path == first:
            old = next(earlier, None)
        if new and new.path == first:
            new = next(later, None)


def _unchanged(before: TreeRef, after: TreeRef) -> Profile:
    return Profile(after.files, after.size, before.files, before.size)


def _changes(before: _Side, after: _Side, old: Contents, new: Contents) -> Changes:
    old_contents, new_contents = {c.sha256 for c in old.values()}, {c.sha256 for c in new.values()}
    removed, added = old.keys() - new.keys(), new.keys() - old.keys()
    lost = {path: content for path, content in old.items() if content.sha256 not in new_contents}
    lost_seen = _sample(before.tree, lost)
    came = {path: content for path, content in new.items() if content.sha256 not in old_contents}
    new_seen = _sample(after.tree, _successors(came, added, len(removed & lost.keys())))
    profile = Profile(
        files=after.count,
        size=after.size,
        files_before=before.count,
        size_before=before.size,
        added=len(added),
        added_size=_size(new[path] for path in added),
        changed=sum(old[path].sha256 != new[path].sha256 for path in old.keys() & new.keys()),
        removed=len(removed),
        removed_size=_size(old[path] for path in removed),
        moved=sum(path not in lost for path in removed),
        lost=len(lost),
        lost_size=_size(lost.values()),
        formats_lost=_formats(lost_seen),
        formats_new=_formats(new_seen),
    )
    return Changes(profile, lost_seen, new_seen)


def _sample(tree: StoredTree, contents: Contents) -> tuple[Glimpse, ...]:
    files = _drawn(contents.items(), SAMPLE_FILES)
    seen = tree.beginnings([content.ref() for _, content in files], SAMPLE_BYTES)
    return tuple(
        Glimpse(path, content.size, format_of(plain[:WINDOW], plain[-WINDOW:]))
        for (path, content), plain in zip(files, seen, strict=False)
    )


def _successors(came: Contents, added: set[str], removed: int) -> Contents:
    """
    The contents that took the places of lost ones: at paths that are still there, and as many at new paths as at removed ones.

    So what is merely added hides nothing, however much it is.
    """
    changed = {path: content for path, content in came.items() if path not in added}
    return changed | dict(_drawn([(path, content) for path, content in came.items() if path in added], removed))


def _drawn(contents: Iterable[tuple[str, Content]], count: int) -> list[tuple[str, Content]]:
    """So many contents, by the smallest ids of their first chunks; what is empty has none, and comes last."""
    return heapq.nsmallest(count, contents, key=lambda item: (not item[1].chunks, item[1].chunks[:1], item[0]))


def _formats(glimpses: Iterable[Glimpse]) -> dict[str, int]:
    return dict(sorted(Counter(glimpse.format for glimpse in glimpses).items()))


def _size(contents: Iterable[Content]) -> int:
    return sum(content.size for content in contents)
