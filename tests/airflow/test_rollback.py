"""A model of a registry in use goes back to what it was at a point, by a DAG; and what keeps anything else from happening to it."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_runs import APPROVED, Run, Runs, under_way
from airflow_site import AirflowSite
from live_registries import client_of
from muster.bootstrap import Platform
from muster.errors import Refused
from muster.vault.audit import AuditRecord
from muster_airflow.operators.recovery import Site
from protected_project import contents
from registry_seed import SmallStore, content

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(600)]
REQUESTER = "dag_test"
"""Who triggers a run in these tests; Airflow calls them so."""
WHY = "bad answers since noon | and `mine` were right"
WORKLOAD = """
workload: models
owner: finance
objectives: {rpo: 1h, rto: 5m}
registry: {store: "sqlite:///%s", artifacts: "%s"}
vault: spare
approvers: [lead]
"""
State = tuple[dict[str, list[str]], dict[str, bytes]]


@dataclass(frozen=True)
class Rolling:
    """
    A registry in use with two versions of a model, of which the second is the champion, and a point of it.

    :param kept: a copy of the store and its artifacts, as they were at the point
    """

    runs: Runs
    platform: Platform
    store: SmallStore
    kept: Path
    point: str

    @property
    def client(self) -> Any:
        return client_of(self.store.url)

    @property
    def state(self) -> State:
        """All rows and files, but for when the model was touched last, which a rollback leaves."""
        rows = content(self.store.url)
        return {name: found for name, found in rows.items() if name != "registered_models"}, contents(
            self.store.artifacts
        )

    def as_at_the_point(self) -> None:
        with closing(sqlite3.connect(self.kept / "mlflow.db")) as old, closing(sqlite3.connect(self.store.file)) as new:
            old.backup(new)  # into the same file: MLflow keeps it open
        shutil.rmtree(self.store.artifacts)
        shutil.copytree(self.kept / "artifacts", self.store.artifacts)

    def lose_the_champion(self) -> None:
        """Move the alias to the first version, delete the second by MLflow's own client, and its files."""
        self.client.set_registered_model_alias("delay", "champion", "1")
        self.client.delete_model_version("delay", "2")
        shutil.rmtree(self.store.artifacts / "2")

    def roll_back(
        self,
        answers: Sequence[tuple[str, str]] = APPROVED,
        *,
        models: Sequence[str] = ("delay@champion",),
        meanwhile: Callable[[], object] = lambda: None,
        **conf: str,
    ) -> Run:
        asked = {"reason": WHY, "point": self.point, "models": list(models), **conf}
        return self.runs.run("rollback__models", asked, answers=answers, meanwhile=meanwhile)

    def trail(self, run: Run, action: str) -> list[AuditRecord]:
        """What was recorded for a run."""
        name = f"{run.dag_id} {run.run_id}"
        records = self.platform.vault("spare").audit()
        return [record for record in records if record.action == action and record.details.get("run") == name]


def fill(store: SmallStore) -> None:
    """By MLflow's client, but for the weights, which are bytes."""
    client = client_of(store.url)
    client.create_registered_model("delay")
    for number in ("1", "2"):
        run = client.create_run(client.create_experiment(f"training {number}", str(store.artifacts / number)))
        folder = Path(run.info.artifact_uri) / "model"
        folder.mkdir(parents=True)
        (folder / "MLmodel").write_text("flavors: {}\n")
        (folder / "weights.bin").write_bytes(number.encode() * 1000)
        client.create_model_version("delay", str(folder), run.info.run_id)
    client.set_model_version_tag("delay", "2", "note", "good")
    client.set_registered_model_alias("delay", "champion", "2")


