"""A registry that comes back with a difference, through the tasks of the restore: the report reaches the one who concludes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from muster.adapters import mlflow_restore
from muster.bootstrap import Platform
from muster.catalog import load_catalog
from muster.codec import from_json
from muster.domain.approval import Approval
from muster.errors import IncompletePoint, Unfaithful
from muster.operations.approve import APPROVED, record_decision
from registry_seed import SmallStore, query
from vaults import ACTOR, CHEAP

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(120)]
CATALOG = "vaults:\n  primary: {url: conn:primary, passphrase: conn:words}\n"
WORKLOAD = """\
workload: flights
owner: ops
objectives: {rpo: 1d, rto: 15m}
registry: {store: conn:store, artifacts: conn:artifacts}
vault: primary
"""


class Handed:
    """What the tasks of one run hand over to each other, as Airflow's XCom keeps it: as JSON."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], str] = {}

    def of(self, task: str) -> Any:
        """The task instance that one task sees."""

        def push(key: str, value: Any) -> None:
            self.kept[task, key] = json.dumps(value)

        def pull(task_ids: Sequence[str], key: str) -> list[Any]:
            return [json.loads(self.kept[t, key]) if (t, key) in self.kept else None for t in task_ids]

        return SimpleNamespace(xcom_push=push, xcom_pull=pull, get_dr_count=lambda *_dag, **_which: 0)


@pytest.fixture
def platform(small_store: SmallStore, tmp_path: Path) -> Platform:
    """A workload that is a registry, with one point of it."""
    (small_store.add_run("r1")).mkdir(parents=True)
    small_store.execute("INSERT INTO params (key, value, run_uuid) VALUES ('k', 'v', 'r1')")
    folder = tmp_path / "catalog"
    (folder / "workloads").mkdir(parents=True)
    (folder / "vaults.yaml").write_text(CATALOG)
    (folder / "workloads" / "flights.yaml").write_text(WORKLOAD)
    names = {"conn:primary": f"{tmp_path}/primary", "conn:words": "w" * 20}
    names |= {"conn:store": small_store.url, "conn:artifacts": str(small_store.artifacts)}
    catalog, state = load_catalog(folder), tmp_path / "state"
    platform = Platform(catalog, lambda name: names.get(name, name), state=state, actor=ACTOR)
    platform.create_vault("primary", cost=CHEAP)
    platform.snapshot(catalog.workload("flights"))
    return platform


def test_the_fidelity_report_of_a_failed_task_is_concluded(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task that restores is red, nothing of the registry is there, and the report names the difference."""
    from airflow.sdk import DAG

    from muster_airflow.operators.plan import PLAN, PlannedRecovery, PlanRestoreOperator
    from muster_airflow.operators.recovery import FAILURE, Site
    from muster_airflow.recovery_flow import recover_and_conclude

    compare, handed = mlflow_restore.compare, Handed()

    def meddled(filled: Any, places: Any, *rest: Any) -> Any:
        query(places[0].url, "UPDATE params SET value = 'w'")
        return compare(filled, places, *rest)

    monkeypatch.setattr(mlflow_restore, "compare", meddled)
    with DAG("restore__flights", schedule=None, default_args={"workload": "flights"}) as dag:
        planned = PlanRestoreOperator(
            task_id="plan", point="latest", to=str(tmp_path / "back"), override="it was just sealed"
        )
        recover_and_conclude(planned, "flights")

    def perform(task: str) -> Any:
        operator: Any = dag.get_task(task)
        if hasattr(operator, "plan"):
            operator.plan = json.loads(handed.kept["plan", PLAN])
        run = SimpleNamespace(start_date=datetime.now(UTC), dag_id="restore__flights", run_id="r")
        return operator.perform(Site(platform, {"ti": handed.of(task), "dag_run": run}, "flights"))  # type: ignore[typeddict-item]

    assert perform("plan") == []
    drawn = from_json(PlannedRecovery, json.loads(handed.kept["plan", PLAN])).plan
    approval = Approval(drawn.digest, "ben", "lead", datetime.now(UTC), "", "airflow")
    record_decision(platform.vault("primary"), drawn, APPROVED, approval, "restore__flights r")
    with pytest.raises(Unfaithful, match="params key k, run_uuid r1 differs in value") as caught:
        perform("restore_registry")
    handed.of("restore_registry").xcom_push(FAILURE, caught.value.message)
    assert not (tmp_path / "back").exists()
    with pytest.raises(IncompletePoint, match="differs in value"):
        perform("conclude")
    vault = platform.vault("primary")
    mark = vault.point("latest", "flights").marks[-1]
    assert mark.report is not None
    tree = vault.tree(mark.report)
    document = json.loads(tree.read(tree.entry("report-registry-flights-fidelity.json")))
    assert [(d["where"], d["id"], d["what"]) for d in document["differences"]] == [
        ("params", "key k, run_uuid r1", "differs in value"),
        ("MLflow's client", "r1", "is shown otherwise"),
    ]
