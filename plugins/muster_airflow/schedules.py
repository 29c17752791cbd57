"""When DAGs run by themselves."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import Asset, AssetOrTimeSchedule, CronTriggerTimetable, DeltaTriggerTimetable

from muster.catalog import Workload
from muster_airflow.assets import workload_change_asset

AT_ONCE_WITHIN = timedelta()


def at(cron: str) -> CronTriggerTimetable:
    """
    The ticks of a cron expression, in UTC, from the next one on.

    Without being told, Airflow 3.3 runs the last tick of a new DAG at once if it was missed by less than a tenth of the gap between two:
    whoever installs it in the two hours after a nightly tick would get a drill.
    """
    return CronTriggerTimetable(cron, timezone="UTC", run_immediately=AT_ONCE_WITHIN)


def of_canaries(workload: Workload) -> DeltaTriggerTimetable | None:
    """As often as the catalog says; the first one at once, which leaves a record and does no harm. None if it wants none."""
    return DeltaTriggerTimetable(workload.canary.every) if workload.canary else None


def of_snapshots(workload: Workload) -> CronTriggerTimetable | AssetOrTimeSchedule | Asset | None:
    """What the catalog says; for a hot workload, each change besides."""
    ticks = at(workload.schedule) if workload.schedule else None
    if workload.strategy != "hot":
        return ticks
    change = workload_change_asset(workload.workload)
    return AssetOrTimeSchedule(timetable=ticks, assets=[change]) if ticks else change
