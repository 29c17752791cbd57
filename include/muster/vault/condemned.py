"""
Packs that no manifest needs: named first, removed much later. Why that is safe stands in docs/adr/0014.

A condemnation is a signed, write-once object that names packs. Nothing new builds on a condemned pack: a writer stores its chunks
again, and a seal looks at all condemnations before it writes a manifest, which it must do within `SEAL_WITHIN` of that look.
A pack is removed when the condemnation is older than the grace by two clocks (the store's own and ours), and manifests that are
read after that do not need it.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

from muster.errors import IntegrityError, NotFound
from muster.ports import BlobInfo, BlobStore
from muster.vault.envelope import Signatures
from muster.vault.layout import CONDEMNED
from muster.vault.pack_notes import PackNotes

CONDEMNATION_TYPE = "application/vnd.muster.condemnation.v1+json"
GRACE = timedelta(hours=72)
"""How long a pack stays condemned before it is removed, and how old it must be to be condemned, unless a command says otherwise."""
LEAST_GRACE = timedelta(hours=24)
SEAL_WITHIN = timedelta(hours=6)
"""
The longest that a seal may take from its look at the condemnations to its manifest. What is left of the grace, half for each of the
two, is how late a store may show an object to others: at least (`LEAST_GRACE` - `SEAL_WITHIN`) / 2 = 9 h.
"""
_MOST = 10_000
_READERS = 8


@dataclass(frozen=True, slots=True)
class Condemnation:
    """
    Packs that nobody needed when it was written.

    :param at: when that was, by the clock of whoever wrote it
    :param stored_at: when that was, by the store's clock
    """

    key: str
    at: datetime
    stored_at: datetime
    packs: frozenset[str]

    def age(self, now: datetime, stored_now: datetime) -> timedelta:
        """How long ago it was written, by the clock that says less; `stored_now` is the store's present."""
        return min(now - self.at, stored_now - self.stored_at)


class Condemnations:
    """All condemnations of one vault."""

    def __init__(self, store: BlobStore, signer: Signatures, vault: str) -> None:
        self._store = store
        self._notes = PackNotes(
            store, signer, vault, folder=CONDEMNED, payload_type=CONDEMNATION_TYPE, what="condemnation"
        )

    def write(self, packs: Iterable[str], at: datetime) -> list[str]:
        """Condemn packs; return the keys of the objects that say so, each with up to `_MOST` names."""
        names = sorted(packs)
        return [self._notes.write(names[start : start + _MOST], at) for start in range(0, len(names), _MOST)]

    def all(self) -> list[Condemnation]:
        """
        Those that can be read, oldest first.

        One that cannot, read twice, condemns nothing, for anybody: on its ground no pack is removed either.
        """
        with ThreadPoolExecutor(_READERS) as readers:
            found = list(readers.map(self._readable, self._store.list(CONDEMNED)))
        return sorted((one for one in found if one), key=lambda one: (one.stored_at, one.key))

    def packs(self) -> set[str]:
        """Names of all packs on which nothing new may build, since they may be removed at any time."""
        return {pack for one in self.all() for pack in one.packs}

    def parse(self, info: BlobInfo, data: bytes) -> Condemnation:
        """
        A condemnation from its object.

        :raises IntegrityError: if it is damaged, forged or misplaced
        """
        note = self._notes.parse(info.key, data)
        return Condemnation(info.key, note.at, info.modified, frozenset(note.packs))

    def _readable(self, info: BlobInfo) -> Condemnation | None:
        for _ in range(2):
            try:
                return self.parse(info, self._store.get(info.key))
            except NotFound:
                return None
            except IntegrityError:
                continue
        return None
