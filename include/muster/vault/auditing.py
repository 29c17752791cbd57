"""
Prove an audit trail: that it is whole in itself, and that it holds every record which is known to have been there.

Whoever can delete may cut the newest records off a trail, and what is left is whole in itself. So records are named elsewhere, by
anchors: in every manifest, mark and rotation of the vault, on a machine that verified it, in copies of the vault, and in the
trails of other vaults. To hide a record, all of these must go with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from muster.codec import from_json, to_json
from muster.domain.evidence import AuditProof
from muster.errors import IntegrityError, NotFound
from muster.ports import BlobStore
from muster.vault.anchors import Anchor
from muster.vault.audit import AuditRecord, AuditTrail
from muster.vault.authority import Authority
from muster.vault.findings import Examination, Finding
from muster.vault.foreign import is_foreign
from muster.vault.header import Header
from muster.vault.layout import AUDIT
from muster.vault.points import Points
from muster.vault.verify_history import check_anchors, check_seen, check_trail

ANCHOR = "audit.anchor"
"""Action of a record that names the ends of another vault's trail. Its subject is that vault's id."""
ANCHORED = "audit.anchored"
"""Action of the record in that other vault, which names the first one in turn. Its subject is the id of the vault that holds it."""
_READERS = 8
Record = Callable[..., AuditRecord]


@dataclass(frozen=True, slots=True)
class AuditReport:
    """
    What is known of a trail.

    :param records: those that can be read and count, oldest first
    :param anchors: how many signed documents, notes, copies and other vaults were asked what they know of it
    :param findings: what was removed, altered, renamed, reordered, cut off or put there
    :param notices: what harms nothing
    """

    records: tuple[AuditRecord, ...]
    anchor: Anchor
    anchors: int
    findings: tuple[Finding, ...]
    notices: tuple[Finding, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


class Auditing:
    """
    The audit trail of one vault that is open, as an auditor sees it.

    :param record: adds to the trail: action, subject, outcome, details
    """

    def __init__(
        self, store: BlobStore, authority: Authority, header: Header, trail: AuditTrail, record: Record
    ) -> None:
        self._store, self._authority, self._header, self._trail = store, authority, header, trail
        self._record = record

    @property
    def vault(self) -> str:
        """The vault's id."""
        return self._header.id

    # --- proving ------------------------------------------------------------------------------------------------------

    def check(
        self, *, heads: Sequence[str] = (), copies: Iterable[BlobStore] = (), others: Iterable[Auditing] = ()
    ) -> AuditReport:
        """
        Look for anything that was done to the trail. Changes nothing; raises nothing that it can report.

        :param heads: digests of records that were seen earlier
        :param copies: stores that hold copies of this vault
        :param others: other vaults in which this one's trail was anchored
        """
        found = Examination(self._store)
        anchors = self._anchors(found)
        records = self._read(self._store, found)
        check_trail(self._trail, records, found)
        check_anchors(records, anchors, found)
        check_seen(records, heads, found)
        asked = len(anchors) + len(heads)
        for copy in copies:
            self._compare(records, copy, found)
            asked += 1
        for other in others:
            asked += self._ask(records, other, found)
        concluded = found.conclude()
        return AuditReport(tuple(records), _ends(records), asked, concluded.findings, concluded.notices)

    def _anchors(self, found: Examination) -> dict[str, Anchor]:
        """What signed documents say of the trail: read before it, so that what is written meanwhile is not missed."""
        anchors = dict(self._authority.chain.anchors)
        for key, anchor in Points(self._store, self._authority, self._header.id).anchors().items():
            if isinstance(anchor, Anchor):
                anchors[key] = anchor
            else:
                found.report(Finding(key, f"what it says of the trail cannot be known: {anchor.message}"))
        return anchors

    def _read(self, store: BlobStore, found: Examination) -> list[AuditRecord]:
        keys = [info.key for info in store.list(AUDIT)]
        for key in filter(is_foreign, keys):
            found.notice(Finding(key, "no record can have this name: somebody put it there"))
        trail = AuditTrail(store, self._authority, self._header)

        def read(key: str) -> AuditRecord | None:
            try:
                return trail.parse(key, store.get(key))
            except (IntegrityError, NotFound) as error:
                found.report(Finding(key, error.message))
                return None

        with ThreadPoolExecutor(_READERS) as readers:
            records = [record for record in readers.map(read, (k for k in keys if not is_foreign(k))) if record]
        return trail.with_parents(records, read)

    def _compare(self, records: Sequence[AuditRecord], copy: BlobStore, found: Examination) -> None:
        """A copy may lag behind. What it has and the vault has not was removed here, or written there."""
        theirs = Examination(copy)
        kept = self._read(copy, theirs)
        records = self._caught_up(records, {record.digest for record in kept})
        filled = _with_ancestors(kept, records)
        check_trail(AuditTrail(copy, self._authority, self._header), filled, theirs)
        if gaps := len(filled) - len(kept):
            what = f"it lacks {gaps} records that others in it follow: they are still on their way there, or were removed there"
            theirs.notice(Finding(AUDIT, what))
        _pass_on(theirs, copy, found)
        there = {record.digest for record in records}
        for record in kept:
            if record.digest not in there:
                told = f"{record.action} {record.subject} by {record.actor.name} on {record.at:%Y-%m-%d %H:%M:%SZ}"
                what = f"the copy {copy.url} has it and the vault has not ({told}): it was removed, or somebody wrote to the copy"
                found.report(Finding(record.key, what))
        if behind := len(there - {record.digest for record in filled}):
            found.notice(Finding(AUDIT, f"the copy {copy.url} lacks {behind} of {len(there)} records: it is older"))

    def _ask(self, records: Sequence[AuditRecord], other: Auditing, found: Examination) -> int:
        """What another vault's trail says of this one, and whether it still has what this one says of it; how often it was anchored."""
        seen = Examination(other._store)
        theirs = other._read(other._store, seen)
        check_trail(other._trail, theirs, seen)
        named = {record.digest for record in theirs}
        anchors: dict[str, Anchor] = {}
        for record in theirs:
            if (record.action, record.subject) == (ANCHOR, self.vault):
                try:
                    anchors[f"{other._store.url} {record.key}"] = from_json(Anchor, record.details.get("trail"))
                except IntegrityError as error:
                    seen.report(Finding(record.key, f"what it says of this trail cannot be known: {error.message}"))
        _pass_on(seen, other._store, found)
        heads = {head for anchor in anchors.values() for head in anchor.heads}
        check_anchors(self._caught_up(records, heads), anchors, found)
        for record in records:
            said = str(record.details.get("record"))
            if (record.action, record.subject) == (ANCHORED, other.vault) and said not in named:
                what = f"{other._store.url} no longer has the record {said} that it names: that trail was cut off"
                found.report(Finding(record.key, what))
        if not anchors:
            what = f"{other._store.url} knows nothing of this vault: anchor its trail there with `muster audit anchor`"
            found.notice(Finding(AUDIT, what))
        return len(anchors)

    def _caught_up(self, records: Sequence[AuditRecord], known: set[str]) -> Sequence[AuditRecord]:
        """The records, and if others are known elsewhere, those that came since they were read: they may be among them."""
        if known.issubset(record.digest for record in records):
            return records
        return self._read(self._store, Examination(self._store))

    # --- evidence -----------------------------------------------------------------------------------------------------

    def since(self, at: datetime) -> tuple[list[AuditRecord], AuditProof]:
        """
        The records of a time and later, oldest first, and where they stand in the trail; the rest of it is not read.

        Every record that they follow is looked for by its name.
        """
        records, earlier, unreadable = self._trail.since(at)
        anchor = self._trail.anchor()
        there = {info.key.removesuffix(".json").rpartition("-")[2] for info in self._store.list(AUDIT)}
        complete = not unreadable and all(there.issuperset(record.parents) for record in records)
        return records, AuditProof(
            self.vault,
            self._store.url,
            self._authority.chain.generations[0].key.fingerprint,
            earlier.digest if earlier else "",
            anchor.heads,
            anchor.count,
            len(records),
            complete,
            made=any(record.seq == 0 for record in records),
        )

    # --- anchoring ----------------------------------------------------------------------------------------------------

    def anchor_in(self, other: Auditing) -> Anchor:
        """
        Name the ends of this trail in the trail of another vault, and then that record in this one: each proves the other.

        :raises IntegrityError: if this trail is not whole; nothing was written
        """
        self._trail.records()
        anchor = self._trail.anchor()
        record = other._record(ANCHOR, self.vault, "anchored", {"trail": to_json(anchor), "url": self._store.url})
        self._record(ANCHORED, other.vault, "anchored", {"record": record.digest, "url": other._store.url})
        return anchor


def _pass_on(theirs: Examination, place: BlobStore, found: Examination) -> None:
    """What was found in another place is told with its URL."""
    seen = theirs.conclude()
    for finding in seen.findings:
        found.report(Finding(f"{place.url} {finding.object}", finding.what))
    for notice in seen.notices:
        found.notice(Finding(f"{place.url} {notice.object}", notice.what))


def _with_ancestors(kept: Sequence[AuditRecord], records: Sequence[AuditRecord]) -> list[AuditRecord]:
    """What a copy has, with those of the vault's records that it follows: a bucket may be copied out of order. Oldest first."""
    there = {record.digest: record for record in records}
    found = {record.digest: record for record in kept}
    todo = list(kept)
    while todo:
        lacking = [there[parent] for parent in todo.pop().parents if parent in there and parent not in found]
        found |= {record.digest: record for record in lacking}
        todo += lacking
    return sorted(found.values(), key=lambda record: record.key)


def _ends(records: Sequence[AuditRecord]) -> Anchor:
    followed = {parent for record in records for parent in record.parents}
    ends = [record for record in records if record.digest not in followed]
    ends.sort(key=lambda record: (record.seq, record.digest), reverse=True)
    return Anchor(tuple(record.digest for record in ends), len(records))
