"""One real Airflow: API server, scheduler, DAG processor and triggerer as processes, spoken to over REST only."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from airflow_runs import Run, marks, real_airflow
from airflow_site import AirflowSite
from muster.demo.airflow_api import FINISHED, AirflowApi
from muster.demo.airflow_platform import APPROVER, USER, Settings

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(1200)]


@dataclass(frozen=True)
class RealAirflow:
    """A running Airflow over the site's catalog, and its folder."""

    url: str
    api: AirflowApi
    lead: AirflowApi
    home: Path

    def finish(self, dag: str, run: str) -> dict[str, str]:
        """Wait for a run; the state of every task instance, and of the run itself under an empty name."""
        deadline = time.monotonic() + 600
        while True:
            state = self.api.call("GET", f"/api/v2/dags/{dag}/dagRuns/{run}")["state"]
            if state in FINISHED:
                return {"": state, **{task.name: task.state for task in self.api.tasks(dag, run)}}
            assert time.monotonic() < deadline, self.api.tasks(dag, run)
            time.sleep(0.3)

    def xcom(self, dag: str, run: str, task: str) -> Any:
        """What an unmapped task returned."""
        path = f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task}/xcomEntries/return_value?deserialize=true"
        return self.api.call("GET", path)["value"]

    def events(self, run: str) -> list[dict[str, Any]]:
        """The asset events that a run has caused."""
        found: list[dict[str, Any]] = self.api.call("GET", f"/api/v2/assets/events?source_run_id={quote(run)}")[
            "asset_events"
        ]
        return found

    def status(self, path: str) -> int:
        """The answer's status to somebody who is not signed in."""
        return self._status(self.url + path)

    def send_webhook(self, path: str, secret: str) -> int:
        """The answer's status to an event of MLflow, signed with this secret by MLflow's own code."""
        from mlflow.webhooks.delivery import _generate_hmac_signature

        body = json.dumps({"entity": "model_version", "action": "created", "timestamp": "t", "data": {}})
        delivery, timestamp = str(uuid.uuid4()), str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "X-MLflow-Delivery-Id": delivery,
            "X-MLflow-Timestamp": timestamp,
            "X-MLflow-Signature": _generate_hmac_signature(secret, delivery, timestamp, body),
        }
        request = urllib.request.Request(self.url + path, data=body.encode(), headers=headers, method="POST")
        return self._status(request)

    def _status(self, request: str | urllib.request.Request) -> int:
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code


@pytest.fixture(scope="module")
def real(site: AirflowSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealAirflow]:
    """A real Airflow over the site's catalog."""
    folder = tmp_path_factory.mktemp("real-airflow")
    settings = Settings(home=folder / "home", logs=folder / "logs", environment=site.environment)
    with real_airflow(settings, ("snapshot__ledger", "restore__penguins", "verify")) as (airflow, api):
        yield RealAirflow(airflow.url, api, airflow.api(APPROVER), folder)


@pytest.fixture(scope="module")
def snapshot(real: RealAirflow, site: AirflowSite) -> str:
    """A snapshot of the quick workload, triggered over REST; its run id."""
    run = real.api.trigger("snapshot__ledger", {})
    states = real.finish("snapshot__ledger", run)
    assert states[""] == "success", states
    return run


def test_a_triggered_snapshot_is_sealed_and_published(real: RealAirflow, site: AirflowSite, snapshot: str) -> None:
    """The point that the run tells of is in the vault, and is the asset's event."""
    told = real.xcom("snapshot__ledger", snapshot, "seal")
    assert site.platform().vault("spare").point("latest", "ledger").point.point == told["point"]
    deadline = time.monotonic() + 60  # the event is registered after the task's state, not with it
    while not (found := real.events(snapshot)) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert [event["extra"]["point"] for event in found] == [told["point"]]


def test_nothing_ran_that_nobody_asked_for(real: RealAirflow, snapshot: str) -> None:
    """A new installation does not begin with the ticks of the past: no drill, no verification, no scheduled snapshot; but with a canary."""
    runs = real.api.call("GET", "/api/v2/dags/~/dagRuns?limit=100")["dag_runs"]
    assert {run["run_type"] for run in runs if run["dag_id"] != "canary__penguins"} == {"manual"}
    assert [run["run_type"] for run in runs if run["dag_id"] == "canary__penguins"] == ["scheduled"]


def test_cleared_tasks_give_the_same_point(real: RealAirflow, site: AirflowSite, snapshot: str) -> None:
    """A capture that is cleared with all that follows runs again, and the run still has its one point."""
    before = [status.point for status in site.platform().vault("spare").points("ledger")]
    body = {
        "dry_run": False,
        "only_failed": False,
        "dag_run_id": snapshot,
        "task_ids": ["capture_dataset"],
        "include_downstream": True,
    }
    cleared = real.api.call("POST", "/api/v2/dags/snapshot__ledger/clearTaskInstances", body)
    assert cleared["total_entries"] >= 3
    states = real.finish("snapshot__ledger", snapshot)
    assert states[""] == "success", states
    tries = {task.name: task.tries for task in real.api.tasks("snapshot__ledger", snapshot)}
    assert (tries["seal"], tries["pin"]) == (2, 1)
    assert [status.point for status in site.platform().vault("spare").points("ledger")] == before


