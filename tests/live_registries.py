"""A registry in use with several models in it, on each engine, a point of it, and what can go wrong with one of them."""

from __future__ import annotations

import secrets
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from fakes_trees import FolderTree
from muster.adapters.mlflow_merge import MlflowMerge
from muster.adapters.mlflow_registry import MlflowTarget
from muster.domain.merge_plan import MergePlan, OnConflict
from muster.domain.selection import Wanted
from postgres import Cluster
from registry_seed import ROWS, Captured, SeededRegistry, capture, content, driven, query, seed_registry

MODEL, OTHER = "flight-delay", "weather"


@dataclass(frozen=True)
class LiveRegistry:
    """
    A registry in use.

    :param details: of the point that was taken of it
    :param answers: what each model said then, by its URI
    """

    url: str
    artifacts: Path
    details: dict[str, Any]
    tree: FolderTree
    answers: dict[str, list[float]]

    @property
    def client(self) -> Any:
        return client_of(self.url)

    @property
    def merge(self) -> MlflowMerge:
        return MlflowMerge(self.url, str(self.artifacts))

    def plan(self, *models: str) -> MergePlan:
        return self.merge.plan(self.details, self.tree, [Wanted.parse(model) for model in models])

    def roll_back(self, *models: str, rule: OnConflict = "refuse") -> MergePlan:
        return self.merge.merge(self.details, self.tree, [Wanted.parse(model) for model in models], rule)

    def ask(self, model: str) -> list[float]:
        """What a model says now."""
        return answer(self.url, model)

    def state(self) -> tuple[Any, dict[str, tuple[bytes, int]]]:
        """All rows and all files, but for the one that MLflow writes when it loads."""
        files = {
            str(path.relative_to(self.artifacts)): (path.read_bytes(), path.stat().st_mtime_ns)
            for path in sorted(self.artifacts.rglob("*"))
            if path.is_file() and path.name != "registered_model_meta"
        }
        return content(self.url), files

    def lose_a_version(self) -> tuple[str, str]:
        """Move the alias, delete the version, collect its run, logged model and artifacts; the ids of run and logged model."""
        client = self.client
        version = client.get_model_version_by_alias(MODEL, "champion")
        model = client.get_logged_model(version.source.removeprefix("models:/"))
        client.set_registered_model_alias(MODEL, "champion", "1")
        client.delete_model_version(MODEL, version.version)
        client.delete_run(version.run_id)
        client.delete_logged_model(model.model_id)
        self.collect(version.run_id, model.model_id)
        return version.run_id, model.model_id

    def collect(self, run: str, model: str) -> None:
        """What ``mlflow gc`` does."""
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        store: Any = SqlAlchemyStore(driven(self.url), str(self.artifacts))
        places = [store.get_run(run).info.artifact_uri, query_one(self.url, "logged_models", "model_id", model)]
        store._hard_delete_run(run)
        store._hard_delete_logged_model(model)
        for place in places:
            shutil.rmtree(place.removeprefix("file://"))


def query_one(url: str, table: str, key: str, value: str) -> str:
    return str(query(url, f"SELECT artifact_location FROM {table} WHERE {key} = '{value}'")[0][0])


def add_models(old: SeededRegistry) -> None:
    """Another model with two versions of runs of its own; and the champion's run gets a parent and a prompt."""
    import mlflow
    import numpy as np
    from mlflow import MlflowClient
    from sklearn.linear_model import LinearRegression

    client = MlflowClient(old.store, old.store)
    elsewhere = old.artifacts.with_name("elsewhere").as_posix()  # not below the artifact root, as experiments may lie
    mlflow.set_experiment(experiment_id=client.create_experiment("storms", elsewhere))
    for number in range(2):
        with mlflow.start_run():
            mlflow.log_metric("mae", 0.25 * number)
            model = LinearRegression().fit(ROWS, [a + b * number for a, b in ROWS])
            mlflow.sklearn.log_model(
                model, name="model", registered_model_name=OTHER, input_example=np.array(ROWS[:2]),
                pip_requirements=["scikit-learn"],
            )  # fmt: skip
    client.set_registered_model_alias(OTHER, "champion", "2")
    parent = client.create_run(old.experiment, run_name="search")
    client.log_text(parent.info.run_id, "all that was tried", "search.txt")
    client.set_tag(old.champion_run, "mlflow.parentRunId", parent.info.run_id)
    client.set_tag(old.champion_run, "mlflow.linkedPrompts", '[{"name": "explain-delay", "version": "2"}]')


