"""The gate of a restore: who may open it, for what, and what stands behind it when nobody does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_runs import APPROVED, Run, Runs
from airflow_site import AirflowSite
from muster.errors import Refused
from muster.vault.audit import AuditRecord
from muster_airflow.operators.recovery import Site

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(600)]
REQUESTER = "dag_test"
"""Who triggers a run in these tests; Airflow calls them so."""
OVERRIDE = "it was sealed a moment ago"


class Gate:
    """The quick workload's restore, and what its vault's audit trail says of it."""

    def __init__(self, runs: Runs, site: AirflowSite, point: str) -> None:
        self.runs, self.site, self.point = runs, site, point

    def restore(
        self,
        to: Path,
        answers: Sequence[tuple[str, str]],
        *,
        meanwhile: Callable[[], object] = lambda: None,
        **conf: Any,
    ) -> Run:
        asked = {"point": self.point, "to": str(to), "override": OVERRIDE, **conf}
        return self.runs.run("restore__ledger", asked, answers=answers, meanwhile=meanwhile)

    def decisions(self, run: Run) -> list[AuditRecord]:
        """What was decided on the plan of a run."""
        records = self.site.platform().vault("spare").audit()
        name = f"{run.dag_id} {run.run_id}"
        return [r for r in records if r.action == "approve" and r.details["run"] == name]


@pytest.fixture(scope="module")
def gate(runs: Runs, site: AirflowSite) -> Gate:
    sealed = runs.run("snapshot__ledger")
    assert sealed.state == "success", sealed.states
    return Gate(runs, site, sealed.xcom("seal")["point"])


def untouched(run: Run, to: Path) -> bool:
    """Whether no task that changes anything has run, and nothing is there."""
    states = {task.partition("[")[0]: state for task, state in run.states.items() if task.startswith("restore_")}
    return run.state == "failed" and set(states.values()) <= {"upstream_failed", "failed"} and not to.exists()


def test_only_an_approver_who_did_not_ask_opens_the_gate(gate: Gate, tmp_path: Path) -> None:
    """The requester's own answer and a stranger's do not count, and are recorded; the question is put again until the lead says yes."""
    done = gate.restore(tmp_path / "back", [(REQUESTER, "Approve"), ("stranger", "Approve"), *APPROVED])
    assert done.state == "success", done.states
    assert len(done.asked) == 3
    plan = done.xcom("approve")["plan"]
    for text in (gate.point, plan, OVERRIDE, str(tmp_path / "back"), "dataset/entries", "Who decides: lead"):
        assert text in done.asked[0]
    told = [(r.details["decided_by"], r.outcome) for r in gate.decisions(done)]
    assert told == [(REQUESTER, "not counted"), ("stranger", "not counted"), ("lead", "approved")]
    assert {(r.details["plan"], r.details["requested_by"]) for r in gate.decisions(done)} == {(plan, REQUESTER)}
    assert (tmp_path / "back" / "configuration" / "secrets.json").is_file()


def test_a_rejection_stops_everything(gate: Gate, tmp_path: Path) -> None:
    """Nothing is made, and the run says who said no."""
    done = gate.restore(tmp_path / "back", [("lead", "Reject")])
    assert untouched(done, tmp_path / "back")
    assert done.xcom("approve", "failure") == "lead rejected the plan"
    assert [(r.outcome, r.details["decided_by"]) for r in gate.decisions(done)] == [("rejected", "lead")]


def test_nobody_there_in_time_stops_everything(gate: Gate, tmp_path: Path) -> None:
    """What Airflow's scheduler does when the time is over ends the run, and is recorded."""
    done = gate.restore(tmp_path / "back", [("", "timeout")])
    assert untouched(done, tmp_path / "back")
    assert "in time" in done.xcom("approve", "failure")
    assert [r.outcome for r in gate.decisions(done)] == ["timed out"]


