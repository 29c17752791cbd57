"""How a stored tree differs from an earlier one: counted by their lists, and a bounded sample of the contents looked at."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from muster.codec import from_json
from muster.domain.anomaly import Profile
from muster.domain.content import ContentRef, TreeRef
from muster.domain.formats import WINDOW, format_of
from muster.vault.tree_reader import StoredTree

SAMPLE_FILES = 32
SAMPLE_BYTES = 16 * 1024 * 1024
"""How many lost contents, and how many new ones, are looked at, and the most that is read for either."""


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
    :param new: contents of the later tree that the earlier one had nowhere
    """

    profile: Profile
    lost: tuple[Glimpse, ...] = ()
    new: tuple[Glimpse, ...] = ()


def compare(before: StoredTree, after: StoredTree, below: str = "") -> Changes:
    """
    How `after` differs from `before`.

    Of equal trees nothing is read. Otherwise both lists are compared as lines, and only those lines are understood that differ; memory:
    the lines of the earlier tree. What is looked at is chosen by the smallest digests, so that the same trees give the same sample,
    and one that nobody can foresee who does not know all contents.

    :param below: what the paths of the files begin with that are compared; the sums of the profile are those of the whole trees
    :raises IntegrityError: if either list, or a content of the sample, cannot be read
    """
    if before.ref == after.ref:
        return Changes(_unchanged(before.ref, after.ref))
    gone = {line for lines in before.lines() for line in lines}
    came: list[bytes] = []
    for lines in after.lines():
        came += [line for line in lines if line not in gone]
        gone.difference_update(lines)
    return _changes(before, after, _files(gone, below), _files(came, below))


def _unchanged(before: TreeRef, after: TreeRef) -> Profile:
    return Profile(after.files, after.size, before.files, before.size)


def _changes(
    before: StoredTree, after: StoredTree, old: dict[str, dict[str, Any]], new: dict[str, dict[str, Any]]
) -> Changes:
    old_contents, new_contents = {c["sha256"] for c in old.values()}, {c["sha256"] for c in new.values()}
    removed, added = old.keys() - new.keys(), new.keys() - old.keys()
    lost = {path: content for path, content in old.items() if content["sha256"] not in new_contents}
    lost_seen = _sample(before, lost)
    new_seen = _sample(after, {path: c for path, c in new.items() if c["sha256"] not in old_contents})
    profile = Profile(
        files=after.ref.files,
        size=after.ref.size,
        files_before=before.ref.files,
        size_before=before.ref.size,
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


def _files(lines: Iterable[bytes], below: str) -> dict[str, dict[str, Any]]:
    """The contents of the files among some entries, by their paths."""
    entries = map(orjson.loads, lines)
    return {
        entry["path"]: entry["content"] for entry in entries if "content" in entry and entry["path"].startswith(below)
    }


def _sample(tree: StoredTree, contents: dict[str, dict[str, Any]]) -> tuple[Glimpse, ...]:
    chosen = heapq.nsmallest(SAMPLE_FILES, contents.items(), key=lambda item: (item[1]["sha256"], item[0]))
    files = [(path, from_json(ContentRef, content)) for path, content in chosen]
    seen = tree.beginnings([content for _, content in files], SAMPLE_BYTES)
    return tuple(
        Glimpse(path, content.size, format_of(plain[:WINDOW], plain[-WINDOW:]))
        for (path, content), plain in zip(files, seen, strict=False)
    )


def _formats(glimpses: Iterable[Glimpse]) -> dict[str, int]:
    return dict(sorted(Counter(glimpse.format for glimpse in glimpses).items()))


def _size(contents: Iterable[dict[str, Any]]) -> int:
    return sum(int(content["size"]) for content in contents)
