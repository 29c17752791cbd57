"""
What mlflow-export-import 1.2.0, the best-known exporter of MLflow registries, loses or alters, failure by failure: each does not happen.

Over a registry that came to be as on any default server: through its API, with artifacts that the server passes on.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fakes_trees import FolderTree
from muster.adapters.mlflow_registry import MlflowSource, MlflowTarget
from muster.errors import IntegrityError, SourceInvalid, TargetNotEmpty, Unfaithful
from registry_platform import platform_of, restored
from registry_seed import ROWS, Captured, SeededRegistry, capture, content
from rest_registries import serving
from vaults import ACTOR, verify_points

MODEL = "delay"
Facts = dict[str, Any]


@dataclass(frozen=True)
class Registry:
    """
    A registry that a server made, and what its clients saw.

    :param runs: by id
    :param versions: by number
    :param predictions: by the URI that was asked
    """

    store: Path
    artifacts: Path
    runs: Facts
    versions: Facts
    predictions: Facts

    @property
    def url(self) -> str:
        return f"sqlite:///{self.store}"


def seen_at(uri: str, store: Path, artifacts: Path) -> Registry:
    """Ask a server for everything that clients rely on."""
    import mlflow
    from mlflow.entities import ViewType

    client = mlflow.MlflowClient(uri, uri)
    experiments = [e.experiment_id for e in client.search_experiments(view_type=ViewType.ALL)]
    runs = client.search_runs(experiments, run_view_type=ViewType.ALL)
    versions = client.search_model_versions(f"name = '{MODEL}'")
    aliases = {int(number): [alias] for alias, number in client.get_registered_model(MODEL).aliases.items()}
    asked = [f"models:/{MODEL}@champion", *(f"models:/{MODEL}/{v.version}" for v in versions)]
    asked += [str(v.source) for v in versions]
    return Registry(
        store,
        artifacts,
        {r.info.run_id: json.loads(json.dumps(r.to_dictionary(), default=str, sort_keys=True)) for r in runs},
        {int(v.version): {**dict(v), "aliases": aliases.get(int(v.version), [])} for v in versions},
        {uri_: predicted(uri, uri_) for uri_ in asked},
    )


def predicted(uri: str, model: str) -> list[float]:
    import mlflow
    import numpy as np

    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    return [float(y) for y in mlflow.pyfunc.load_model(model).predict(np.array(ROWS))]


def log_models(uri: str) -> None:
    """Three versions, the second of them champion; runs that failed, were deleted, belong to another, or to a deleted experiment."""
    import mlflow
    from sklearn.linear_model import LinearRegression

    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    mlflow.set_experiment("flights")
    for number in range(3):
        with mlflow.start_run(run_name=f"train {number}"):
            mlflow.log_metric("mae", 0.1 + number)
            model = LinearRegression().fit(ROWS, [1.5 * a - b / 7 + number for a, b in ROWS])
            mlflow.sklearn.log_model(
                model, name="model", registered_model_name=MODEL, pip_requirements=["scikit-learn"]
            )
            with mlflow.start_run(nested=True):
                mlflow.log_param("fold", number)
    client = mlflow.MlflowClient(uri, uri)
    client.set_registered_model_alias(MODEL, "champion", "2")
    experiment = client.get_experiment_by_name("flights").experiment_id
    client.set_terminated(client.create_run(experiment, start_time=1_000).info.run_id, "FAILED", end_time=2_000)
    client.delete_run(client.create_run(experiment, start_time=3_000).info.run_id)
    gone = client.create_experiment("gone")
    client.create_run(gone, start_time=4_000)
    client.delete_experiment(gone)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """The registry, and what clients of its server saw; the server runs no more."""
    folder = tmp_path_factory.mktemp("source")
    with serving(folder / "mlflow.db", folder / "artifacts") as uri:
        log_models(uri)
        return seen_at(uri, folder / "mlflow.db", folder / "artifacts")


@pytest.fixture(scope="module")
def captured(source: Registry, tmp_path_factory: pytest.TempPathFactory) -> Captured:
    return capture(source.url, str(source.artifacts), tmp_path_factory.mktemp("captured"))


@pytest.fixture(scope="module")
def back(source: Registry, captured: Captured, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """The same, restored to another place and served there, with the source gone."""
    folder = tmp_path_factory.mktemp("back")
    store, artifacts = folder / "mlflow.db", folder / "artifacts"
    MlflowTarget(f"sqlite:///{store}", str(artifacts)).restore(*captured)
    hidden = source.store.parent.rename(source.store.parent.with_name("hidden"))
    try:
        with serving(store, artifacts) as uri:
            found = seen_at(uri, store, artifacts)
    finally:
        hidden.rename(source.store.parent)
    return found


def files_of(root: Path) -> dict[str, str]:
    """Digests of all files below a folder."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


