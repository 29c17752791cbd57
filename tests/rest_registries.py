"""Two MLflow servers, one with a registry that has everything in it which imports tend to lose, one empty; and what clients see of them."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fakes_trees import FolderTree
from muster.adapters import mlflow_rest_further, mlflow_rest_reading
from muster.adapters.mlflow_rest_api import RestServer
from muster.adapters.mlflow_rest_source import MlflowRestSource
from muster.adapters.mlflow_server import LocalMlflowServer
from muster.ports import TreeReader
from registry_seed import Captured, SeededRegistry
from rest_labelled import label, labels

os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
OLD_RUN = "muster.source_run_id"


@dataclass(frozen=True)
class Served:
    """
    A server of MLflow's own and what is behind it.

    :param names: of things in it, for tests
    """

    uri: str
    store: Path
    artifacts: Path
    names: dict[str, str]

    def execute(self, statement: str, *parameters: Any) -> list[Any]:
        """Touch the store, which nobody who captures by REST may."""
        with closing(sqlite3.connect(self.store, timeout=30)) as connection, connection:
            return connection.execute(statement, parameters).fetchall()


@contextmanager
def serving(store: Path, artifacts: Path) -> Iterator[str]:
    with LocalMlflowServer().serve(f"sqlite:///{store}", str(artifacts)) as uri:
        yield uri


@pytest.fixture(scope="session")
def rest_source(seeded_sqlite: SeededRegistry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """
    A server over a copy of the seeded registry, whose artifacts lie in a folder that no client reaches, with more in it that came through
    the server: artifacts that it passes on, versions 2 and 5 alone, a copied version, links between runs and models, an unfinished run.
    """
    folder = tmp_path_factory.mktemp("rest-source")
    store = Path(shutil.copy(seeded_sqlite.store.removeprefix("sqlite:///"), folder / "mlflow.db"))
    with serving(store, folder / "artifacts") as uri:
        source = Served(uri, store, folder / "artifacts", _more(uri, folder))
        source.execute("UPDATE runs SET name = '' WHERE run_uuid = ?", source.names["old"])
        source.execute("DELETE FROM tags WHERE key = 'mlflow.runName' AND run_uuid = ?", source.names["old"])
        yield source


@pytest.fixture(scope="session")
def rest_target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that was never used."""
    folder = tmp_path_factory.mktemp("rest-target")
    with serving(folder / "mlflow.db", folder / "artifacts") as uri:
        yield Served(uri, folder / "mlflow.db", folder / "artifacts", {})


def _more(uri: str, folder: Path) -> dict[str, str]:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModelInput, LoggedModelOutput, Metric

    client = MlflowClient(uri, uri)
    experiment = client.create_experiment("through the server", tags={"owner": "ada"})
    run = client.create_run(experiment, start_time=1_000, run_name="weights").info.run_id
    points = [(0.5, 10, 1), (0.25, 10, 1), (math.nan, 10, 2), (math.inf, 11, 3), (3.0, 12, 3)]
    client.log_batch(run, [Metric("loss", v, t, s) for v, t, s in points] + [Metric("other", 1.0, 5, 0)])
    (folder / "weights.bin").write_bytes(os.urandom(100_000))
    (folder / "50% +ü.txt").write_text("a name that must be quoted")
    client.log_artifact(run, str(folder / "weights.bin"), "net")
    (folder / "__init__.py").touch()
    client.log_artifact(run, str(folder / "__init__.py"), "net")
    client.log_artifact(run, str(folder / "50% +ü.txt"), "net")
    client.create_registered_model("by-run", description="of a run")
    for number in range(1, 6):
        client.create_model_version("by-run", f"runs:/{run}/net", run, tags={"number": str(number)})
    for number in ("1", "3", "4"):
        client.delete_model_version("by-run", number)
    client.set_registered_model_alias("by-run", "best", "5")
    client.transition_model_version_stage("by-run", "2", "Archived")
    client.copy_model_version("models:/by-run/5", "copied")
    model = client.create_logged_model(experiment, "by-hand", source_run_id=run, params={"depth": "3"})
    client.log_model_artifact(model.model_id, str(folder / "weights.bin"))
    client.finalize_logged_model(model.model_id, "READY")
    client.log_metric(
        run, "score", 0.75, timestamp=20, step=4, model_id=model.model_id, dataset_name="f", dataset_digest="d"
    )
    client.log_metric(run, "score", math.nan, timestamp=21, step=5, model_id=model.model_id)
    client.log_outputs(run, [LoggedModelOutput(model.model_id, 7)])
    unfinished = client.create_run(experiment, start_time=2_000, run_name="still at it").info.run_id
    client.log_inputs(unfinished, models=[LoggedModelInput(model.model_id)])
    client.set_terminated(run, "FAILED", end_time=3_000)
    old = client.create_run(experiment, start_time=500).info.run_id
    client.log_param(old, "nameless", "as runs of old versions are")
    client.set_terminated(old, end_time=600)
    gone = client.create_experiment("gone with its run")
    client.set_terminated(client.create_run(gone, start_time=700).info.run_id, end_time=800)
    client.delete_experiment(gone)
    (trace,) = client.search_traces(locations=[e.experiment_id for e in client.search_experiments()])
    judged = client.create_run(trace.info.experiment_id, start_time=900).info.run_id
    client.set_terminated(judged, end_time=901)
    labelled = label(uri, trace.info.experiment_id, trace.info.trace_id, judged)
    return {"run": run, "unfinished": unfinished, "model": model.model_id, "old": old, **labelled}


