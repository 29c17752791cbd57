"""A workspace of a server, captured and restored through its API."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fakes_trees import FolderTree
from muster.adapters import mlflow_server
from muster.adapters.mlflow_canary import read_canary, write_canary
from muster.adapters.mlflow_rest_api import MlflowApi, RestServer
from muster.adapters.mlflow_rest_reading import Reading
from muster.adapters.mlflow_rest_source import MlflowRestSource
from muster.adapters.mlflow_rest_target import MlflowRestStoreTarget, MlflowRestTarget
from muster.errors import SourceInvalid, TargetNotEmpty, UsageError
from rest_registries import serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that keeps workspaces apart: two, and the default one, have a model of the same name; in ``traced`` there is more."""
    folder = tmp_path_factory.mktemp("workspaces")
    with contextlib.ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_ENABLE_WORKSPACES", "true")
            patch.setattr(mlflow_server, "PASSED_ON", (*mlflow_server.PASSED_ON, "MLFLOW_ENABLE_WORKSPACES"))
            uri = stack.enter_context(serving(folder / "mlflow.db", folder / "artifacts"))
        for team in ("plain", "traced"):
            workspace(uri, team)
        for team in (None, "plain", "traced"):
            _fill(uri, team, folder)
        _trace(uri, "traced")
        yield uri


def workspace(uri: str, name: str, **options: str) -> str:
    """A new workspace, as an address names it."""
    MlflowApi(RestServer.parse(uri)).post("3.0/mlflow/workspaces", {"name": name, **options})
    return f"{uri}?workspace={name}"


def _fill(uri: str, team: str | None, folder: Path) -> None:
    """An experiment with a run, and a model with a version of it, whose artifact names the workspace."""
    from mlflow import MlflowClient
    from mlflow.utils.workspace_context import WorkspaceContext

    with WorkspaceContext(team):
        client = MlflowClient(uri, uri)
        run = client.create_run(client.create_experiment("trials"), run_name="only").info.run_id
        (folder / "weights.txt").write_text(f"of {team}")
        client.log_artifact(run, str(folder / "weights.txt"), "net")
        client.log_metric(run, "loss", 0.5, timestamp=7, step=1)
        client.set_terminated(run)
        client.create_registered_model("shared", description=f"of {team}")
        client.create_model_version("shared", f"runs:/{run}/net", run)


def _trace(uri: str, team: str) -> None:
    """A trace, in an experiment of the name that a server's own has."""
    import mlflow
    from mlflow.utils.workspace_context import WorkspaceContext

    mlflow.set_tracking_uri(uri)
    with WorkspaceContext(team):
        client = mlflow.MlflowClient()
        client.end_trace(client.start_trace("asked", experiment_id=client.create_experiment("Default")).trace_id)
        mlflow.flush_trace_async_logging()


def traces(address: str) -> set[str]:
    """Of all experiments."""
    reading = Reading(MlflowApi(RestServer.parse(address)))
    return {trace for experiment in reading.experiments() for trace in reading.traces(experiment)}


def seen(uri: str, team: str | None, folder: Path) -> dict[str, Any]:
    """What a client that works in a workspace finds there."""
    from mlflow import MlflowClient
    from mlflow.artifacts import download_artifacts
    from mlflow.utils.workspace_context import WorkspaceContext

    with WorkspaceContext(team):
        client = MlflowClient(uri, uri)
        models = {model.name: model.description for model in client.search_registered_models()}
        place = client.get_model_version_download_uri("shared", "1")
        file = download_artifacts(f"{place}/weights.txt", dst_path=str(folder), tracking_uri=uri)
        names = sorted(experiment.name for experiment in client.search_experiments())
        return {"models": models, "experiments": names, "artifact": Path(file).read_text()}


def of(team: str | None, *experiments: str) -> dict[str, Any]:
    return {"models": {"shared": f"of {team}"}, "experiments": [*experiments, "trials"], "artifact": f"of {team}"}


def captured(address: str, folder: Path) -> tuple[FolderTree, dict[str, Any]]:
    with MlflowRestSource("w", RestServer.parse(address)).capture(None) as cut:
        tree = FolderTree(folder).store(cut.files())
        cut.confirm()
        return tree, cut.details()


