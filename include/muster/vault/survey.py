"""
A whole look at a vault, before anything is taken away.

Verification goes on where something is damaged, and names it. This does the opposite: whoever removes must know everything, so
one manifest or mark that is missing from the listing, or cannot be read, ends it. A hold may be in the mark, and a manifest may
need anything.
"""

from __future__ import annotations

from dataclasses import dataclass

from muster.domain.recovery_point import PointStatus
from muster.errors import IntegrityError, NotFound, StoreUnavailable
from muster.ports import BlobStore
from muster.vault.audit import AuditRecord, AuditTrail
from muster.vault.layout import MARKS, POINTS
from muster.vault.points import Points
from muster.vault.told import expired, told

_UNTOUCHED = "so nothing was removed"


@dataclass(frozen=True, slots=True)
class Survey:
    """
    What a vault holds, complete.

    :param statuses: all points with their marks, oldest first
    :param expired: the record of each expiry, by the key of the manifest that it removed
    """

    statuses: tuple[PointStatus, ...]
    expired: dict[str, AuditRecord]


def survey(store: BlobStore, points: Points, trail: AuditTrail, begun: AuditRecord | None = None) -> Survey:
    """
    Read all of it.

    :param begun: a record that was just written: a trail that does not show it was listed incompletely
    :raises IntegrityError: if the trail is broken, if it tells of a manifest or mark that the store does not list, or if one that
        is listed is damaged
    :raises StoreUnavailable: if objects vanish meanwhile, as they do beside another expiry
    """
    listed = _listed(store)
    records = _records(trail)
    if begun and begun.digest not in {record.digest for record in records}:
        raise _incomplete(store, f"the audit record {begun.key}, written a moment ago,")
    if missing := _told(records) - listed:
        # Sealed or marked between the listing and the reading of the trail, then: or else it is gone.
        missing -= _listed(store)
    for key in sorted(missing):
        raise _incomplete(store, key)
    return Survey(tuple(_statuses(points)), expired(records))


def _listed(store: BlobStore) -> set[str]:
    return {info.key for prefix in (POINTS, MARKS) for info in store.list(prefix)}


def _told(records: list[AuditRecord]) -> set[str]:
    return {key for key in told(records) if key.startswith((POINTS, MARKS))}


def _records(trail: AuditTrail) -> list[AuditRecord]:
    try:
        return trail.records()
    except (IntegrityError, NotFound) as error:
        raise IntegrityError(
            f"{error.message}; it cannot be told what should be there, {_UNTOUCHED}", error.hint
        ) from error


def _statuses(points: Points) -> list[PointStatus]:
    try:
        return points.statuses()
    except NotFound as error:
        raise StoreUnavailable(
            f"{error.message}, though it was listed a moment ago; {_UNTOUCHED}",
            "if another expiry is running, let it end; then run this again",
        ) from error
    except IntegrityError as error:
        raise IntegrityError(
            f"{error.message}; it may need anything, or be a hold, {_UNTOUCHED}",
            "bring it back from a replica with `muster heal`, then run this again",
        ) from error


def _incomplete(store: BlobStore, what: str) -> IntegrityError:
    return IntegrityError(
        f"{what} is not listed by {store.url}, though the audit trail tells of it; {_UNTOUCHED}",
        "run this again in case the listing was incomplete; if it stays so, verify the vault and bring back what is gone",
    )
