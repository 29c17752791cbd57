"""Where a point may be restored to: the places that a catalog or a person names, and what fills them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from muster.adapters.configuration import ConfigurationTarget
from muster.adapters.dvc_datasets import DvcTarget
from muster.adapters.mlflow_registry import MlflowTarget
from muster.adapters.mlflow_rest_tally import REDUCED
from muster.adapters.mlflow_rest_target import MlflowRestStoreTarget, MlflowRestTarget
from muster.adapters.path_target import PathTarget
from muster.adapters.switching import switch_of
from muster.adapters.uv_environment import EnvironmentTarget
from muster.bootstrap.places import Places
from muster.catalog import Workload
from muster.domain.recovery_point import Component, PointStatus
from muster.domain.restore_plan import place_of
from muster.domain.restore_target import RestoreTarget, target_below
from muster.errors import UsageError
from muster.ports import ComponentTarget


@dataclass(frozen=True, slots=True)
class Targets:
    """
    Finds the places of a restore.

    :param ours: a folder of our own, for what has no place at the origin
    """

    places: Places
    ours: Path

    def find(self, workload: Workload | None, status: PointStatus, to: str) -> RestoreTarget:
        """
        The place that a restore is asked to fill.

        :param to: ``origin`` (where the workload lives), the name of one of its catalogued targets, or a folder
        :raises UsageError: if it is none of these
        """
        names = [component.name for component in status.point.of_kind("dataset")]
        if workload and to == "origin":
            return self._origin(workload, status)
        if workload and to in workload.targets:
            return self._catalogued(workload, names, to)
        if "/" in to or to.startswith("."):
            return target_below(str(Path(to).absolute()), names)
        known = ", ".join(["origin", *sorted(workload.targets)]) if workload else "no catalog is read, so there is none"
        raise UsageError(
            f"there is no restore target {to!r}", f"give a folder (with a slash in it), or one of: {known}"
        )

    def filler(
        self,
        builder: Any,
        target: RestoreTarget,
        component: Component,
        path: str = "",
        *,
        keys: Mapping[str, str] | None = None,
    ) -> ComponentTarget:
        """
        What puts a component into its place.

        :param builder: makes environments
        :param path: of it alone, relative to its place; empty for all of it
        :param keys: of the registry's server, as far as they are here
        :raises UsageError: if the target has no place for it
        """
        if path:
            place = place_of(target, component.kind, component.name)
            repository = Path(place) if place and component.kind == "dataset" else None
            return PathTarget(component.kind, path, Path(f"{place}/{path}"), repository)
        if component.kind == "dataset":
            directory = Path(target.datasets[component.name])
            return DvcTarget(component.name, directory, remote=target.remotes.get(component.name))
        if component.kind == "registry" and target.server:
            return MlflowRestTarget(self.places.server(target.server, target.token))
        if component.kind == "registry" and target.store and target.artifacts:
            if component.details.get("fidelity") == REDUCED:
                return MlflowRestStoreTarget(target.store, target.artifacts)
            return MlflowTarget(target.store, target.artifacts, auth_store_url=target.auth_store, keys=keys)
        if component.kind == "environment" and target.environment:
            return EnvironmentTarget(Path(target.environment), builder)
        if component.kind == "configuration" and target.configuration:
            return ConfigurationTarget(Path(target.configuration))
        raise UsageError(f"the target {target.name} has no place for {component.label}", "leave it out of the plan")

    def _origin(self, workload: Workload, status: PointStatus) -> RestoreTarget:
        ours = self.ours / status.point.point
        environment, configuration = workload.environment, workload.configuration
        remotes = {c.name: c.details.get("remote") for c in status.point.of_kind("dataset")}
        named = self._folder(workload, environment.directory if environment else None)
        configured = self._folder(workload, configuration.directory if configuration else None)
        return RestoreTarget(
            name="origin",
            datasets={d.name: str(self.places.folder(workload.root, d.repo)) for d in workload.datasets},
            remotes={name: str(remote) for name, remote in remotes.items() if remote},
            **self.places.registry(workload.registry),
            environment=named or str(ours / "environment"),
            configuration=configured or str(ours / "configuration"),
            switch=switch_of(workload.cut_over, self.places.resolve),
        )

    def _catalogued(self, workload: Workload, datasets: list[str], to: str) -> RestoreTarget:
        config = workload.targets[to]
        switch = switch_of(config.cut_over, self.places.resolve)
        if config.directory:
            below = str(self.places.folder(workload.root, config.directory).absolute())
            named = replace(target_below(below, datasets), name=to, catalogued=True, jurisdiction=config.jurisdiction)
            return replace(named, switch=switch)
        return RestoreTarget(
            name=to,
            datasets={name: str(self.places.folder(workload.root, ref)) for name, ref in config.datasets.items()},
            remotes={},
            **self.places.registry(config.registry),
            environment=self._folder(workload, config.environment),
            configuration=self._folder(workload, config.configuration),
            catalogued=True,
            jurisdiction=config.jurisdiction,
            switch=switch,
        )

    def _folder(self, workload: Workload, reference: str | None) -> str | None:
        return str(self.places.folder(workload.root, reference)) if reference else None
