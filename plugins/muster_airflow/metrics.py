"""What was measured, through Airflow's own metrics: StatsD or OpenTelemetry, whichever it is configured for; nothing otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk.observability import stats

from muster.domain.timing import STAGES

if TYPE_CHECKING:
    from muster.domain.recovery_report import RecoveryReport


def emit_recovery(report: RecoveryReport) -> None:
    """
    Gauges of a recovery, tagged with ``workload`` and ``kind`` (restore or drill).

    ``muster.recovery_time_s`` is tagged with ``stage`` besides (each of them, and ``total``); ``muster.recovery_point_s`` is what counts,
    and ``muster.recovery_point_by_s``, tagged with ``by`` besides, what ``cut`` says, and ``canary`` if one came back;
    ``muster.recovery_passed``, ``muster.rto_met`` and ``muster.rpo_met`` are 1 or 0.
    """
    tags = {"workload": report.workload, "kind": report.kind}
    for stage in (*STAGES, "total"):
        stats.gauge("muster.recovery_time_s", getattr(report.time, stage), tags={**tags, "stage": stage})
    stats.gauge("muster.recovery_point_s", report.recovery_point_actual, tags=tags)
    for by, lost in (("cut", report.recovery_point_by_cut), ("canary", report.recovery_point_by_canary)):
        if lost is not None:
            stats.gauge("muster.recovery_point_by_s", lost, tags={**tags, "by": by})
    for name in ("passed", "rto_met", "rpo_met"):
        stats.gauge(f"muster.{'recovery_passed' if name == 'passed' else name}", int(getattr(report, name)), tags=tags)
