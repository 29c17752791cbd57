"""What a restore replaced comes back, or goes for ever, by a DAG; and what keeps it from happening to anything else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_runs import APPROVED, Run, Runs, under_way
from airflow_site import AirflowSite
from muster.errors import Refused
from muster.vault.audit import AuditRecord
from muster_airflow.operators.recovery import Site
from protected_project import contents

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(600)]
REQUESTER = "dag_test"
"""Who triggers a run in these tests; Airflow calls them so."""
WHY = "it was the wrong point | and `mine` was right"


class Undoing:
    """The quick workload's restores and undos, and what its vault's audit trail says of them."""

    def __init__(self, runs: Runs, site: AirflowSite, point: str) -> None:
        self.runs, self.site, self.point = runs, site, point

    def replace(self, place: Path, to: str = "") -> str:
        """Restore the configuration in place of what somebody keeps there; returns the stamp of what was moved aside."""
        place.mkdir(parents=True)
        (place / "mine").write_bytes(b"\x00 kept by hand \xff")
        conf = {"point": self.point, "to": to or str(place.parent), "only": ["configuration/ledger"], "replace": True}
        done = self.runs.run("restore__ledger", {**conf, "override": "it was sealed a moment ago"}, answers=APPROVED)
        assert done.state == "success", done.states
        (aside,) = place.parent.glob(f"{place.name}.before-*")
        return aside.name.rpartition("-")[2]

    def undo(
        self,
        answers: Sequence[tuple[str, str]] = APPROVED,
        *,
        meanwhile: Callable[[], object] = lambda: None,
        **conf: str,
    ) -> Run:
        return self.runs.run("undo__ledger", {"reason": WHY, **conf}, answers=answers, meanwhile=meanwhile)

    def trail(self, run: Run, *actions: str) -> list[AuditRecord]:
        """What was recorded for a run."""
        name = f"{run.dag_id} {run.run_id}"
        records = self.site.platform().vault("spare").audit()
        return [record for record in records if record.action in actions and record.details.get("run") == name]


@pytest.fixture(scope="module")
def undoing(runs: Runs, site: AirflowSite) -> Undoing:
    sealed = runs.run("snapshot__ledger")
    assert sealed.state == "success", sealed.states
    return Undoing(runs, site, sealed.xcom("seal")["point"])


@pytest.fixture
def catalog(site: AirflowSite) -> Iterator[Callable[[str], object]]:
    """Writes more into the workload's entry; after the test it is what it was."""
    file = site.catalog / "workloads" / "ledger.yaml"
    before = file.read_text()
    yield lambda more: file.write_text(before + more)
    file.write_text(before)


def test_what_was_replaced_comes_back_when_somebody_else_approves(undoing: Undoing, tmp_path: Path) -> None:
    """
    Byte for byte; what was restored lies aside. The requester's own answer and a stranger's do not count. Done once, it is told as done,
    and nothing is left to be undone; what lies aside can then be deleted.
    """
    place = tmp_path / "back" / "configuration"
    stamp = undoing.replace(place)
    old, restored = contents(tmp_path / f"back/configuration.before-{stamp}"), contents(place)
    done = undoing.undo([(REQUESTER, "Approve"), ("stranger", "Approve"), *APPROVED])
    assert done.state == "success", (done.states, done.xcom("plan", "failure"))
    assert contents(place) == old == {"mine": b"\x00 kept by hand \xff"}
    assert contents(tmp_path / f"back/configuration.undone-{stamp}") == restored
    assert sorted(path.name for path in place.parent.iterdir()) == ["configuration", f"configuration.undone-{stamp}"]

    plan = done.xcom("approve")["plan"]
    assert len(done.asked) == 3
    assert done.asked[0].startswith(f"Put back what the restore {stamp} of ledger moved aside?")
    told = ("it was the wrong point \\| and 'mine' was right", plan, f"{place}.before-{stamp}", "Who decides: lead")
    assert all(text in done.asked[0] for text in told), done.asked[0]
    decided = [(r.details["decided_by"], r.outcome) for r in undoing.trail(done, "approve")]
    assert decided == [(REQUESTER, "not counted"), ("stranger", "not counted"), ("lead", "approved")]
    records = undoing.trail(done, "undo")
    assert [(r.outcome, r.details["plan"], r.details["reason"]) for r in records] == [
        (outcome, plan, WHY) for outcome in ("begun", "done")
    ]
    assert records[-1].details["places"] == [str(place)] == done.xcom("apply")

    again = undoing.undo(stamp=stamp)
    assert again.state == "failed"
    assert "anything aside that is still there" in again.xcom("plan", "failure")
    gone = undoing.undo(stamp=stamp, then="delete for ever")
    assert gone.state == "success", gone.states
    assert [path.name for path in place.parent.iterdir()] == ["configuration"]
    assert contents(place) == old


def test_deleted_for_ever_is_gone_and_what_was_restored_stays(undoing: Undoing, tmp_path: Path) -> None:
    """The question says that it is for ever; rejected, it stays."""
    place = tmp_path / "back" / "configuration"
    stamp = undoing.replace(place)
    restored, everything = contents(place), contents(tmp_path)
    rejected = undoing.undo([("lead", "Reject")], then="delete for ever", stamp=stamp)
    assert (rejected.state, rejected.states["apply"]) == ("failed", "upstream_failed")
    assert contents(tmp_path) == everything
    done = undoing.undo(then="delete for ever", stamp=stamp)
    assert done.state == "success", done.states
    assert "**deleted for ever**" in done.asked[0]
    assert done.asked[0].startswith("Delete for ever what")
    assert [path.name for path in place.parent.iterdir()] == ["configuration"]
    assert contents(place) == restored
    assert [r.outcome for r in undoing.trail(done, "discard")] == ["begun", "done"]


