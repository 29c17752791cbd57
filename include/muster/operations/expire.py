"""Expire recovery points by policy, and remove what none of those that stay needs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from muster.codec import to_json
from muster.domain.recovery_point import PointStatus
from muster.domain.retention import RetentionPolicy, Verdict, judge
from muster.errors import Refused
from muster.ports import Clock
from muster.vault.condemned import GRACE
from muster.vault.expire import Kept
from muster.vault.sweep import Swept
from muster.vault.vault import Vault

Policies = Mapping[str, RetentionPolicy | None]
"""By workload; one that is not named expires nothing, as one whose policy is None."""


@dataclass(frozen=True, slots=True)
class ExpiryReport:
    """
    What an expiry did; or would do, if nothing was applied.

    :param verdicts: of all points, workload by workload, oldest first
    :param kept: points that were to expire and are still there
    :param swept: what became of packs that no point needs
    """

    vault: str
    applied: bool
    verdicts: tuple[Verdict, ...]
    kept: tuple[Kept, ...]
    swept: Swept

    @property
    def leaving(self) -> list[Verdict]:
        """The verdicts of the points that are gone, or would be."""
        stayed = {(kept.status.point.workload, kept.status.point.point) for kept in self.kept}
        return [
            verdict
            for verdict in self.verdicts
            if not verdict.keep and (verdict.status.point.workload, verdict.status.point.point) not in stayed
        ]

    @property
    def refusals(self) -> list[str]:
        """What the store did not remove though no lock of it was known: each object with the store's words."""
        points = [f"{kept.status.point.point}: {kept.reason}" for kept in self.kept if kept.refused]
        return points + [f"{key}: {reason}" for key, reason in self.swept.refused.items()]

    def check(self) -> None:
        """
        Say that something was refused, when all the rest was done.

        :raises Refused: with all of it
        """
        if self.refusals:
            lines = "\n".join(f"  {line}" for line in self.refusals[:50])
            raise Refused(
                f"{self.vault} did not let {len(self.refusals)} objects be removed\n{lines}",
                "all others were; let the credentials delete objects, or find out who locked these",
            )

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data, with a line for each point."""
        stayed = {(kept.status.point.workload, kept.status.point.point): kept.reason for kept in self.kept}
        return {
            "vault": self.vault,
            "applied": self.applied,
            "points": [_line(verdict, stayed) for verdict in self.verdicts],
            "expired": len(self.leaving),
            "swept": to_json(self.swept),
        }


def expire_points(
    vault: Vault, policies: Policies, clock: Clock, *, apply: bool, grace: timedelta = GRACE
) -> ExpiryReport:
    """
    Judge every point of a vault, and remove those that nothing keeps; then the packs that were condemned long enough ago.

    What the store refuses to remove is in the report, and does not stop the rest.

    :param apply: without it nothing is changed, and the report says what would be
    :param grace: how long a pack stays condemned before it is removed
    :raises IntegrityError: if something of the vault is missing or damaged; then nothing is removed that it might need
    :raises StoreUnavailable: if the store does not answer; a later expiry goes on
    """
    if not apply:
        seen = vault.expiry.survey()
        verdicts = _judged(seen.statuses, policies, clock.now())
        leaving = [verdict.status.point for verdict in verdicts if not verdict.keep]
        return ExpiryReport(vault.url, False, verdicts, (), vault.expiry.foretell(seen, leaving, grace))
    run = vault.expiry.begin(grace)
    verdicts = _judged(run.seen.statuses, policies, clock.now())
    kept = run.expire(verdicts)
    return ExpiryReport(vault.url, True, verdicts, tuple(kept), run.sweep())


def _judged(statuses: Sequence[PointStatus], policies: Policies, now: datetime) -> tuple[Verdict, ...]:
    of: dict[str, list[PointStatus]] = defaultdict(list)
    for status in statuses:
        of[status.point.workload].append(status)
    return tuple(verdict for workload in sorted(of) for verdict in judge(of[workload], policies.get(workload), now))


def _line(verdict: Verdict, stayed: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    point = verdict.status.point
    reason = stayed.get((point.workload, point.point))
    return {
        "workload": point.workload,
        "point": point.point,
        "taken_at": to_json(point.taken_at),
        "keep": verdict.keep or reason is not None,
        "reasons": [*verdict.reasons, reason] if reason else list(verdict.reasons),
    }
