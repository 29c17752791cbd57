"""Take points out of a vault for good, and afterwards what nobody needs any more."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from muster.codec import to_json
from muster.domain.recovery_point import PointStatus, RecoveryPoint
from muster.domain.retention import Verdict
from muster.errors import NotFound, Refused, UsageError
from muster.ports import BlobStore, Clock
from muster.vault.audit import AuditRecord, AuditTrail
from muster.vault.condemned import GRACE, LEAST_GRACE
from muster.vault.layout import digest, point_key
from muster.vault.points import Points
from muster.vault.removal import Remover
from muster.vault.survey import Survey, survey
from muster.vault.sweep import Present, Sweep, Swept
from muster.vault.told import REFUSED

Record = Callable[[str, str, dict[str, Any]], AuditRecord]
"""Adds to the audit trail under the action ``expire``: subject, outcome, details."""


@dataclass(frozen=True, slots=True)
class Kept:
    """
    A point that was to expire and is still there.

    :param refused: whether the store did not remove it though nothing that it told of forbade it
    """

    status: PointStatus
    reason: str
    refused: bool = False


class Expiry:
    """
    The one part of a vault that takes away; everything else only adds.

    :param sweep: gives a new look at the packs
    """

    def __init__(
        self,
        store: BlobStore,
        points: Points,
        trail: AuditTrail,
        sweep: Callable[[], Sweep],
        record: Record,
        clock: Clock,
        vault: str,
    ) -> None:
        self.store, self.points, self.trail = store, points, trail
        self.sweep, self.record, self.clock, self._vault = sweep, record, clock, vault

    def survey(self) -> Survey:
        """
        All points, if everything that the audit trail tells of is there and whole.

        :raises IntegrityError: if not: then nothing may be removed
        """
        return survey(self.store, self.points, self.trail)

    def foretell(self, seen: Survey, leaving: Iterable[RecoveryPoint], grace: timedelta = GRACE) -> Swept:
        """What a sweep would do now if these points were gone and the store allowed everything. Changes nothing."""
        now, gone = self.clock.now(), {point_key(point.workload, point.point) for point in leaving}
        sweep = self.sweep()
        return sweep.foretell(sweep.decide(_without(seen, gone), Present(now, now), _long_enough(grace), gone))

    def begin(self, grace: timedelta = GRACE) -> ExpiryRun:
        """
        Begin to remove. The record of it proves that the trail is listed to its end, and shows the store's present time.

        :raises UsageError: if the grace is shorter than `LEAST_GRACE`
        :raises IntegrityError: as `survey`
        """
        begun = self.record(self._vault, "begun", {"grace_s": _long_enough(grace).total_seconds()})
        seen = survey(self.store, self.points, self.trail, begun)
        present = Present(self.clock.now(), self.store.info(begun.key).modified)
        return ExpiryRun(self, self._vault, seen, present, grace)


class ExpiryRun:
    """
    One expiry. Killed anywhere, it leaves every point that stays whole, and the next one goes on where it ended.

    :param seen: what was there when it began
    """

    def __init__(self, expiry: Expiry, vault: str, seen: Survey, present: Present, grace: timedelta) -> None:
        self._expiry, self._vault, self.seen, self._present, self._grace = expiry, vault, seen, present, grace
        self._remover = Remover(expiry.store, present.behind)
        self._gone: set[str] = set()
        self._points: dict[str, list[PointStatus]] = defaultdict(list)
        for status in seen.statuses:
            self._points[status.point.workload].append(status)

    def expire(self, verdicts: Sequence[Verdict]) -> list[Kept]:
        """
        Remove the manifests of points: the record first, then the object. Their marks, and packs that only they need, stay for a grace.

        :param verdicts: of points that are not to be kept; those which say otherwise are passed over
        :return: those that are still there, with the reason; that of the store is asked for before anything is written
        :raises StoreUnavailable: if the store does not answer; a later run goes on
        """
        return [kept for verdict in verdicts if not verdict.keep and (kept := self._expire(verdict))]

    def sweep(self) -> Swept:
        """
        Condemn packs that no point needs, and remove those that were condemned before the grace.

        :raises IntegrityError: if it cannot be told what a point needs; no pack was removed then
        :raises StoreUnavailable: if the store does not answer; a later run goes on
        """
        seen, sweep = _without(self.seen, self._gone), self._expiry.sweep()
        decided = sweep.decide(seen, self._present, self._grace)
        if decided.remove:
            self._expiry.record(self._vault, "removing", sweep.grounds(decided))
        swept = sweep.carry_out(decided, seen, self._present, self._grace)
        self._expiry.record(self._vault, "swept", _figures(swept))
        return swept

    def _expire(self, verdict: Verdict) -> Kept | None:
        """
        The record comes before the last look for a hold, as a hold's mark comes before its look for such a record
        (`muster.operations.hold`): whoever is second notices.
        """
        point = verdict.status.point
        key = point_key(point.workload, point.point)
        try:
            status, objection = self._objection(verdict)
            if objection or (objection := self._remover.protection(key)):
                return Kept(status, objection)
            manifest = digest(self._expiry.store.get(key))
        except NotFound:
            return None  # another expiry was quicker
        facts = {"sha256": manifest, "reasons": list(verdict.reasons), "taken_at": to_json(point.taken_at)}
        self._expiry.record(key, "expired", facts)
        try:
            status, objection = self._objection(verdict)
            if not objection:
                self._expiry.store.delete(key)
        except NotFound:
            pass
        except Refused as error:
            self._expiry.record(key, REFUSED, {"sha256": manifest, "reason": error.message})
            return Kept(status, error.message, refused=True)
        if objection:
            self._expiry.record(key, REFUSED, {"sha256": manifest, "reason": objection})
            return Kept(status, objection)
        self._gone.add(key)
        return None

    def _objection(self, verdict: Verdict) -> tuple[PointStatus, str | None]:
        """
        What has been said since the verdict: the point as it is now, and why it stays.

        :raises NotFound: if it is gone
        """
        point = verdict.status.point
        status = self._expiry.points.find(point.point, point.workload)
        if status.holds:
            return status, f"held: {status.holds[0].summary.get('reason', 'no reason given')}"
        judged = self._points[point.workload]
        doubts = sum(mark.kind == "suspect" for one in judged for mark in one.marks)
        if self._expiry.points.doubts(one.point.point for one in judged) > doubts:
            return (
                status,
                "a point of its workload was marked suspect since this expiry began: the next one judges anew",
            )
        return status, None


def _without(seen: Survey, gone: set[str]) -> Survey:
    stay = [s for s in seen.statuses if point_key(s.point.workload, s.point.point) not in gone]
    return replace(seen, statuses=tuple(stay))


def _long_enough(grace: timedelta) -> timedelta:
    if grace < LEAST_GRACE:
        raise UsageError(
            f"a grace of {grace} is too short: a snapshot that is under way could need what is removed",
            f"give {LEAST_GRACE.total_seconds() / 3600:.0f}h or more",
        )
    return grace


def _figures(swept: Swept) -> dict[str, Any]:
    figures: dict[str, Any] = to_json(swept)
    return figures | {"locked": len(swept.locked), "refused": len(swept.refused)}
