"""Verify what is not content, one object at a time: ``vault.json``, instructions, keys, manifests, marks, notes and audit records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from muster.domain.recovery_point import Mark, RecoveryPoint
from muster.errors import IntegrityError, NotFound
from muster.ports import BlobInfo, BlobStore
from muster.vault.audit import AuditRecord, AuditTrail
from muster.vault.authority import Authority
from muster.vault.condemned import Condemnation, Condemnations
from muster.vault.damage import Damages
from muster.vault.findings import Examination, Finding
from muster.vault.foreign import is_foreign, own
from muster.vault.header import Header, open_signing_key
from muster.vault.keys import MasterKey
from muster.vault.layout import AUDIT, CONDEMNED, HEADER, RESTORE, digest
from muster.vault.points import Points
from muster.vault.verify_history import HistoryCheck, SealedPoint, Written, point_of
from muster.vault.verify_keys import KeyCheck

T = TypeVar("T")
_READERS = 8


class DocumentCheck:
    """
    One pass over all documents of a vault.

    :param turns: afterwards: how often the trail tells that the whole vault was verified
    """

    def __init__(
        self, store: BlobStore, master: MasterKey, authority: Authority, header: Header, found: Examination
    ) -> None:
        self._store, self._master, self._authority, self._header = store, master, authority, header
        self._found = found
        self.turns = 0
        self._keys = KeyCheck(store, authority, found)
        self._points = Points(store, authority, header.id)
        self._trail = AuditTrail(store, authority, header)
        self._damages = Damages(store, authority, header.id)
        self._condemnations = Condemnations(store, authority, header.id)

    def run(self, heads: Sequence[str]) -> list[RecoveryPoint]:
        """
        Check all; return the points whose manifests are whole.

        What names others is read before what it names, for others write meanwhile: marks, manifests, then the trail.

        :param heads: digests of audit records that must be there
        """
        self._check(HEADER, self._check_header)
        self._check(RESTORE, self._check_restore)
        self._keys.run()
        for info in own(self._store.list(CONDEMNED)):
            self._check(info.key, partial(self._read_condemnation, info))
        self._each(self._damages.keys(), lambda key: self._damages.parse(key, self._found.read(key)))
        marks = self._each(self._points.mark_keys(), self._read_mark)
        manifests = self._each(self._points.keys(), self._read_point)
        trail = self._read_trail()
        self.turns = sum(record.action == "verify" and bool(record.details.get("whole", True)) for record in trail)
        HistoryCheck(self._store, self._keys, self._trail, self._found).run(trail, manifests, marks, heads)
        return [sealed.point for sealed in manifests.values()]

    # --- one object ---------------------------------------------------------------------------------------------------

    def _check_header(self, key: str) -> None:
        signer = open_signing_key(self._found.read(key), self._master)
        if signer is None or signer.fingerprint != self._header.fingerprint:
            raise IntegrityError("it is not what was written when the vault was created")

    def _check_restore(self, key: str) -> None:
        if digest(self._found.read(key)) != self._header.restore_sha256:
            raise IntegrityError("these are not the instructions that were written when the vault was created")

    def _read_condemnation(self, info: BlobInfo, key: str) -> Condemnation:
        return self._condemnations.parse(info, self._found.read(key))

    def _read_trail(self) -> list[AuditRecord]:
        records = self._each([info.key for info in self._store.list(AUDIT)], self._read_record)
        return self._trail.with_parents(records.values(), lambda key: self._check(key, self._read_record))

    def _read_record(self, key: str) -> AuditRecord:
        return self._trail.parse(key, self._found.read(key))

    def _read_point(self, key: str) -> SealedPoint:
        data = self._found.read(key)
        point, anchor = self._points.parse(key, data)
        return SealedPoint(point, anchor, digest(data))

    def _read_mark(self, key: str) -> Written[Mark]:
        data = self._found.read(key)
        mark, anchor = self._points.parse_anchored_mark(key, data)
        return Written(mark, digest(data), anchor)

    # --- what lies among them -----------------------------------------------------------------------------------------

    def notice_strangers(self) -> None:
        """Objects of somebody else harm nothing as they lie; those that were laid over ours do."""
        for info in self._store.list():
            if is_foreign(info.key):
                self._found.notice(
                    Finding(info.key, f"it is no part of a vault ({info.size} bytes, {info.modified:%Y-%m-%d})")
                )
        if versions := self._store.versions():
            for hidden in versions.hidden():
                if not is_foreign(hidden.key):
                    what = f"a {hidden.by} was laid over it on {hidden.at:%Y-%m-%d %H:%M:%SZ}; see `muster doctor --uncover`"
                    self._found.report(Finding(hidden.key, what, point_of(hidden.key)))

    # --- how they are run ---------------------------------------------------------------------------------------------

    def _each(self, listed: list[str], read: Callable[[str], T]) -> dict[str, T]:
        keys = [key for key in listed if not is_foreign(key)]
        with ThreadPoolExecutor(_READERS) as readers:
            values = list(readers.map(lambda key: self._check(key, read), keys))
        return {key: value for key, value in zip(keys, values, strict=True) if value is not None}

    def _check(self, key: str, work: Callable[[str], T]) -> T | None:
        try:
            return work(key)
        except (IntegrityError, NotFound) as error:
            self._found.report(Finding(key, error.message, point_of(key)))
            return None
