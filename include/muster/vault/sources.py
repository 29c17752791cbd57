"""Documents and folders as things to store."""

from __future__ import annotations

import functools
import io
import os
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from muster.batches import batched
from muster.ports import LocalFile, SourceFile
from muster.vault.trees import Row, Unchanged

_LOT = 1024

Found = tuple[str, str, os.stat_result]


def bytes_file(path: str, content: bytes) -> SourceFile:
    """A document that is in memory."""
    return SourceFile(path, functools.partial(io.BytesIO, content), size=len(content))


def folder_files(folder: Path, prefix: str = "") -> Iterator[SourceFile]:
    """All regular files below a folder that nobody else writes to, sorted, under `prefix`; links to files are followed."""
    for name, path, found in _below(str(folder), prefix):
        yield SourceFile(name, LocalFile(path), size=found.st_size)


def changed_files(folder: Path, before: Iterable[Row]) -> Iterator[SourceFile | Unchanged]:
    """
    As `folder_files`, with modes and times; a file of the same size, time and mode as in an earlier tree is not read again.

    :param before: the entries of that tree, sorted by path; read along, so that none of either is kept
    """
    earlier = _Earlier(before)

    def again(row: Row) -> SourceFile:
        path = folder / row.path
        return _found(str(path), (row.path, *_state(path.stat())))

    for there in batched(_below(str(folder), ""), _LOT):
        facts = [(name, *_state(found)) for name, _, found in there]
        rows = earlier.take(len(facts))
        if facts == [(row.path, row.content and row.content.size, row.mtime_ns, row.mode) for row in rows]:
            yield Unchanged(rows, again)
            continue
        earlier.put_back(rows)
        same: list[Row] = []
        for fact, (name, path, _) in zip(facts, there, strict=True):
            row = earlier.at(name)
            if row and row.content and fact == (name, row.content.size, row.mtime_ns, row.mode):
                same.append(row)
            else:
                if same:
                    yield Unchanged(same, again)
                    same = []
                yield _found(path, fact)
        if same:
            yield Unchanged(same, again)


Fact = tuple[str, int, int, int]
"""Name, size in bytes, modification time in ns, permission bits."""


def _state(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_size, found.st_mtime_ns, found.st_mode & 0o7777


def _found(path: str, fact: Fact) -> SourceFile:
    name, size, mtime_ns, mode = fact
    return SourceFile(name, LocalFile(path), size=size, mode=mode, mtime_ns=mtime_ns)


class _Earlier:
    """The entries of an earlier tree, read along with a folder."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = iter(rows)
        self._back: deque[Row] = deque()

    def take(self, count: int) -> list[Row]:
        """The next entries, as many as there are of so many."""
        taken = [self._back.popleft() for _ in range(min(count, len(self._back)))]
        return taken + list(islice(self._rows, count - len(taken)))

    def put_back(self, rows: list[Row]) -> None:
        """Entries that were taken last."""
        self._back.extendleft(reversed(rows))

    def at(self, path: str) -> Row | None:
        """The entry at a path, if there is one; those before it are passed over."""
        while row := next(iter(self.take(1)), None):
            if row.path == path:
                return row
            if row.path > path:
                self._back.appendleft(row)
                return None
        return None


def _below(folder: str, prefix: str) -> Iterator[Found]:
    """Name, path and state of the files below a folder, sorted by name: a folder stands where its name with a slash does."""
    with os.scandir(folder) as found:
        there = sorted(
            (entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name, entry) for entry in found
        )
    for name, entry in there:
        if name[-1] == "/":
            yield from _below(entry.path, prefix + name)
        elif entry.is_file():
            yield prefix + name, entry.path, entry.stat()
