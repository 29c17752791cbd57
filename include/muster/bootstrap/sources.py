"""From where the components of a workload are read, as its catalog says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from muster.adapters.configuration import ConfigurationSource
from muster.adapters.dvc_datasets import DvcSource
from muster.adapters.mlflow_registry import MlflowSource
from muster.adapters.mlflow_rest_source import MlflowRestSource
from muster.adapters.uv_environment import EnvironmentSource
from muster.bootstrap.places import Places
from muster.catalog import Anomaly, Registry, Workload
from muster.domain.anomaly import Limits
from muster.errors import CatalogError
from muster.operations.smoke import Question
from muster.operations.take import SnapshotJob
from muster.ports import ComponentSource


def snapshot_job(workload: Workload, places: Places, state: Path) -> SnapshotJob:
    """
    What a point of a workload must hold, and from where it is read.

    :param state: a folder for what need not be fetched or asked again
    :raises CatalogError: if expectations cannot be read
    """
    registry = places.registry(workload.registry)
    return SnapshotJob(
        workload=workload.workload,
        sources=tuple(_sources(workload, places, state)),
        suites={d.name: _suite(Path(d.expectations)) for d in workload.datasets if d.expectations},
        questions=tuple(Question(s.model, s.rtol, s.atol) for s in workload.smoke),
        store=(registry["store"], registry["artifacts"]) if registry.keys() >= {"store", "artifacts"} else None,
        objectives={
            "rpo_s": workload.objectives.rpo.total_seconds(),
            "rto_s": workload.objectives.rto.total_seconds(),
        },
        catalog=workload.model_dump(mode="json", exclude={"root", "source"}),
        lock=workload.retention.lock if workload.retention else None,
        limits=_limits(workload.anomaly),
    )


def _sources(workload: Workload, places: Places, state: Path) -> Iterator[ComponentSource]:
    name, root = workload.workload, workload.root
    for dataset in workload.datasets:
        repository = places.folder(root, dataset.repo)
        yield DvcSource(dataset.name, repository, targets=dataset.targets, source=dataset.source)
    if workload.registry:
        yield _registry(name, workload.registry, places, state)
    if environment := workload.environment:
        lock = places.folder(root, environment.lock)
        yield EnvironmentSource(name, lock, environment.python, wheel_cache=state / "wheels")
    if configuration := workload.protected_configuration:
        values = {reference: places.resolve(reference) for reference in configuration.secrets}
        yield ConfigurationSource(name, root, configuration.files, configuration.env, values)


def _registry(name: str, registry: Registry, places: Places, state: Path) -> ComponentSource:
    found, incomplete = places.registry(registry), registry.missing_artifacts == "incomplete"
    if "server" in found:
        server = places.server(found["server"], found.get("token"))
        return MlflowRestSource(name, server, kept=state / "rest", incomplete=incomplete)
    return MlflowSource(
        name,
        found["store"],
        found["artifacts"],
        auth_store_url=found.get("auth_store"),
        incomplete=incomplete,
        only=registry.models if registry.scope == "models" else (),
        keys=places.server_keys(registry),
    )


def _limits(anomaly: Anomaly) -> Limits | None:
    return Limits(anomaly.spoiled, anomaly.converted, anomaly.shrunk) if anomaly.judge else None


def _suite(path: Path) -> dict[str, Any]:
    try:
        suite = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CatalogError(
            f"the expectations {path} cannot be read: {error}", "they are JSON, as Great Expectations writes it"
        ) from error
    if not isinstance(suite, dict):
        raise CatalogError(
            f"the expectations {path} are not a JSON object", "they are JSON, as Great Expectations writes it"
        )
    return suite
