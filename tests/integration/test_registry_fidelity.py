"""The fidelity report of a restore: whatever differs is named, fails the restore, and is not left behind."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from killed import killed_at
from muster.adapters import mlflow_restore
from muster.adapters.mlflow_fidelity import CLIENT
from muster.adapters.mlflow_registry import MlflowTarget
from muster.adapters.mlflow_view import KINDS
from muster.codec import from_json
from muster.domain.fidelity import FidelityReport
from muster.errors import IntegrityError, TargetNotEmpty, Unfaithful
from postgres import Cluster
from registry_meddled import Meddle, found, working_in
from registry_seed import Captured, SeededRegistry, SmallStore, capture, content, driven, query


def test_every_difference_is_named_and_nothing_stays(
    seeded_sqlite: SeededRegistry, meddling: Callable[[Meddle], None], tmp_path: Path, started_target: str
) -> None:
    """A changed value, a lost row, an added row, a lost version, swapped aliases, a lost and a flipped artifact, each by table and id."""
    details, tree = capture(seeded_sqlite.store, str(seeded_sqlite.artifacts), tmp_path / "tree")
    run = seeded_sqlite.champion_run
    files = sorted(e.path.removeprefix("artifacts/") for e in tree.entries() if e.path.endswith("/MLmodel"))

    def meddle(url: str, root: Path) -> None:
        query(url, f"UPDATE params SET value = 'another value' WHERE key = 'alpha' AND run_uuid = '{run}'")
        query(url, f"UPDATE latest_metrics SET value = value + 1 WHERE run_uuid = '{run}'")
        query(url, f"DELETE FROM metrics WHERE step = 3 AND run_uuid = '{run}'")
        query(url, "INSERT INTO experiment_tags (key, value, experiment_id) VALUES ('k', 'v', 0)")
        query(url, "UPDATE registered_model_aliases SET version = 4 - version WHERE name = 'flight-delay'")
        query(url, "DELETE FROM model_version_tags WHERE name = 'flight-delay' AND version = 1")
        query(url, "DELETE FROM model_versions WHERE name = 'flight-delay' AND version = 1")
        (root / files[0]).unlink()
        flipped = bytearray((root / files[1]).read_bytes())
        flipped[len(flipped) // 2] ^= 1
        (root / files[1]).write_bytes(flipped)

    meddling(meddle)
    before, around = content(started_target), sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises(Unfaithful) as caught:
        MlflowTarget(started_target, str(tmp_path / "restored")).restore(details, tree)
    report = caught.value.report
    (point,) = (d.id for d in report.differences if d.where == "metrics")
    assert run in point
    assert found(report) == {
        ("metrics", "metric history points", point, "is lost"),
        ("params", "params", f"key alpha, run_uuid {run}", "differs in value"),
        ("latest_metrics", "latest metrics", f"key delay_mae, run_uuid {run}", "differs in value"),
        ("experiment_tags", "tags of experiments and runs", "key k, experiment_id 0", "was not captured"),
        ("registered_model_aliases", "aliases", "name flight-delay, alias champion", "differs in version"),
        ("registered_model_aliases", "aliases", "name flight-delay, alias challenger", "differs in version"),
        ("model_versions", "model versions", "name flight-delay, version 1", "is lost"),
        ("artifacts", "file", files[0], "is lost"),
        ("artifacts", "file", files[1], "has other content"),
        (CLIENT, "params", run, "is shown otherwise"),
        (CLIENT, "latest metrics", run, "is shown otherwise"),
        (CLIENT, "experiment tags", "0", "was not captured"),
        (CLIENT, "aliases", "flight-delay", "is shown otherwise"),
        (CLIENT, "model versions", "flight-delay/1", "is lost"),
    }
    assert not report.identical
    assert {line.kind for line in report.entities if not line.same} == {
        *("params", "latest metrics", "metric history points", "tags of experiments and runs", "aliases"),
        *("model versions", "gaps in version numbers"),
    }
    assert report.artifacts_restored.files == report.artifacts_captured.files - 1
    assert "another value" not in json.dumps([str(caught.value), str(report)])
    assert caught.value.exit_code == 3
    assert content(started_target) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == around


def test_a_client_sees_what_runs_read_and_made(
    seeded_sqlite: SeededRegistry, meddling: Callable[[Meddle], None], tmp_path: Path
) -> None:
    """Another digest of a dataset, its lost context, a lost link to a model, another metric of a model: each by its run or model."""
    details, tree = capture(seeded_sqlite.store, str(seeded_sqlite.artifacts), tmp_path / "tree")
    run = seeded_sqlite.champion_run

    def meddle(url: str, _root: Path) -> None:
        query(url, "UPDATE datasets SET digest = 'another'")
        query(url, "DELETE FROM input_tags")
        query(url, f"DELETE FROM inputs WHERE source_type = 'RUN_OUTPUT' AND source_id = '{run}'")
        query(url, "UPDATE logged_model_metrics SET metric_value = metric_value + 1")

    meddling(meddle)
    with pytest.raises(Unfaithful) as caught:
        MlflowTarget(f"sqlite:///{tmp_path}/new.db", str(tmp_path / "new")).restore(details, tree)
    seen = {(kind, what) for where, kind, _, what in found(caught.value.report) if where == CLIENT}
    assert seen == {
        ("dataset inputs", "is shown otherwise"),
        ("dataset input tags", "is lost"),
        ("model outputs", "is lost"),
        ("logged model metrics", "is shown otherwise"),
    }
    assert (CLIENT, "model outputs", run, "is lost") in found(caught.value.report)


def test_values_without_a_key_and_secrets_are_told_by_digest(
    small_store: SmallStore, meddling: Callable[[Meddle], None], tmp_path: Path
) -> None:
    """A row that nothing but its values tells from others, and a secret, are not in the report; a lost table is named."""
    small_store.execute("CREATE TABLE site_tokens (token TEXT)")
    small_store.execute("INSERT INTO site_tokens VALUES ('hunter2')")
    small_store.execute("CREATE TABLE site_notes (id INTEGER PRIMARY KEY, note TEXT)")
    small_store.execute(
        "INSERT INTO secrets (secret_id, secret_name, encrypted_value, wrapped_dek, masked_value, kek_version, provider,"
        " created_at, last_updated_at) VALUES ('s-1', 'key', x'736563726574', x'00', 'sk-…', 1, 'openai', 1, 1)"
    )
    details, tree = capture(small_store.url, str(small_store.artifacts), tmp_path / "tree")

    def meddle(url: str, _root: Path) -> None:
        query(url, "UPDATE site_tokens SET token = 'hunter3'")
        query(url, "UPDATE secrets SET encrypted_value = x'616e6f74686572'")
        query(url, "DROP TABLE site_notes")

    meddling(meddle)
    with pytest.raises(Unfaithful) as caught:
        MlflowTarget(f"sqlite:///{tmp_path}/new.db", str(tmp_path / "new")).restore(details, tree)
    report = caught.value.report
    by_table = {(d.where, d.id.split(" ")[0], d.what) for d in report.differences}
    assert by_table == {
        ("site_tokens", "with", "is lost"),
        ("site_tokens", "with", "was not captured"),
        ("secrets", "secret_id", "differs in encrypted_value"),
        ("site_notes", "site_notes", "is lost"),
    }
    assert "hunter" not in str(report)
    assert {"site_tokens", "site_notes"} <= {line.table for line in report.tables}
    assert "site_tokens" in {line.kind for line in report.entities}
    assert not (tmp_path / "new.db").exists()


def test_rows_that_a_client_cannot_show_are_said_and_come_back(small_store: SmallStore, tmp_path: Path) -> None:
    """MLflow shows no run without a user, here as little as at the source; rows are the proof, and the report says so."""
    small_store.add_run("r1")
    small_store.execute("UPDATE runs SET user_id = NULL")
    details, tree = capture(small_store.url, str(small_store.artifacts), tmp_path / "tree")
    facts = MlflowTarget(f"sqlite:///{tmp_path}/new.db", str(tmp_path / "new")).restore(details, tree)
    report = from_json(FidelityReport, facts["fidelity_report"])
    assert report.identical
    assert [line.kind for line in report.client if line.client is None] == [
        "runs",
        "params",
        "run tags",
        "latest metrics",
        "dataset inputs",
        "dataset input tags",
        "model outputs",
    ]
    assert "could not show: runs, params" in report.line


def test_a_store_without_a_default_experiment_gets_none(small_store: SmallStore, tmp_path: Path) -> None:
    """MLflow's client makes one wherever it looks; ours looks without a way to write."""
    small_store.execute("UPDATE experiments SET experiment_id = 7, name = 'only'")
    details, tree = capture(small_store.url, str(small_store.artifacts), tmp_path / "tree")
    url = f"sqlite:///{tmp_path}/new.db"
    facts = MlflowTarget(url, str(tmp_path / "new")).restore(details, tree)
    assert query(url, "SELECT experiment_id, name FROM experiments") == [(7, "only")]
    assert from_json(FidelityReport, facts["fidelity_report"]).identical