def test_a_gate_that_was_marked_as_passed_opens_nothing(gate: Gate, tmp_path: Path) -> None:
    """Whoever may edit a run can mark its tasks as successful; the tasks behind ask the vault's trail, and find no approval."""
    conf = {"point": gate.point, "to": str(tmp_path / "back"), "override": OVERRIDE}
    dag = gate.runs.read().dags["restore__ledger"]
    dag.deadline = None
    done = dag.test(run_conf=conf, mark_success_pattern="approve")
    states = {ti.task_id: str(ti.state) for ti in done.get_task_instances()}
    assert (str(done.state), states["approve"], states["restore_configuration"]) == ("failed", "success", "failed")
    run = Run("restore__ledger", done.run_id, str(done.state), states)
    assert "nobody has approved the plan" in run.xcom("restore_configuration", "failure")
    assert "nobody has approved the plan" in run.xcom("conclude", "failure")
    assert not (tmp_path / "back").exists()
    forged = run.xcom("plan", "plan")
    forged["request"]["kind"] = "drill"  # whoever may edit a run can change what its tasks hand over, too
    task: Any = gate.runs.read().dags["restore__ledger"].get_task("restore_configuration")
    task.plan = forged
    context: Any = {"dag_run": SimpleNamespace(dag_id="restore__ledger", run_id=done.run_id)}
    with pytest.raises(Refused, match="nobody has approved the plan"):
        task.approved(Site(gate.site.platform(), context, "ledger"))


def test_a_place_that_changed_while_people_thought_needs_a_new_plan(gate: Gate, tmp_path: Path) -> None:
    """What was approved was a restore to an empty place."""
    back = tmp_path / "back"

    def write() -> None:
        (back / "configuration").mkdir(parents=True)
        (back / "configuration" / "mine").write_text("x")

    done = gate.restore(back, APPROVED, meanwhile=write)
    assert done.state == "failed"
    assert "not the approved one any more" in done.xcom("approve", "failure")
    assert [path.name for path in back.rglob("*") if path.is_file()] == ["mine"]


def test_an_answer_is_for_the_plan_that_was_shown(gate: Gate, tmp_path: Path) -> None:
    """Whoever may edit a run puts another whole plan where the gate reads it; the trail has which one people saw."""
    shown, other = (gate.restore(tmp_path / name, [("lead", "Reject")]) for name in ("back", "other"))
    task: Any = gate.runs.read().dags["restore__ledger"].get_task("approve")
    task.plan = other.xcom("plan", "plan")
    run = SimpleNamespace(dag_id="restore__ledger", run_id=shown.run_id, triggering_user_name=REQUESTER)
    said: dict[str, str] = {}
    context: Any = {"dag_run": run, "ti": SimpleNamespace(xcom_push=lambda key, value: said.update({key: value}))}
    event = {"chosen_options": ["Approve"], "responded_by_user": {"id": "lead", "name": "lead"}}
    with pytest.raises(Refused, match="is not the one that was shown"):
        task.execute_complete(context, event)
    assert "exchanged while people decided on it" in said["failure"]
    assert [r.outcome for r in gate.decisions(shown)] == ["rejected"]


def test_some_components_are_restored_and_what_is_there_is_moved_aside(gate: Gate, tmp_path: Path) -> None:
    """One form, one approval: only the configuration, in place of what lies there, which is kept."""
    back = tmp_path / "back"
    (back / "configuration").mkdir(parents=True)
    (back / "configuration" / "mine").write_text("x")
    done = gate.restore(back, APPROVED, only=["configuration/ledger"], replace=True)
    assert done.state == "success", done.states
    assert "**replaces what is there**" in done.asked[0]
    assert sorted(path.name.partition(".before-")[0] for path in back.iterdir()) == ["configuration", "configuration"]
    assert (back / "configuration" / "secrets.json").is_file()
    (kept,) = [path for path in back.iterdir() if ".before-" in path.name]
    assert (kept / "mine").read_text() == "x"
    assert {done.states[task] for task in ("restore_registry", "restore_environment")} == {"skipped"}


def test_a_fresh_point_is_refused_without_an_override(gate: Gate, tmp_path: Path) -> None:
    """The form says what else could be done; nobody is asked."""
    sealed = gate.runs.run("snapshot__ledger").xcom("seal")["point"]
    done = gate.restore(tmp_path / "back", [], override="", point=sealed)
    assert untouched(done, tmp_path / "back")
    assert "neither verified nor drilled" in done.xcom("plan", "failure")
    assert done.states["approve"] == "upstream_failed"
