"""Traces whose spans lie among artifacts, where clients before MLflow 3.5 put them, through the API."""

from __future__ import annotations

import posixpath
from pathlib import Path

import pytest

from fakes_trees import FolderTree
from muster.adapters.mlflow_rest_api import RestServer
from muster.adapters.mlflow_rest_source import MlflowRestSource
from muster.adapters.mlflow_rest_target import MlflowRestStoreTarget
from muster.errors import SourceInvalid
from rest_registries import Served, serving


def test_spans_among_artifacts_come_back_there(tmp_path: Path) -> None:
    """A client finds the same spans of the same trace, and the file is the same; a trace without either is named."""
    import mlflow

    store, artifacts = tmp_path / "mlflow.db", tmp_path / "artifacts"
    with serving(store, artifacts) as uri:
        mlflow.set_tracking_uri(uri)
        trace = _old_trace(Served(uri, store, artifacts, {}))
        spans = [span.to_dict() for span in mlflow.get_trace(trace).data.spans]
        assert [span["name"] for span in spans] == ["answer", "look up"]
        source = MlflowRestSource("w", RestServer.parse(uri))
        with source.capture(None) as cut:
            tree = FolderTree(tmp_path / "tree").store(cut.files())
            cut.confirm()
            details = cut.details()
    back = (f"sqlite:///{tmp_path}/back.db", str(tmp_path / "back"))
    assert MlflowRestStoreTarget(*back).restore(details, tree)["counts"]["traces"] == 1
    with serving(tmp_path / "back.db", tmp_path / "back") as uri:
        mlflow.set_tracking_uri(uri)
        assert [span.to_dict() for span in mlflow.get_trace(trace).data.spans] == spans
    (old,), (new,) = (list(Path(root).rglob("traces.json")) for root in (artifacts, back[1]))
    assert new.read_bytes() == old.read_bytes()
    old.unlink()
    with (
        serving(store, artifacts) as uri,
        pytest.raises(SourceInvalid, match=f"{trace} is listed, and the server does not have its spans"),
        MlflowRestSource("w", RestServer.parse(uri)).capture(None) as cut,
    ):
        FolderTree(tmp_path / "none").store(cut.files())


def test_a_trace_is_found_by_its_run_and_its_model_again(tmp_path: Path) -> None:
    """They have other ids on the new server; a client that asks for the traces of a run gets the one that was made in it."""
    import mlflow

    store, artifacts = tmp_path / "mlflow.db", tmp_path / "artifacts"
    with serving(store, artifacts) as uri:
        mlflow.set_tracking_uri(uri)
        mlflow.set_experiment("asked")
        model = mlflow.initialize_logged_model(name="answering")
        with mlflow.start_run() as run, mlflow.start_span("answer") as span:
            span.set_outputs("because")
        mlflow.flush_trace_async_logging()
        Served(uri, store, artifacts, {}).execute(
            "INSERT INTO trace_request_metadata (request_id, key, value) VALUES (?, 'mlflow.modelId', ?)",
            span.trace_id,
            model.model_id,
        )
        with MlflowRestSource("w", RestServer.parse(uri)).capture(None) as cut:
            tree = FolderTree(tmp_path / "tree").store(cut.files())
            cut.confirm()
            details = cut.details()
    facts = MlflowRestStoreTarget(f"sqlite:///{tmp_path}/back.db", str(tmp_path / "back")).restore(details, tree)
    new_run, new_model = facts["id_map"]["runs"][run.info.run_id], facts["id_map"]["logged_models"][model.model_id]
    with serving(tmp_path / "back.db", tmp_path / "back") as uri:
        client = mlflow.MlflowClient(uri, uri)
        experiment = client.get_experiment_by_name("asked").experiment_id
        (found,) = client.search_traces(locations=[experiment], run_id=new_run)
        assert found.info.trace_id == span.trace_id
        assert found.info.trace_metadata["mlflow.modelId"] == new_model


def _old_trace(served: Served) -> str:
    """A trace as an earlier version leaves it: its spans are a file, and nowhere else."""
    import mlflow

    experiment = mlflow.MlflowClient().create_experiment("asked")
    mlflow.set_experiment(experiment_id=experiment)
    with mlflow.start_span("answer") as span:
        span.set_inputs({"question": "why?"})
        with mlflow.start_span("look up") as inner:
            inner.set_outputs("because")
    mlflow.flush_trace_async_logging()
    trace = mlflow.get_trace(span.trace_id)
    place = trace.info.tags["mlflow.artifactLocation"]
    file = served.artifacts / posixpath.normpath(place.partition(":")[2].lstrip("/")) / "traces.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(trace.data.to_json_bytes())
    served.execute("DELETE FROM spans WHERE trace_id = ?", span.trace_id)
    served.execute("DELETE FROM trace_tags WHERE key = 'mlflow.trace.spansLocation' AND request_id = ?", span.trace_id)
    return str(span.trace_id)
