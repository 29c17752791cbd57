"""A registry with everything in it, captured and restored on and across all engines."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes_trees import FolderTree
from muster.adapters.mlflow_location_map import LOCATIONS
from muster.adapters.mlflow_registry import MlflowSource, MlflowTarget
from muster.codec import from_json
from muster.domain.fidelity import FidelityReport
from mysql import MariaDb
from postgres import Cluster
from registry_seed import ROWS, SeededRegistry, driven, views

ROOTED = {"experiments", "runs", "logged_models", "model_versions", "trace_tags"}
"""Tables that say where artifacts lie."""


def captured(store: str, artifacts: Path, folder: Path) -> tuple[dict[str, Any], FolderTree]:
    """The details and the tree of a registry."""
    with MlflowSource("w", store, str(artifacts)).capture(None) as cut:
        tree = FolderTree(folder).store(cut.files())
        cut.confirm()
        return json.loads(json.dumps(cut.details())), tree


def through_map(value: Any, root: Path) -> Any:
    """Views or rows with the artifact root taken out; the parameter that merely mentions the old one is left as it is."""
    return json.loads(json.dumps(value).replace(json.dumps(str(root))[1:-1] + "/", "ROOT/"))


def tables(tree: FolderTree) -> dict[str, bytes]:
    return {e.path: tree.read(e) for e in tree.entries() if e.path.startswith("tables/")}


def artifacts(tree: FolderTree) -> dict[str, Any]:
    return {
        e.path: (e.content.sha256 if e.content else None, e.mode, e.mtime_ns)
        for e in tree.entries()
        if e.path.startswith("artifacts/")
    }


def assert_faithful(report: FidelityReport, details: dict[str, Any], old: SeededRegistry) -> None:
    """The fidelity report says that all is the same, and counts what was made."""
    assert report.identical, report.verdict
    assert {line.table: (line.captured.count, line.captured.sha256) for line in report.tables} == {
        name: (total["rows"], total["sha256"]) for name, total in details["tables"].items()
    }
    mapped = {line.table for line in report.tables if line.mapped}
    assert {"experiments", "runs", "logged_models"} <= mapped <= set(LOCATIONS)
    assert all(line.due == line.captured for line in report.tables if line.table not in mapped)
    counted = {line.kind: line.restored.count for line in report.entities}
    wanted = {"experiments": 2, "deleted experiments": 1, "runs": 3, "deleted runs": 1, "prompts": 1, "aliases": 3}
    wanted |= {"model versions": 2, "deleted model versions": 1, "prompt versions": 2, "registered models": 2}
    wanted |= {
        "gaps in version numbers": 1,
        "logged models": 3,
        "traces": 1,
        "metric history points": 15,
        "datasets": 1,
    }
    assert {kind: counted.get(kind) for kind in wanted} == wanted
    shown = {line.kind: line.client.count if line.client else None for line in report.client}
    assert shown["experiments"] == 3
    assert shown["runs"] == 2 * 4  # of each run its facts, and its name
    assert shown["latest metrics"] == 3
    assert shown["registered models"] == 3
    assert shown["model versions"] == 4
    assert shown["aliases"] == 3
    assert shown["traces"] == 1
    assert (report.artifacts_restored.files, report.artifacts_restored.size) == (
        details["artifacts"]["files"],
        details["artifacts"]["bytes"],
    )


def assert_came_back(old: SeededRegistry, new_store: str, new_root: Path, tmp_path: Path) -> None:
    """Restore to a new place; rows, artifacts and what the API says are the same, through the map."""
    details, tree = captured(old.store, old.artifacts, tmp_path / "tree")
    target = MlflowTarget(new_store, str(new_root))
    target.check(details)
    facts = target.restore(details, tree)
    again, restored = captured(new_store, new_root, tmp_path / "tree2")
    mention = f"{old.artifacts}/somewhere".encode()
    before = {path: rows.replace(mention, b"MENTION") for path, rows in tables(tree).items()}
    after = {path: rows.replace(mention, b"MENTION") for path, rows in tables(restored).items()}
    assert {p: r.replace(f"{old.artifacts}/".encode(), b"ROOT/") for p, r in before.items()} == {
        p: r.replace(f"{new_root}/".encode(), b"ROOT/") for p, r in after.items()
    }
    assert artifacts(restored) == artifacts(tree)
    assert facts["tables"] == again["tables"]
    assert facts["models"] == again["models"] == details["models"]
    assert facts["artifacts"] == again["artifacts"] == details["artifacts"]
    assert facts["mentions"] == {"params.value": 1}
    assert facts["adapted"] == {}
    assert json.loads(json.dumps(facts)) == facts
    assert_faithful(from_json(FidelityReport, facts["fidelity_report"]), details, old)
    said_before = json.loads(json.dumps(views(old.store)).replace(mention.decode(), "MENTION"))
    said_after = json.loads(json.dumps(views(driven(new_store))).replace(mention.decode(), "MENTION"))
    assert through_map(said_after, new_root) == through_map(said_before, old.artifacts)


def test_sqlite_to_sqlite(seeded_sqlite: SeededRegistry, tmp_path: Path) -> None:
    """A registry on SQLite comes back on SQLite, below another artifact root."""
    assert_came_back(seeded_sqlite, f"sqlite:///{tmp_path}/new/mlflow.db", tmp_path / "new artifacts", tmp_path)


def test_sqlite_to_postgresql(seeded_sqlite: SeededRegistry, embedded_postgres: Cluster, tmp_path: Path) -> None:
    """A registry on SQLite comes back on PostgreSQL."""
    assert_came_back(seeded_sqlite, embedded_postgres.database(), tmp_path / "new artifacts", tmp_path)


def test_postgresql_to_postgresql(seeded_postgres: SeededRegistry, embedded_postgres: Cluster, tmp_path: Path) -> None:
    """A registry on PostgreSQL comes back on PostgreSQL."""
    assert_came_back(seeded_postgres, embedded_postgres.database(), tmp_path / "new artifacts", tmp_path)


def test_postgresql_to_sqlite(seeded_postgres: SeededRegistry, tmp_path: Path) -> None:
    """A registry on PostgreSQL comes back on SQLite."""
    assert_came_back(seeded_postgres, f"sqlite:///{tmp_path}/new/mlflow.db", tmp_path / "new artifacts", tmp_path)


@pytest.mark.servers
def test_sqlite_to_mariadb(seeded_sqlite: SeededRegistry, mariadb: MariaDb, tmp_path: Path) -> None:
    """A registry on SQLite comes back on MariaDB, where MLflow itself goes on counting after the last number, gaps included."""
    import mlflow

    url, root = mariadb.database(), tmp_path / "new artifacts"
    assert_came_back(seeded_sqlite, url, root, tmp_path)
    client = mlflow.MlflowClient(driven(url), driven(url))
    assert client.create_experiment("next") == "3"
    source = client.get_model_version("flight-delay", "3").source
    assert client.create_model_version("flight-delay", source).version == 4


@pytest.mark.servers
def test_mariadb_to_sqlite(seeded_mariadb: SeededRegistry, tmp_path: Path) -> None:
    """A registry on MariaDB comes back on SQLite."""
    assert_came_back(seeded_mariadb, f"sqlite:///{tmp_path}/new/mlflow.db", tmp_path / "new artifacts", tmp_path)


@pytest.mark.servers
def test_mariadb_to_mariadb(seeded_mariadb: SeededRegistry, mariadb: MariaDb, tmp_path: Path) -> None:
    """A registry on MariaDB comes back on MariaDB."""
    assert_came_back(seeded_mariadb, mariadb.database(), tmp_path / "new artifacts", tmp_path)


@pytest.mark.servers
def test_mariadb_to_postgresql_and_back(
    seeded_mariadb: SeededRegistry, mariadb: MariaDb, embedded_postgres: Cluster, tmp_path: Path
) -> None:
    """A registry on MariaDB comes back on PostgreSQL, and from there on MariaDB."""
    middle, root = embedded_postgres.database(), tmp_path / "middle"
    assert_came_back(seeded_mariadb, middle, root, tmp_path / "there")
    moved = replace(seeded_mariadb, store=driven(middle), artifacts=root)
    details, tree = captured(moved.store, moved.artifacts, tmp_path / "tree")
    facts = MlflowTarget(mariadb.database(), str(tmp_path / "back")).restore(details, tree)
    assert {t: s for t, s in facts["tables"].items() if t not in ROOTED} == {
        t: s for t, s in details["tables"].items() if t not in ROOTED
    }
    assert {t: s["rows"] for t, s in facts["tables"].items()} == {t: s["rows"] for t, s in details["tables"].items()}
    assert (facts["models"], facts["adapted"]) == (details["models"], {})


@pytest.mark.servers
def test_debian_postgresql(seeded_sqlite: SeededRegistry, debian_postgres: Cluster, tmp_path: Path) -> None:
    """The oldest PostgreSQL that we name takes a registry and gives it back, over TCP and with a password."""
    middle, root = debian_postgres.database(), tmp_path / "middle"
    assert_came_back(seeded_sqlite, middle, root, tmp_path / "there")
    details, tree = captured(middle, root, tmp_path / "tree")
    facts = MlflowTarget(f"sqlite:///{tmp_path}/back.db", str(tmp_path / "back")).restore(details, tree)
    assert facts["models"] == details["models"]
    assert not re.search("pass(:|%3A)word", json.dumps([details, facts]))


def test_restored_models_answer_as_before(seeded_sqlite: SeededRegistry, tmp_path: Path) -> None:
    """With the source gone, the restored alias loads and predicts bit for bit what it did, and counting goes on after the gap."""
    import mlflow
    import numpy as np

    details, tree = captured(seeded_sqlite.store, seeded_sqlite.artifacts, tmp_path / "tree")
    hidden = seeded_sqlite.artifacts.with_name("hidden")
    seeded_sqlite.artifacts.rename(hidden)
    try:
        store = f"sqlite:///{tmp_path}/new/mlflow.db"
        MlflowTarget(store, str(tmp_path / "new artifacts")).restore(details, tree)
        mlflow.set_tracking_uri(store)
        mlflow.set_registry_uri(store)
        model = mlflow.pyfunc.load_model("models:/flight-delay@champion")
        assert [float(y) for y in model.predict(np.array(ROWS))] == seeded_sqlite.predictions
        client = mlflow.MlflowClient(store, store)
        source = client.get_model_version("flight-delay", "3").source
        assert client.create_model_version("flight-delay", source).version == 4
        assert client.create_experiment("next") == "3"
    finally:
        hidden.rename(seeded_sqlite.artifacts)
