"""A small MLflow registry with everything in it that restores tend to lose, made through MLflow's own client."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fakes_trees import FolderTree
from muster.adapters.mlflow_registry import MlflowSource
from muster.adapters.mlflow_store import StoreUrl
from mysql import MariaDb
from postgres import Cluster

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS", "true")  # only so that one can be made without a name server
os.environ.setdefault("MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY", "3Yxb5x0jCmbYXX2cXjFJJ8n2Y0Bfj5WJvZ8yH3oT5rM=")

Captured = tuple[dict[str, Any], FolderTree]
UNICODE = "Zürich ✈ 東京 \u2028 \"quoted\" \\ 'x'\nline"
ROWS = [[float(i), float(i % 3)] for i in range(12)]


@dataclass(frozen=True)
class SeededRegistry:
    """
    What was made.

    :param store: URL of the tracking store, as MLflow takes it
    :param artifacts: the artifact root
    :param predictions: answers of ``models:/flight-delay@champion`` to `ROWS`
    """

    store: str
    artifacts: Path
    experiment: str
    champion_run: str
    deleted_run: str
    predictions: list[float]


def seed_registry(store: str, artifacts: Path) -> SeededRegistry:
    """
    Fill an empty store: two models, the first with versions 1, 3 (aliases champion, challenger) after a deleted 2; a prompt; a trace;
    a webhook; a deleted run and experiment; metrics with NaN and infinities; text that breaks naive escaping; a dataset input.
    """
    import mlflow
    import numpy as np
    from mlflow import MlflowClient

    mlflow.set_tracking_uri(store)
    mlflow.set_registry_uri(store)
    empty_store(store, artifacts)
    client = MlflowClient(store, store)
    experiment = client.create_experiment(f"flights {UNICODE}", artifacts.joinpath("1").as_posix())
    mlflow.set_experiment(experiment_id=experiment)
    runs = [_logged_run(number) for number in range(3)]
    client.delete_model_version("flight-delay", "2")
    client.set_registered_model_alias("flight-delay", "champion", "3")
    client.set_registered_model_alias("flight-delay", "challenger", "1")
    client.set_registered_model_tag("flight-delay", "team", UNICODE)
    client.set_model_version_tag("flight-delay", "3", "trained on", "flights@2013")
    client.update_model_version("flight-delay", "1", UNICODE)
    client.create_registered_model("empty-model")
    _prompt_trace_and_webhook(client, experiment)
    deleted = client.create_run(experiment).info.run_id
    client.log_param(deleted, "source", f"{artifacts}/somewhere")
    client.delete_run(deleted)
    client.delete_experiment(client.create_experiment("gone", artifacts.joinpath("gone").as_posix()))
    model = mlflow.pyfunc.load_model("models:/flight-delay@champion")
    return SeededRegistry(
        store, artifacts, experiment, runs[-1], deleted, [float(y) for y in model.predict(np.array(ROWS))]
    )


def _logged_run(number: int) -> str:
    import mlflow
    import numpy as np
    import pandas as pd
    from sklearn.linear_model import LinearRegression

    with mlflow.start_run(run_name=f"train {number} {UNICODE}") as run:
        mlflow.log_params({"alpha": 0.1 * number, "note": UNICODE})
        for step, value in enumerate((0.1 + number, math.nan, math.inf, -math.inf, 1e-300)):
            mlflow.log_metric("delay_mae", value, step=step)
        mlflow.log_text(UNICODE, "notes/ünïcode file.txt")
        frame = pd.DataFrame(ROWS, columns=["a", "b"])
        mlflow.log_input(mlflow.data.from_pandas(frame, source="flights.csv", name="flights"), context="training")
        model = LinearRegression().fit(ROWS, [1.5 * a - b / 7 + number for a, b in ROWS])
        mlflow.sklearn.log_model(
            model,
            name="model",
            registered_model_name="flight-delay",
            input_example=np.array(ROWS[:2]),
            pip_requirements=["scikit-learn"],
        )
    return str(run.info.run_id)


def _prompt_trace_and_webhook(client: Any, experiment: str) -> None:
    import mlflow
    from mlflow.entities.webhook import WebhookAction, WebhookEntity, WebhookEvent

    mlflow.genai.register_prompt("explain-delay", "Explain {{delay}} to {{who}}: " + UNICODE, commit_message="first")
    mlflow.genai.register_prompt("explain-delay", "Explain {{delay}}.", commit_message="second")
    mlflow.genai.set_prompt_alias("explain-delay", "live", 1)
    with mlflow.start_span("answer") as span:
        span.set_inputs({"q": UNICODE})
        with mlflow.start_span("look up") as inner:
            inner.set_outputs({"rows": 3})
        span.set_outputs({"a": 42})
    mlflow.flush_trace_async_logging()
    mlflow.log_feedback(trace_id=span.trace_id, name="good", value=True, rationale=UNICODE)
    event = WebhookEvent(WebhookEntity.MODEL_VERSION, WebhookAction.CREATED)
    client.create_webhook("watch", "https://127.0.0.1:9/muster", [event], secret="s3cret")


def empty_store(store: str, artifacts: Path) -> None:
    """What a server leaves when it starts on an empty database."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    SqlAlchemyStore(store, str(artifacts)).engine.dispose()


