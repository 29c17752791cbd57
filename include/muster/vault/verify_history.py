"""Verify how documents belong together: the chain of audit records, what it tells of, and what was known elsewhere of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from muster.domain.recovery_point import Mark, RecoveryPoint
from muster.errors import IntegrityError
from muster.ports import BlobStore
from muster.vault.anchors import Anchor
from muster.vault.audit import AuditRecord, AuditTrail, check_chain
from muster.vault.findings import Examination, Finding
from muster.vault.layout import AUDIT, GENERATIONS, KEYS, MARKS, POINTS, ROLLS, point_key
from muster.vault.told import expired, told
from muster.vault.verify_keys import KeyCheck

T = TypeVar("T")
_TOLD = (GENERATIONS, KEYS, MARKS, POINTS, ROLLS)


@dataclass(frozen=True, slots=True)
class SealedPoint:
    """A point, the audit trail as it was when it was sealed, and the digest of its manifest."""

    point: RecoveryPoint
    anchor: Anchor
    digest: str


@dataclass(frozen=True, slots=True)
class Written(Generic[T]):
    """What a document says, its digest, and the audit trail as it was when it was written, if it says so."""

    said: T
    digest: str
    anchor: Anchor | None = None


class HistoryCheck:
    """
    What the documents of a vault, each of which was checked before, say of each other.

    :param keys: knows the key slots, and which of them creation and rotations tell of, and not the trail
    """

    def __init__(self, store: BlobStore, keys: KeyCheck, trail: AuditTrail, found: Examination) -> None:
        self._store, self._keys, self._trail, self._found = store, keys, trail, found

    def run(
        self,
        records: Sequence[AuditRecord],
        manifests: Mapping[str, SealedPoint],
        marks: Mapping[str, Written[Mark]],
        heads: Sequence[str],
    ) -> None:
        """
        Compare them.

        :param records: oldest first
        :param manifests: by key; `marks` as well
        :param heads: digests of audit records that must be there
        """
        check_trail(self._trail, records, self._found)
        anchors = {key: mark.anchor for key, mark in marks.items() if mark.anchor}
        anchors |= {key: sealed.anchor for key, sealed in manifests.items()}
        check_anchors(records, anchors | self._keys.anchors(), self._found)
        check_seen(records, heads, self._found)
        gone = expired(records)
        self._check_marks(marks, manifests, gone)
        written = {key: sealed.digest for key, sealed in manifests.items()}
        written |= {key: mark.digest for key, mark in marks.items()}
        self._check_told(records, written, gone)
        self._found.head = max(((record.seq, record.digest) for record in records), default=(0, ""))[1]

    def _check_marks(
        self,
        marks: Mapping[str, Written[Mark]],
        manifests: Mapping[str, SealedPoint],
        gone: Mapping[str, AuditRecord],
    ) -> None:
        """Every mark is of a point that is there, or was expired: then its marks are removed some time later."""
        for key, mark in marks.items():
            manifest = point_key(mark.said.workload, mark.said.point)
            if manifest not in manifests and manifest not in gone:
                name = f"{mark.said.workload}/{mark.said.point}"
                self._found.report(Finding(key, f"its point {name} is not whole or not there"))

    def _check_told(
        self, records: Sequence[AuditRecord], written: Mapping[str, str], gone: Mapping[str, AuditRecord]
    ) -> None:
        """What the trail says was written, and no record says was taken away, must be there; what it does not tell of is noticed."""
        there = {info.key for prefix in _TOLD for info in self._store.list(prefix)}
        expected = told(records, self._keys.made())
        for key, sha256 in expected.items():
            if key not in there:
                self._found.report(Finding(key, "it was written once, and it is gone", point_of(key), absent=True))
            elif sha256 and written.get(key, sha256) != sha256:
                what = "it is not the one that the audit trail says was written"
                self._found.report(Finding(key, what, point_of(key)))
        for key in self._keys.slots.keys() - expected.keys():
            what = "this vault did not make it, or it was revoked: see `muster keys list --all`, and remove it"
            self._found.notice(Finding(key, what))
        expired_points = {point for key in gone for point in point_of(key)}
        for key in written.keys() - expected.keys():
            if record := gone.get(key):
                what = f"it was expired on {record.at:%Y-%m-%d}, and is there: the next expiry goes on, or somebody put it back"
                self._found.notice(Finding(key, what))
            elif expired_points.isdisjoint(point_of(key)):
                what = "the audit trail does not tell of it: its writer is still at work, or was killed before it could"
                self._found.notice(Finding(key, what))


def check_trail(trail: AuditTrail, records: Sequence[AuditRecord], found: Examination) -> None:
    """The trail begins with the creation of its vault, and every record follows from those before it."""
    try:
        trail.check_first(records)
        check_chain(records)
    except IntegrityError as error:
        found.report(Finding(AUDIT, error.message))


def check_anchors(records: Sequence[AuditRecord], anchors: Mapping[str, Anchor], found: Examination) -> None:
    """
    Every record that a document names as the newest of its time is there.

    A manifest whose record is gone is damage to its point, since nobody can tell any more what was done to it; a mark's is not.

    :param anchors: by the key of the document
    """
    there = {record.digest for record in records}
    for key, anchor in anchors.items():
        points = point_of(key) if key.startswith(POINTS) else ()
        many = f" of {anchor.count}" if anchor.count else ""
        for head in anchor.lost(there):
            what = f"the audit record {head}, newest{many} when it was written, is gone, and {len(there)} are there: the trail was cut off"
            found.report(Finding(key, what, points))
        if not anchor.lost(there) and len(there) < anchor.count:
            what = f"the audit trail had {anchor.count} records when it was written, and {len(there)} are there: some were removed"
            found.report(Finding(key, what, points))


def check_seen(records: Sequence[AuditRecord], heads: Sequence[str], found: Examination) -> None:
    """
    Records that were seen earlier are there still.

    :param heads: their digests
    """
    there = {record.digest for record in records}
    for seen in heads:
        if seen not in there:
            what = f"the record {seen}, which was seen here earlier, is gone: the vault was put back to an older state, or cut off"
            found.report(Finding(AUDIT, what))


def point_of(key: str) -> tuple[str, ...]:
    """The point that a manifest or a mark is of; nothing for other objects."""
    parts = key.removesuffix(".json").split("/")
    if len(parts) != 3:
        return ()
    return (parts[2],) if parts[0] == "points" else (parts[1],) if parts[0] == "marks" else ()
