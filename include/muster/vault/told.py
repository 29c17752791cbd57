"""What the audit trail says is there: everything that was written and not taken away again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from muster.vault.audit import AuditRecord
from muster.vault.layout import MARKS, POINTS, point_id

WRITES = ("seal", "mark", "keys.add", "keys.rotate", "keys.adopt")
REMOVALS = ("expire", "keys.remove")
REFUSED = "refused"
"""Outcome of a removal that the store did not allow: what it speaks of is still there."""
TAKEN_BACK = "taken back"
"""Outcome of a removal that was announced and not done."""
STILL_THERE = (REFUSED, TAKEN_BACK)


def told(
    records: Iterable[AuditRecord], first: Mapping[str, str | None] = MappingProxyType({})
) -> dict[str, str | None]:
    """
    The objects that the trail says are there, each with the digest that was written, where the trail has it.

    Marks of an expired point may be there or not: they are removed some time after it, without a record of their own.

    :param records: oldest first
    :param first: what was there before the trail began
    """
    there = dict(first)
    gone: set[str] = set()
    for record in records:
        if record.action in WRITES or (record.action in REMOVALS and record.outcome in STILL_THERE):
            there[record.subject] = record.details.get("sha256")
            gone.discard(marks_of(record.subject))
        elif record.action in REMOVALS:
            there.pop(record.subject, None)
            gone.add(marks_of(record.subject))
    return {key: sha256 for key, sha256 in there.items() if not (key.startswith(MARKS) and _folder(key) in gone)}


def expired(records: Iterable[AuditRecord]) -> dict[str, AuditRecord]:
    """The manifests that were expired and not sealed again, each with the record that says so."""
    found: dict[str, AuditRecord] = {}
    for record in records:
        if record.action == "expire" and record.subject.startswith(POINTS) and record.outcome not in STILL_THERE:
            found[record.subject] = record
        elif record.action in WRITES or record.outcome in STILL_THERE:
            found.pop(record.subject, None)
    return found


def marks_of(manifest: str) -> str:
    """What the keys of a point's marks begin with; empty if this is not the key of a manifest."""
    if not manifest.startswith(POINTS):
        return ""
    return f"{MARKS}{point_id(manifest)}/"


def _folder(key: str) -> str:
    return f"{key.rpartition('/')[0]}/"
