"""
Packs that were found damaged: signed, write-once objects that name them, so that nothing new builds on them.

What speaks against a point stands in its marks. These objects are for what no mark has: a pack that no point needs, or that only
points need which were not looked at. Like condemnations they are never unsaid: a pack is named by its bytes, and those were wrong.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from muster.errors import IntegrityError, NotFound
from muster.ports import BlobStore
from muster.vault.envelope import Signatures
from muster.vault.layout import DAMAGED
from muster.vault.pack_notes import PackNotes

DAMAGE_TYPE = "application/vnd.muster.damage.v1+json"
_READERS = 8


class Damages:
    """What verifications noted in one vault."""

    def __init__(self, store: BlobStore, signatures: Signatures, vault: str) -> None:
        self._store = store
        self._notes = PackNotes(store, signatures, vault, folder=DAMAGED, payload_type=DAMAGE_TYPE, what="note")

    def write(self, packs: Iterable[str], at: datetime) -> str:
        """Note packs that were found damaged; return the key of the object that says so."""
        return self._notes.write(packs, at)

    def packs(self) -> set[str]:
        """Names of all packs that were ever noted. A note that cannot be read says nothing here: verification names it."""
        with ThreadPoolExecutor(_READERS) as readers:
            return {pack for packs in readers.map(self._readable, self.keys()) for pack in packs}

    def keys(self) -> list[str]:
        """The objects of all notes."""
        return [info.key for info in self._store.list(DAMAGED)]

    def parse(self, key: str, data: bytes) -> tuple[str, ...]:
        """
        The packs that a note names.

        :raises IntegrityError: if it is damaged, forged or misplaced
        """
        return self._notes.parse(key, data).packs

    def _readable(self, key: str) -> tuple[str, ...]:
        try:
            return self.parse(key, self._store.get(key))
        except (IntegrityError, NotFound):
            return ()
