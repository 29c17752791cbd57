"""Who may do what in a real Airflow with real users, over REST: every role, every action, and what is left of those that were denied."""

from __future__ import annotations

import json
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from muster.adapters.stores import open_store
from muster.adapters.system_clock import SystemClock
from muster.bootstrap import Platform
from muster.catalog import load_catalog
from muster.demo.airflow_api import AirflowApi
from muster.demo.airflow_platform import AIRFLOW, USER, Settings, prepare_airflow, start_airflow
from muster.demo.processes import ProcessTree, finish
from muster.errors import StoreUnavailable
from muster.vault.audit import AuditRecord
from muster.vault.vault import Actor
from muster_airflow import access
from vaults import PASSPHRASE, make_vault

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(600)]
OURS, OTHER = "ledger", "orders"
FAMILIES = ("snapshot", "restore", "undo", "rollback", "drill")
AUTH_MANAGER = "muster_airflow.fab_auth.MusterFabAuthManager"
VAULTS = """
vaults:
  first: {url: "conn:first_vault", passphrase: "conn:first_passphrase"}
  second: {url: "conn:second_vault", passphrase: "conn:second_passphrase"}
"""
WORKLOAD = """
workload: %s
owner: finance
objectives: {rpo: 24h, rto: 15m}
registry: {store: "sqlite:////nowhere/mlflow.db", artifacts: /nowhere/artifacts}
configuration: {files: ["conf/*.yaml"]}
vault: %s
approvers: [lead]
"""
STRANGER_DAG = """
from airflow.sdk import DAG, task
with DAG("payroll", schedule=None):
    @task
    def pay(): ...
    pay()
"""

ROLES = {
    "viewer": [access.VIEWER],
    "operator": [access.OPERATOR],
    "recovery": [access.role_of(access.RECOVERY_OPERATOR, OURS)],
    "approver": [access.role_of(access.APPROVER, OURS)],
    "auditor": [access.AUDITOR],
    "all-round": [access.ADMIN],
    "both": [access.role_of(access.RECOVERY_OPERATOR, OURS), access.role_of(access.APPROVER, OTHER), access.OPERATOR],
    "fab-viewer": ["Viewer"],
    "fab-user": ["User"],
    "fab-op": ["Op"],
    "fab-admin": ["Admin"],
    "nobody": ["Public"],
}
RUN = {"logical_date": None, "conf": {}}
ANSWER = {"chosen_options": ["Approve"], "params_input": {}}


def _trigger(dag: str, **conf: object) -> tuple[str, str, Any]:
    return "POST", f"/api/v2/dags/{dag}/dagRuns", {**RUN, "conf": conf}


def _answer(dag: str) -> tuple[str, str, Any]:
    return "PATCH", f"/api/v2/dags/{dag}/dagRuns/some/taskInstances/approve/-1/hitlDetails", ANSWER


def _mark(dag: str) -> tuple[str, str, Any]:
    return "PATCH", f"/api/v2/dags/{dag}/dagRuns/some/taskInstances/plan", {"new_state": "success"}


def bulk(workload: str) -> tuple[str, str, Any]:
    """Mark a task of a restore, by the way that names the DAG in its body only."""
    task = {"dag_id": f"restore__{workload}", "dag_run_id": "some", "task_id": "plan", "new_state": "success"}
    actions = [{"action": "update", "entities": [task]}]
    return "PATCH", "/api/v2/dags/~/dagRuns/~/taskInstances", {"actions": actions}