def client_of(url: str) -> Any:
    """MLflow's client, and MLflow itself, on a store."""
    import mlflow
    from mlflow import MlflowClient

    mlflow.set_tracking_uri(driven(url))
    mlflow.set_registry_uri(driven(url))
    return MlflowClient(driven(url), driven(url))


def answer(url: str, model: str) -> list[float]:
    """What a model says."""
    import mlflow
    import numpy as np

    client_of(url)
    return [float(y) for y in mlflow.pyfunc.load_model(model).predict(np.array(ROWS))]


Several = tuple[Captured, dict[str, list[float]]]


@pytest.fixture(scope="session")
def several_models(tmp_path_factory: pytest.TempPathFactory) -> Several:
    """A captured registry with several models, and what their champions say."""
    folder = tmp_path_factory.mktemp("several")
    old = seed_registry(f"sqlite:///{folder}/mlflow.db", folder / "artifacts")
    add_models(old)
    uris = [f"models:/{name}@champion" for name in (MODEL, OTHER)]
    answers = {uri: answer(old.store, uri) for uri in uris}
    return capture(old.store, str(old.artifacts), folder / "tree"), answers


@dataclass(frozen=True)
class Base:
    """
    A registry of which each test gets its own copy, at the same place, for it names where its artifacts lie.

    :param kept: a folder with the copy, and an SQLite store in it
    """

    live: LiveRegistry
    kept: Path

    def fresh(self) -> LiveRegistry:
        shutil.rmtree(self.live.artifacts, ignore_errors=True)
        shutil.copytree(self.kept / "artifacts", self.live.artifacts)
        if not self.live.url.startswith("sqlite"):
            return replace(self.live, url=copied(self.live.url))
        with (  # into the same file: MLflow keeps it open
            closing(sqlite3.connect(self.kept / "mlflow.db")) as kept,
            closing(sqlite3.connect(self.live.artifacts.with_name("mlflow.db"))) as live,
        ):
            kept.backup(live)
        return self.live


def copied(url: str) -> str:
    """Another PostgreSQL database with the same in it."""
    import psycopg2

    name, new = url.partition("?")[0].rpartition("/")[2], f"t{secrets.token_hex(6)}"
    connection = psycopg2.connect(url.replace(name, "postgres"))
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        cursor.execute(f"CREATE DATABASE {new} TEMPLATE {name}")
    connection.close()
    return url.replace(name, new)


def make_base(several: Several, url: str, folder: Path) -> Base:
    live = made_live(several, url, folder)
    shutil.copytree(live.artifacts.parent, folder / "kept")
    return Base(live, folder / "kept")


@pytest.fixture(scope="session")
def _sqlite_base(several_models: Several, tmp_path_factory: pytest.TempPathFactory) -> Base:
    folder = tmp_path_factory.mktemp("live")
    return make_base(several_models, f"sqlite:///{folder}/live/mlflow.db", folder)


@pytest.fixture(scope="session")
def _postgres_base(
    several_models: Several, embedded_postgres: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Base:
    return make_base(several_models, embedded_postgres.database(), tmp_path_factory.mktemp("live-pg"))


@pytest.fixture(params=["sqlite", "postgres", pytest.param("mariadb", marks=pytest.mark.servers)])
def live(request: pytest.FixtureRequest, several_models: Several, tmp_path: Path) -> LiveRegistry:
    """A registry in use on each engine, and a point of it."""
    if request.param == "mariadb":
        return made_live(several_models, request.getfixturevalue("mariadb").database(), tmp_path)
    base: Base = request.getfixturevalue(f"_{request.param}_base")
    return base.fresh()


@pytest.fixture
def live_sqlite(_sqlite_base: Base) -> LiveRegistry:
    """A registry in use on SQLite, and a point of it."""
    return _sqlite_base.fresh()


def made_live(several: Several, url: str, folder: Path) -> LiveRegistry:
    """The registry with several models, restored to a place of its own, and a point of it there."""
    captured, answers = several
    artifacts = folder / "live" / "artifacts"
    MlflowTarget(url, str(artifacts)).restore(*captured)
    details, tree = capture(url, str(artifacts), folder / "point")
    return LiveRegistry(url, artifacts, details, tree, answers)
