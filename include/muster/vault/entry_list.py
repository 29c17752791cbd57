"""The entries of a tree that is being stored: taken in any order, given in that of their paths, in little memory."""

from __future__ import annotations

import heapq
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import BinaryIO, cast

import zstandard

from muster.batches import batched
from muster.errors import SourceInvalid
from muster.vault.trees import Reconciler, Row, decode_rows, encode_rows

RUN = 65_536
_BLOCK = 4_096
_LEVEL = 1
_PATH = attrgetter("path")


@dataclass(frozen=True, slots=True)
class _Run:
    """So many entries in order: the first path, the last, and the lines, compressed some thousand at a time."""

    count: int
    first: str
    last: str
    blocks: list[bytes]

    def rows(self) -> Iterator[Row]:
        for block in self.blocks:
            yield from decode_rows(_plain(block))


class EntryList:
    """
    A list of entries in the making: sorted runs of `RUN` entries, compressed, which are merged when it is read.

    Sources give most of their files in order, and then the runs only follow one another. Memory: `RUN` entries, and about 160 bytes for
    each one more.
    """

    def __init__(self) -> None:
        self._runs: list[_Run] = []
        self._rows: list[Row] = []
        self._in_order = True
        self.seen = Reconciler()
        """What the entries add up to, when all of them have been read."""

    @property
    def count(self) -> int:
        """How many entries there are."""
        return sum(run.count for run in self._runs) + len(self._rows)

    def extend(self, rows: Sequence[Row]) -> None:
        """More entries, at any places of the list."""
        self._rows += rows
        if len(self._rows) >= RUN:
            self._runs.append(self._run())
            self._rows.clear()

    def open(self) -> BinaryIO:
        """
        The whole list, as it is stored. To be read once.

        :raises SourceInvalid: then or while it is read, if the entries could not be restored side by side
        """
        self._rows.sort(key=_PATH)
        if self._follows():
            packed = chain.from_iterable(run.blocks for run in self._runs)
            return _stream(chain(map(_plain, packed), self._lines(self._rows)))
        self.seen = Reconciler()
        return _stream(self._lines(heapq.merge(*(run.rows() for run in self._runs), self._rows, key=_PATH)))

    def _run(self) -> _Run:
        self._rows.sort(key=_PATH)
        self._in_order = self._follows()
        lines = self._lines(self._rows) if self._in_order else map(_encoded, batched(self._rows, _BLOCK))
        return _Run(len(self._rows), self._rows[0].path, self._rows[-1].path, [_packed(block) for block in lines])

    def _follows(self) -> bool:
        """Whether all that came until now is in order, as it came."""
        return self._in_order and not (self._runs and self._rows and self._rows[0].path < self._runs[-1].last)

    def _lines(self, rows: Iterable[Row]) -> Iterator[bytes]:
        """Rows that are in order, as they are stored."""
        for block in batched(rows, _BLOCK):
            if why := self.seen.see(block):
                raise SourceInvalid(f"this tree cannot be stored: {why}", "look at how the source lists its files")
            yield _encoded(block)


class _Stream(io.RawIOBase):
    """Blocks as a file that is read once."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks, self._rest = blocks, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, room: memoryview) -> int:  # type: ignore[override]
        filled = 0
        while filled < len(room) and (self._rest or self._next()):
            part = self._rest[: len(room) - filled]
            room[filled : filled + len(part)] = part
            self._rest = self._rest[len(part) :]
            filled += len(part)
        return filled

    def _next(self) -> bool:
        self._rest = memoryview(next(self._blocks, b""))
        return bool(self._rest)


def _stream(blocks: Iterator[bytes]) -> BinaryIO:
    return cast("BinaryIO", _Stream(blocks))


def _encoded(rows: list[Row]) -> bytes:
    """Rows as lines that are read once more before anybody counts on them: whoever stored a tree seals it without reading its list."""
    try:
        lines = encode_rows(rows)
        decode_rows(lines)
    except UnicodeEncodeError as error:
        raise SourceInvalid(
            f"the path {error.object!r} cannot be stored: it is not UTF-8", "give the file another name"
        ) from error
    except ValueError as error:
        named = f"{rows[0].path} to {rows[-1].path}"
        raise SourceInvalid(
            f"{named} cannot be stored: {error}", "look at times, modes and sizes of these files"
        ) from error
    return lines


def _packed(block: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=_LEVEL).compress(block)


def _plain(block: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompress(block)
