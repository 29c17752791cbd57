"""A recovery that is about to miss its objective is told of before it does."""

from __future__ import annotations

from datetime import timedelta

import pytest

from airflow_runs import Runs
from airflow_site import AirflowSite

pytestmark = pytest.mark.airflow


@pytest.mark.parametrize(
    ("name", "after"),
    [("restore__penguins", 720), ("drill__penguins", 720), ("restore__ledger", 240), ("drill__ledger", 240)],
)
def test_every_recovery_has_a_deadline_before_its_objective(runs: Runs, name: str, after: int) -> None:
    """Four fifths of the catalog's objective, from when the run was queued; Airflow shows it under its name."""
    (deadline,) = runs.bag.dags[name].deadline
    assert deadline.interval == timedelta(seconds=after)
    assert deadline.reference.reference_name == "DagRunQueuedAtDeadline"
    assert name.split("__")[1] in deadline.name
    assert deadline.callback.path == "muster_airflow.deadlines.at_risk"


def test_a_deadline_is_recorded_in_the_vault(runs: Runs, site: AirflowSite) -> None:
    """Which run, and which objective."""
    from muster_airflow.deadlines import at_risk

    (deadline,) = runs.bag.dags["drill__ledger"].deadline
    at_risk(**deadline.callback.kwargs, context={"dag_run": {"dag_id": "drill__ledger", "run_id": "scheduled__x"}})
    record = site.platform().vault("spare").audit()[-1]
    assert (record.action, record.subject, record.outcome) == ("deadline", "ledger", "at risk")
    assert record.details == {"run": "drill__ledger scheduled__x", "objective_s": 300.0, "warned_at": 0.8}
