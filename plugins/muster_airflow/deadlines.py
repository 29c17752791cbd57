"""Alerts before an objective is missed: Airflow's own deadlines, at a part of the recovery time objective."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.definitions.callback import SyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

if TYPE_CHECKING:
    from muster.catalog import Workload

WARN_AT = 0.8
"""Part of the objective after which a recovery that is still going on is at risk."""


def recovery_deadline(workload: Workload) -> DeadlineAlert:
    """
    The moment at which a recovery that has not ended may miss its objective, counted from when its run was queued.

    The time until somebody approves is in it, as it is in the recovery time.
    """
    objective = workload.objectives.rto
    return DeadlineAlert(
        name=f"{workload.workload}: {WARN_AT:.0%} of the recovery time objective",
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=objective * WARN_AT,
        callback=SyncCallback(at_risk, {"workload": workload.workload, "objective_s": objective.total_seconds()}),
    )


def at_risk(workload: str, objective_s: float, context: dict[str, Any] | None = None) -> None:
    """Say in the log and in the vault's audit trail that a recovery is about to miss its objective; Airflow calls this."""
    from muster_airflow.hooks.recovery import RecoveryHook

    run = (context or {}).get("dag_run")
    name = f"{_of(run, 'dag_id')} {_of(run, 'run_id')}"
    left = timedelta(seconds=objective_s * (1 - WARN_AT))
    logging.getLogger(__name__).warning(
        "%s has not ended, and misses the recovery time objective of %s in %s", name, workload, left
    )
    platform = RecoveryHook().platform
    vault = platform.vault_of(platform.catalog.workload(workload))
    vault.record("deadline", workload, "at risk", {"run": name, "objective_s": objective_s, "warned_at": WARN_AT})


def _of(run: Any, name: str) -> str:
    """Of a run as an object, or as the plain dictionary that deadlines are given."""
    return str(run.get(name) if isinstance(run, dict) else getattr(run, name, None))
