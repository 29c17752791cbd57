"""Fixtures that several test modules share."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(
    "any machine"
)  # how long an example takes says nothing of what it shows, where others are at work

pytest.register_assert_rewrite(
    "contract.blob_store", "faults.comparing", "faults.kills", "faults.killed_expiries", "faults.killed_snapshots"
)

pytest_plugins = [
    "artifact_buckets",
    "cloud_servers",
    "dvc_repositories",
    "environments",
    "kms",
    "live_registries",
    "mysql",
    "postgres",
    "registry_further",
    "registry_meddled",
    "registry_seed",
    "registry_tables",
    "rest_registries",
    "servers",
]


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup() -> Iterator[None]:
    """What a fixture tells MLflow of its store is not what the next fixture, or the test, works on."""
    try:
        return (yield)
    finally:
        forget_mlflow_store()


@pytest.fixture(autouse=True)
def mlflow_store_forgotten() -> Iterator[None]:
    """What a test tells MLflow of its store ends with the test."""
    yield
    forget_mlflow_store()


def forget_mlflow_store() -> None:
    """MLflow keeps the store and the experiment in globals and in the environment, where every program that we start finds them."""
    if "mlflow" not in sys.modules:
        return
    import mlflow
    from mlflow.environment_variables import MLFLOW_EXPERIMENT_ID, MLFLOW_REGISTRY_URI
    from mlflow.tracking import fluent
    from mlflow.tracking._model_registry import utils as registry

    mlflow.set_tracking_uri(None)
    registry._registry_uri = None
    fluent._active_experiment_id = None
    MLFLOW_REGISTRY_URI.unset()
    MLFLOW_EXPERIMENT_ID.unset()