def test_a_gate_that_was_marked_as_passed_opens_nothing(undoing: Undoing, tmp_path: Path) -> None:
    """Nor does the approval of another plan: what lies aside is gone meanwhile, or somebody has edited what one task hands to the next."""
    place = tmp_path / "back" / "configuration"
    stamp = undoing.replace(place)
    before = contents(tmp_path)
    dag = undoing.runs.read().dags["undo__ledger"]
    marked = dag.test(run_conf={"reason": WHY, "stamp": stamp}, mark_success_pattern="approve")
    states = {ti.task_id: str(ti.state) for ti in marked.get_task_instances()}
    assert states == {"plan": "success", "approve": "success", "apply": "failed"}
    run = Run("undo__ledger", marked.run_id, str(marked.state), states)
    assert "nobody has approved the plan" in run.xcom("apply", "failure")
    assert contents(tmp_path) == before

    def take_away() -> None:
        (place.parent / f"configuration.before-{stamp}").rename(tmp_path / "away")

    stopped = undoing.undo(stamp=stamp, meanwhile=take_away)
    assert (stopped.state, stopped.states["apply"]) == ("failed", "upstream_failed")
    assert "is there any more" in stopped.xcom("approve", "failure")
    (tmp_path / "away").rename(place.parent / f"configuration.before-{stamp}")
    done = undoing.undo(stamp=stamp)
    assert done.state == "success", done.states
    forged = done.xcom("plan", "plan")
    forged["plan"]["verb"] = "discard"
    task: Any = undoing.runs.read().dags["undo__ledger"].get_task("apply")
    task.plan = forged
    context: Any = {"dag_run": SimpleNamespace(dag_id="undo__ledger", run_id=done.run_id)}
    with pytest.raises(Refused, match="nobody has approved the plan"):
        task.perform(Site(undoing.site.platform(), context, "ledger"))
    assert (place / "mine").is_file()


def test_a_stamp_that_is_not_there_is_refused_with_those_that_are(undoing: Undoing, tmp_path: Path) -> None:
    """Nobody is asked."""
    stamp = undoing.replace(tmp_path / "back" / "configuration")
    done = undoing.undo([], stamp="20200101T000000000000Z")
    assert (done.state, done.states["approve"]) == ("failed", "upstream_failed")
    assert f"{stamp} ({undoing.point} to {tmp_path / 'back'})" in done.xcom("plan", "failure")


def test_nothing_aside_any_more_is_refused(undoing: Undoing, tmp_path: Path) -> None:
    """Somebody has moved it by hand: said by its stamp; without one an older restore is meant, if any, and never this."""
    place = tmp_path / "back" / "configuration"
    stamp = undoing.replace(place)
    (place.parent / f"configuration.before-{stamp}").rename(tmp_path / "elsewhere")
    before = contents(tmp_path)
    done = undoing.undo([], stamp=stamp)
    assert (done.state, done.states["approve"]) == ("failed", "upstream_failed")
    assert f"nothing that the restore {stamp} of ledger moved aside is there any more" in done.xcom("plan", "failure")
    assert contents(tmp_path) == before


def test_another_place_than_where_it_was_moved_is_refused(
    undoing: Undoing, catalog: Callable[[str], object], tmp_path: Path
) -> None:
    """The catalog was changed since the restore: what lies beside the new place is somebody else's."""
    catalog(f'targets: {{desk: {{directory: "{tmp_path / "then"}"}}}}\n')
    place = tmp_path / "then" / "configuration"
    stamp = undoing.replace(place, to="desk")
    others = tmp_path / "now" / f"configuration.before-{stamp}"
    others.mkdir(parents=True)
    (others / "theirs").write_text("not of that restore")
    before = contents(tmp_path)
    catalog(f'targets: {{desk: {{directory: "{tmp_path / "now"}"}}}}\n')
    done = undoing.undo([], stamp=stamp)
    assert (done.state, done.states["approve"]) == ("failed", "upstream_failed")
    told = done.xcom("plan", "failure")
    assert f"moved aside at {place}, and the catalog names {tmp_path / 'now' / 'configuration'} now" in told
    assert contents(tmp_path) == before


def test_it_waits_for_whatever_else_is_at_work_and_a_restore_waits_for_it(undoing: Undoing, tmp_path: Path) -> None:
    """A run of the same workload's snapshot, restore or rollback forbids it; so does its own run a restore."""
    place = tmp_path / "back" / "configuration"
    stamp = undoing.replace(place)
    before = contents(tmp_path)
    for dag in ("restore__ledger", "snapshot__ledger", "rollback__ledger"):
        with under_way(dag):
            done = undoing.undo([], stamp=stamp)
        assert done.state == "failed"
        assert f"a run of {dag} is at work on the same workload" in done.xcom("plan", "failure")
    with under_way("undo__ledger"):
        refused = undoing.runs.run("restore__ledger", {"point": undoing.point, "to": str(tmp_path / "new")})
    assert "a run of undo__ledger is at work on the same workload" in refused.xcom("plan", "failure")
    assert contents(tmp_path) == before