ACTIONS: dict[str, tuple[str, str, Any]] = {
    "points": ("GET", "/muster/points", None),
    "snapshot": _trigger(f"snapshot__{OURS}"),
    "verify": _trigger("verify"),
    "drill": _trigger(f"drill__{OURS}"),
    "expire": _trigger("expire"),
    "restore own": _trigger(f"restore__{OURS}"),
    "restore other": _trigger(f"restore__{OTHER}"),
    "undo own": _trigger(f"undo__{OURS}", reason="to see"),
    "undo other": _trigger(f"undo__{OTHER}", reason="to see"),
    "rollback own": _trigger(f"rollback__{OURS}", reason="to see", models=["delay"]),
    "rollback other": _trigger(f"rollback__{OTHER}", reason="to see", models=["delay"]),
    "approve own": _answer(f"restore__{OURS}"),
    "approve other": _answer(f"restore__{OTHER}"),
    "approve own undo": _answer(f"undo__{OURS}"),
    "approve other undo": _answer(f"undo__{OTHER}"),
    "approve own rollback": _answer(f"rollback__{OURS}"),
    "approve other rollback": _answer(f"rollback__{OTHER}"),
    "mark restore": _mark(f"restore__{OURS}"),
    "mark undo": _mark(f"undo__{OURS}"),
    "mark rollback": _mark(f"rollback__{OURS}"),
    "mark snapshot": _mark(f"snapshot__{OURS}"),
    "clear restore": (
        "POST",
        f"/api/v2/dags/restore__{OURS}/clearTaskInstances",
        {"dry_run": True, "dag_run_id": "some"},
    ),
    "pause snapshot": ("PATCH", f"/api/v2/dags/snapshot__{OURS}", {"is_paused": False}),
    "pause restore": ("PATCH", f"/api/v2/dags/restore__{OURS}", {"is_paused": False}),
    "delete restore": ("DELETE", f"/api/v2/dags/restore__{OURS}/dagRuns/some", None),
    "backfill": (
        "POST",
        "/api/v2/backfills/dry_run",
        {"dag_id": f"restore__{OURS}", "from_date": "2026-01-01T00:00:00Z", "to_date": "2026-01-02T00:00:00Z"},
    ),
    "trail": ("GET", "/api/v2/eventLogs?limit=1", None),
    "connections": ("GET", "/api/v2/connections", None),
    "variables": ("GET", "/api/v2/variables", None),
    "another's DAG": _trigger("payroll"),
}
_OPERATE = {"snapshot", "verify", "drill", "mark snapshot", "pause snapshot"}
_RECOVER = {"restore own", "undo own", "rollback own", "pause restore", "backfill"}
_OTHERS = {"restore other", "undo other", "rollback other"}
MAY: dict[str, set[str]] = {
    "viewer": set(),
    "operator": _OPERATE,
    "recovery": _RECOVER,
    "approver": {"approve own", "approve own undo", "approve own rollback"},
    "auditor": {"trail"},
    "all-round": _OPERATE | _RECOVER | _OTHERS | {"expire", "trail", "connections", "variables"},
    "both": _OPERATE | _RECOVER | {"approve other", "approve other undo", "approve other rollback"},
    "fab-viewer": set(),
    "fab-user": {"another's DAG"},
    "fab-op": {"another's DAG", "connections", "variables"},
    "fab-admin": set(ACTIONS),
    "nobody": set(),
}
"""What each may do besides asking for the points, which shows everybody what he may see."""
ONCE_LET_IN = {
    **{action: 404 for action in ACTIONS if action.startswith(("approve", "mark"))},
    **dict.fromkeys(("clear restore", "delete restore"), 404),
    "backfill": 422,
}
"""The answer to those who may, where it is not 200: there is no such run, or no schedule to fill up, and only they are told so."""


