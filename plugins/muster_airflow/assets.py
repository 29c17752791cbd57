"""What our DAGs publish, so that other DAGs can be scheduled on it, and what they wait for."""

from __future__ import annotations

from airflow.sdk import Asset


def recovery_point_asset(workload: str) -> Asset:
    """
    The asset that has an event for every good recovery point of a workload; a suspect point makes none.

    An event's `extra` has ``point``, ``workload``, ``vault``, ``taken_at`` (ISO 8601, UTC), ``size`` (bytes) and ``components``.
    """
    return Asset(name=f"recovery_point__{workload}", group="recovery_point")


def workload_change_asset(workload: str) -> Asset:
    """
    The asset whose events start a snapshot of a ``hot`` workload: from the webhooks of its registry, or from any DAG that changes it
    and has this asset among its outlets.
    """
    return Asset(name=f"workload_change__{workload}", group="workload_change")
