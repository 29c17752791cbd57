"""What a server makes otherwise than it was if it is not asked in the right way: captured through an API, put back through another."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cloud_servers import running
from muster.adapters import mlflow_rest_source
from muster.adapters.mlflow_rest_api import MlflowApi, RestServer
from muster.adapters.mlflow_rest_target import MlflowRestStoreTarget
from muster.loopback import free_port
from rest_registries import capture_by_rest, serving


@dataclass
class Round:
    """A server to be filled, and what a restore of its registry said."""

    folder: Path
    facts: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def before(self) -> Iterator[Any]:
        """A client of the server; when it is done all is captured, and restored."""
        with serving(self.folder / "mlflow.db", self.folder / "artifacts") as uri:
            yield _client(uri)
            details, tree = capture_by_rest(uri, self.folder / "tree")
        target = MlflowRestStoreTarget(f"sqlite:///{self.folder}/back.db", str(self.folder / "back"))
        self.facts = target.restore(details, tree)

    @contextmanager
    def after(self) -> Iterator[Any]:
        """A client of a server over what came back."""
        with serving(self.folder / "back.db", self.folder / "back") as uri:
            yield _client(uri)

    def changed(self, of: str) -> list[tuple[str, int]]:
        """What the report says of some kind of thing, and how many of it."""
        return [(item["what"], item["count"]) for item in self.facts["changed"] if item["of"] == of]


def _client(uri: str) -> Any:
    import mlflow

    mlflow.set_tracking_uri(uri)
    return mlflow.MlflowClient(uri, uri)


def test_overridden_assessments_are_as_invalid_as_they_were(tmp_path: Path) -> None:
    """A chain of three, one that overrides what was deleted, and one whose successor went with its run: that one is valid, and counted."""
    import mlflow

    moved = Round(tmp_path)
    with moved.before() as client:
        trace = _asked(client)
        first = mlflow.log_feedback(trace_id=trace, name="right", value=True, rationale="at first")
        second = mlflow.override_feedback(trace_id=trace, assessment_id=first.assessment_id, value=False)
        mlflow.override_feedback(trace_id=trace, assessment_id=second.assessment_id, value="perhaps", rationale="well")
        gone = mlflow.log_feedback(trace_id=trace, name="tone", value="rude")
        mlflow.override_feedback(trace_id=trace, assessment_id=gone.assessment_id, value="kind")
        mlflow.delete_assessment(trace_id=trace, assessment_id=gone.assessment_id)
        before = _said(client, trace)
        left = mlflow.log_feedback(trace_id=trace, name="left", value=1)
        run = client.create_run("0").info.run_id
        mlflow.override_feedback(
            trace_id=trace,
            assessment_id=left.assessment_id,
            value=2,
            metadata={"mlflow.assessment.sourceRunId": run},
        )
        client.delete_run(run)
    with moved.after() as client:
        after = _said(client, trace)
        assert [line for line in after if line[0] != "left"] == before
        assert [line[2] for line in after if line[0] == "left"] == [True]
    assert [(name, valid) for name, _, valid, _ in before].count(("right", False)) == 2
    assert moved.changed("assessments") == [("invalid, and what overrode them is gone", 1)]


def _asked(client: Any) -> str:
    """A trace; its id."""
    import mlflow

    mlflow.set_experiment(experiment_id=client.create_experiment("asked"))
    with mlflow.start_span("answer") as span:
        span.set_outputs("because")
    mlflow.flush_trace_async_logging()
    return str(span.trace_id)


def _said(client: Any, trace: str) -> list[Any]:
    """Name, value, validity of each assessment, and the value that it overrides."""
    said = client.get_trace(trace).info.assessments
    values = {one.assessment_id: one.value for one in said}
    return sorted(((a.name, a.value, a.valid, values.get(a.overrides)) for a in said), key=repr)


def test_run_whose_name_is_no_tag_comes_back_so(tmp_path: Path) -> None:
    """A server writes the tag of the name by itself; somebody had deleted it, and it stays deleted."""
    moved = Round(tmp_path)
    with moved.before() as client:
        run = client.create_run("0", run_name="first try").info.run_id
        client.delete_tag(run, "mlflow.runName")
        client.set_terminated(run)
    with moved.after() as client:
        back = client.get_run(moved.facts["id_map"]["runs"][run])
        assert back.info.run_name == "first try"
        assert back.data.tags == {"muster.source_run_id": run}


def test_latest_point_is_the_same_where_nan_and_zero_came_at_one_moment(tmp_path: Path) -> None:
    """A server over SQL holds both for equal, and takes the first of them for the latest one."""
    moved = Round(tmp_path)
    points = {"zero": [0.0, math.nan, -1.0], "none": [math.nan, 0.0, -1.0], "more": [math.nan, 0.0, 1.0]}
    with moved.before() as client:
        run = client.create_run("0").info.run_id
        for key, values in points.items():
            for value in values:
                client.log_metric(run, key, value, timestamp=5, step=1)
        before = repr(sorted(client.get_run(run).data.metrics.items()))
        client.set_terminated(run)
    with moved.after() as client:
        back = client.get_run(moved.facts["id_map"]["runs"][run]).data.metrics
        assert repr(sorted(back.items())) == before
    assert "('zero', 0.0)" in before
    assert "('none', nan)" in before
    assert "latest points of metrics" not in dict(moved.changed("runs"))


def test_latest_point_of_a_server_over_files_may_be_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes NaN for the latest if that came first; a server over SQL never does where there is a number above zero: it is counted."""
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    port = free_port()
    store = ["--backend-store-uri", (tmp_path / "runs").as_uri(), "--workers", "1", "--port", str(port)]
    command = [sys.executable, "-m", "mlflow", "server", *store, "--artifacts-destination", str(tmp_path / "files")]
    with running(command, f"http://127.0.0.1:{port}") as uri:
        client = MlflowClient(uri, uri)
        run = client.create_run("0").info.run_id
        points = {"loss": (math.nan, 0.5), "wild": (1.0, -math.inf, math.inf), "twice": (2.0, 2.0)}
        for key, values in points.items():
            for value in values:
                client.log_metric(run, key, value, timestamp=5, step=1)
        assert math.isnan(client.get_run(run).data.metrics["loss"])
        details, tree = capture_by_rest(uri, tmp_path / "tree")
    moved = Round(tmp_path)
    moved.facts = MlflowRestStoreTarget(f"sqlite:///{tmp_path}/back.db", str(tmp_path / "back")).restore(details, tree)
    assert dict(moved.changed("runs"))["latest points of metrics"] == 2
    assert dict(moved.changed("runs"))["points that are infinite or there twice"] == 1
    assert details["counts"]["metric_points"] - moved.facts["counts"]["metric_points"] == 1
    with moved.after() as client:
        back = client.get_run(moved.facts["id_map"]["runs"][run])
        assert back.data.metrics == {"loss": 0.5, "wild": sys.float_info.max, "twice": 2.0}
        history = client.get_metric_history(back.info.run_id, "wild")
        assert sorted(point.value for point in history) == [-sys.float_info.max, 1.0, sys.float_info.max]