def test_a_workspace_comes_back_in_another(server: str, tmp_path: Path) -> None:
    """With nothing of its neighbours, though they have the same names; and nobody else's workspace is touched."""
    tree, details = captured(f"{server}?workspace=plain", tmp_path / "tree")
    assert details["server"] == f"{server}?workspace=plain"
    assert "workspaces other than the one that was read" in details["not_given"]
    target = MlflowRestTarget(RestServer.parse(workspace(server, "copy")))
    target.check(details)
    facts = target.restore(details, tree)
    assert (facts["counts"]["registered_models"], facts["counts"]["versions"]) == (1, 1)
    assert seen(server, "copy", tmp_path) == seen(server, "plain", tmp_path) == of("plain")
    assert seen(server, "traced", tmp_path) == of("traced", "Default")
    assert seen(server, None, tmp_path) == of(None, "Default")
    with pytest.raises(TargetNotEmpty, match=r"\?workspace=copy is not empty: experiment trials"):
        target.check(details)


def test_the_default_workspace_comes_back_in_another(server: str, tmp_path: Path) -> None:
    """Without a name it is the default one that is captured; its first experiment is a new one elsewhere."""
    tree, details = captured(server, tmp_path / "tree")
    MlflowRestTarget(RestServer.parse(workspace(server, "moved"))).restore(details, tree)
    assert seen(server, "moved", tmp_path) == of(None, "Default")


def test_a_workspace_comes_back_where_there_are_none(server: str, tmp_path: Path) -> None:
    """An experiment that is called as the server's own takes its place; traces keep their ids."""
    tree, details = captured(f"{server}?workspace=traced", tmp_path / "tree")
    MlflowRestStoreTarget(f"sqlite:///{tmp_path}/back.db", str(tmp_path / "back")).restore(details, tree)
    with serving(tmp_path / "back.db", tmp_path / "back") as uri:
        assert seen(uri, None, tmp_path) == of("traced", "Default")
        assert len(traces(uri)) == 1
        assert traces(uri) == traces(f"{server}?workspace=traced")


def test_traces_are_not_doubled_on_one_server(server: str, tmp_path: Path) -> None:
    """It has each id once, whatever the workspace; so that is said before anything is made."""
    tree, details = captured(f"{server}?workspace=traced", tmp_path / "tree")
    place = RestServer.parse(workspace(server, "second"))
    with pytest.raises(TargetNotEmpty, match=r"cannot take the trace tr-.*, which .*\?workspace=traced still has"):
        MlflowRestTarget(place).restore(details, tree)
    everything = {"view_type": "ALL", "max_results": 10}
    assert not MlflowApi(place).post("2.0/mlflow/experiments/search", everything).get("experiments")


def test_a_workspace_whose_artifacts_pass_the_server_by_is_refused(server: str, tmp_path: Path) -> None:
    """Before anything is made there."""
    _, details = captured(f"{server}?workspace=plain", tmp_path / "tree")
    place = workspace(server, "elsewhere", default_artifact_root="s3://bucket/elsewhere")
    with pytest.raises(SourceInvalid, match="keeps artifacts at s3://bucket/elsewhere"):
        MlflowRestTarget(RestServer.parse(place)).check(details)


def test_a_canary_is_left_in_the_workspace(server: str) -> None:
    """Where the capture will find it."""
    place = RestServer.parse(workspace(server, "birds"))
    written = write_canary(place, "w", datetime(2026, 11, 27, 3, 0, tzinfo=UTC))
    assert read_canary(place, "w") == written
    assert read_canary(RestServer.parse(server), "w").at is None
    with pytest.raises(SourceInvalid, match="has no workspace nobody"):
        write_canary(RestServer.parse(f"{server}?workspace=nobody"), "w", datetime.now(UTC))


def test_a_workspace_that_is_not_there_is_refused(server: str, tmp_path: Path, rest_source: Any) -> None:
    """On the way out and on the way in; and by servers that have none."""
    _, details = captured(f"{server}?workspace=plain", tmp_path / "tree")
    with old_server() as old:
        for uri in (server, rest_source.uri, old):
            address = RestServer.parse(f"{uri}?workspace=nobody")
            with (
                pytest.raises(SourceInvalid, match="has no workspace nobody"),
                MlflowRestSource("w", address).capture(None),
            ):
                pass
            with pytest.raises(SourceInvalid, match="has no workspace nobody"):
                MlflowRestTarget(address).check(details)
    with pytest.raises(UsageError, match="a workspace that cannot be"):
        RestServer.parse(f"{server}?workspace=a%0d%0aX-Other:%20b")


@contextlib.contextmanager
def old_server() -> Iterator[str]:
    """What answers as MLflow did before it knew of workspaces: it takes no notice of who names one."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(b"2.22.0" if self.path == "/version" else None)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(b"{}")

        def _answer(self, content: bytes | None) -> None:
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_: object) -> None:
            """Nobody wants to know."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as answering:
        threading.Thread(target=answering.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{answering.server_port}"
        finally:
            answering.shutdown()
