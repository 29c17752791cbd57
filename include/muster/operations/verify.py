"""Verify recovery points: bytes against digests, and what was found is marked on the points."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from muster.domain.recovery_point import VERIFICATION, Mark, PointStatus
from muster.errors import IntegrityError, Refused, StoreUnavailable, WrongKey
from muster.ports import Clock, Progress
from muster.vault.findings import Finding
from muster.vault.vault import Vault, VerifyReport


@dataclass(frozen=True, slots=True)
class Thoroughness:
    """
    How much a verification reads.

    :param share: part of the packs whose bytes are read again, 0 to 1
    :param whole: all packs and points of the vault, whatever is marked; not only what the marked points need
    :param files: whether the digests of every file are computed anew
    :param heads: digests of audit records that were seen earlier and must be there still
    """

    share: float = 1.0
    whole: bool = False
    files: bool = False
    heads: tuple[str, ...] = ()


def examine(
    vault: Vault,
    statuses: Sequence[PointStatus],
    how: Thoroughness,
    clock: Clock,
    progress: Progress | None = None,
    unmarked: Callable[[str], None] | None = None,
) -> VerifyReport:
    """
    Verify points and mark each: ``verified``, or ``suspect`` with what was found, so that it stops being the latest good one.

    A point that is whole is marked ``verified`` although others are not. At a share of 1 that mark answers what earlier
    verifications found: then the point is no longer suspect for it. Packs that were found damaged are noted, on the points or in a
    note of their own: no later snapshot builds on them. The report's `head` is the record of this verification itself.

    :param unmarked: is told why nothing can be marked, in a store that does not let us; None takes that for a failure
    """
    points = None if how.whole else [status.point for status in statuses]
    report = vault.verify(points, share=how.share, files=how.files, heads=how.heads, progress=progress)
    try:
        return replace(report, head=_recorded(vault, statuses, report, how, clock))
    except (Refused, StoreUnavailable, WrongKey) as error:
        if unmarked is None:
            raise
        unmarked(error.message)
        return report


def _recorded(
    vault: Vault, statuses: Sequence[PointStatus], report: VerifyReport, how: Thoroughness, clock: Clock
) -> str:
    """Mark what was found out; the digest of the record that tells of it."""
    for status in statuses:
        if found := report.of(status.point.point):
            vault.mark(_suspect(status, found, report, clock))
        elif report.reach_known:
            summary = {"share": how.share, "objects": report.objects, "bytes": report.bytes, "files": how.files}
            vault.mark(verified(status, how, clock, summary))
    if unnoted := set(report.damaged_packs) - vault.healing.noted():
        vault.healing.note(unnoted)
    facts = {
        "share": how.share,
        "whole": how.whole,
        "files": how.files,
        "bytes": report.bytes,
        "findings": len(report.findings),
    }
    return vault.record("verify", vault.id, "ok" if report.ok else "damaged", facts).digest


def verified(status: PointStatus, how: Thoroughness, clock: Clock, summary: dict[str, Any]) -> Mark:
    """
    The mark of a point in which nothing was found.

    It answers earlier marks of damage if everything was read that could show it: all packs, and all files where only their digests did.
    """
    answered = [mark for mark in status.damage if how.share == 1.0 and (how.files or not mark.summary.get("by_digest"))]
    answers = {"answers": [mark.at.isoformat() for mark in answered]} if answered else {}
    return Mark(status.point.workload, status.point.point, "verified", clock.now(), {**summary, **answers})


def listed(findings: Sequence[Finding]) -> str:
    """The first of them, each on a line of its own, for a message that says how many there are."""
    return "\n".join(f"  {finding}" for finding in findings[:50])


def damaged(vault: Vault, report: VerifyReport) -> IntegrityError:
    """The failure that tells of everything that was found."""
    return IntegrityError(
        f"the vault {vault.url} is damaged: {len(report.findings)} findings\n{listed(report.findings)}",
        "the points named are marked suspect: bring back what is lost with `muster heal`, or restore from another point or replica; "
        "and find out who writes to the store",
    )


def _suspect(status: PointStatus, found: Sequence[Finding], report: VerifyReport, clock: Clock) -> Mark:
    told = [str(finding) for finding in found]
    summary: dict[str, Any] = {
        "cause": VERIFICATION,
        "reason": f"verification: {'; '.join(told[:3])}",
        "findings": told[:100],
        "damaged_packs": report.damaged_packs,
    }
    if any(finding.by_digest for finding in found):
        summary["by_digest"] = True
    return Mark(status.point.workload, status.point.point, "suspect", clock.now(), summary)
