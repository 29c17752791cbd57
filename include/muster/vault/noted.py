"""What writers of this process know of the trees that they stored, so that a seal need not read their lists."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from muster.domain.content import TreeRef
from muster.vault.index import Index, Standing
from muster.vault.layout import ID_BYTES

MOST = 32 * 1024 * 1024
"""Bytes of ids of chunks that are kept: a million of them."""
_LOT = 8192 * ID_BYTES


@dataclass(frozen=True, slots=True)
class Noted:
    """
    All that a tree needs.

    :param packs: those in which its writer found what it took over
    :param chunks: ids of those that it stored or found by their content, and of the list, joined; they are in packs when the writer
        has been closed
    """

    packs: frozenset[str]
    chunks: bytes

    def sound(self, index: Index) -> set[str] | None:
        """The packs in which all of it is; None if anything of it is not where a point may build on it."""
        if any(index.standing(pack) is not Standing.SOUND for pack in self.packs):
            return None
        found = set(self.packs)
        for start in range(0, len(self.chunks), _LOT):  # many more at once would each be compared with every pack
            lot = self.chunks[start : start + _LOT]
            names, others = index.sound([lot[at : at + ID_BYTES] for at in range(0, len(lot), ID_BYTES)])
            if others:
                return None
            found |= names
        return found


class NotedTrees:
    """Trees with what they need, up to `MOST` bytes in all: the first are forgotten first. May be used from several threads."""

    def __init__(self) -> None:
        self._trees: dict[TreeRef, Noted] = {}
        self._size = 0
        self._lock = threading.Lock()

    def add(self, ref: TreeRef, noted: Noted) -> None:
        """Keep what a tree needs, if it is not too much."""
        with self._lock:
            self._drop(ref)
            if len(noted.chunks) > MOST:
                return
            self._trees[ref] = noted
            self._size += len(noted.chunks)
            while self._size > MOST:
                self._drop(next(iter(self._trees)))

    def sound(self, ref: TreeRef, index: Index) -> set[str] | None:
        """The packs in which all of a tree is; None if that is not known here, or anything is amiss."""
        with self._lock:
            noted = self._trees.get(ref)
        return noted.sound(index) if noted else None

    def _drop(self, ref: TreeRef) -> None:
        if noted := self._trees.pop(ref, None):
            self._size -= len(noted.chunks)
