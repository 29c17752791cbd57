"""Which objects of a vault count, and which came after the rotation from somebody who was left out: the whole store, looked through."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from muster.codec import from_json
from muster.errors import IntegrityError, NotFound
from muster.ports import BlobStore
from muster.vault.audit import PAYLOAD_TYPE as AUDIT_TYPE
from muster.vault.audit import AuditRecord
from muster.vault.authority import Authority
from muster.vault.foreign import own
from muster.vault.keys import MasterKey
from muster.vault.layout import AUDIT, DIGEST, GENERATIONS, HEADER, INDEXES, KEYS, PACKS, RESTORE, ROLLS, digest
from muster.vault.packs import HEADER as SEALED

_OF_NO_KEY = (HEADER, RESTORE, KEYS, GENERATIONS, ROLLS)
_TELLING = ("seal", "mark")
_READERS = 8


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    What one object is.

    :param generation: whose key signed or sealed it
    :param counts: whether it is believed
    :param tells: digests of other objects that it speaks for: parents of an audit record, what it says was written
    """

    key: str
    digest: str
    generation: int
    counts: bool
    tells: tuple[str, ...] = ()


class Census:
    """
    Goes through a vault, opened with its newest key, once, and reads every signed document and the first bytes of packs.

    What this vault never made (neither by its name, nor signed by any of its keys) is passed over.
    """

    def __init__(self, store: BlobStore, master: MasterKey, authority: Authority) -> None:
        self._store, self._master, self._authority = store, master, authority
        self._rolled = authority.rolled()

    def take(self) -> list[Verdict]:
        """A verdict on every object, in the order of their keys."""
        keys = (info.key for info in own(self._store.list()) if not info.key.startswith(_OF_NO_KEY))
        with ThreadPoolExecutor(_READERS) as readers:
            return [verdict for verdict in readers.map(self._judge, keys) if verdict]

    def _judge(self, key: str) -> Verdict | None:
        try:
            return self._sealed(key) if key.startswith((PACKS, INDEXES)) else self._signed(key)
        except (IntegrityError, NotFound):
            return None

    def _sealed(self, key: str) -> Verdict:
        name = key.rpartition("/")[2]
        if bytes.fromhex(name) in self._rolled or not self._master.generation:
            return Verdict(key, name, 0, counts=True)
        _, salt = SEALED.unpack(self._store.get_range(key, 0, SEALED.size))
        generation = self._master.sealed_in(salt)
        return Verdict(key, name, generation, counts=generation == self._master.generation)

    def _signed(self, key: str) -> Verdict:
        data = self._store.get(key)
        name, generation = digest(data), self._authority.signed_by(key, data).number
        counts = generation == self._master.generation or bytes.fromhex(name) in self._rolled
        return Verdict(key, name, generation, counts, tuple(self._told(key, data)) if counts else ())

    def _told(self, key: str, data: bytes) -> Iterator[str]:
        if key.startswith(AUDIT):
            record = from_json(AuditRecord, self._authority.open(key, data, AUDIT_TYPE))
            written = str(record.details.get("sha256")) if record.action in _TELLING else ""
            yield from (one for one in (*record.parents, written) if re.fullmatch(DIGEST, one))


def counting(verdicts: list[Verdict]) -> set[str]:
    """Digests of all that counts, and of what it speaks for: an object that is damaged now may come back from a replica."""
    found = {verdict.digest for verdict in verdicts if verdict.counts}
    return found.union(*(verdict.tells for verdict in verdicts if verdict.counts))
