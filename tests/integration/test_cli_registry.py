"""One model moved back by the command line: the plan first, then the deed, then the record of it."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from live_registries import MODEL, LiveRegistry
from protected_project import ALONE, PASSPHRASE, VAULTS, Project

WORKLOAD = """\
workload: models
owner: ops
objectives: {{rpo: 1d, rto: 15m}}
registry: {{store: "{url}", artifacts: "{artifacts}", models: ["flight-*"], scope: models}}
vault: primary
"""


@pytest.fixture
def project(live_sqlite: LiveRegistry, tmp_path: Path) -> Project:
    """A catalog that protects one model of a registry in use, and a point of it."""
    workloads = tmp_path / "include" / "catalog" / "workloads"
    workloads.mkdir(parents=True)
    (workloads.parent / "vaults.yaml").write_text(VAULTS)
    (workloads / "models.yaml").write_text(WORKLOAD.format(url=live_sqlite.url, artifacts=live_sqlite.artifacts))
    secrets = tmp_path / ".muster" / "secrets.yaml"
    secrets.parent.mkdir()
    secrets.write_text(
        f"vault: {tmp_path}/vault\npassphrase: {PASSPHRASE}\nstore: {live_sqlite.url}\nroot: {live_sqlite.artifacts}\n"
    )
    secrets.chmod(0o600)
    project = Project(tmp_path, Path(sys.executable))
    project.make_vault()
    project.ask("snapshot", "models")
    return project


def test_a_point_from_a_store_keeps_nothing_unmade(project: Project) -> None:
    """All of it comes back with the store; whoever asks for it learns that."""
    refused = project.refuse("registry", "kept", "latest", "-w", "models")
    assert (refused["kind"], refused["exit_code"]) == ("NotFound", 4)
    assert "captured from its store" in refused["hint"]


def audit(project: Project) -> list[dict[str, Any]]:
    """What the trail says of rollbacks: outcome and facts."""
    records = [json.loads(path.read_text()) for path in sorted((project.root / "vault" / "audit").iterdir())]
    payloads = [json.loads(base64.b64decode(record["payload"])) for record in records]
    return [p for p in payloads if p["action"] == "rollback"]


def test_a_model_is_moved_back_after_its_plan_was_seen(project: Project, live_sqlite: LiveRegistry) -> None:
    """Plan, rollback by the plan's id, and once more: shown, done, recorded, and the second time nothing is to be done."""
    live = live_sqlite
    whole = live.state()
    live.lose_a_version()
    asked = ("--model", f"{MODEL}@champion")
    harmed = live.state()
    plan = project.ask("registry", "plan", "latest", *asked)
    assert plan["merge"]["aliases"] == [{"model": MODEL, "alias": "champion", "before": 1, "after": 3}]
    assert live.state() == harmed
    shown = project.run("registry", "plan", "latest", *asked).stdout
    assert f"alias {MODEL}@champion would move from version 1 to version 3" in shown
    assert f"model version {MODEL}/3 is marked as deleted, and would live again" in shown
    assert f"plan {plan['id']}" in shown
    assert "--reason" in project.refuse("registry", "rollback", "latest", *asked)["hint"]
    error = project.refuse("registry", "rollback", "latest", *ALONE, *asked, "--plan", "0" * 16)
    assert (error["kind"], error["exit_code"]) == ("Refused", 6)
    assert live.state() == harmed
    done = project.run("registry", "rollback", "latest", *ALONE, *asked, "--plan", plan["id"])
    assert done.returncode == 0, done.stderr
    assert f"alias {MODEL}@champion moved from version 1 to version 3" in done.stdout
    assert live.state()[1] == whole[1]
    assert live.ask(f"models:/{MODEL}@champion") == live.answers[f"models:/{MODEL}@champion"]
    store = ("--to", "conn:store", "--artifacts", "conn:root")
    again = project.ask("registry", "rollback", "latest", *ALONE, *asked, *store)
    assert (again["merge"]["added"], again["merge"]["artifacts"]["add"]) == ([], 0)
    trail = audit(project)
    assert [record["outcome"] for record in trail] == ["refused", "begun", "done", "begun", "nothing to do"]
    assert {record["details"]["reason"] for record in trail} == {ALONE[1]}
    assert trail[2]["details"]["aliases"] == [f"{MODEL}@champion: 1 → 3"]
    assert trail[2]["details"]["artifacts"]["add"] > 5
    assert project.ask("audit", "verify")


def test_a_conflict_is_shown_and_ends_with_exit_code_6(project: Project, live_sqlite: LiveRegistry) -> None:
    """By the plan and by the rollback; the refusal stands in the audit trail, and the rule lets it pass."""
    live = live_sqlite
    live.client.set_registered_model_alias(MODEL, "champion", "1")
    live.client.update_model_version(MODEL, "3", "new words")
    before = live.state()
    asked = ("latest", "--model", f"{MODEL}@champion")
    plan = project.run("registry", "plan", *asked)
    assert plan.returncode == 6
    assert f"conflict: model_versions {MODEL}/3: has another description now" in plan.stdout
    error = project.refuse("registry", "rollback", *ALONE, *asked)
    assert error["kind"] == "Refused"
    assert "--on-conflict keep" in error["hint"]
    assert live.state() == before
    project.ask("registry", "rollback", *ALONE, *asked, "--on-conflict", "keep")
    assert live.client.get_model_version_by_alias(MODEL, "champion").description == "new words"
    trail = audit(project)
    assert [record["outcome"] for record in trail] == ["begun", "refused", "begun", "done"]
    assert trail[3]["details"]["kept"] == [f"model_versions {MODEL}/3"]
    for verb in (("plan",), ("rollback", *ALONE)):
        again = project.run("registry", *verb, *asked, "--on-conflict", "keep").stdout
        assert "is there, in 1 places with differences that stay" in again
        assert f"conflict: model_versions {MODEL}/3: has another description now" in again


def test_a_place_without_a_store_is_a_usage_error(project: Project, live_sqlite: LiveRegistry) -> None:
    """An artifact root belongs to a store, and a store needs one."""
    asked = ("registry", "plan", "latest", "--model", MODEL)
    assert "--artifacts" in project.refuse(*asked, "--to", "conn:store")["hint"]
    assert project.refuse(*asked, "--artifacts", "/x")["exit_code"] == 2
    gone = project.refuse(*asked, "--to", f"{project.root}/nowhere")
    assert "no MLflow store" in gone["message"]