@pytest.fixture(scope="session")
def seeded_sqlite(tmp_path_factory: pytest.TempPathFactory) -> SeededRegistry:
    """The full registry on SQLite. Nobody writes to it."""
    folder = tmp_path_factory.mktemp("seeded")
    return seed_registry(f"sqlite:///{folder}/mlflow.db", folder / "old artifacts")


@pytest.fixture(scope="session")
def seeded_postgres(embedded_postgres: Cluster, tmp_path_factory: pytest.TempPathFactory) -> SeededRegistry:
    """The full registry on PostgreSQL. Nobody writes to it."""
    url = driven(embedded_postgres.database())
    return seed_registry(url, tmp_path_factory.mktemp("seeded-pg") / "old artifacts")


@pytest.fixture(scope="session")
def seeded_mariadb(mariadb: MariaDb, tmp_path_factory: pytest.TempPathFactory) -> SeededRegistry:
    """The full registry on MariaDB. Nobody writes to it."""
    return seed_registry(driven(mariadb.database()), tmp_path_factory.mktemp("seeded-maria") / "old artifacts")


@pytest.fixture(scope="session")
def mariadb_store(mariadb: MariaDb, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """URL and artifact root of a store on MariaDB that MLflow has made. Tests may add runs to it."""
    url, artifacts = mariadb.database(), tmp_path_factory.mktemp("maria") / "artifacts"
    empty_store(driven(url), artifacts)
    return url, str(artifacts)


@pytest.fixture(scope="session")
def _empty_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("empty")
    empty_store(f"sqlite:///{folder}/mlflow.db", Path("/ROOT"))
    return folder / "mlflow.db"


@dataclass(frozen=True)
class SmallStore:
    """An SQLite store with a schema and the default experiment, to put rows into by hand."""

    file: Path
    artifacts: Path

    @property
    def url(self) -> str:
        return f"sqlite:///{self.file}"

    def execute(self, statement: str, *parameters: Any) -> list[Any]:
        with closing(sqlite3.connect(self.file)) as connection, connection:
            return connection.execute(statement, parameters).fetchall()

    def add_run(self, run: str, location: str | None = None) -> Path:
        """A run, its artifact folder not made."""
        folder = self.artifacts / "0" / run / "artifacts"
        self.execute(
            "INSERT INTO runs (run_uuid, name, experiment_id, lifecycle_stage, status, artifact_uri, source_type, user_id, start_time)"
            " VALUES (?, ?, 0, 'active', 'FINISHED', ?, 'LOCAL', 'ada', 1)",
            run,
            f"name of {run}",
            location or str(folder),
        )
        return folder

    def add_version(self, name: str, version: int, source: str, run: str | None = None) -> None:
        self.execute("INSERT OR IGNORE INTO registered_models (name, workspace) VALUES (?, 'default')", name)
        self.execute(
            "INSERT INTO model_versions (name, workspace, version, source, run_id, current_stage)"
            " VALUES (?, 'default', ?, ?, ?, 'None')",
            name,
            version,
            source,
            run,
        )


@pytest.fixture
def small_store(_empty_sqlite: Path, tmp_path: Path) -> SmallStore:
    """A fresh copy for each test."""
    store = SmallStore(Path(shutil.copy(_empty_sqlite, tmp_path / "small.db")), tmp_path / "artifacts")
    store.artifacts.mkdir()
    store.execute("UPDATE experiments SET artifact_location = ?", f"{store.artifacts}/0")
    return store


@pytest.fixture
def captured(small_store: SmallStore, tmp_path: Path) -> Captured:
    """A captured store with one run, one parameter and two artifacts."""
    folder = small_store.add_run("r1")
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "sub" / "b.txt").write_text("b")
    small_store.execute("INSERT INTO params (key, value, run_uuid) VALUES ('k', 'v', 'r1')")
    return capture(small_store.url, str(small_store.artifacts), tmp_path / "tree")


def capture(url: str, artifacts: str, folder: Path, **options: Any) -> Captured:
    """Details as they come back from a manifest, and the tree."""
    with MlflowSource("w", url, artifacts, **options).capture(None) as cut:
        tree = FolderTree(folder).store(cut.files())
        cut.confirm()
        return json.loads(json.dumps(cut.details())), tree