@pytest.fixture(scope="module")
def made(
    runs: Runs, site: AirflowSite, _empty_sqlite: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rolling]:
    """A workload of its own, with a registry alone; it leaves the catalog after these tests."""
    folder = tmp_path_factory.mktemp("rolling")
    store = SmallStore(Path(shutil.copy(_empty_sqlite, folder / "mlflow.db")), folder / "artifacts")
    store.artifacts.mkdir()
    store.execute("UPDATE experiments SET artifact_location = ?", f"{store.artifacts}/0")
    fill(store)
    file = site.catalog / "workloads" / "models.yaml"
    file.write_text(WORKLOAD % (store.file, store.artifacts))
    platform = site.platform()
    point = platform.snapshot(platform.catalog.workload("models")).point.point
    shutil.copytree(folder, folder / "kept")
    yield Rolling(runs, platform, store, folder / "kept", point)
    file.unlink()


@pytest.fixture
def rolling(made: Rolling) -> Rolling:
    made.as_at_the_point()
    return made


def test_a_lost_version_comes_back_when_somebody_else_approves(rolling: Rolling) -> None:
    """
    Every row and byte; the requester's own answer does not count. In a new run nothing is to be done, and nobody is asked. Tried again,
    the first one tells what was done and changes nothing; with another plan than the approved one it does nothing at all.
    """
    whole = rolling.state
    rolling.lose_the_champion()
    done = rolling.roll_back([(REQUESTER, "Approve"), *APPROVED])
    assert done.state == "success", (done.states, [done.xcom(task, "failure") for task in done.states])
    assert rolling.state == whole

    plan = done.xcom("approve")["plan"]
    assert len(plan) == 64
    assert len(done.asked) == 2
    assert done.asked[0].startswith(f"Roll delay@champion of models back to {rolling.point}?")
    for told in (
        *("bad answers since noon \\| and 'mine' were right", f"plan: `{plan}`", "Who decides: lead"),
        *(
            "alias `delay@champion` **moves** from version 1 to version 2",
            "artifacts: 2 files come back, 1012 B; 0 are",
        ),
        *(
            "model versions that are marked as deleted, and live again: `delay/2`",
            "| registered_model_aliases | 0 | 1 |",
        ),
    ):
        assert told in done.asked[0], done.asked[0]
    decided = [(r.details["decided_by"], r.outcome) for r in rolling.trail(done, "approve")]
    assert decided == [(REQUESTER, "not counted"), ("lead", "approved")]
    records = rolling.trail(done, "rollback")
    assert [(r.outcome, r.details["plan"], r.details["reason"]) for r in records] == [
        (outcome, plan, WHY) for outcome in ("begun", "done")
    ]
    assert done.xcom("apply")["aliases"] == records[-1].details["aliases"] == ["delay@champion: 1 → 2"]

    with under_way("snapshot__models"):  # which may be at work besides
        again = rolling.roll_back([])
    assert (again.state, again.states) == ("success", {"plan": "success", "approve": "skipped", "apply": "skipped"})
    assert again.xcom("plan")["aliases"] == []
    assert rolling.state == whole
    task = rolling.runs.read().dags["rollback__models"].get_task("apply")
    assert perform(rolling, task, done, done.xcom("plan", "plan")) == done.xcom("apply")
    rolling.lose_the_champion()
    harmed = rolling.state
    with pytest.raises(Refused, match="this was done, and delay@champion has changed since"):  # a run that was cleared
        perform(rolling, task, done, done.xcom("plan", "plan"))
    for forge in (forged_reason, forged_models):
        with pytest.raises(Refused, match="nobody has approved the plan"):
            perform(rolling, task, done, forge(done.xcom("plan", "plan")))
    assert (rolling.state, len(rolling.trail(done, "rollback"))) == (harmed, 3)


def perform(rolling: Rolling, task: Any, run: Run, planned: Any) -> Any:
    """What the last task of a run does when it is tried once more, with what the first one is said to have handed over."""
    task.plan = planned
    said = SimpleNamespace(dag_id=run.dag_id, run_id=run.run_id)
    context: Any = {"dag_run": said, "ti": SimpleNamespace(get_dr_count=lambda *_, **__: 0)}
    return task.perform(Site(rolling.platform, context, "models"))


