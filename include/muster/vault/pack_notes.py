"""Signed, write-once objects that name packs: what condemnations and notes of damage have in common."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from muster.codec import from_json, to_json
from muster.errors import IntegrityError
from muster.ports import BlobStore
from muster.vault.envelope import Signatures
from muster.vault.layout import digest, put_named


@dataclass(frozen=True, slots=True)
class PackNote:
    """
    What such an object says.

    :param at: when it was written, by the clock of whoever wrote it
    :param packs: names, sorted
    """

    vault: str
    at: datetime
    packs: tuple[str, ...]


class PackNotes:
    """
    The objects of one kind in one vault.

    :param folder: what their keys begin with; their digests follow
    :param what: how one of them is called in messages
    """

    def __init__(
        self, store: BlobStore, signatures: Signatures, vault: str, *, folder: str, payload_type: str, what: str
    ) -> None:
        self._store, self._signatures, self._vault = store, signatures, vault
        self._folder, self._payload_type, self._what = folder, payload_type, what

    def write(self, packs: Iterable[str], at: datetime) -> str:
        """Name packs; return the key of the object that does."""
        document = to_json(PackNote(self._vault, at, tuple(sorted(packs))))
        data = self._signatures.sign(self._payload_type, document)
        key = self._key(data)
        put_named(self._store, key, data)
        return key

    def parse(self, key: str, data: bytes) -> PackNote:
        """
        What an object says.

        :raises IntegrityError: if it is damaged, forged or misplaced
        """
        note = from_json(PackNote, self._signatures.open(key, data, self._payload_type))
        if key != self._key(data) or note.vault != self._vault:
            raise IntegrityError(
                f"{key} is not the {self._what} that its name says",
                "it was copied there by somebody: remove it, and find out who writes to the store",
            )
        return note

    def _key(self, data: bytes) -> str:
        return f"{self._folder}{digest(data)}.json"
