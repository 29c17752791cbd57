"""Points of single models: what belongs to them is there, nothing else is, and it stands by itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes_trees import FolderTree
from live_registries import MODEL, OTHER, LiveRegistry
from muster.adapters.mlflow_registry import MlflowTarget
from muster.errors import NotFound
from postgres import Cluster
from registry_seed import capture, query


def taken(live: LiveRegistry, folder: Path, *only: str) -> tuple[dict[str, Any], FolderTree]:
    return capture(live.url, str(live.artifacts), folder, only=only)


def test_a_point_of_one_model_holds_its_closure_and_says_so(live: LiveRegistry, tmp_path: Path) -> None:
    """Each row of the store is either taken or counted as left out; the artifacts are those of its runs and models alone."""
    details, tree = taken(live, tmp_path / "part", "flight-*")
    whole = live.details
    assert details["selective"]["models"] == [MODEL]
    left = details["selective"]["rows_left_out"]
    assert {name: total["rows"] + left.get(name, 0) for name, total in details["tables"].items()} == {
        name: total["rows"] for name, total in whole["tables"].items()
    }
    assert details["models"] == {
        MODEL: whole["models"][MODEL],
        "explain-delay": {"versions": [2], "aliases": {}},  # the linked one; the alias points at the other
    }
    assert left["webhooks"] == 1
    assert details["server_keys"] == []
    runs = {row[0] for row in query(live.url, "SELECT run_uuid FROM runs WHERE experiment_id = 1")}
    kept = {e.path.split("/")[2] for e in tree.entries() if e.path.startswith("artifacts/1/")} & runs
    search = query(live.url, "SELECT run_uuid FROM runs WHERE name = 'search'")[0][0]
    assert search in kept
    assert not [e.path for e in tree.entries() if OTHER in e.path]
    assert 0 < details["artifacts"]["files"] < whole["artifacts"]["files"]


def test_it_comes_back_by_itself(live: LiveRegistry, embedded_postgres: Cluster, tmp_path: Path) -> None:
    """Into an empty place on either engine: the model answers as it did, and numbers go on."""
    details, tree = taken(live, tmp_path / "part", MODEL)
    for name, url in (("lite", f"sqlite:///{tmp_path}/lite/mlflow.db"), ("pg", embedded_postgres.database())):
        root = tmp_path / name / "artifacts"
        facts = MlflowTarget(url, str(root)).restore(details, tree)
        assert facts["tables"].keys() == details["tables"].keys()
        assert facts["models"] == details["models"]
        alone = replace(live, url=url, artifacts=root)
        assert alone.ask(f"models:/{MODEL}@champion") == live.answers[f"models:/{MODEL}@champion"]
        assert alone.client.get_experiment("0").name == "Default"
        assert alone.client.create_model_version(MODEL, str(root)).version == 4


def test_models_go_back_from_a_point_of_their_own(live_sqlite: LiveRegistry, tmp_path: Path) -> None:
    """A rollback needs no more than the closure."""
    live = live_sqlite
    details, tree = taken(live, tmp_path / "part", MODEL)
    whole = live.state()
    live.lose_a_version()
    replace(live, details=details, tree=tree).roll_back(f"{MODEL}@champion")
    assert live.state()[1] == whole[1]
    assert live.ask(f"models:/{MODEL}@champion") == live.answers[f"models:/{MODEL}@champion"]


def test_into_another_registry_next_to_what_is_there(
    live_sqlite: LiveRegistry, embedded_postgres: Cluster, tmp_path: Path
) -> None:
    """A registry of another engine and artifact root that has one model gets the other one, with its places mapped."""
    live, url, root = live_sqlite, embedded_postgres.database(), tmp_path / "elsewhere"
    MlflowTarget(url, str(root)).restore(*taken(live, tmp_path / "part", OTHER))
    there = replace(live, url=url, artifacts=root)
    before = there.state()
    plan = there.roll_back(MODEL)
    assert plan.conflicts == ()
    for name in (MODEL, OTHER):
        assert there.ask(f"models:/{name}@champion") == live.answers[f"models:/{name}@champion"]
    rows, files = there.state()
    assert all(set(before[0][name]) <= set(rows[name]) for name in rows)
    assert {path: files[path] for path in before[1]} == before[1]
    assert not query(url, f"SELECT 1 FROM logged_models WHERE artifact_location NOT LIKE '%{root}%'")
    assert not there.roll_back(MODEL).changes


def test_a_pattern_that_matches_nothing_takes_no_point(live_sqlite: LiveRegistry, tmp_path: Path) -> None:
    """A model that is gone is no model to leave out in silence."""
    with pytest.raises(NotFound, match="there is no registered model storms-"):
        taken(live_sqlite, tmp_path / "part", "flight-*", "storms-*")
