"""
Content-defined chunks: an insertion moves the cut points beside it and no others, so what follows is found again.

A vault is cut by the `Cutter` that its header names, as long as it lives: two of them find hardly any chunk of each other's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

logger = logging.getLogger(__name__)

MINIMUM = 256 * 1024
AVERAGE = 1024 * 1024
MAXIMUM = 4 * 1024 * 1024
ROOM = 16 * 1024 * 1024
"""Bytes that a chunker works in: the more, the less often what is not cut yet is moved."""


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


Cutter = Callable[[memoryview, Sizes], Iterator[int]]
"""Gives the lengths of the chunks of some bytes, from the first on; the last one ends where they do."""


def _fastcdc_of_2016(view: memoryview, sizes: Sizes) -> Iterator[int]:
    """Xia et al., USENIX ATC 2016, as the ``fastcdc`` package does it; it lets no other thread run meanwhile."""
    from fastcdc.fastcdc_cy import fastcdc_cy  # loads a toolkit for commands

    return (chunk.length for chunk in fastcdc_cy(view, *sizes, False, None))


def _fastcdc_of_2020(view: memoryview, sizes: Sizes) -> Iterator[int]:
    """
    Xia et al., IEEE TPDS 2020, as the ``pyfastcdc`` package does it: two bytes at a time, and other threads run meanwhile.

    With the paper's normalization of 2, chunks come to 1.1 times the average that is asked for, as those of 2016 do.
    """
    from pyfastcdc.cy import FastCDC  # where the package itself would go on in Python, and take hours, without a word

    cutting = FastCDC(sizes.average, min_size=sizes.minimum, max_size=sizes.maximum, normalized_chunking=2)
    return (chunk.length for chunk in cutting.cut_buf(view))


NEWEST_CUTTER = "fastcdc-2020"
"""Of vaults that are made now."""
CUTTERS: Mapping[str, Cutter] = {"fastcdc": _fastcdc_of_2016, NEWEST_CUTTER: _fastcdc_of_2020}


@dataclass(frozen=True, slots=True)
class Cutting:
    """
    How a vault's files are cut, as its header says.

    :param algorithm: the name of a `Cutter`
    :param average: size of chunks in bytes, as `minimum` and `maximum` are
    """

    algorithm: str = NEWEST_CUTTER
    average: int = AVERAGE
    maximum: int = MAXIMUM
    minimum: int = MINIMUM

    def cutter(self) -> Cutter:
        """
        The one that is named.

        What a newer Muster's vault names and this one does not know is replaced, since a point that takes more room is better than
        none: everything that is stored is whole.
        """
        if self not in _KNOWN:
            logger.warning(
                "the vault's files are cut by %s, which this Muster does not know: it will store again what it reads; update it",
                self,
            )
        return CUTTERS.get(self.algorithm, CUTTERS[NEWEST_CUTTER])


_KNOWN = frozenset(Cutting(algorithm) for algorithm in CUTTERS)


class Chunker:
    """
    Cuts a stream that comes in blocks of any size, where the whole stream would be cut.

    A cut depends only on the greatest size of bytes that follow the one before: as long as so many are there, or the end is,
    it is final. Blocks are put where the chunks are cut, so that nothing is copied; chunks are views of that: use each lot before
    asking where the next block goes.

    :param room: `ROOM` bytes of which nobody else uses any
    """

    def __init__(self, room: memoryview, cut: Cutter, sizes: Sizes = OF_FILES) -> None:
        self._room, self._cutter, self._sizes = room, cut, sizes
        self._start = self._end = 0  # what is not cut yet

    def next(self, size: int) -> memoryview:
        """
        Where the next block goes.

        :param size: the most that it may have; at most `ROOM` less the greatest size of a chunk
        """
        if len(self._room) - self._end < size:
            tail = self._end - self._start
            self._room[:tail] = self._room[self._start : self._end]
            self._start, self._end = 0, tail
        return self._room[self._end : self._end + size]

    def feed(self, size: int) -> Iterator[memoryview]:
        """The chunks that are whole now that a block of this size has been put there. Consume all before the next one."""
        self._end += size
        return self._cut(self._end - self._sizes.maximum)

    def finish(self) -> Iterator[memoryview]:
        """The chunks that are left when the stream has ended."""
        return self._cut(self._end - 1)

    def _cut(self, last_start: int) -> Iterator[memoryview]:
        """Chunks that begin at or before `last_start`."""
        if self._start > last_start:
            return
        view = self._room[self._start : self._end]
        if len(view) <= self._sizes.minimum:
            self._start = self._end
            yield view
            return
        lengths = self._cutter(view, self._sizes)
        while self._start <= last_start:
            start, self._start = self._start, self._start + next(lengths)
            yield self._room[start : self._start]