def test_evaluation_records_made_of_traces_come_back(tmp_path: Path) -> None:
    """They have no outputs, which is not the same as empty ones."""
    import mlflow

    moved = Round(tmp_path)
    with moved.before() as client:
        trace = _asked(client)
        dataset = mlflow.genai.datasets.create_dataset("hard ones")
        dataset.merge_records(client.search_traces(locations=[client.get_trace(trace).info.experiment_id]))
        dataset.merge_records([{"inputs": {"q": 1}, "expectations": {"a": "b"}}])
        before = _rows(dataset)
    with moved.after():
        assert _rows(mlflow.genai.datasets.get_dataset(name="hard ones")) == before
    assert len(before) == 2


def _rows(dataset: Any) -> list[str]:
    """The records of a dataset, in some order."""
    kept = ("inputs", "outputs", "expectations", "tags", "source_type", "source_id")
    return sorted(repr([row[key] for key in kept]) for row in dataset.to_df().to_dict("records"))


def test_attachments_of_traces_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture that a span names is fetched, taken over by the next point, and restored; one that the server lost is named as absent."""
    import mlflow
    from mlflow.tracing.attachments import Attachment

    monkeypatch.setattr(mlflow_rest_source, "due", lambda _path, _at: False)
    content = b"\x89PNG" + bytes(range(256)) * 20
    with serving(tmp_path / "mlflow.db", tmp_path / "artifacts") as uri:
        client = _client(uri)
        mlflow.set_experiment(experiment_id=client.create_experiment("asked"))
        with mlflow.start_span("look") as span:
            span.set_inputs({"seen": Attachment(content_type="image/png", content_bytes=content)})
        mlflow.flush_trace_async_logging()
        _, first = capture_by_rest(uri, tmp_path / "first")
        details, second = capture_by_rest(uri, tmp_path / "second", first)
        (path,) = [entry.path for entry in second.entries() if entry.path.startswith("attachments/")]
        assert path not in second.opened
        assert details["counts"]["attachments"] == 1
        (kept,) = (tmp_path / "artifacts").rglob("attachments/*")
        kept.unlink()
        _, third = capture_by_rest(uri, tmp_path / "third")
        without, _ = capture_by_rest(uri, tmp_path / "fourth", third)
        assert without["absent"] == [f"attachment {kept.name} of trace {span.trace_id} (its spans name it)"]
    facts = MlflowRestStoreTarget(f"sqlite:///{tmp_path}/back.db", str(tmp_path / "back")).restore(details, second)
    (back,) = (tmp_path / "back").rglob("attachments/*")
    assert back.read_bytes() == content
    assert facts["counts"]["attachments"] == 1
    with serving(tmp_path / "back.db", tmp_path / "back") as uri:
        asked = {"request_id": span.trace_id, "path": kept.name}
        given = MlflowApi(RestServer.parse(uri)).content("/ajax-api/2.0/mlflow/get-trace-artifact", **asked)
        assert given == content


def test_assessments_name_the_run_that_made_them(tmp_path: Path) -> None:
    """By it clients find what an evaluation said. One of a deleted run keeps the old id: a server removes what names a deleted run."""
    import mlflow

    moved = Round(tmp_path)
    with moved.before() as client:
        trace = _asked(client)
        run, deleted = (client.create_run("0").info.run_id for _ in range(2))
        client.delete_run(deleted)
        for name, by in (("living", run), ("gone", deleted)):
            mlflow.log_feedback(
                trace_id=trace, name=name, value=1, metadata={"mlflow.assessment.sourceRunId": by, "k": "v"}
            )
    with moved.after() as client:
        said = {one.name: one.metadata for one in client.get_trace(trace).info.assessments}
    new = moved.facts["id_map"]["runs"]
    assert said["living"] == {"mlflow.assessment.sourceRunId": new[run], "k": "v"}
    assert said["gone"] == {"mlflow.assessment.sourceRunId": deleted, "k": "v"}
