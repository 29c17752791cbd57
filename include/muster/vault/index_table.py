"""Where each chunk lies among the directories of packs: a hash table of 12 to 18 bytes a chunk beside the directories themselves."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from muster.vault.layout import ID_BYTES
from muster.vault.packs import ENTRY, SIZE_AT, PackEntry

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MOST_ROWS = 1 << 24
"""A directory has fewer rows than this: a pack of 32 MiB has less than 2 million."""
_HASH = struct.Struct(">Q37x")  # the first 8 bytes of a row of a directory: of a chunk's id, which is as good as random
_ORDINAL_BITS = 24
_TAG_SHIFT = 52
_PLACE = (1 << _TAG_SHIFT) - 1
_LEAST_SLOTS = 64


class ChunkTable:
    """
    Finds the rows of a chunk in the directories that were added: fewer than 2^28, each of fewer than `MOST_ROWS`.

    Open addressing with linear probing (Knuth, The Art of Computer Programming 3, 6.4); at most two thirds of the slots are
    taken. A slot is 8 bytes, 0 if it is free: 12 bits of the chunk's id, which spare most looks at a wrong row; the number of the
    directory, from 1; the ordinal in it. The ids themselves are compared where they are, in the directories.

    One thread at a time may add. Others may `find` meanwhile: what a slot names is there before the slot is written, and a table
    that grows is replaced when the larger one is filled.
    """

    def __init__(self) -> None:
        self._directories: list[bytes] = []
        self._rows = 0
        self._slots = array("Q", [0]) * _LEAST_SLOTS

    def __len__(self) -> int:
        """How many rows there are; a chunk that was stored twice has two."""
        return self._rows

    def reserve(self, rows: int) -> None:
        """Make room for so many rows more at once, and at least for half as many again as there are."""
        wanted = self._rows + rows
        if 3 * wanted > 2 * len(self._slots):
            room = max(wanted, self._rows * 3 // 2)
            slots = array("Q", [0]) * (room * 3 // 2 + 1)
            for number, directory in enumerate(self._directories):
                _enter(slots, number, directory)
            self._slots = slots

    def add(self, directory: bytes) -> None:
        """Enter all rows of another directory; directories are numbered from 0 in the order in which they come."""
        rows = len(directory) // ENTRY.size
        self.reserve(rows)
        self._directories.append(directory)
        self._rows += rows
        _enter(self._slots, len(self._directories) - 1, directory)

    def find(self, chunk: bytes) -> list[tuple[int, int]]:
        """Number of the directory and ordinal in it of every row of a chunk, in the order in which they were added."""
        slots, found = self._slots, []
        start = int.from_bytes(chunk[:8], "big")
        slot, tag = start % len(slots), start >> _TAG_SHIFT
        while entry := slots[slot]:
            if entry >> _TAG_SHIFT == tag:
                number = ((entry & _PLACE) >> _ORDINAL_BITS) - 1
                ordinal = entry & MOST_ROWS - 1
                at = ordinal * ENTRY.size
                if self._directories[number][at : at + ID_BYTES] == chunk:
                    found.append((number, ordinal))
            slot = slot + 1 if slot + 1 < len(slots) else 0
        return found

    def find_first(self, chunks: bytes) -> npt.NDArray[np.int64]:
        """
        Of the first row of each chunk the number of its directory, its ordinal in it, and the chunk's plain length; -1 where there is none.

        :param chunks: ids, joined. For thousands of them this takes a twentieth of the time of as many calls of `find`
        :return: of shape (chunks, 3)
        """
        import numpy as np

        ids = np.frombuffer(chunks, np.uint8).reshape(-1, ID_BYTES)
        starts = np.ascontiguousarray(ids[:, :8]).view(">u8").ravel().astype(np.uint64)
        slots = np.frombuffer(self._slots, np.uint64)
        at = (starts % len(slots)).astype(np.int64)
        tags = starts >> np.uint64(_TAG_SHIFT)
        found = np.full((len(ids), 3), -1, np.int64)
        left = np.arange(len(ids))
        while len(left):
            entries = slots[at[left]]
            left, entries = left[entries != 0], entries[entries != 0]
            tagged = entries >> np.uint64(_TAG_SHIFT) == tags[left]
            places = (entries[tagged] & np.uint64(_PLACE)).astype(np.int64)
            self._settle(ids, left[tagged], places, found)
            left = left[found[left, 0] < 0]
            at[left] = (at[left] + 1) % len(slots)
        return found

    def _settle(self, ids: Any, which: Any, places: Any, found: Any) -> None:
        """Note where the rows at these places are those of the chunks that were looked for there."""
        import numpy as np

        numbers, ordinals = (places >> _ORDINAL_BITS) - 1, places & MOST_ROWS - 1
        for number in np.unique(numbers):
            here = numbers == number
            rows = np.frombuffer(self._directories[number], np.uint8).reshape(-1, ENTRY.size)[ordinals[here]]
            same = (rows[:, :ID_BYTES] == ids[which[here]]).all(axis=1)
            sizes = np.ascontiguousarray(rows[same, SIZE_AT : SIZE_AT + 4]).view(">u4").ravel()
            found[which[here][same]] = np.stack([numbers[here][same], ordinals[here][same], sizes], axis=1)

    def entry(self, number: int, ordinal: int) -> PackEntry:
        """A row of a directory."""
        return PackEntry._make(ENTRY.unpack_from(self._directories[number], ordinal * ENTRY.size))


def added_up(sizes: npt.NDArray[np.int64], counts: Sequence[int]) -> list[int]:
    """
    The sums of sizes that follow one another.

    :param sizes: of shape (sum of counts,)
    :param counts: how many sizes each sum is of
    """
    import numpy as np

    until = np.concatenate([[0], np.cumsum(sizes)])
    ends = np.concatenate([[0], np.cumsum(np.asarray(counts, np.int64))])
    sums: list[int] = np.diff(until[ends]).tolist()
    return sums


def _enter(slots: array[int], number: int, directory: bytes) -> None:
    count = len(slots)
    first = (number + 1) << _ORDINAL_BITS
    for place, (start,) in enumerate(_HASH.iter_unpack(directory), first):
        slot = start % count
        while slots[slot]:
            slot = slot + 1 if slot + 1 < count else 0
        slots[slot] = start >> _TAG_SHIFT << _TAG_SHIFT | place
