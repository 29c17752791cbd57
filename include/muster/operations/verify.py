"""Verify recovery points: bytes against digests, and what was found is marked on the points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from muster.domain.recovery_point import Mark, PointStatus
from muster.errors import IntegrityError
from muster.ports import Clock, Progress
from muster.vault.vault import Vault, VerifyReport


def verify_points(
    vault: Vault, statuses: Sequence[PointStatus], share: float, clock: Clock, progress: Progress | None = None
) -> VerifyReport:
    """
    Verify points and mark each: ``verified``, or ``suspect`` with what was found, so that it stops being the latest good one.

    The mark names all damaged packs of the vault: no later snapshot builds on them.

    :param share: part of the packs whose bytes are read again, 0 to 1
    :raises IntegrityError: if anything was found; all findings are in the message
    """
    report = vault.verify([status.point for status in statuses], share=share, progress=progress)
    for status in statuses:
        found = [str(finding) for finding in report.findings if status.point.point in finding.points]
        if found:
            summary: dict[str, Any] = {
                "reason": f"verification: {'; '.join(found[:3])}",
                "findings": found[:100],
                "damaged_packs": report.damaged_packs,
            }
            vault.mark(Mark(status.point.workload, status.point.point, "suspect", clock.now(), summary))
        elif report.ok:
            summary = {"share": share, "objects": report.objects, "bytes": report.bytes}
            vault.mark(Mark(status.point.workload, status.point.point, "verified", clock.now(), summary))
    vault.record(
        "verify",
        vault.id,
        "ok" if report.ok else "damaged",
        {"share": share, "bytes": report.bytes, "findings": len(report.findings)},
    )
    if not report.ok:
        lines = "\n".join(f"  {finding}" for finding in report.findings[:50])
        raise IntegrityError(
            f"the vault {vault.url} is damaged: {len(report.findings)} findings\n{lines}",
            "the points named are marked suspect; restore from another point or replica, and find out who writes to the store",
        )
    return report
