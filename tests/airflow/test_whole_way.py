"""The whole way of a whole workload: data, registry, environment, configuration, expectations and a model that answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_runs import Run, Runs, marks
from airflow_site import MODEL, AirflowSite

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(1200)]
EVERYTHING = {
    *("dataset/birds", "registry/penguins", "environment/penguins", "configuration/penguins"),
    *("validation/birds", "golden/penguins", "runbook/penguins"),
}


@pytest.fixture(scope="module")
def drill(runs: Runs, penguin_point: Run) -> Run:
    """A drill of the workload's latest point."""
    return runs.run("drill__penguins", {"fault": "none"})


def test_a_snapshot_seals_one_point_with_everything(penguin_point: Run, site: AirflowSite) -> None:
    """All tasks succeed; the point in the vault has every component, and is the one that the run tells of."""
    assert penguin_point.state == "success"
    assert set(penguin_point.states.values()) == {"success"}
    told = penguin_point.xcom("seal")
    status = site.platform().vault("primary").point(told["point"])
    assert status.point.point == told["point"] == penguin_point.xcom("pin")["point"]
    assert {component.label for component in status.point.components} == EVERYTHING
    assert not status.suspect
    assert status.point.objectives == {"rpo_s": 86400.0, "rto_s": 900.0}
    assert told["size"] == sum(component.tree.size for component in status.point.components) > 0


def test_the_vaults_audit_trail_names_the_run(penguin_point: Run, site: AirflowSite) -> None:
    """Who sealed the point, through which run of which DAG, can be read in the vault itself."""
    via = f"airflow snapshot__penguins {penguin_point.run_id}"
    (record,) = [r for r in site.platform().vault("primary").audit() if r.action == "snapshot" and r.actor.via == via]
    assert (record.outcome, record.subject) == ("sealed", f"penguins/{penguin_point.xcom('seal')['point']}")


def test_a_sealed_point_is_an_event_of_its_asset(penguin_point: Run) -> None:
    """Whoever schedules on the asset gets the point's id, size and vault."""
    from airflow.models.asset import AssetEvent
    from airflow.utils.session import create_session

    with create_session() as session:
        (event,) = session.query(AssetEvent).filter_by(source_run_id=penguin_point.run_id).all()
        assert event.source_task_id == "seal"
        assert event.extra == penguin_point.xcom("seal")


def test_tasks_hand_over_references_and_never_data(penguin_point: Run) -> None:
    """What travels between tasks is a few kilobytes, whatever the size of the components."""
    for task in ("capture_registry", "capture_environment", "capture_configuration", "golden_predictions"):
        handover = penguin_point.xcom(task)
        assert set(handover) == {"component", "record", "files", "size", "failure"}
        assert len(json.dumps(handover)) < 4096


def test_a_drill_brings_everything_back_and_measures_it(drill: Run, site: AirflowSite) -> None:
    """The drill passes: data meets its expectations, the model answers as it did, and the times are within the objectives."""
    assert drill.state == "success"
    assert set(drill.states.values()) == {"success"}
    report = drill.xcom("conclude")
    assert (report["passed"], report["failure"]) == (True, None)
    assert (report["models"], report["models_equal"]) == (1, 1)
    assert report["rto_met"]
    assert report["rpo_met"]
    lost = report["recovery_points_s"]["registry/penguins"]
    assert report["recovery_point_s"] == max(report["recovery_point_by_cut_s"], lost["canary"])
    assert lost["canary"] >= lost["cut"] > 0
    assert report["cut_over"] == "not cut over: a drill"
    time = report["recovery_time_s"]
    assert time["cut_over"] == 0
    assert time["total"] == pytest.approx(sum(time[stage] for stage in ("detect", "decide", "restore", "validate")))
    assert min(time["decide"], time["restore"], time["validate"]) > 0
    (smoke,) = drill.xcom("smoke_inference")
    assert (smoke["model"], smoke["version"], smoke["equal"]) == (MODEL, "1", True)
    assert smoke["answers"] > 0


def test_a_drill_leaves_its_report_and_nothing_else(drill: Run, site: AirflowSite) -> None:
    """The sandbox is gone; the point carries the mark with the report, as JSON and HTML."""
    assert not Path(drill.xcom("prepare_sandbox")).exists()
    assert list((site.state / "drills").iterdir()) == []
    vault = site.platform().vault("primary")
    status = vault.point(drill.xcom("strike"))
    assert marks(status)[-1:] == ["drilled"]
    mark = status.marks[-1]
    assert mark.summary["passed"]
    assert mark.report is not None
    tree = vault.tree(mark.report)
    report = json.loads(tree.read(tree.entry("report.json")))
    assert len(tree.read(tree.entry("report.html"))) > 1000
    fidelity = json.loads(tree.read(tree.entry("report-registry-penguins-fidelity.json")))
    assert fidelity["verdict"] == "identical"
    assert len(tree.read(tree.entry("report-registry-penguins-fidelity.html"))) > 1000
    assert json.dumps(drill.xcom("conclude")["recovery_time_s"]["total"]) in json.dumps(report)


def test_verification_reads_both_vaults_and_marks_the_points(runs: Runs, penguin_point: Run, site: AirflowSite) -> None:
    """Every vault has its own task; the points are marked as verified."""
    done = runs.run("verify", {"share": 1})
    assert done.state == "success"
    assert done.states == {"verify[0]": "success", "verify[1]": "success"}
    points = site.platform().vault("primary").points()
    assert done.xcom("verify", map_index=0)["points"] == len(points) > 0
    assert {(marks(status)[-1], status.marks[-1].summary["share"]) for status in points} == {("verified", 1.0)}


def test_expiry_looks_at_both_vaults_and_takes_nothing_that_no_retention_gave_up(
    runs: Runs, penguin_point: Run, site: AirflowSite
) -> None:
    """Every vault has its own task; without a retention every point stays, and its manifest too."""
    points = len(site.platform().vault("primary").points())
    done = runs.run("expire")
    assert done.state == "success"
    assert done.states == {"expire[0]": "success", "expire[1]": "success"}
    told = done.xcom("expire", map_index=0)
    assert (told["applied"], told["points"], told["expired"], told["removed"]) == (True, points, 0, 0)
    assert site.platform().vault("primary").verify(share=1.0).ok
