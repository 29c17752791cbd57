"""
Where catalog, connections, adapters and operations meet: the shared half of the two composition roots.

Airflow's hook and the command line differ only in how they resolve ``conn:`` names and in who acts; both build a `Platform`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from muster.adapters.configuration import ConfigurationSource, ConfigurationTarget
from muster.adapters.disk_space import disks
from muster.adapters.dvc_datasets import DvcSource, DvcTarget
from muster.adapters.gx_validator import GxValidator
from muster.adapters.kms_keys import AwsKeys
from muster.adapters.mlflow_canary import write_canary
from muster.adapters.mlflow_merge import MlflowMerge
from muster.adapters.mlflow_registry import MlflowSource, MlflowTarget
from muster.adapters.mlflow_rest_api import RestServer
from muster.adapters.mlflow_rest_source import MlflowRestSource
from muster.adapters.mlflow_rest_tally import REDUCED
from muster.adapters.mlflow_rest_target import MlflowRestStoreTarget, MlflowRestTarget
from muster.adapters.mlflow_server import LocalMlflowServer
from muster.adapters.mlflow_store import StoreUrl
from muster.adapters.newest import newest_in
from muster.adapters.path_target import PathTarget
from muster.adapters.process_model_runner import ProcessModelRunner
from muster.adapters.stores import open_store
from muster.adapters.switching import ProcessSwitching, switch_of
from muster.adapters.system_clock import SystemClock
from muster.adapters.uv_environment import EnvironmentSource, EnvironmentTarget, UvEnvironment
from muster.catalog import Anomaly, Catalog, Registry, Retention, TargetRegistry, VaultConfig, Workload
from muster.domain.anomaly import Limits
from muster.domain.freshness import Newest, asked_every
from muster.domain.recovery_point import Component, PointStatus
from muster.domain.recovery_report import RecoveryReport
from muster.domain.restore_plan import RestorePlan, place_of
from muster.domain.restore_policy import Circumstances
from muster.domain.restore_request import RestoreRequest
from muster.domain.restore_target import RestoreTarget, target_below
from muster.domain.retention import RetentionPolicy
from muster.errors import CatalogError, MusterError, NotFound, UsageError
from muster.operations.conclude import Incident
from muster.operations.recover import recover
from muster.operations.restore import plan_restore
from muster.operations.restore_job import RestoreJob
from muster.operations.smoke import Question
from muster.operations.take import SnapshotJob, take_snapshot
from muster.operations.tools import Tools
from muster.operations.undo import Replaced
from muster.ports import BlobStore, Clock, ComponentSource, ComponentTarget, Progress
from muster.ports.registry import RegistryMerge
from muster.vault.holders import KINDS, Secret, secret_of
from muster.vault.vault import Actor, Passphrase, RecoveryKey, Vault

Resolver = Callable[[str], str]


class Platform:
    """
    Everything that the catalog names, wired up.

    :param resolve: turns ``conn:NAME`` and ``env:NAME`` into their values and leaves everything else as it is
    :param state: a folder of our own; what is in it can always be made again
    :param actor: who acts, for the audit trail
    :param insecure: consent to reach vaults in the clear on other machines, whatever their addresses say
    """

    def __init__(
        self,
        catalog: Catalog,
        resolve: Resolver,
        *,
        state: Path,
        actor: Actor,
        clock: Clock | None = None,
        insecure: bool = False,
    ) -> None:
        self.catalog = catalog
        self.state = state
        self.clock: Clock = clock or SystemClock()
        self._resolve = resolve
        self._actor = actor
        self.insecure = insecure
        self._vaults: dict[str, Vault] = {}

    @cached_property
    def tools(self) -> Tools:
        """The adapters that operations need besides vault, sources and targets."""
        return Tools(
            self.clock,
            UvEnvironment(),
            GxValidator(),
            ProcessModelRunner(),
            LocalMlflowServer(),
            self.state,
            ProcessSwitching(),
        )

    # --- vaults -------------------------------------------------------------------------------------------------------

    def vault(self, name: str) -> Vault:
        """
        Open a vault of the catalog, once.

        :raises NotFound: if the catalog has no such vault, or there is none at its place yet
        :raises WrongKey: if the catalogued passphrase does not open it
        """
        if name not in self._vaults:
            store, secret = self._way_into(self._vault_config(name))
            self._vaults[name] = Vault.open(store, secret, clock=self.clock, actor=self._actor)
        return self._vaults[name]

    def create_vault(self, name: str) -> tuple[Vault, RecoveryKey]:
        """
        Create a vault of the catalog at its place. The recovery key is in no file: show it once, for keeping offline.

        :raises AlreadyExists: if there is one
        :raises UsageError: if the catalog does not refer to a passphrase for it
        """
        store, secret = self._way_into(self._vault_config(name))
        if not isinstance(secret, Passphrase):
            raise UsageError(
                f"the catalog opens the vault {name} with a {KINDS[type(secret)]}, and a vault is created with a passphrase",
                "create it with --vault URL and a passphrase; then add the other holder with `muster keys add`",
            )
        return Vault.create(store, secret, clock=self.clock, actor=self._actor)

    def replicas(self, name: str) -> list[BlobStore]:
        """Where copies of a vault may lie: the replicas of all workloads that are kept in it."""
        kept = [workload for workload in self.catalog.workloads.values() if workload.vault == name]
        replicas = dict.fromkeys(replica for workload in kept for replica in workload.replicas)
        return [self._store(self._vault_config(replica)) for replica in replicas]

    def anchored_in(self, name: str) -> list[Vault]:
        """The other vaults whose audit trails are told the newest records of this one's."""
        return [self.vault(other) for other in self._vault_config(name).anchored_in]

    def policies(self, name: str) -> dict[str, RetentionPolicy | None]:
        """How many points of each workload are kept that the catalog keeps in this vault; None for those that expire nothing."""
        kept = [workload for workload in self.catalog.workloads.values() if workload.vault == name]
        return {workload.workload: _policy(workload.retention) for workload in kept}

    def reading_address(self, name: str) -> str:
        """Where a vault of the catalog is read by whoever shall only read it, with what it takes to reach it: a secret."""
        config = self._vault_config(name)
        return self._resolve(config.read_url or config.url)

    def vault_of(self, workload: Workload) -> Vault:
        """The vault in which a workload's points are kept."""
        return self.vault(workload.vault)

    def _store(self, config: VaultConfig) -> BlobStore:
        return open_store(self._resolve(config.url), insecure=self.insecure)

    def _way_into(self, config: VaultConfig) -> tuple[BlobStore, Secret]:
        return self._store(config), secret_of(self._resolve(config.passphrase), AwsKeys())

    def _vault_config(self, name: str) -> VaultConfig:
        try:
            return self.catalog.vaults[name]
        except KeyError:
            known = ", ".join(sorted(self.catalog.vaults)) or "none"
            raise NotFound(f"the catalog has no vault {name}", f"it has: {known}") from None

    # --- snapshots ----------------------------------------------------------------------------------------------------

    def snapshot_job(self, workload: Workload) -> SnapshotJob:
        """What a point of this workload must hold, and from where it is read."""
        places = self._registry_places(workload.registry)
        return SnapshotJob(
            workload=workload.workload,
            sources=tuple(self._sources(workload)),
            suites={d.name: _suite(Path(d.expectations)) for d in workload.datasets if d.expectations},
            questions=tuple(Question(s.model, s.rtol, s.atol) for s in workload.smoke),
            store=(places["store"], places["artifacts"]) if "store" in places and "artifacts" in places else None,
            objectives={
                "rpo_s": workload.objectives.rpo.total_seconds(),
                "rto_s": workload.objectives.rto.total_seconds(),
            },
            catalog=workload.model_dump(mode="json", exclude={"root", "source"}),
            lock=workload.retention.lock if workload.retention else None,
            limits=_limits(workload.anomaly),
        )

    def snapshot(self, workload: Workload, progress: Progress | None = None) -> PointStatus:
        """Take a recovery point of a workload, now."""
        return take_snapshot(self.vault_of(workload), self.snapshot_job(workload), self.tools, progress)

    def write_canary(self, workload: Workload) -> Newest:
        """
        Leave a canary in the registry of a workload, now.

        :raises UsageError: if the catalog wants none
        """
        canary, registry = workload.canary, workload.registry
        if canary is None or registry is None:
            raise UsageError(
                f"the catalog wants no canary of {workload.workload}, and it would be written into the registry",
                "give the workload `canary: {every: 5m}`",
            )
        reference = canary.through or registry.server or registry.store
        assert reference is not None  # noqa: S101 - the catalog has been checked
        address = self._resolve(reference)
        token = self._resolve(registry.token) if registry.token and not canary.through else None
        server = self._server(address, token) if address.startswith(("http://", "https://")) else None
        return write_canary(server or StoreUrl.parse(address), workload.workload, self.clock.now())

    def _sources(self, workload: Workload) -> list[ComponentSource]:
        name, root = workload.workload, workload.root
        sources: list[ComponentSource] = [
            DvcSource(d.name, self._path(root, d.repo), targets=d.targets, source=d.source) for d in workload.datasets
        ]
        if workload.registry:
            sources.append(self._registry_source(name, workload.registry))
        if environment := workload.environment:
            lock = self._path(root, environment.lock)
            sources.append(EnvironmentSource(name, lock, environment.python, wheel_cache=self.state / "wheels"))
        if configuration := workload.protected_configuration:
            values = {reference: self._resolve(reference) for reference in configuration.secrets}
            sources.append(ConfigurationSource(name, root, configuration.files, configuration.env, values))
        return sources

    def _registry_source(self, name: str, registry: Registry) -> ComponentSource:
        places = self._registry_places(registry)
        if "server" in places:
            return MlflowRestSource(name, self._server(places["server"], places.get("token")), kept=self.state / "rest")
        return MlflowSource(
            name,
            places["store"],
            places["artifacts"],
            auth_store_url=places.get("auth_store"),
            incomplete=registry.missing_artifacts == "incomplete",
            only=registry.models if registry.scope == "models" else (),
        )

    def _registry_places(self, registry: Registry | TargetRegistry | None) -> dict[str, Any]:
        """Where a registry lives, with secrets: ``store``, ``artifacts`` and ``auth_store``, or ``server`` and ``token``."""
        found = {
            name: getattr(registry, name, None) for name in ("store", "artifacts", "auth_store", "server", "token")
        }
        return {name: self._resolve(reference) for name, reference in found.items() if reference}

    def _server(self, address: str, token: str | None) -> RestServer:
        return RestServer.parse(address, token, insecure=self.insecure)

    def _path(self, root: Path, reference: str) -> Path:
        return root / self._resolve(reference).removeprefix("file://")

    # --- restores -----------------------------------------------------------------------------------------------------

    def target(self, workload: Workload | None, status: PointStatus, to: str) -> RestoreTarget:
        """
        The place that a restore is asked to fill.

        :param to: ``origin`` (where the workload lives), the name of one of its catalogued targets, or a folder
        :raises UsageError: if it is none of these
        """
        names = [component.name for component in status.point.of_kind("dataset")]
        if workload and to == "origin":
            return self._origin(workload, status)
        if workload and to in workload.targets:
            return self._named(workload, names, to)
        if "/" in to or to.startswith("."):
            return target_below(str(Path(to).absolute()), names)
        known = ", ".join(["origin", *sorted(workload.targets)]) if workload else "no catalog is read, so there is none"
        raise UsageError(
            f"there is no restore target {to!r}", f"give a folder (with a slash in it), or one of: {known}"
        )

    def restore_job(
        self, status: PointStatus, target: RestoreTarget, request: RestoreRequest, running: Sequence[str] | None = None
    ) -> RestoreJob:
        """
        A point, a place, what is asked for, and adapters that put each component there.

        :param running: what else is at work on the workload, in words; None if that cannot be known
        """
        name = status.point.workload
        docs = self.state / "validation" / f"{name}-{status.point.point}"
        workload = self.catalog.workloads.get(name)
        allowed = workload.residency.allow if workload and workload.residency else None
        return RestoreJob(
            status,
            target,
            request,
            partial(self._component_target, target),
            lambda plan: Circumstances(disks(plan, target), running, allowed),
            docs,
            partial(self._newest_in, target, status),
            partial(self._secrets_of, target, workload),
        )

    def plan(self, vault: Vault, status: PointStatus, target: RestoreTarget, request: RestoreRequest) -> RestorePlan:
        """What a restore would do; changes nothing."""
        return plan_restore(vault, self.restore_job(status, target, request))

    def restore(
        self,
        vault: Vault,
        status: PointStatus,
        target: RestoreTarget,
        incident: Incident,
        request: RestoreRequest | None = None,
        digest: str | None = None,
    ) -> RecoveryReport:
        """
        Put a point back, prove it, and report.

        :param request: all of it, to where nothing is, if left out
        :param digest: of the plan that was approved; no other is applied
        """
        request = request or RestoreRequest(incident.kind, incident.at)
        return recover(vault, self.restore_job(status, target, request), incident, self.tools, digest)

    def undo_job(self, vault: Vault, what: Replaced) -> RestoreJob:
        """The places that a restore filled, as the catalog names them now."""
        status = vault.point(what.point, what.workload)
        target = self.target(self.catalog.workloads.get(what.workload), status, what.to)
        return self.restore_job(status, target, what.request)

    def registry_in_use(self, target: RestoreTarget) -> RegistryMerge:
        """The registry of a target, into which single models are brought back."""
        return MlflowMerge.of(target)

    def _newest_in(self, target: RestoreTarget, status: PointStatus, component: Component) -> Newest | None:
        if component.kind == "registry" and asked_every(status.point.catalog) is None:
            return None
        server = self._server(target.server, target.token) if target.server else None
        return newest_in(target, status.point.workload, component, server)

    def _secrets_of(self, target: RestoreTarget, workload: Workload | None) -> list[str]:
        """What no output of a command may show, as far as it can be told: in a disaster a connection may be gone, too."""
        listed = workload.protected_configuration.secrets if workload and workload.protected_configuration else ()
        found = [target.store, target.artifacts, target.auth_store, target.server, target.token]
        for reference in listed:
            with suppress(MusterError):
                found.append(self._resolve(reference))
        return [value for value in found if value]

    def _component_target(self, target: RestoreTarget, component: Component, path: str = "") -> ComponentTarget:
        if path:
            place = place_of(target, component.kind, component.name)
            return PathTarget(component.kind, path, Path(f"{place}/{path}"))
        if component.kind == "dataset":
            directory = Path(target.datasets[component.name])
            return DvcTarget(component.name, directory, remote=target.remotes.get(component.name))
        if component.kind == "registry" and target.server:
            return MlflowRestTarget(self._server(target.server, target.token))
        if component.kind == "registry" and target.store and target.artifacts:
            if component.details.get("fidelity") == REDUCED:
                return MlflowRestStoreTarget(target.store, target.artifacts)
            return MlflowTarget(target.store, target.artifacts, auth_store_url=target.auth_store)
        if component.kind == "environment" and target.environment:
            builder: Any = self.tools.builder
            return EnvironmentTarget(Path(target.environment), builder)
        if component.kind == "configuration" and target.configuration:
            return ConfigurationTarget(Path(target.configuration))
        raise UsageError(f"the target {target.name} has no place for {component.label}", "leave it out of the plan")

    def _origin(self, workload: Workload, status: PointStatus) -> RestoreTarget:
        ours = self.state / "restored" / status.point.point
        environment, configuration = workload.environment, workload.configuration
        remotes = {c.name: c.details.get("remote") for c in status.point.of_kind("dataset")}
        return RestoreTarget(
            name="origin",
            datasets={d.name: str(self._path(workload.root, d.repo)) for d in workload.datasets},
            remotes={name: str(remote) for name, remote in remotes.items() if remote},
            **self._registry_places(workload.registry),
            environment=self._own(workload, environment.directory if environment else None, ours / "environment"),
            configuration=self._own(
                workload, configuration.directory if configuration else None, ours / "configuration"
            ),
            switch=switch_of(workload.cut_over, self._resolve),
        )

    def _own(self, workload: Workload, reference: str | None, otherwise: Path) -> str:
        return str(self._path(workload.root, reference)) if reference else str(otherwise)

    def _named(self, workload: Workload, datasets: list[str], to: str) -> RestoreTarget:
        config = workload.targets[to]
        if config.directory:
            below = str(self._path(workload.root, config.directory).absolute())
            named = replace(target_below(below, datasets), name=to, catalogued=True, jurisdiction=config.jurisdiction)
            return replace(named, switch=switch_of(config.cut_over, self._resolve))
        return RestoreTarget(
            name=to,
            datasets={name: str(self._path(workload.root, ref)) for name, ref in config.datasets.items()},
            remotes={},
            **self._registry_places(config.registry),
            environment=str(self._path(workload.root, config.environment)) if config.environment else None,
            configuration=str(self._path(workload.root, config.configuration)) if config.configuration else None,
            catalogued=True,
            jurisdiction=config.jurisdiction,
            switch=switch_of(config.cut_over, self._resolve),
        )


def _limits(anomaly: Anomaly) -> Limits | None:
    return Limits(anomaly.spoiled, anomaly.converted, anomaly.shrunk) if anomaly.judge else None


def _policy(kept: Retention | None) -> RetentionPolicy | None:
    if kept is None:
        return None
    return RetentionPolicy(
        last=kept.last,
        hourly=kept.hourly,
        daily=kept.daily,
        weekly=kept.weekly,
        monthly=kept.monthly,
        yearly=kept.yearly,
        minimum=kept.minimum,
        inquiry=kept.inquiry,
    )


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