def driven(url: str) -> str:
    """The URL of a store, with the driver that MLflow needs."""
    return StoreUrl.parse(url).url


def query(url: str, statement: str) -> list[Any]:
    import sqlalchemy as sa

    with sa.create_engine(driven(url), poolclass=sa.NullPool).begin() as connection:
        result = connection.execute(sa.text(statement))
        return [tuple(row) for row in result] if result.returns_rows else []


def fill(url: str, table: str, **values: Any) -> None:
    """One row. Columns that must have a value and get none here get a plain one."""
    import sqlalchemy as sa

    plain = {int: 1, float: 0.5, str: "x", bytes: b"x", bool: False}
    with sa.create_engine(driven(url), poolclass=sa.NullPool).begin() as connection:
        found = sa.Table(table, sa.MetaData(), autoload_with=connection)
        for column in found.columns:
            if not (column.nullable or column.computed is not None or column.server_default or column.name in values):
                values[column.name] = plain[column.type.python_type]
        connection.execute(found.insert(), values)


def content(url: str) -> Any:
    """Everything in a database, or None if there is no such file."""
    import sqlalchemy as sa

    if url.startswith("sqlite") and not Path(url.removeprefix("sqlite:///")).exists():
        return None
    with sa.create_engine(driven(url), poolclass=sa.NullPool).connect() as connection:
        metadata = sa.MetaData()
        metadata.reflect(connection)
        return {n: sorted(map(repr, connection.execute(t.select()))) for n, t in metadata.tables.items()}


def spoil_a_row(tree: FolderTree, details: dict[str, Any]) -> None:
    """Rows whose digest fits and which yet cannot go in: only the database notices, halfway through."""
    rows = b'["k","v",null]\n'
    tree.replace("tables/params.jsonl", rows)
    details["tables"]["params"] = {"rows": 1, "sha256": hashlib.sha256(rows).hexdigest()}


def views(store: str) -> dict[str, Any]:
    """What MLflow's API says of a store, with unordered lists sorted; locations are left in."""
    import mlflow
    from mlflow import MlflowClient
    from mlflow.entities import ViewType

    mlflow.set_tracking_uri(store)
    mlflow.set_registry_uri(store)
    client = MlflowClient(store, store)
    experiments = sorted(client.search_experiments(view_type=ViewType.ALL), key=lambda e: e.experiment_id)
    ids = [e.experiment_id for e in experiments]
    runs = sorted(client.search_runs(ids, run_view_type=ViewType.ALL), key=lambda r: r.info.run_id)
    history = {r.info.run_id: [repr(m) for m in client.get_metric_history(r.info.run_id, "delay_mae")] for r in runs}
    prompts = [mlflow.genai.load_prompt(f"prompts:/explain-delay/{n}") for n in (1, 2)]
    traces = client.search_traces(locations=ids)
    return {
        "experiments": [sorted_repr(e.to_proto()) for e in experiments] if experiments else [],
        "runs": [repr(_plain(r.to_dictionary())) for r in runs],
        "history": {run: sorted(values) for run, values in history.items()},
        "models": [repr(_plain(dict(m))) for m in sorted(client.search_registered_models(), key=lambda m: m.name)],
        "versions": [repr(_plain(dict(v))) for v in _versions(client)],
        "logged": sorted(repr(_plain(m.to_dictionary())) for m in client.search_logged_models(ids)),
        "prompts": [(p.template, p.version, sorted(p.aliases), p.commit_message) for p in prompts],
        "traces": [repr(_plain(t.to_dict())) for t in sorted(traces, key=lambda t: t.info.trace_id)],
        "webhooks": [repr(w) for w in client.list_webhooks()],
    }


def _versions(client: Any) -> list[Any]:
    return sorted(client.search_model_versions(), key=lambda v: (v.name, int(v.version)))


def sorted_repr(message: Any) -> str:
    """A protobuf message as text, lines sorted: the order of repeated fields means nothing here."""
    return "\n".join(sorted(str(message).splitlines()))


def _plain(value: Any) -> Any:
    """Nested data with dictionaries and lists in one order, and objects as their attributes."""
    if isinstance(value, dict):
        return {str(k): _plain(value[k]) for k in sorted(value, key=str)}
    if isinstance(value, list | tuple | set):
        return sorted((_plain(v) for v in value), key=repr)
    if hasattr(value, "to_dictionary"):
        return _plain(value.to_dictionary())
    if hasattr(value, "__dict__") and not isinstance(value, type):
        return _plain(vars(value))
    return value
