"""
The audit trail: signed records that name their predecessors, so that none can be altered, removed or slipped in between.

Two machines may append at once: then the trail forks, and the next record names both ends. The first record follows from
``vault.json`` alone. The digests of the newest records stand in every manifest and mark, so a trail cut off before one is noticed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from typing import Any

from muster.codec import from_json, to_json
from muster.errors import IntegrityError
from muster.ports import BlobStore
from muster.vault.anchors import Anchor
from muster.vault.envelope import Signatures
from muster.vault.foreign import own
from muster.vault.header import Actor, Header
from muster.vault.layout import AUDIT, digest, put_named

PAYLOAD_TYPE = "application/vnd.muster.audit.v1+json"
_READERS = 8


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """
    Who did what, when, from where, and how it ended.

    :param seq: one more than the greatest of its parents'; 0 for the first
    :param parents: digests of the records that were newest when this was written
    :param before: number of all records before it, by which a removed fork is noticed
    :param digest: SHA-256 of the object; not part of what is signed
    """

    vault: str
    seq: int
    parents: tuple[str, ...]
    before: int
    at: datetime
    actor: Actor
    action: str
    subject: str
    outcome: str
    details: dict[str, Any]
    digest: str = ""

    @property
    def key(self) -> str:
        """The object that holds it."""
        return f"{AUDIT}{self.seq:08d}-{self.digest}.json"


class AuditTrail:
    """Appends to the trail of one vault, and reads it back."""

    def __init__(self, store: BlobStore, signer: Signatures, header: Header) -> None:
        self._store, self._signer, self._header = store, signer, header
        self._known: dict[str, AuditRecord] = {}
        self._newest: Anchor | None = None

    def append(
        self, at: datetime, actor: Actor, action: str, subject: str, outcome: str, details: Mapping[str, Any]
    ) -> AuditRecord:
        """Write a record after all that are there now."""
        heads, before = self._heads()
        record = AuditRecord(
            vault=self._header.id,
            seq=max(head.seq for head in heads) + 1,
            parents=tuple(sorted(head.digest for head in heads)),
            before=before,
            at=at,
            actor=actor,
            action=action,
            subject=subject,
            outcome=outcome,
            details=dict(details),
        )
        written = self._put(record)
        self._newest = Anchor((written.digest,), before + 1)
        return written

    def begin(self) -> None:
        """Write the first record, unless it is there."""
        self._put(self._first())

    def head(self) -> str:
        """Digest of the newest record; of several ends of a fork, the greatest by number and digest."""
        return max(self._heads()[0], key=lambda record: (record.seq, record.digest)).digest

    def anchor(self) -> Anchor:
        """The ends of the trail now, the greatest first, and how many records there are."""
        heads, count = self._heads()
        heads.sort(key=lambda record: (record.seq, record.digest), reverse=True)
        self._newest = Anchor(tuple(head.digest for head in heads), count)
        return self._newest

    def known_anchor(self) -> Anchor:
        """The ends as this process saw them last: good enough to tell that they were there, and read only once."""
        return self._newest or self.anchor()

    def since(self, at: datetime) -> tuple[list[AuditRecord], AuditRecord | None, list[str]]:
        """
        The records of a time and later, oldest first, and the newest before them; without reading the whole trail.

        Those that cannot be read, whose time nobody knows, are given by their keys: of that time and later, or from shortly before.
        """
        found: list[AuditRecord] = []
        unreadable: list[str] = []
        keys = self._keys()
        with ThreadPoolExecutor(_READERS) as readers:
            for end in range(len(keys), 0, -_READERS):
                some = keys[max(0, end - _READERS) : end]
                read = list(zip(some, readers.map(self._readable, some), strict=True))
                unreadable += [key for key, record in read if not record]
                lot = [record for _, record in read if record]
                found = lot + found
                if lot and all(record.at < at for record in lot):
                    break
        earlier = [record for record in found if record.at < at]
        return [record for record in found if record.at >= at], earlier[-1] if earlier else None, unreadable

    def records(self) -> list[AuditRecord]:
        """
        The whole trail, oldest first, checked.

        :raises IntegrityError: naming the first record that is missing, damaged or forged
        """
        self._known.clear()
        keys = self._keys()
        with ThreadPoolExecutor(_READERS) as readers:
            records = self.with_parents(readers.map(self._read, keys), self._read)
        self.check_first(records)
        check_chain(records)
        return records

    def find(
        self, action: str, subject: str, wanted: Callable[[AuditRecord], bool] = lambda _record: True
    ) -> AuditRecord | None:
        """The newest record that can be read and says that this was done, or None."""
        records = (self._readable(key) for key in reversed(self._keys()))
        return next((r for r in records if r and (r.action, r.subject) == (action, subject) and wanted(r)), None)

    def readable(self) -> list[AuditRecord]:
        """Every record that can be read and counts, oldest first; verification names the others."""
        with ThreadPoolExecutor(_READERS) as readers:
            return [record for record in readers.map(self._readable, self._keys()) if record]

    def with_parents(
        self, records: Iterable[AuditRecord], read: Callable[[str], AuditRecord | None]
    ) -> list[AuditRecord]:
        """
        Records with all that they follow, oldest first.

        A listing made while others write may show a record and not its parents. They were there before it, so one begun after
        it was seen shows them; what that does not show either is gone.

        :param read: gives the record of a key, or None if it cannot be read
        """
        found = {record.digest: record for record in records}
        while lacking := {parent for record in found.values() for parent in record.parents} - found.keys():
            keys = [key for key in self._keys() if _digest_of(key) in lacking]
            more = {record.digest: record for key in keys if (record := read(key))}
            if not more:
                break
            found |= more
        return sorted(found.values(), key=lambda record: record.key)

    def check_first(self, records: Sequence[AuditRecord]) -> None:
        """
        The trail begins with the creation of this vault.

        :raises IntegrityError: if it does not
        """
        if not records or replace(records[0], digest="") != self._first():
            raise IntegrityError(
                f"the audit trail in {self._store.url} does not begin with the creation of this vault",
                "its first record was removed or forged: find out who writes to the store",
            )

    def parse(self, key: str, data: bytes) -> AuditRecord:
        """
        A record from its object.

        :raises IntegrityError: if it is damaged, forged or misplaced
        """
        payload = self._signer.open(key, data, PAYLOAD_TYPE)
        record = replace(from_json(AuditRecord, payload), digest=digest(data))
        if record.key != key or record.vault != self._header.id:
            raise _broken(key, "it is not the record that its name says")
        return record

    def _heads(self) -> tuple[list[AuditRecord], int]:
        """
        The records that no other names, and how many there are in all.

        Usually the newest knows all the others, and one read is enough. A damaged record is passed over (verification names it):
        damage to the trail must not keep anybody from recovering, nor that from being recorded.
        """
        keys = self._keys() or [self._put(self._first()).key]
        newest = self._readable(keys[-1])
        if newest and newest.before == len(keys) - 1:
            return [newest], len(keys)
        seen = [record for key in keys if (record := self._readable(key))] or [self._put(self._first())]
        records = self.with_parents(seen, self._readable)
        named = {parent for record in records for parent in record.parents}
        return [record for record in records if record.digest not in named], len(records)

    def _keys(self) -> list[str]:
        return [info.key for info in own(self._store.list(AUDIT))]

    def _first(self) -> AuditRecord:
        header = self._header
        return AuditRecord(
            header.id, 0, (), 0, header.created_at, header.created_by, "create", header.id, "created", {}
        )

    def _put(self, record: AuditRecord) -> AuditRecord:
        payload = to_json(record)
        del payload["digest"]
        data = self._signer.sign(PAYLOAD_TYPE, payload)
        written = replace(record, digest=digest(data))
        put_named(self._store, written.key, data)
        return written

    def _readable(self, key: str) -> AuditRecord | None:
        try:
            return self._read(key)
        except IntegrityError:
            return None

    def _read(self, key: str) -> AuditRecord:
        if key in self._known:
            return self._known[key]
        record = self._known[key] = self.parse(key, self._store.get(key))
        return record


def _digest_of(key: str) -> str:
    """The digest in the name of a record's object."""
    return key.removesuffix(".json").rpartition("-")[2]


