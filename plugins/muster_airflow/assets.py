"""What our DAGs publish, so that other DAGs can be scheduled on it."""

from __future__ import annotations

from airflow.sdk import Asset


def recovery_point_asset(workload: str) -> Asset:
    """
    The asset that has an event for every good recovery point of a workload; a suspect point makes none.

    An event's `extra` has ``point``, ``workload``, ``vault``, ``taken_at`` (ISO 8601, UTC), ``size`` (bytes) and ``components``.
    """
    return Asset(name=f"recovery_point__{workload}", group="recovery_point")