def test_a_whole_workload_comes_back_where_the_catalog_says(
    real: RealAirflow, site: AirflowSite, penguin_point: Run
) -> None:
    """Restored side by side to the catalogued standby, everything is back, and the model answers as it did."""
    conf = {"to": "standby", "point": penguin_point.xcom("pin")["point"][:12], "override": "it was just sealed"}
    run = real.api.trigger("restore__penguins", conf)
    question = real.api.question("restore__penguins", run, 120)
    assert str(site.folder / "standby") in question["body"]
    real.api.answer(
        "restore__penguins", run, "approve", "Approve"
    )  # their own: it does not count, and the question stays
    again = real.api.question("restore__penguins", run, 120)
    assert again["subject"] == question["subject"]
    real.lead.decide("restore__penguins", run, "Approve", 300)
    states = real.finish("restore__penguins", run)
    assert states[""] == "success", states
    assert states["restore_dataset [dataset/birds]"] == states["validate [dataset/birds]"] == "success"
    report = real.xcom("restore__penguins", run, "conclude")
    assert (report["passed"], report["models_equal"]) == (True, 1)
    assert states["cut_over"] == "success"
    assert report["cut_over"] == "nothing to switch: the target is in place"
    assert report["recovery_time_s"]["cut_over"] > 0
    lost = report["recovery_points_s"]["registry/penguins"]
    assert lost["canary"] >= lost["cut"] > 0
    standby = site.folder / "standby"
    for name in ("biscoe.csv", "dream.csv", "torgersen.csv"):
        restored = standby / "datasets" / "birds" / "data" / "birds" / name
        assert restored.read_bytes() == (site.folder / "birds" / "data" / "birds" / name).read_bytes()
    assert json.loads((standby / "configuration" / "secrets.json").read_text())
    assert (standby / "registry" / "mlflow.db").is_file()
    status = site.platform().vault("primary").point(penguin_point.xcom("pin")["point"])
    assert marks(status)[-1] == "restored"
    decided = [r for r in site.platform().vault("primary").audit() if r.action == "approve"][-2:]
    assert [(r.outcome, r.details["decided_by"]) for r in decided] == [("not counted", USER), ("approved", APPROVER)]
    record = [r for r in site.platform().vault("primary").audit() if r.action == "restore"][-1]
    assert (record.actor.name, record.actor.via) == ("admin", f"airflow restore__penguins {run}")


def test_recovery_points_are_shown_only_to_those_who_are_signed_in(
    real: RealAirflow, site: AirflowSite, snapshot: str
) -> None:
    """The plugin's page answers 401 to strangers, hides its documentation, and lists the points to users."""
    assert real.status("/muster/points") == 401
    assert {real.status(path) for path in ("/muster/docs", "/muster/redoc", "/muster/openapi.json")} <= {401, 404}
    listed = {entry["workload"]: entry for entry in real.api.call("GET", "/muster/points")["workloads"]}
    assert set(listed) == {"ledger", "penguins"}
    assert listed["ledger"]["error"] is None
    assert listed["ledger"]["points"][0]["point"] == real.xcom("snapshot__ledger", snapshot, "seal")["point"]
    assert not listed["ledger"]["points"][0]["suspect"]


def test_a_webhook_of_the_registry_starts_a_snapshot_within_seconds(real: RealAirflow, site: AirflowSite) -> None:
    """Signed as MLflow signs it, three events make one run; what is not signed is turned away, and nothing is shown to strangers."""
    for secret, status in (("guessed", 401), (site.webhook, 202), (site.webhook, 202), (site.webhook, 202)):
        assert real.send_webhook("/muster-events/mlflow/penguins", secret) == status
    assert real.send_webhook("/muster-events/mlflow/ledger", site.webhook) == 404
    assert {real.status(f"/muster-events/{page}") for page in ("docs", "redoc", "openapi.json")} <= {401, 404}
    deadline = time.monotonic() + 60

    def begun() -> list[str]:
        runs = real.api.call("GET", "/api/v2/dags/snapshot__penguins/dagRuns?limit=100")["dag_runs"]
        return [run["dag_run_id"] for run in runs if run["run_type"] == "asset_triggered"]

    while not (found := begun()):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    states = real.finish("snapshot__penguins", found[0])
    assert states[""] == "success", states
    assert begun() == found


def test_airflow_knows_one_plugin_and_no_import_error(real: RealAirflow) -> None:
    """What the API server has loaded from the plugins folder is the plugin alone."""
    names = {plugin["name"] for plugin in real.api.call("GET", "/api/v2/plugins")["plugins"]}
    assert "muster" in names
    assert not names & {"snapshot", "restore", "recovery", "connections"}
    assert real.api.call("GET", "/api/v2/importErrors")["import_errors"] == []


def test_no_secret_is_in_a_log_or_in_the_metadata(
    real: RealAirflow, airflow_home: Path, site: AirflowSite, snapshot: str, penguin_point: Run
) -> None:
    """After snapshots and restores, no passphrase, token or database password is in any file that Airflow has written."""
    searched = [path for home in (real.home, airflow_home) for path in home.rglob("*") if path.is_file()]
    assert sum(path.suffix == ".log" for path in searched) > 10
    assert {path.name for path in searched} >= {"airflow.db"}
    secrets = [secret.encode() for secret in site.secret_values]
    found = [str(path) for path in searched if any(secret in path.read_bytes() for secret in secrets)]
    assert found == []
    texts = [path.read_bytes() for path in searched if path.suffix == ".log"]
    assert any(b"snapshot__ledger" in text for text in texts)
