"""What belongs to a model, link by link, in stores that were made by hand; and artifacts in buckets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from artifact_buckets import ArtifactBucket
from live_registries import MODEL
from muster.adapters.mlflow_closure import Closure
from muster.adapters.mlflow_facts import values
from muster.adapters.mlflow_merge import MlflowMerge
from muster.adapters.mlflow_registry import MlflowTarget
from muster.adapters.mlflow_relations import Relations
from muster.adapters.mlflow_rows import rows_of, tables_of
from muster.adapters.mlflow_store import StoreUrl, connect
from muster.domain.selection import Wanted
from muster.errors import SourceChanged
from registry_seed import Captured, SmallStore, capture, fill, query


def closure(store: SmallStore, *names: str) -> dict[str, list[Any]]:
    """The rows that belong to models, by table; tables without any are left out."""
    with connect(StoreUrl.parse(store.url)).connect() as connection:
        tables = tables_of(connection)
        relations = Relations.of(connection, tables)
        found = Closure.of(
            relations, lambda table, columns: values(connection, tables, table, columns), [Wanted(n) for n in names]
        )
        chosen = {n: [r for r in rows_of(connection, t) if found.picker(t)(r)] for n, t in tables.items()}
    return {name: rows for name, rows in chosen.items() if rows and name != "alembic_version"}


def firsts(rows: list[Any]) -> list[Any]:
    return [row[0] for row in rows]


@pytest.fixture
def store(small_store: SmallStore) -> SmallStore:
    """Two models, each with a run, and a run that belongs to none."""
    for run in ("r1", "r2", "r3"):
        small_store.add_run(run)
        small_store.execute("INSERT INTO params (key, value, run_uuid) VALUES ('k', 'v', ?)", run)
    small_store.add_version("a", 1, f"{small_store.artifacts}/0/r1/artifacts/model", "r1")
    small_store.add_version("b", 1, "runs:/r2/model")
    return small_store


def test_a_model_has_its_run_with_its_parts_and_nobody_elses(store: SmallStore) -> None:
    """By the run id of a version, or by its source."""
    assert {n: len(r) for n, r in closure(store, "a").items()} == {
        "experiments": 1, "runs": 1, "params": 1, "registered_models": 1, "model_versions": 1, "workspaces": 1,
    }  # fmt: skip
    assert firsts(closure(store, "b")["runs"]) == ["r2"]
    assert firsts(closure(store, "*")["runs"]) == ["r1", "r2"]


def test_parents_come_and_children_do_not(store: SmallStore) -> None:
    """The search that a run was part of, but not all else that it tried; a parent that is gone is no obstacle."""
    add = "INSERT INTO tags (key, value, run_uuid) VALUES ('mlflow.parentRunId', ?, ?)"
    store.execute(add, "r3", "r1")
    store.execute(add, "r3", "r2")
    store.execute(add, "gone", "r3")
    assert firsts(closure(store, "a")["runs"]) == ["r1", "r3"]


def test_a_version_copied_from_another_model_brings_that_version(store: SmallStore) -> None:
    """With its run, and without the other versions of that model."""
    store.add_version("b", 2, "models:/a/1")
    store.add_version("a", 2, "runs:/r3/model")
    found = closure(store, "b")
    versions = {tuple(v for v in row if v in ("a", "b", 1, 2))[:2] for row in found["model_versions"]}
    assert versions == {("a", 1), ("b", 1), ("b", 2)}
    assert firsts(found["runs"]) == ["r1", "r2"]


def test_traces_come_with_their_run(store: SmallStore) -> None:
    """By the run that a trace says it came from, or that it was linked to; with spans, tags and what was said of it; others do not."""
    for trace in ("t1", "t2", "t3"):
        fill(store.url, "trace_info", request_id=trace, experiment_id=0, timestamp_ms=1, status="OK")
        fill(store.url, "spans", trace_id=trace, span_id="s", experiment_id=0)
        fill(store.url, "span_metrics", trace_id=trace, span_id="s", key="k", value=1.0)
        fill(store.url, "assessments", assessment_id=f"of {trace}", trace_id=trace)
    store.execute("INSERT INTO trace_request_metadata (key, value, request_id) VALUES ('mlflow.sourceRun', 'r1', 't1')")
    fill(
        store.url, "entity_associations", association_id="x", source_type="trace", source_id="t2",
        destination_type="run", destination_id="r1", created_time=1,
    )  # fmt: skip
    found = closure(store, "a")
    assert firsts(found["trace_info"]) == ["t1", "t2"]
    assert {name: len(found[name]) for name in ("spans", "span_metrics", "assessments")} == {
        "spans": 2, "span_metrics": 2, "assessments": 2,
    }  # fmt: skip
    assert len(found["entity_associations"]) == 1


def test_a_run_that_measured_a_model_comes_with_it(store: SmallStore) -> None:
    """Its measurements name the run by a foreign key: without it they could not be put in."""
    fill(
        store.url, "logged_models", model_id="m-1", experiment_id=0, name="n", lifecycle_stage="active", status=2,
        artifact_location="/x", creation_timestamp_ms=1, last_updated_timestamp_ms=1, source_run_id="r1",
    )  # fmt: skip
    fill(store.url, "logged_model_metrics", model_id="m-1", run_id="r3", metric_name="mae", experiment_id=0)
    store.add_version("a", 2, "models:/m-1")
    assert firsts(closure(store, "a")["runs"]) == ["r1", "r3"]
    assert "logged_models" not in closure(store, "b")


def test_datasets_come_with_the_runs_that_used_them(store: SmallStore) -> None:
    """With the input that joins them and its tags."""
    for number in (1, 2):
        fill(store.url, "datasets", dataset_uuid=f"d{number}", experiment_id=0, name=f"n{number}", digest="x")
        fill(
            store.url, "inputs", input_uuid=f"i{number}", source_type="DATASET", source_id=f"d{number}",
            destination_type="RUN", destination_id=f"r{number}", step=0,
        )  # fmt: skip
        fill(store.url, "input_tags", input_uuid=f"i{number}", name="context", value="training")
    found = closure(store, "a")
    assert [len(found[name]) for name in ("datasets", "inputs", "input_tags")] == [1, 1, 1]
    assert "d1" in found["datasets"][0]
    assert firsts(found["input_tags"]) == ["i1"]


def test_a_table_that_nobody_knows_goes_with_what_its_key_belongs_to(store: SmallStore) -> None:
    """Notes of a run go with the run."""
    store.execute(
        "CREATE TABLE site_notes (run_uuid VARCHAR(32) REFERENCES runs (run_uuid), n INTEGER, note TEXT, PRIMARY KEY (run_uuid, n))"
    )
    store.execute("INSERT INTO site_notes VALUES ('r1', 1, 'mine'), ('r2', 1, 'theirs')")
    assert closure(store, "a")["site_notes"] == [["r1", 1, "mine"]]


# --- artifacts in buckets ---------------------------------------------------------------------------------------------


def test_artifacts_in_a_bucket_come_back_and_are_never_written_over(
    several_models: tuple[Captured, Any], bucket: ArtifactBucket, tmp_path: Path
) -> None:
    """Lost objects are put again; one that differs refuses everything; a failure takes back what it put."""
    url, root = f"sqlite:///{tmp_path}/live.db", bucket.address
    MlflowTarget(url, root).restore(*several_models[0])
    details, tree = capture(url, root, tmp_path / "point")
    merge, wanted = MlflowMerge(url, root), [Wanted(MODEL, "champion")]
    assert not merge.plan(details, tree, wanted).changes
    lost = [path for path in bucket.paths() if ("/artifacts/" in path and "notes" in path) or path.endswith("MLmodel")]
    for path in lost:
        bucket.delete(path)
    query(url, f"UPDATE registered_model_aliases SET version = 1 WHERE alias = 'champion' AND name = '{MODEL}'")
    plan = merge.plan(details, tree, wanted)
    assert 2 <= plan.artifacts.add < len(lost)

    def appear(path: str) -> None:
        if path.startswith("artifacts/") and path.endswith("MLmodel"):
            bucket.put(path.removeprefix("artifacts/"), b"other")

    before = bucket.paths()
    tree.before_extract = appear
    with pytest.raises(SourceChanged, match="appeared just now"):
        merge.merge(details, tree, wanted, "refuse")
    tree.before_extract = lambda _path: None
    (other,) = set(bucket.paths()) - set(before)
    assert bucket.get(other) == b"other"
    assert merge.plan(details, tree, wanted).conflicts[0].id.endswith("MLmodel")
    bucket.delete(other)
    assert merge.merge(details, tree, wanted, "refuse") == plan
    assert len(bucket.paths()) == len(before) + plan.artifacts.add
    assert not merge.plan(details, tree, wanted).changes