def check_chain(records: Iterable[AuditRecord]) -> None:
    """
    Every record's parents are there, and it follows as many records as it says.

    It may follow more: those that could not be read when it was written, and that came back from a replica. None can be slipped in, for
    what a record follows is fixed by the digests of its parents.

    :param records: oldest first
    :raises IntegrityError: naming the first record that does not fit
    """
    seqs: dict[str, int] = {}
    fork = _Fork(0)
    for _, level in groupby(records, key=lambda record: record.seq):
        alone = [_check_link(record, seqs, fork) for record in level]
        if alone == [len(seqs) - 1]:
            fork = _Fork(len(seqs))


class _Fork:
    """
    What follows what since the trail was last one: since the last record that alone has its number and follows all before it.

    Every later record follows that one, since its number is one more than a parent's; so what lies before is a mere number.
    """

    def __init__(self, start: int) -> None:
        self._start, self._bits = start, dict[str, int]()

    def add(self, record: AuditRecord, number: int) -> int:
        """Take the record of this number in the whole trail; return how many it follows."""
        behind = 0
        for parent in record.parents:
            behind |= self._bits.get(parent, 0)
        self._bits[record.digest] = behind | 1 << (number - self._start)
        return behind.bit_count() + (self._start if record.parents else 0)


def _check_link(record: AuditRecord, seqs: dict[str, int], fork: _Fork) -> int:
    """Check one record and add it to the numbers of all; return how many it follows."""
    lost = [parent for parent in record.parents if parent not in seqs]
    if lost:
        raise _broken(record.key, f"the record {lost[0]} that it follows is missing")
    if record.seq != max((seqs[parent] + 1 for parent in record.parents), default=0):
        raise _broken(record.key, "its number does not follow from the records before it")
    follows = fork.add(record, len(seqs))
    if follows < record.before or (seqs and not record.parents):
        raise _broken(record.key, f"it follows {record.before} records, and {follows} are there")
    seqs[record.digest] = record.seq
    return follows


def _broken(key: str, why: str) -> IntegrityError:
    return IntegrityError(
        f"the audit trail is broken at {key}: {why}", "records were removed or forged: find out who writes to the store"
    )