@contextmanager
def small_pages() -> Iterator[None]:
    """Every list comes in several pages."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RUN_PAGE", "MODEL_PAGE", "POINT_PAGE", "TRACE_PAGE"):
            patch.setattr(mlflow_rest_reading, name, 2)
        for name in ("PAGE", "RECORD_PAGE"):
            patch.setattr(mlflow_rest_further, name, 2)
        yield


def capture_by_rest(uri: str, folder: Path, previous: TreeReader | None = None, **options: Any) -> Captured:
    """Details and tree, as `registry_seed.capture` gives them of a store; options go to the source, and to its server."""
    ours = {name: options.pop(name) for name in ("kept", "incomplete") if name in options}
    with MlflowRestSource("w", RestServer.parse(uri, **options), **ours).capture(previous) as cut:
        tree = FolderTree(folder)
        if isinstance(previous, FolderTree):
            tree.keep(previous)
        tree.store(cut.files())
        cut.confirm()
        return cut.details(), tree


# --- what a client sees -----------------------------------------------------------------------------------------------


def seen(uri: str, folder: Path) -> dict[str, Any]:
    """Everything of a server that its ids do not name, by MLflow's own client; runs by the ids that they had at first."""
    from mlflow import MlflowClient
    from mlflow.entities import ViewType

    client = MlflowClient(uri, uri)
    listed = [
        e for e in client.search_experiments(view_type=ViewType.ALL) if mlflow_rest_reading.ABANDONED not in e.tags
    ]
    experiments = {e.experiment_id: e for e in listed}
    names = {number: experiment.name for number, experiment in experiments.items()}
    runs = {r.info.run_id: r for r in client.search_runs(list(experiments), run_view_type=ViewType.ALL)}
    first = {run_id: run.data.tags.get(OLD_RUN, run_id) for run_id, run in runs.items()}
    models = {m.model_id: m for m in client.search_logged_models(list(experiments))}
    called = {m.model_id: f"{m.name} of {first[m.source_run_id]}" for m in models.values()}
    return {
        "experiments": {e.name: (e.lifecycle_stage, e.tags) for e in experiments.values()},
        "runs": {first[r]: _run(client, client.get_run(r), names, called) for r in runs},
        "artifacts": {first[r]: _digests(client, r, folder / r) for r in runs},
        "models": {called[m.model_id]: _model(m, names, first) for m in models.values()},
        "registered": {m.name: (m.description, m.tags, m.aliases) for m in _registered(client)},
        "versions": {f"{v.name}/{v.version}": _version(v, first, called) for v in _versions(client)},
        **labels(uri, {i: n for i, n in names.items() if experiments[i].lifecycle_stage == "active"}, first),
        "traces": {t.info.trace_id: _trace(t) for t in client.search_traces(locations=list(experiments))},
    }


