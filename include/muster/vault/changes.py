"""How a stored tree differs from an earlier one: counted by their lists, and a bounded sample of the contents looked at."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from muster.codec import from_json
from muster.domain.anomaly import Profile
from muster.domain.content import ContentRef, TreeRef
from muster.domain.formats import WINDOW, format_of
from muster.errors import IntegrityError
from muster.vault.tree_reader import StoredTree

SAMPLE_FILES = 32
SAMPLE_BYTES = 16 * 1024 * 1024
"""How many lost contents, and how many new ones, are looked at, and the most that is read for either."""


Contents = dict[str, dict[str, Any]]
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

    Of equal trees nothing is read. Otherwise both lists are compared as lines, and only those lines are understood that differ; memory:
    the lines of the earlier tree. What is looked at is chosen by the smallest chunk ids, so that the same trees give the same sample, and
    one that nobody can steer who has no key of the vault: the ids are keyed.

    :param below: what the paths of the files begin with that are compared and counted; of equal trees all are counted
    :raises IntegrityError: if either list, or a content of the sample, cannot be read
    """
    if before.ref == after.ref:
        return Changes(_unchanged(before.ref, after.ref))
    earlier, later = _Side(before, below), _Side(after, below)
    gone = {line for lines in earlier.lines() for line in lines}
    came: list[bytes] = []
    for lines in later.lines():
        came += [line for line in lines if line not in gone]
        gone.difference_update(lines)
    return _changes(earlier, later, _files(gone), _files(came))


class _Side:
    """A tree of which only what lies below a folder counts: most of it, so that what lies elsewhere is counted, and taken off."""

    def __init__(self, tree: StoredTree, below: str) -> None:
        self.tree = tree
        # No string of JSON holds a quotation mark that is not escaped, so this is nowhere but where the path begins.
        self._begins = b'"path":"' + below.encode()
        self._elsewhere: list[bytes] = []

    def lines(self) -> Iterator[list[bytes]]:
        """The lines of the entries that count."""
        for lines in self.tree.lines():
            yield (here := [line for line in lines if self._begins in line])
            if len(here) < len(lines):
                self._elsewhere += [line for line in lines if self._begins not in line]

    def sums(self) -> tuple[int, int]:
        """Number and size of the files that count; known when all lines were read."""
        elsewhere = _files(self._elsewhere).values()
        return self.tree.ref.files - len(elsewhere), self.tree.ref.size - _size(elsewhere)


def _unchanged(before: TreeRef, after: TreeRef) -> Profile:
    return Profile(after.files, after.size, before.files, before.size)


def _changes(before: _Side, after: _Side, old: Contents, new: Contents) -> Changes:
    old_contents, new_contents = {c["sha256"] for c in old.values()}, {c["sha256"] for c in new.values()}
    removed, added = old.keys() - new.keys(), new.keys() - old.keys()
    lost = {path: content for path, content in old.items() if content["sha256"] not in new_contents}
    lost_seen = _sample(before.tree, lost)
    came = {path: content for path, content in new.items() if content["sha256"] not in old_contents}
    new_seen = _sample(after.tree, _successors(came, added, len(removed & lost.keys())))
    (files, size), (files_before, size_before) = after.sums(), before.sums()
    profile = Profile(
        files=files,
        size=size,
        files_before=files_before,
        size_before=size_before,
        added=len(added),
        added_size=_size(new[path] for path in added),
        changed=sum(old[path]["sha256"] != new[path]["sha256"] for path in old.keys() & new.keys()),
        removed=len(removed),
        removed_size=_size(old[path] for path in removed),
        moved=sum(path not in lost for path in removed),
        lost=len(lost),
        lost_size=_size(lost.values()),
        formats_lost=_formats(lost_seen),
        formats_new=_formats(new_seen),
    )
    return Changes(profile, lost_seen, new_seen)


def _files(lines: Iterable[bytes]) -> Contents:
    """The contents of the files among some entries, by their paths."""
    try:
        found = {entry["path"]: entry["content"] for entry in map(orjson.loads, lines) if "content" in entry}
        for content in found.values():
            from_json(ContentRef, content)
    except (TypeError, ValueError, KeyError) as error:
        raise IntegrityError(f"a list of entries is not that of a tree: {error!r}", "verify the vault") from error
    return found


def _sample(tree: StoredTree, contents: Contents) -> tuple[Glimpse, ...]:
    files = [(path, from_json(ContentRef, content)) for path, content in _drawn(contents.items(), SAMPLE_FILES)]
    seen = tree.beginnings([content for _, content in files], SAMPLE_BYTES)
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


def _drawn(contents: Iterable[tuple[str, dict[str, Any]]], count: int) -> list[tuple[str, dict[str, Any]]]:
    """So many contents, by the smallest ids of their first chunks; what is empty has none, and comes last."""
    return heapq.nsmallest(count, contents, key=lambda item: (not item[1]["chunks"], item[1]["chunks"][:1], item[0]))


def _formats(glimpses: Iterable[Glimpse]) -> dict[str, int]:
    return dict(sorted(Counter(glimpse.format for glimpse in glimpses).items()))


def _size(contents: Iterable[dict[str, Any]]) -> int:
    return sum(int(content["size"]) for content in contents)