@dataclass(frozen=True)
class Site:
    """An API server and a DAG processor: what is triggered here waits forever, and nothing is done to anything."""

    folder: Path
    url: str
    passwords: Mapping[str, str] = field(repr=False)
    tokens: Mapping[str, str] = field(repr=False)
    places: Mapping[str, str] = field(repr=False)

    def ask(self, who: str | None, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and content of the answer; nobody asks without a token."""
        request = urllib.request.Request(self.url + path, method=method)
        if who:
            request.add_header("Authorization", f"Bearer {self.tokens[who]}")
        if body is not None:
            request.add_header("Content-Type", "application/json")
            request.data = json.dumps(body).encode()
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def trail(self, vault: str) -> list[AuditRecord]:
        """What the vault's trail tells of denied attempts; the whole of it is checked."""
        actor = Actor("tester", "localhost", "pytest")
        catalog, state = load_catalog(self.folder / "include" / "catalog"), self.folder / "tester"
        platform = Platform(catalog, lambda r: self.places.get(r, r), state=state, actor=actor)
        return [record for record in platform.vault(vault).audit() if record.action == "denied"]


def make_catalog(folder: Path) -> dict[str, str]:
    """Two workloads, each with a vault of its own; returns what the catalog refers to."""
    catalog = folder / "include" / "catalog"
    (catalog / "workloads").mkdir(parents=True)
    (catalog / "vaults.yaml").write_text(VAULTS)
    for name, vault in ((OURS, "first"), (OTHER, "second")):
        (catalog / "workloads" / f"{name}.yaml").write_text(WORKLOAD % (name, vault))
    (folder / "conf").mkdir()
    (folder / "conf" / "limits.yaml").write_text("limit: 4200\n")
    places = {}
    for vault in ("first", "second"):
        place = (folder / f"vault-{vault}").as_uri()
        make_vault(open_store(place), SystemClock())
        places |= {f"conn:{vault}_vault": place, f"conn:{vault}_passphrase": PASSPHRASE.text}
    return places


def make_dags(folder: Path) -> Path:
    """The project's DAG files, and one of somebody else's."""
    dags = folder / "dags"
    dags.mkdir()
    for file in (Path(__file__).resolve().parents[2] / "dags").glob("*.py"):
        (dags / file.name).write_bytes(file.read_bytes())
    (dags / "payroll.py").write_text(STRANGER_DAG)
    return dags


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The first administrator is made by Airflow's command line, as anywhere; everybody else by FAB's REST API."""
    folder = tmp_path_factory.mktemp("access")
    places = make_catalog(folder)
    connections = {
        f"AIRFLOW_CONN_{name.removeprefix('conn:').upper()}": json.dumps({"conn_type": "generic", "password": value})
        for name, value in places.items()
    }
    environment = {
        "MUSTER_CATALOG": str(folder / "include" / "catalog"),
        "MUSTER_STATE": str(folder / "state"),
        **connections,
    }
    settings = Settings(
        home=folder / "home",
        logs=folder / "logs",
        dags=make_dags(folder),
        environment=environment,
        auth_manager=AUTH_MANAGER,
    )
    with ProcessTree() as tree:
        prepared = prepare_airflow(tree, settings)
        finish(prepared.migration)
        create = ["users", "create", "--role", "Admin", "--username", USER, f"--password={prepared.passwords[USER]}"]
        named = ["--firstname", "First", "--lastname", "Admin", "--email", "admin@localhost"]
        tree.run(
            "airflow users create", [*AIRFLOW, *create, *named], env=prepared.env, log=folder / "logs" / "users.log"
        )
        airflow = start_airflow(tree, prepared, ("api-server", "dag-processor"))
        api = log_in(airflow.url, USER, prepared.passwords[USER])
        passwords = {name: secrets.token_urlsafe(12) for name in ROLES}
        for name, roles in ROLES.items():
            person = {"username": name, "first_name": name, "last_name": name, "email": f"{name}@localhost"}
            given = {"roles": [{"name": role} for role in roles], "password": passwords[name]}
            api.call("POST", "/auth/fab/v1/users", {**person, **given})
        tokens = {name: log_in(airflow.url, name, password)._token for name, password in passwords.items()}
        for dag in sorted({path.split("/")[4] for _, path, _ in ACTIONS.values() if path.startswith("/api/v2/dags/")}):
            api.wait_for_dag(dag)
        yield Site(folder, airflow.url, passwords, tokens, places)


def log_in(url: str, user: str, password: str) -> AirflowApi:
    deadline = time.monotonic() + 300
    while True:
        try:
            return AirflowApi(url, user, password)
        except StoreUnavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)


@pytest.fixture(scope="module")
def answers(site: Site) -> dict[tuple[str | None, str], int]:
    """Everybody tries everything, once; None is who has not signed in."""
    who = (None, *ROLES)
    return {(name, action): site.ask(name, *request)[0] for name in who for action, request in ACTIONS.items()}


@pytest.mark.parametrize("role", ROLES)
def test_each_role_may_do_what_the_table_says_and_nothing_else(
    answers: dict[tuple[str | None, str], int], role: str
) -> None:
    """Cell by cell: what a role may do is done, or not found; everything else is forbidden."""
    may = MAY[role] | {"points"}
    expected = {action: ONCE_LET_IN.get(action, 200) if action in may else 403 for action in ACTIONS}
    assert {action: answers[role, action] for action in ACTIONS} == expected


def test_nobody_does_anything_without_signing_in(answers: dict[tuple[str | None, str], int]) -> None:
    """Every action without a token, and with one that is none, is answered with 401 or 403."""
    assert {answers[None, action] for action in ACTIONS} == {401}


def test_roles_of_one_workload_see_that_one(site: Site) -> None:
    """The points of others are not shown, nor are their DAGs; who has no role sees nothing."""
    seen = {
        name: {entry["workload"] for entry in site.ask(name, "GET", "/muster/points")[1]["workloads"]}
        for name in ("viewer", "recovery", "approver", "nobody")
    }
    assert seen == {"viewer": {OURS, OTHER}, "recovery": {OURS}, "approver": {OURS}, "nobody": set()}
    dags = {dag["dag_id"] for dag in site.ask("recovery", "GET", "/api/v2/dags?limit=100")[1]["dags"]}
    assert dags == {f"{verb}__{OURS}" for verb in FAMILIES}
    assert site.ask("viewer", "GET", "/api/v2/dags/payroll")[0] == 403


def test_rights_on_all_dags_do_not_reach_ours_in_bulk(site: Site) -> None:
    """Where the DAG stands in the body, or is meant by a pattern, it is judged like any other."""
    status, answer = site.ask("fab-user", *bulk(OURS))
    assert (status, answer["update"]["errors"][0]["status_code"]) == (200, 403)
    status, answer = site.ask("fab-user", "PATCH", "/api/v2/dags?dag_id_pattern=%25", {"is_paused": True})
    assert (status, [dag["dag_id"] for dag in answer["dags"]]) == (200, ["payroll"])


def test_what_was_refused_inside_an_answer_is_recorded_like_any_other(site: Site) -> None:
    """Airflow answers a change of many tasks with 200, and says in it whose was refused."""
    method, path, body = bulk(OTHER)
    assert site.ask("fab-op", method, path, body)[0] == 200
    deadline = time.monotonic() + 60
    while not (found := [r for r in site.trail("second") if (r.actor.name, r.details["path"]) == ("fab-op", path)]):
        assert time.monotonic() < deadline
        time.sleep(1)
    assert {(record.subject, record.details["status"]) for record in found} == {(f"restore__{OTHER}", 403)}


def test_every_dag_is_under_the_rule_and_none_has_an_import_error(site: Site) -> None:
    """All DAGs of the project are Muster's by their names, and every role that they name is there."""
    answer = site.ask("fab-admin", "GET", "/api/v2/dags?limit=100")[1]
    names = {dag["dag_id"] for dag in answer["dags"]} - {"payroll"}
    assert names == {
        "verify",
        "expire",
        *(f"{verb}__{name}" for verb in FAMILIES for name in (OURS, OTHER)),
    }
    assert all(access.is_ours(name) for name in names)
    assert site.ask("fab-admin", "GET", "/api/v2/importErrors")[1]["import_errors"] == []


def test_denied_attempts_are_in_the_trail_of_the_vault_that_they_were_aimed_at(
    site: Site, answers: dict[tuple[str | None, str], int]
) -> None:
    """Who, what, when and from where, whoever it was; the other vault's trail does not tell of it."""
    attempts = {
        "restore own": "trigger",
        "approve own": "approve",
        "mark restore": "change",
        "clear restore": "clear",
        "pause restore": "change",
        "delete restore": "delete",
    }
    expected = {
        (name or "anonymous", attempt)
        for name in (None, *ROLES)
        for action, attempt in attempts.items()
        if answers[name, action] in (401, 403)
    }
    deadline = time.monotonic() + 90
    while True:
        records = [record for record in site.trail("first") if record.subject == f"restore__{OURS}"]
        if {
            (record.actor.name, record.details["attempt"]) for record in records
        } == expected or time.monotonic() > deadline:
            break
        time.sleep(1)
    assert {(record.actor.name, record.details["attempt"]) for record in records} == expected
    one = next(r for r in records if (r.actor.name, r.details["attempt"]) == ("approver", "trigger"))
    assert (one.outcome, one.actor.host, one.actor.via) == ("denied", "127.0.0.1", "airflow")
    assert (one.details["status"], one.details["method"], one.details["times"]) == (403, "POST", 1)
    assert one.details["path"] == f"/api/v2/dags/restore__{OURS}/dagRuns"
    assert {record.details["status"] for record in records if record.actor.name == "anonymous"} == {401}
    subjects = {record.subject for record in site.trail("second")}
    assert subjects == {f"restore__{OTHER}", f"undo__{OTHER}", f"rollback__{OTHER}", "verify", "expire", "~"}


def test_no_token_and_no_password_is_in_what_was_recorded(
    site: Site, answers: dict[tuple[str | None, str], int]
) -> None:
    """Neither in the trails nor in what waits to be written; a query is not kept at all."""
    secret = secrets.token_urlsafe(12)
    assert site.ask("viewer", "DELETE", f"/api/v2/dags/verify/dagRuns/some?key={secret}", {"note": secret})[0] == 403
    deadline = time.monotonic() + 60
    while not (
        found := [r for r in site.trail("second") if r.details["attempt"] == "delete" and r.subject == "verify"]
    ):
        assert time.monotonic() < deadline
        time.sleep(1)
    assert [(record.actor.name, record.details["run"]) for record in found] == [("viewer", "some")]
    written = "".join(str(record.details) for vault in ("first", "second") for record in site.trail(vault))
    written += "".join(file.read_text() for file in (site.folder / "state").rglob("*.json"))
    assert "/api/v2/dags/verify/dagRuns/some" in written
    assert not any(kept in written for kept in (secret, *site.passwords.values(), *site.tokens.values()))