def _run(client: Any, run: Any, names: dict[str, str], called: dict[str, str]) -> Any:
    info, tags = run.info, {k: v for k, v in run.data.tags.items() if k != OLD_RUN}
    history = {key: [repr(p) for p in client.get_metric_history(info.run_id, key)] for key in run.data.metrics}
    history = {key: sorted(p.replace(info.run_id, "…") for p in points) for key, points in history.items()}
    datasets = sorted(
        repr((d.dataset.to_dictionary(), [(t.key, t.value) for t in d.tags])) for d in run.inputs.dataset_inputs
    )
    links = (
        sorted(called[m.model_id] for m in run.inputs.model_inputs),
        sorted((called[m.model_id], m.step) for m in run.outputs.model_outputs),
    )
    name = info.run_name
    if "nameless" in run.data.params:
        name = tags.pop("mlflow.runName", "") and ""
    about = (name, info.user_id, info.status, info.start_time, info.end_time, info.lifecycle_stage)
    return (names[info.experiment_id], about, run.data.params, tags, repr(run.data.metrics), history, datasets, links)


def _digests(client: Any, run: str, folder: Path) -> dict[str, str]:
    """SHA-256 of every artifact of a run, downloaded as a client does."""
    import mlflow

    folder.mkdir(parents=True)
    if not client.list_artifacts(run):
        return {}
    mlflow.artifacts.download_artifacts(run_id=run, dst_path=str(folder), tracking_uri=client.tracking_uri)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _model(model: Any, names: dict[str, str], first: dict[str, str]) -> Any:
    metrics = [
        (m.key, m.value, m.timestamp, m.step, m.dataset_name, m.dataset_digest, first[m.run_id])
        for m in model.metrics or ()
    ]
    about = (model.model_type, str(model.status), names[model.experiment_id])
    return (*about, model.tags, model.params, sorted(metrics, key=repr))


def _registered(client: Any) -> list[Any]:
    found = client.search_registered_models()
    return [*found, *client.search_registered_models(mlflow_rest_reading.PROMPTS)]


def _versions(client: Any) -> list[Any]:
    return [*client.search_model_versions(), *client.search_model_versions(mlflow_rest_reading.PROMPTS)]


def _version(version: Any, first: dict[str, str], called: dict[str, str]) -> Any:
    """Nothing and an empty text are one: servers answer with either where there is no description and no run."""
    about = (version.description or "", version.tags, version.aliases, version.current_stage, version.status)
    return (*about, first.get(version.run_id, version.run_id) or None, called.get(version.model_id) or None)


def _trace(trace: Any) -> Any:
    from mlflow.entities.assessment import IssueReference

    info = trace.info
    spans = sorted(
        (s.name, s.span_id, s.parent_id, s.start_time_ns, s.end_time_ns, repr((s.inputs, s.outputs)))
        for s in trace.data.spans
    )
    told = [
        ("shows an issue", repr(a.source))
        if isinstance(a, IssueReference)
        else (a.name, repr(a.value), a.rationale, repr(a.source))
        for a in info.assessments
    ]
    return (info.request_time, info.execution_duration, info.state, info.request_preview, spans, told)


def model_digests(uri: str, name: str, version: str, folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a registered version, downloaded as a client does."""
    import mlflow

    folder.mkdir()
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    got = Path(
        mlflow.artifacts.download_artifacts(
            f"models:/{name}/{version}", dst_path=str(folder), tracking_uri=uri, registry_uri=uri
        )
    )
    files = sorted(path for path in got.rglob("*") if path.is_file() and path.name != "registered_model_meta")
    return {path.relative_to(got).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def answers(uri: str, model: str, rows: Any) -> list[float]:
    """What a registered model predicts that is loaded from a server."""
    import mlflow
    import numpy as np

    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    return [float(y) for y in mlflow.pyfunc.load_model(model).predict(np.array(rows))]