# --- what it loses ----------------------------------------------------------------------------------------------------


def test_no_run_is_lost_in_silence(source: Registry, back: Registry) -> None:
    """It restored 12 of 13 runs, with exit 0. Here all are there: failed, nested and deleted ones, and those of deleted experiments."""
    assert len(source.runs) == 3 * 2 + 3
    assert back.runs.keys() == source.runs.keys()


def test_a_run_that_is_lost_on_the_way_fails_the_restore(
    source: Registry, captured: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody deletes a row while the restore runs: it says which run is lost, and leaves nothing."""
    from muster.adapters import mlflow_restore

    filled, run = mlflow_restore.fill, min(source.runs)

    def losing(connection: Any, *arguments: Any) -> Any:
        result = filled(connection, *arguments)
        connection.exec_driver_sql(f"DELETE FROM latest_metrics WHERE run_uuid = '{run}'")
        for table in ("tags", "params", "metrics", "runs"):
            connection.exec_driver_sql(f"DELETE FROM {table} WHERE run_uuid = '{run}'")
        return result

    monkeypatch.setattr(mlflow_restore, "fill", losing)
    with pytest.raises(Unfaithful, match=f"{run}.* is lost"):
        MlflowTarget(f"sqlite:///{tmp_path}/new.db", str(tmp_path / "new")).restore(*captured)
    assert list(tmp_path.iterdir()) == []


def test_run_ids_times_and_version_numbers_are_kept(source: Registry, back: Registry) -> None:
    """It gave 0 of 12 runs their ids, and versions new numbers and times. Here a client sees no difference at all."""
    assert back.runs == source.runs
    assert back.versions == source.versions
    assert sorted(back.versions) == [1, 2, 3]
    assert back.versions[2]["aliases"] == ["champion"]


def test_all_versions_of_a_server_that_proxies_artifacts_come_back(source: Registry, back: Registry) -> None:
    """It restored 0 of 3 versions of `mlflow-artifacts:` with exit 0. Here each loads by alias, number and id, and predicts to the bit."""
    with closing(sqlite3.connect(source.store)) as store:
        (places,) = zip(*store.execute("SELECT artifact_location FROM logged_models"), strict=True)
    assert all(place.startswith("mlflow-artifacts:/") for place in places)
    assert len(source.predictions) == 7
    assert back.predictions == source.predictions


# --- what it doubles or alters ----------------------------------------------------------------------------------------


def test_a_second_restore_is_refused_and_doubles_nothing(back: Registry, captured: Captured) -> None:
    """It doubled runs on a second import. Here what is there stays as it is, row by row and file by file."""
    before = content(back.url), files_of(back.artifacts)
    target = MlflowTarget(back.url, str(back.artifacts))
    for attempt in (lambda: target.check(captured[0]), lambda: target.restore(*captured)):
        with pytest.raises(TargetNotEmpty):
            attempt()
    assert (content(back.url), files_of(back.artifacts)) == before


def test_no_mlmodel_and_no_other_file_is_rewritten(source: Registry, back: Registry) -> None:
    """It rewrote `MLmodel`. Here all files are those that were logged, byte by byte, though they came to lie elsewhere."""
    files = files_of(source.artifacts)
    assert sum(path.endswith("/MLmodel") for path in files) == 3
    assert files_of(back.artifacts) == files


def test_loading_a_model_disturbs_no_hash(seeded_sqlite: SeededRegistry, tmp_path: Path) -> None:
    """MLflow writes into the folder of a model that is loaded by its name: the next point has the same files, and restores the same."""
    details, tree = capture(seeded_sqlite.store, str(seeded_sqlite.artifacts), tmp_path / "tree")
    store, root = f"sqlite:///{tmp_path}/new/mlflow.db", tmp_path / "artifacts"
    MlflowTarget(store, str(root)).restore(details, tree)
    files, (before, first) = files_of(root), capture(store, str(root), tmp_path / "first")
    assert predicted(store, "models:/flight-delay@champion") == seeded_sqlite.predictions
    written = files_of(root).keys() - files.keys()
    assert {Path(path).name for path in written} == {"registered_model_meta"}
    after, second = capture(store, str(root), tmp_path / "second")
    assert artifacts(second) == artifacts(first) == artifacts(tree)
    assert after["artifacts"] == before["artifacts"]
    assert (before["excluded"], after["excluded"]) == ({"registered_model_meta": 0}, {"registered_model_meta": 1})
    facts = MlflowTarget(f"sqlite:///{tmp_path}/again.db", str(tmp_path / "again")).restore(after, second)
    assert facts["artifacts"] == details["artifacts"]
    assert files_of(tmp_path / "again") == files


def artifacts(tree: FolderTree) -> dict[str, str]:
    return {e.path: e.content.sha256 for e in tree.entries() if e.path.startswith("artifacts/") and e.content}


# --- what it accepts --------------------------------------------------------------------------------------------------


def test_a_truncated_file_in_the_vault_is_not_accepted(source: Registry, tmp_path: Path) -> None:
    """It took a truncated export for a whole one. Here the restore fails and leaves nothing, and a verification names what is damaged."""
    platform = platform_of(tmp_path, source.url, source.artifacts)
    status = platform.snapshot(platform.catalog.workload("models"))
    pack = max((tmp_path / "vault" / "packs").rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
    pack.chmod(0o644)
    pack.write_bytes(pack.read_bytes()[: pack.stat().st_size // 2])
    again = platform_reopened(tmp_path)
    with pytest.raises(IntegrityError, match="cannot be read"):
        restored(again, status, "bench")
    with pytest.raises(IntegrityError, match=pack.name):
        verify_points(again.vault("primary"), [status], 1.0, again.clock)
    assert not [path for path in (tmp_path / "bench").rglob("*") if path.is_file()]


def platform_reopened(folder: Path) -> Any:
    """The same platform, as another process has it: nothing is in its memory."""
    from muster.bootstrap import Platform
    from muster.catalog import load_catalog

    places = {"conn:vault": (folder / "vault").as_uri(), "conn:passphrase": "correct horse battery staple"}
    catalog = load_catalog(folder / "include" / "catalog")
    return Platform(catalog, lambda ref: places.get(ref, ref), state=folder / "state", actor=ACTOR)


@pytest.mark.parametrize("harm", ["truncated", "removed"])
def test_a_truncated_model_file_at_the_source_is_not_accepted(source: Registry, harm: str, tmp_path: Path) -> None:
    """What `MLmodel` says of the size of a model is held against the files: version, run and both sizes are named, before any is read."""
    root = Path(shutil.copytree(source.artifacts, tmp_path / "artifacts"))
    folder = next(path for path in root.rglob("MLmodel") if source.versions[2]["source"][8:] in str(path)).parent
    model = folder / "model.skops"
    whole = model.stat().st_size
    capture(source.url, str(root), tmp_path / "whole")
    if harm == "truncated":
        model.write_bytes(model.read_bytes()[:-1])
        left = whole - 1
    else:
        model.unlink()
        left = 0
    with (
        pytest.raises(SourceInvalid) as caught,
        MlflowSource("w", source.url, str(root)).capture(None) as cut,
    ):
        FolderTree(tmp_path / "tree").store(cut.files())
    run = source.versions[2]["run_id"]
    told = f"version 2 of model {MODEL} of run {run} has "
    assert caught.value.message.startswith(told)
    assert f"of artifacts at {folder}" in caught.value.message
    found, promised = (int(word) for word in caught.value.message.removeprefix(told).split()[:3:2])
    assert promised - found == whole - left
    assert not (tmp_path / "tree").exists() or not any((tmp_path / "tree").iterdir())
