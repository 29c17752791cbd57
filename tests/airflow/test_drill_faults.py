"""Drills with a fault, as Airflow runs them."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_runs import Runs, marks
from airflow_site import AirflowSite, commit_dataset
from muster.domain.drill import CHOICES, SCHEDULED

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(900)]


def test_a_poisoned_dataset_sends_the_run_back_to_an_older_point(runs: Runs, site: AirflowSite) -> None:
    """The plan is for the older point, everything comes back from it, the run passes, and the poison was never in the vault."""
    assert runs.run("snapshot__ledger").state == "success"
    (site.folder / "ledger" / "data" / "entries" / "2026-02.csv").write_text("id,mass\n1,3000\n")
    commit_dataset(site.folder / "ledger", "data/entries", "second")
    assert runs.run("snapshot__ledger").state == "success"
    vault = site.platform().vault("spare")
    older, newest = [status.point.point for status in vault.points("ledger")[-2:]]

    done = runs.run("drill__ledger", {"fault": "poisoned_dataset"})
    assert done.state == "success"
    assert done.xcom("strike") == done.xcom("plan", "plan")["plan"]["point"] == older
    fault = done.xcom("conclude")["fault"]
    assert fault == {
        "name": "poisoned_dataset",
        "chosen": "by name",
        "expected": "older_point",
        "observed": "older_point",
    }
    assert not Path(done.xcom("prepare_sandbox")).exists()
    before, after = site.platform().vault("spare").points("ledger")[-2:]
    assert (marks(before), marks(after)) == (["drilled"], [])
    assert before.marks[0].summary["fault"] == fault
    assert (after.point.point, after.suspect) == (newest, False)


def test_a_fault_that_cannot_strike_ends_the_run_before_anything_is_restored(runs: Runs, site: AirflowSite) -> None:
    """A workload without a replica cannot lose its region; the run says so, and no sandbox is left."""
    assert runs.run("snapshot__ledger").state == "success"
    done = runs.run("drill__ledger", {"fault": "region_gone"})
    assert done.state == "failed"
    assert "no replica that holds the point can be read" in done.xcom("prepare_sandbox", "failure")
    assert done.states["restore_dataset"] == "upstream_failed"
    assert list((site.state / "drills").glob("*")) == []


def test_a_run_that_was_killed_is_cleared_away_by_the_next_of_its_dag(runs: Runs, site: AirflowSite) -> None:
    """What a drill of this DAG has left is removed by its next run, since it runs once at a time; that of another DAG is not."""
    from datetime import UTC, datetime

    from muster.domain.drill import Choice
    from muster.drills.sandbox import DrillState, Owner, make, tear_down

    assert runs.run("snapshot__ledger").state == "success"
    left = []
    for dag in ("drill__ledger", "drill__penguins"):
        sandbox = make(site.state, dag, site.platform().clock)
        now = datetime.now(UTC)
        sandbox.write(DrillState("ledger", "p", "p", Owner.ours(dag), now, Choice(None, "x"), None, "x"))
        left.append(sandbox.folder)
    assert runs.run("drill__ledger", {"fault": "stale_key"}).state == "success"
    assert [folder.exists() for folder in left] == [False, True]
    tear_down(left[1])


def test_the_drill_form_offers_every_fault_and_begins_with_the_schedule(runs: Runs) -> None:
    """All faults can be chosen by name; the nightly run has the next of the rotation; nonsense is refused."""
    from airflow.sdk.exceptions import ParamValidationError

    params = runs.bag.dags["drill__ledger"].params
    assert params["fault"] == SCHEDULED
    assert params.get_param("fault").schema["enum"] == list(CHOICES)
    assert params["seed"] is None
    with pytest.raises(ParamValidationError):
        params.get_param("fault").resolve("earthquake")
    with pytest.raises(ParamValidationError):
        params.get_param("seed").resolve(-1)
