"""Verify what is not content: ``vault.json``, instructions, key slots, manifests, marks and the audit trail."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from muster.domain.recovery_point import Mark, RecoveryPoint
from muster.errors import IntegrityError, NotFound
from muster.ports import BlobStore
from muster.vault.audit import AuditRecord, AuditTrail, check_chain
from muster.vault.findings import Examination, Finding
from muster.vault.header import Header, open_signing_key
from muster.vault.keys import MasterKey
from muster.vault.layout import AUDIT, HEADER, KEYS, MARKS, POINTS, RESTORE, digest, point_key
from muster.vault.points import Points
from muster.vault.slots import describe_slot
from muster.vault.told import expired, told

T = TypeVar("T")
_READERS = 8


class DocumentCheck:
    """One pass over all documents of a vault."""

    def __init__(
        self, store: BlobStore, master: MasterKey, header: Header, points: Points, trail: AuditTrail, found: Examination
    ) -> None:
        self._store, self._master, self._header = store, master, header
        self._points, self._trail, self._found = points, trail, found

    def run(self) -> list[RecoveryPoint]:
        """
        Check all; return the points whose manifests are whole.

        What names others is read before what it names, for others write meanwhile: marks, manifests, then the trail.
        """
        self._check(HEADER, self._check_header)
        self._check(RESTORE, self._check_restore)
        for info in self._store.list(KEYS):
            self._check(info.key, lambda key: describe_slot(key, self._found.read(key)))
        marks = self._each(self._points.mark_keys(), self._read_mark)
        manifests = self._each(self._points.keys(), self._read_point)
        records = self._read_trail()
        self._check_trail(records)
        self._check_heads(manifests, {record.digest for record in records})
        self._check_marks(marks, [point for point, _, _ in manifests.values()], expired(records))
        written = {key: sha256 for key, (_, _, sha256) in manifests.items()}
        written |= {key: sha256 for key, (_, sha256) in marks.items()}
        self._check_removals(records, written)
        return [point for point, _, _ in manifests.values()]

    # --- one object ---------------------------------------------------------------------------------------------------

    def _check_header(self, key: str) -> None:
        signer = open_signing_key(self._found.read(key), self._master)
        if signer is None or signer.fingerprint != self._header.fingerprint:
            raise IntegrityError("it is not what was written when the vault was created")

    def _check_restore(self, key: str) -> None:
        if digest(self._found.read(key)) != self._header.restore_sha256:
            raise IntegrityError("these are not the instructions that were written when the vault was created")

    def _read_trail(self) -> list[AuditRecord]:
        records = self._each([info.key for info in self._store.list(AUDIT)], self._read_record)
        return self._trail.with_parents(records.values(), lambda key: self._check(key, self._read_record))

    def _read_record(self, key: str) -> AuditRecord:
        return self._trail.parse(key, self._found.read(key))

    def _read_point(self, key: str) -> tuple[RecoveryPoint, str, str]:
        data = self._found.read(key)
        point, head = self._points.parse(key, data)
        return point, head, digest(data)

    def _read_mark(self, key: str) -> tuple[Mark, str]:
        data = self._found.read(key)
        return self._points.parse_mark(key, data), digest(data)

    # --- how they belong together -------------------------------------------------------------------------------------

    def _check_trail(self, records: list[AuditRecord]) -> None:
        try:
            self._trail.check_first(records)
            check_chain(records)
        except IntegrityError as error:
            self._found.report(Finding(AUDIT, error.message))

    def _check_heads(self, manifests: dict[str, tuple[RecoveryPoint, str, str]], there: set[str]) -> None:
        for key, (point, head, _) in manifests.items():
            if head not in there:
                what = f"the audit record {head}, newest when it was sealed, is gone: the trail was cut off"
                self._found.report(Finding(key, what, (point.point,)))

    def _check_marks(
        self, marks: dict[str, tuple[Mark, str]], points: Iterable[RecoveryPoint], gone: Container[str]
    ) -> None:
        """Every mark is of a point that is there, or was expired: then its marks are removed some time later."""
        there = {(point.workload, point.point) for point in points}
        for key, (mark, _) in marks.items():
            if (mark.workload, mark.point) not in there and point_key(mark.workload, mark.point) not in gone:
                self._found.report(Finding(key, f"its point {mark.workload}/{mark.point} is not whole or not there"))

    def _check_removals(self, records: Iterable[AuditRecord], written: dict[str, str]) -> None:
        """What the trail says was written, and no record says was taken away, must be there."""
        there = {info.key for prefix in (KEYS, MARKS, POINTS) for info in self._store.list(prefix)}
        first: dict[str, str | None] = {f"{KEYS}{slot}.json": None for slot in self._header.slots}
        for key, sha256 in told(records, first).items():
            if key not in there:
                self._found.report(Finding(key, "it was written once, and it is gone", _point(key)))
            elif sha256 and written.get(key, sha256) != sha256:
                self._found.report(Finding(key, "it is not the one that the audit trail says was written", _point(key)))

    # --- how they are run ---------------------------------------------------------------------------------------------

    def _each(self, keys: list[str], read: Callable[[str], T]) -> dict[str, T]:
        with ThreadPoolExecutor(_READERS) as readers:
            values = list(readers.map(lambda key: self._check(key, read), keys))
        return {key: value for key, value in zip(keys, values, strict=True) if value is not None}

    def _check(self, key: str, work: Callable[[str], T]) -> T | None:
        try:
            return work(key)
        except (IntegrityError, NotFound) as error:
            self._found.report(Finding(key, error.message, _point(key)))
            return None


def _point(key: str) -> tuple[str, ...]:
    """The point that a manifest or a mark is of."""
    parts = key.removesuffix(".json").split("/")
    if len(parts) != 3:
        return ()
    return (parts[2],) if parts[0] == "points" else (parts[1],) if parts[0] == "marks" else ()