def test_a_gate_that_was_marked_as_passed_opens_nothing(rolling: Rolling) -> None:
    """Nor does the approval of another plan: the registry is another one meanwhile."""
    rolling.lose_the_champion()
    before = rolling.state
    conf = {"reason": WHY, "point": rolling.point, "models": ["delay@champion"]}
    marked = rolling.runs.read().dags["rollback__models"].test(run_conf=conf, mark_success_pattern="approve")
    states = {ti.task_id: str(ti.state) for ti in marked.get_task_instances()}
    assert states == {"plan": "success", "approve": "success", "apply": "failed"}
    run = Run("rollback__models", marked.run_id, str(marked.state), states)
    assert "nobody has approved the plan" in run.xcom("apply", "failure")
    assert rolling.state == before

    def meddle() -> None:
        rolling.client.delete_registered_model_alias("delay", "champion")

    stopped = rolling.roll_back(meanwhile=meddle)
    assert (stopped.state, stopped.states["apply"]) == ("failed", "upstream_failed")
    assert "the plan is not the approved one any more" in stopped.xcom("approve", "failure")
    assert [r.outcome for r in rolling.trail(stopped, "approve")] == []
    lost = rolling.state
    assert (lost[0]["registered_model_aliases"], lost[1]) == ([], before[1])


def forged_reason(planned: Any) -> Any:
    planned["plan"]["reason"] = "another"
    return planned


def forged_models(planned: Any) -> Any:
    planned["plan"]["merge"]["models"] = planned["models"] = ["delay"]
    return planned


def test_every_conflict_is_named_and_refuses_the_plan(rolling: Rolling) -> None:
    """Nobody is asked, and it is recorded. With the rule `keep` words may stay; that is shown, and rejected, nothing is touched."""
    client = rolling.client
    client.set_registered_model_alias("delay", "champion", "1")
    client.set_model_version_tag("delay", "2", "note", "bad")
    ((source,),) = rolling.store.execute("SELECT source FROM model_versions WHERE version = 2")
    rolling.store.execute("UPDATE model_versions SET source = 'elsewhere' WHERE version = 2")
    before = rolling.state
    refused = rolling.roll_back([])
    assert (refused.state, refused.states["approve"]) == ("failed", "upstream_failed")
    told = refused.xcom("plan", "failure")
    assert "conflicts with the point in 2 places" in told
    assert all(part in told for part in ("model_versions delay/2", "model_version_tags ", "note")), told
    assert len(refused.xcom("plan", "plan")["plan"]["merge"]["conflicts"]) == 2
    trail = [r for r in rolling.platform.vault("spare").audit() if r.action == "rollback"]
    assert (trail[-1].outcome, trail[-1].details["error"]) == ("refused", told)
    assert rolling.state == before

    rolling.store.execute("UPDATE model_versions SET source = ? WHERE version = 2", source)
    before = rolling.state
    rejected = rolling.roll_back([("lead", "Reject")], conflicts="keep")
    assert (rejected.state, rejected.states["apply"]) == ("failed", "upstream_failed")
    assert "**conflict**, kept as it is now: model_version_tags " in rejected.asked[0]
    assert rolling.state == before


def test_it_waits_for_restores_and_undos_and_a_restore_waits_for_it(rolling: Rolling) -> None:
    """A run of one of these forbids it, and so does its own run a restore."""
    rolling.lose_the_champion()
    before = rolling.state
    with under_way("restore__models"), under_way("undo__models"):
        refused = rolling.roll_back([])
    told = refused.xcom("plan", "failure")
    assert refused.states["approve"] == "upstream_failed"
    assert all(f"a run of {dag}__models is at work on the same workload" in told for dag in ("restore", "undo")), told
    with under_way("rollback__models"):
        conf = {"point": rolling.point, "to": str(rolling.kept / "new")}
        restore = rolling.runs.run("restore__models", conf)
    assert "a run of rollback__models is at work on the same workload" in restore.xcom("plan", "failure")
    assert rolling.state == before
