"""
Content-defined chunks: an insertion moves the cut points beside it and no others, so what follows is found again.

FastCDC (Xia et al., USENIX ATC 2016) as the ``fastcdc`` package does it, at 256 KiB, 1 MiB and 4 MiB.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

MINIMUM = 256 * 1024
AVERAGE = 1024 * 1024
MAXIMUM = 4 * 1024 * 1024
_ROOM = 16 * 1024 * 1024


class Sizes(NamedTuple):
    """The least, the average and the greatest size of chunks, in bytes."""

    minimum: int
    average: int
    maximum: int


OF_FILES = Sizes(MINIMUM, AVERAGE, MAXIMUM)
OF_LISTS = Sizes(1024, 4096, 16 * 1024)
"""
Pieces of long lists of entries: about fourteen entries each, so that if one file of a hundred changes, a sixth of the list is stored anew.
At the size of files' chunks all of it would be, and that is as much as the files if they are of 10 KiB.
"""


class Chunker:
    """
    Cuts a stream that is fed in blocks of any size, where the whole stream would be cut.

    A cut depends only on the greatest size of bytes that follow the one before: as long as so many are there, or the end is,
    it is final. Chunks are views into one buffer: use each lot before feeding again.
    """

    def __init__(self, sizes: Sizes = OF_FILES) -> None:
        self._sizes = sizes
        self._buffer = bytearray()
        self._start = self._end = 0  # what is not cut yet

    def feed(self, block: bytes) -> Iterator[memoryview]:
        """The chunks that are whole now. Consume all before feeding again."""
        self._append(block)
        return self._cut(self._end - self._sizes.maximum)

    def finish(self) -> Iterator[memoryview]:
        """The chunks that are left when the stream has ended."""
        return self._cut(self._end - 1)

    def _append(self, block: bytes) -> None:
        if len(self._buffer) - self._end < len(block):
            self._make_room(len(block))
        memoryview(self._buffer)[self._end : self._end + len(block)] = block
        self._end += len(block)

    def _make_room(self, size: int) -> None:
        tail = memoryview(self._buffer)[self._start : self._end]
        if len(self._buffer) < len(tail) + size:
            first = not self._buffer  # most files are one small block
            self._buffer = bytearray(size if first else max(_ROOM, len(tail) + size))
        memoryview(self._buffer)[: len(tail)] = tail
        self._start, self._end = 0, len(tail)

    def _cut(self, last_start: int) -> Iterator[memoryview]:
        """Chunks that begin at or before `last_start`."""
        if self._start > last_start:
            return
        view = memoryview(self._buffer)[self._start : self._end]
        if len(view) <= self._sizes.minimum:
            self._start = self._end
            yield view
            return
        from fastcdc.fastcdc_cy import fastcdc_cy  # loads a toolkit for commands

        offset = self._start
        found = fastcdc_cy(view, *self._sizes, False, None)
        while self._start <= last_start:
            chunk = next(found)
            self._start = offset + chunk.offset + chunk.length
            yield view[chunk.offset : chunk.offset + chunk.length]