def test_old_root_found_late_leaves_a_database_as_it_was(
    small_store: SmallStore, tmp_path: Path, embedded_postgres: Cluster
) -> None:
    """What is only noticed when all is read anew empties PostgreSQL again."""
    small_store.execute("CREATE TABLE archive (id INTEGER PRIMARY KEY, place TEXT)")
    small_store.execute("INSERT INTO archive VALUES (1, ?)", f"file://{small_store.artifacts}/archived")
    details, tree = capture(small_store.url, str(small_store.artifacts), tmp_path / "tree")
    url = embedded_postgres.database()
    with pytest.raises(IntegrityError, match=r"archive\.place still names an old artifact root"):
        MlflowTarget(url, str(tmp_path / "new")).restore(details, tree)
    assert content(url) == {}
    assert not (tmp_path / "new").exists()


def test_postgresql_is_free_after_a_kill_and_taken_during_a_restore(
    captured: Captured, tmp_path: Path, embedded_postgres: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables that a restore had written when it was killed are nobody's; those of a living one are not to be touched."""
    details, tree = captured
    url = embedded_postgres.database()
    compare = mlflow_restore.compare
    with monkeypatch.context() as patch:
        patch.setattr(mlflow_restore, "compare", lambda *_: sys.audit("muster.comparing"))
        first = MlflowTarget(url, str(tmp_path / "new"))
        killed_at("muster.comparing", lambda: True, lambda: first.restore(details, tree))
    assert query(url, "SELECT value FROM params") == [("v",)]
    second, third = MlflowTarget(url, str(tmp_path / "new")), MlflowTarget(url, str(tmp_path / "other"))

    def meanwhile(*given: Any) -> Any:
        for attempt in (lambda: third.check(details), lambda: third.restore(details, tree)):
            with pytest.raises(TargetNotEmpty, match="is being restored to right now"):
                attempt()
        return compare(*given)

    monkeypatch.setattr(mlflow_restore, "compare", meanwhile)
    second.check(details)
    assert second.restore(details, tree)["fidelity_report"]["differing"] == 0
    assert query(url, "SELECT value FROM params") == [("v",)]
    assert "muster_restoring" not in content(url)
    with pytest.raises(TargetNotEmpty, match="is not empty"):
        third.check(details)


# --- workspaces -------------------------------------------------------------------------------------------------------


@pytest.fixture
def two_workspaces(small_store: SmallStore, monkeypatch: pytest.MonkeyPatch) -> SmallStore:
    """The same names in the default workspace and in another one, of other things, through MLflow's own client; a prompt in the other."""
    import mlflow

    monkeypatch.setenv("MLFLOW_WORKSPACE_STORE_URI", small_store.url)
    with working_in(small_store.url, "default") as client:
        client.create_workspace("team", default_artifact_root=str(small_store.artifacts))
    for workspace, versions in (("default", 1), ("team", 2)):
        with working_in(small_store.url, workspace) as client:
            experiment = client.create_experiment("trial", tags={"of": workspace})
            run = client.create_run(experiment, start_time=1, run_name=workspace).info.run_id
            client.log_param(run, "alpha", workspace)
            client.log_metric(run, "loss", float(versions), timestamp=1)
            client.create_logged_model(experiment, "net", source_run_id=run, params={"depth": workspace})
            client.create_registered_model("delay", {"of": workspace}, f"of {workspace}")
            folder = small_store.artifacts / workspace
            folder.mkdir()
            (folder / "weights.bin").write_text(workspace)
            for number in range(1, versions + 1):
                client.create_model_version("delay", str(folder), tags={"number": str(number)})
            client.set_registered_model_alias("delay", "champion", str(versions))
            if workspace == "team":
                client.register_prompt("explain", "Explain {{delay}}")
                mlflow.set_tracking_uri(small_store.url)
                client.end_trace(client.start_trace("asked", experiment_id=experiment).trace_id)
                mlflow.flush_trace_async_logging()
    return small_store


def shown(url: str, workspace: str) -> dict[str, Any]:
    """What that client sees."""
    with working_in(url, workspace) as client:
        experiments = client.search_experiments()
        ids = [e.experiment_id for e in experiments]
        models = client.search_registered_models()
        return {
            "experiments": {e.experiment_id: (e.name, e.tags) for e in experiments},
            "runs": {r.info.run_id: (r.info.run_name, r.data.params, r.data.metrics) for r in client.search_runs(ids)},
            "logged": {m.model_id: (m.name, m.params) for m in client.search_logged_models(ids)},
            "models": {m.name: (m.description, m.tags, m.aliases) for m in models},
            "versions": {(v.name, v.version): v.tags for v in client.search_model_versions()},
        }


@pytest.mark.parametrize(
    "started_target", ["sqlite", "postgresql", pytest.param("mariadb", marks=pytest.mark.servers)], indirect=True
)
def test_a_client_is_asked_in_every_workspace(
    two_workspaces: SmallStore, tmp_path: Path, started_target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is counted; each client sees what it saw before, whatever workspace this process is told to be in; no variable is touched."""
    monkeypatch.setenv("MLFLOW_WORKSPACE", "team")
    details, tree = capture(two_workspaces.url, str(two_workspaces.artifacts), tmp_path / "tree")
    before = {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_")}
    facts = MlflowTarget(started_target, str(tmp_path / "restored")).restore(details, tree)
    assert {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_")} == before
    report = from_json(FidelityReport, facts["fidelity_report"])
    assert report.identical
    counts = {line.kind: line.client.count for line in report.client if line.client}
    assert len(counts) == len(report.client)
    assert {
        "experiments": 3,
        "aliases": 2,
        "model versions": 4,
        "logged models": 2,
        "traces": 1,
    }.items() <= counts.items()
    for workspace, versions in (("default", 1), ("team", 2)):
        seen = shown(driven(started_target), workspace)
        assert seen == shown(two_workspaces.url, workspace)
        assert len(seen["versions"]) == versions


def test_a_difference_in_another_workspace_is_seen_by_the_client(
    two_workspaces: SmallStore, meddling: Callable[[Meddle], None], tmp_path: Path
) -> None:
    """A model, an alias, and an experiment that moved: it is shown in another place, with what hangs on it."""
    details, tree = capture(two_workspaces.url, str(two_workspaces.artifacts), tmp_path / "tree")
    ((moved,),) = two_workspaces.execute(
        "SELECT experiment_id FROM experiments WHERE name = 'trial' AND workspace = 'team'"
    )

    def meddle(url: str, _root: Path) -> None:
        query(url, "UPDATE registered_models SET description = 'another' WHERE workspace = 'team' AND name = 'delay'")
        query(url, "UPDATE registered_model_aliases SET version = 1 WHERE workspace = 'team'")
        query(url, "DELETE FROM model_version_tags WHERE workspace = 'team' AND name = 'delay' AND version = 2")
        query(url, f"UPDATE experiments SET workspace = 'lost', name = 'trial' WHERE experiment_id = {moved}")

    meddling(meddle)
    with pytest.raises(Unfaithful) as caught:
        MlflowTarget(f"sqlite:///{tmp_path}/new.db", str(tmp_path / "new")).restore(details, tree)
    assert {one for one in found(caught.value.report) if one[0] == CLIENT} == {
        (CLIENT, "registered models", "team/delay", "is shown otherwise"),
        (CLIENT, "aliases", "team/delay", "is shown otherwise"),
        (CLIENT, "model version tags", "team/delay/2", "is lost"),
        (CLIENT, "experiments", str(moved), "is shown otherwise"),
    }
    assert not (tmp_path / "new.db").exists()


def test_what_cannot_be_shown_in_another_workspace_is_said(two_workspaces: SmallStore, tmp_path: Path) -> None:
    """As in the default one: the rows came back as they were, and the report says of which workspace it is."""
    two_workspaces.execute("UPDATE runs SET user_id = NULL WHERE name = 'team'")
    details, tree = capture(two_workspaces.url, str(two_workspaces.artifacts), tmp_path / "tree")
    facts = MlflowTarget(f"sqlite:///{tmp_path}/new.db", str(tmp_path / "new")).restore(details, tree)
    report = from_json(FidelityReport, facts["fidelity_report"])
    assert report.identical
    unseen = {line.kind: line.unseen for line in report.client if line.client is None}
    assert set(unseen) == set(KINDS["runs"])
    assert all(said.endswith(" in the workspace team") for said in unseen.values())
