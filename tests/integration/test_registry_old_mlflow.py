"""A registry that MLflow 2.22 itself has made comes back on the installed MLflow, and its models answer as they did."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import muster
from muster.adapters.mlflow_registry import MlflowTarget
from muster.adapters.mlflow_revisions import mlflow_version
from registry_seed import ROWS, Captured, capture

pytestmark = pytest.mark.servers

OLD = "2.22.2"
REVISION = "0584bdc529eb"
"""Of the schema of that MLflow."""
OF_ITS_TIME = ("sqlalchemy<2.1", "alembic<2", "numpy<3", "pandas<3")
TRAIN = """
import json, sys
import mlflow, numpy as np
from sklearn.linear_model import LinearRegression

store, artifacts, rows = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
mlflow.set_tracking_uri(store)
client = mlflow.MlflowClient()
mlflow.set_experiment(experiment_id=client.create_experiment("old days", artifacts))
for number in range(3):
    with mlflow.start_run(run_name=f"train {number}") as run:
        mlflow.log_metric("mae", 0.5 + number, step=number)
        model = LinearRegression().fit(rows, [1.5 * a - b / 7 + number for a, b in rows])
        mlflow.sklearn.log_model(model, "model", registered_model_name="delay", pip_requirements=["scikit-learn"])
client.delete_model_version("delay", "1")
client.set_registered_model_alias("delay", "champion", "3")
client.transition_model_version_stage("delay", "2", "Production")
asked = {uri: [float(y) for y in mlflow.pyfunc.load_model(uri).predict(np.array(rows))]
         for uri in ("models:/delay@champion", "models:/delay/2", f"runs:/{run.info.run_id}/model")}
runs = {r.info.run_id: [r.info.start_time, r.info.end_time, r.data.metrics] for r in client.search_runs(["1"])}
versions = {v.version: [v.creation_timestamp, v.run_id, v.current_stage] for v in client.search_model_versions("name='delay'")}
print(json.dumps({"mlflow": mlflow.__version__, "asked": asked, "runs": runs, "versions": versions}))
"""


PLAN = """
import json, sys
from muster.adapters.mlflow_registry import MlflowTarget
from muster.errors import SourceInvalid

try:
    MlflowTarget(sys.argv[1], sys.argv[2]).check(json.loads(sys.argv[3]))
except SourceInvalid as error:
    print(json.dumps([error.message, error.hint]))
"""


@dataclass(frozen=True)
class OldRegistry:
    """
    What the old MLflow made.

    :param said: its version, what its models answered, what its client saw
    :param python: of its environment
    """

    folder: Path
    python: Path
    said: dict[str, Any]

    @property
    def store(self) -> str:
        return f"sqlite:///{self.folder}/mlflow.db"

    @property
    def artifacts(self) -> Path:
        return self.folder / "artifacts"


@pytest.fixture(scope="session")
def old_registry(tmp_path_factory: pytest.TempPathFactory) -> OldRegistry:
    """A registry with three models of MLflow 2.22, made in an environment of its own from the package index."""
    folder = tmp_path_factory.mktemp("old")
    uv, python = Path(sys.executable).with_name("uv"), folder / "venv" / "bin" / "python"
    same = [f"{name}=={version(name)}" for name in ("scikit-learn", "msgspec")]
    packages = [f"mlflow-skinny=={OLD}", *same, *OF_ITS_TIME]
    subprocess.run([uv, "venv", "-q", "-p", sys.executable, folder / "venv"], check=True)
    subprocess.run([uv, "pip", "install", "-q", "-p", python, *packages], check=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "PYTHON"))}
    command = [python, "-c", TRAIN, f"sqlite:///{folder}/mlflow.db", folder / "artifacts", json.dumps(ROWS)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=folder, env=environment)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["mlflow"] == OLD
    return OldRegistry(folder, python, said)


def test_a_registry_of_mlflow_2_comes_back_and_its_models_answer_as_before(
    old_registry: OldRegistry, tmp_path: Path
) -> None:
    """With the source gone: by alias, version and run to the bit; ids, times, stages and numbers are kept, and counting goes on."""
    import mlflow
    import numpy as np

    details, tree = capture(old_registry.store, str(old_registry.artifacts), tmp_path / "tree")
    assert details["alembic_revision"] == REVISION
    store, root = f"sqlite:///{tmp_path}/new/mlflow.db", tmp_path / "artifacts"
    hidden = old_registry.artifacts.rename(old_registry.folder / "hidden")
    try:
        facts = MlflowTarget(store, str(root)).restore(details, tree)
        assert facts["mlflow_version"] == mlflow_version() != OLD
        assert facts["fidelity_report"]["upgraded"][0] == REVISION
        assert facts["fidelity_report"]["differing"] == 0
        mlflow.set_tracking_uri(store)
        mlflow.set_registry_uri(store)
        for uri, answers in old_registry.said["asked"].items():
            assert [float(y) for y in mlflow.pyfunc.load_model(uri).predict(np.array(ROWS))] == answers
        client = mlflow.MlflowClient(store, store)
        runs = {r.info.run_id: [r.info.start_time, r.info.end_time, r.data.metrics] for r in client.search_runs(["1"])}
        assert runs == old_registry.said["runs"]
        versions = client.search_model_versions("name = 'delay'")
        assert {str(v.version): [v.creation_timestamp, v.run_id, v.current_stage] for v in versions} == (
            {str(number): facts for number, facts in old_registry.said["versions"].items()}
        )
        source = client.get_model_version("delay", "3").source
        assert int(client.create_model_version("delay", source).version) == 4
    finally:
        hidden.rename(old_registry.artifacts)


def test_files_of_the_old_registry_are_the_same_afterwards(old_registry: OldRegistry, tmp_path: Path) -> None:
    """Neither `MLmodel`, which says by which MLflow it was written, nor pickles are touched."""
    details, tree = capture(old_registry.store, str(old_registry.artifacts), tmp_path / "tree")
    MlflowTarget(f"sqlite:///{tmp_path}/new.db", str(tmp_path / "new")).restore(details, tree)
    files = [path.relative_to(old_registry.artifacts) for path in old_registry.artifacts.rglob("*") if path.is_file()]
    taken = [path for path in files if path.name != "registered_model_meta"]
    assert sum(path.name == "MLmodel" for path in taken) == 3
    for path in taken:
        assert (tmp_path / "new" / path).read_bytes() == (old_registry.artifacts / path).read_bytes()


def test_the_old_mlflow_refuses_a_newer_registry_when_it_is_planned(
    old_registry: OldRegistry, captured: Captured, tmp_path: Path
) -> None:
    """Where MLflow 2.22 is installed, a registry of the newer one cannot go: revision and needed version are said, and nothing is made."""
    details = captured[0]
    place = [f"sqlite:///{tmp_path}/new/mlflow.db", str(tmp_path / "new")]
    command = [old_registry.python, "-c", PLAN, *place, json.dumps(details)]
    environment = os.environ | {"PYTHONPATH": str(Path(muster.__file__).parent.parent)}
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    message, hint = json.loads(done.stdout.splitlines()[-1])
    assert details["alembic_revision"] in message
    assert f"MLflow {OLD} does not know" in message
    assert hint == f"install mlflow=={mlflow_version()} or later"
    assert not (tmp_path / "new").exists()
