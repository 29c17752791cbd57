"""
Verify a vault: the structure of everything, the bytes of a share of its packs, and at a share of 1 every file.

Nothing is repaired, and nothing raised that can be reported. Everything is read anew: no index loaded earlier is trusted.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from muster.domain.recovery_point import RecoveryPoint
from muster.errors import UsageError
from muster.ports import BlobStore, Progress
from muster.vault.audit import AuditTrail
from muster.vault.envelope import Signatures
from muster.vault.findings import Examination, VerifyReport
from muster.vault.header import Header
from muster.vault.keys import MasterKey
from muster.vault.points import Points
from muster.vault.verify_content import ContentCheck
from muster.vault.verify_documents import DocumentCheck


class Verification:
    """A vault under examination."""

    def __init__(self, store: BlobStore, master: MasterKey, signer: Signatures, header: Header) -> None:
        self._store, self._master, self._signer, self._header = store, master, signer, header

    def run(
        self, points: Sequence[RecoveryPoint] | None, share: float, today: datetime, progress: Progress | None
    ) -> VerifyReport:
        """See `Vault.verify`."""
        if not 0.0 <= share <= 1.0:
            raise UsageError(f"{share} is not a share of the packs", "give a number from 0 to 1")
        found = Examination(self._store)
        manifests = Points(self._store, self._signer, self._header.id)
        trail = AuditTrail(self._store, self._signer, self._header)
        sealed = DocumentCheck(self._store, self._master, self._header, manifests, trail, found).run()
        packs = None if points is None else {pack for point in points for pack in point.packs}
        content = ContentCheck(self._store, self._master, sealed if points is None else points, found)
        content.run(packs, share, today, progress)
        return found.conclude()
