"""What a vault is asked for now and then. Each part is loaded then: together they take as long as all that is needed every time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from muster.domain.recovery_point import RecoveryPoint
from muster.ports import BlobStore, Clock, Progress
from muster.vault.audit import AuditRecord, AuditTrail
from muster.vault.authority import Authority
from muster.vault.condemned import Condemnations
from muster.vault.findings import VerifyReport
from muster.vault.header import Actor, Header
from muster.vault.index import Index
from muster.vault.keyholders import KeyHolders
from muster.vault.keys import MasterKey
from muster.vault.opening import Opened
from muster.vault.points import Points
from muster.vault.reader import ChunkReader

if TYPE_CHECKING:
    from muster.vault.auditing import Auditing
    from muster.vault.expire import Expiry
    from muster.vault.heal import Healing
    from muster.vault.rotation import Rotation


class Seldom(ABC):
    """The half of `muster.vault.vault.Vault` that most processes do not ask for."""

    _store: BlobStore
    _clock: Clock
    _header: Header
    _opened: Opened
    _master: MasterKey
    _authority: Authority
    _index: Index
    _reader: ChunkReader
    _points: Points
    _trail: AuditTrail
    _condemned: Condemnations

    @property
    @abstractmethod
    def holders(self) -> KeyHolders: ...

    @abstractmethod
    def record(
        self, action: str, subject: str, outcome: str, details: dict[str, Any] | None = None, by: Actor | None = None
    ) -> AuditRecord: ...

    @property
    def expiry(self) -> Expiry:
        """What takes points away, and what none of those that stay needs."""
        from muster.vault.expire import Expiry
        from muster.vault.index_merge import superseded
        from muster.vault.sweep import Sweep

        parts = (self._store, self._index, self._reader, self._points, self._condemned)
        return Expiry(
            self._store,
            self._points,
            self._trail,
            lambda: Sweep(*parts, partial(superseded, self._store, self._master)),
            partial(self.record, "expire"),
            self._clock,
            self._header.id,
        )

    @property
    def auditing(self) -> Auditing:
        """What proves the audit trail, and anchors it in another vault."""
        from muster.vault.auditing import Auditing

        return Auditing(self._store, self._authority, self._header, self._trail, self.record)

    def verify(
        self,
        points: Sequence[RecoveryPoint] | None = None,
        *,
        share: float = 1.0,
        files: bool = False,
        heads: Sequence[str] = (),
        progress: Progress | None = None,
    ) -> VerifyReport:
        """
        Check the structure of everything, and read a share of the packs again. Changes nothing; raises nothing that it can report.

        :param points: whose packs and files to check; None for all, and for packs that no point needs
        :param share: of the packs, 0 to 1; which ones moves on with each verification of the whole that is recorded, so that after
            1/share of them each had its turn
        :param files: compute the digests of every file anew as well
        :param heads: digests of audit records that were seen earlier: a vault that lacks one was put back to an older state
        """
        from muster.vault.verify import Extent, verify

        extent = Extent(points, share, files, heads)
        return verify(self._store, self._master, self._authority, self._header, extent, progress)

    @property
    def healing(self) -> Healing:
        """What was noted of damage, and the way to bring back what a replica still has."""
        from muster.vault.heal import Healing

        return Healing(self._store, self._master, self._authority, self._header, self._index, self._clock)

    @property
    def rotation(self) -> Rotation:
        """To plan new keys, and to look at what came late with those that were replaced."""
        from muster.vault.rotation import Rotation

        return Rotation(self._store, self._opened, self.holders, self._clock.now(), self.record)
