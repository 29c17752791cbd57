"""Everything that a catalog names, wired up: its vaults, what is cut into them, and what is restored out of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path

from muster.adapters.disk_space import disks
from muster.adapters.gx_validator import GxValidator
from muster.adapters.kms_keys import AwsKeys
from muster.adapters.mlflow_canary import write_canary
from muster.adapters.mlflow_merge import MlflowMerge
from muster.adapters.mlflow_server import LocalMlflowServer
from muster.adapters.mlflow_store import StoreUrl
from muster.adapters.newest import newest_in
from muster.adapters.process_model_runner import ProcessModelRunner
from muster.adapters.stores import open_store
from muster.adapters.switching import ProcessSwitching
from muster.adapters.system_clock import SystemClock
from muster.adapters.uv_environment import UvEnvironment
from muster.bootstrap.places import Places, Resolver
from muster.bootstrap.sources import snapshot_job
from muster.bootstrap.targets import Targets
from muster.catalog import Catalog, Retention, VaultConfig, Workload
from muster.domain.freshness import Newest, asked_every
from muster.domain.recovery_point import Component, PointStatus
from muster.domain.recovery_report import RecoveryReport
from muster.domain.restore_plan import RestorePlan
from muster.domain.restore_policy import Circumstances
from muster.domain.restore_request import RestoreRequest
from muster.domain.restore_target import RestoreTarget
from muster.domain.retention import RetentionPolicy
from muster.errors import MusterError, NotFound, UsageError
from muster.operations.conclude import Incident
from muster.operations.recover import recover
from muster.operations.restore import plan_restore
from muster.operations.restore_job import RestoreJob
from muster.operations.take import SnapshotJob, take_snapshot
from muster.operations.tools import Tools
from muster.operations.undo import Replaced
from muster.ports import BlobStore, Clock, Progress
from muster.ports.registry import RegistryMerge
from muster.vault.holders import KINDS, Secret, secret_of
from muster.vault.keys import ScryptCost
from muster.vault.vault import Actor, Passphrase, RecoveryKey, Vault


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
        self.insecure = insecure
        self._actor = actor
        self._places = Places(resolve, insecure)
        self._targets = Targets(self._places, state / "restored")
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

    def create_vault(
        self, name: str, *, cost: ScryptCost | None = None, keep: Callable[[RecoveryKey], object] = lambda _: None
    ) -> tuple[Vault, RecoveryKey]:
        """
        Create a vault of the catalog at its place. The recovery key is in no file: show it once, for keeping offline.

        :param cost: of trying a passphrase; what OWASP asks for, if left out
        :param keep: is given the key before it opens anything
        :raises AlreadyExists: if there is one
        :raises UsageError: if the catalog does not refer to a passphrase for it
        """
        store, secret = self._way_into(self._vault_config(name))
        if not isinstance(secret, Passphrase):
            raise UsageError(
                f"the catalog opens the vault {name} with a {KINDS[type(secret)]}, and a vault is created with a passphrase",
                "create it with --vault URL and a passphrase; then add the other holder with `muster keys add`",
            )
        return Vault.create(store, secret, clock=self.clock, actor=self._actor, cost=cost, keep=keep)

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
        return self._places.resolve(config.read_url or config.url)

    def vault_of(self, workload: Workload) -> Vault:
        """The vault in which a workload's points are kept."""
        return self.vault(workload.vault)

    def _store(self, config: VaultConfig) -> BlobStore:
        return open_store(self._places.resolve(config.url), insecure=self.insecure)

    def _way_into(self, config: VaultConfig) -> tuple[BlobStore, Secret]:
        return self._store(config), secret_of(self._places.resolve(config.passphrase), AwsKeys())

    def _vault_config(self, name: str) -> VaultConfig:
        try:
            return self.catalog.vaults[name]
        except KeyError:
            known = ", ".join(sorted(self.catalog.vaults)) or "none"
            raise NotFound(f"the catalog has no vault {name}", f"it has: {known}") from None

    # --- snapshots ----------------------------------------------------------------------------------------------------

    def snapshot_job(self, workload: Workload) -> SnapshotJob:
        """What a point of this workload must hold, and from where it is read."""
        return snapshot_job(workload, self._places, self.state)

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
        address = self._places.resolve(reference)
        token = self._places.resolve(registry.token) if registry.token and not canary.through else None
        server = self._places.server(address, token) if address.startswith(("http://", "https://")) else None
        return write_canary(server or StoreUrl.parse(address), workload.workload, self.clock.now())

    # --- restores -----------------------------------------------------------------------------------------------------

    def target(self, workload: Workload | None, status: PointStatus, to: str) -> RestoreTarget:
        """
        The place that a restore is asked to fill.

        :param to: ``origin`` (where the workload lives), the name of one of its catalogued targets, or a folder
        :raises UsageError: if it is none of these
        """
        return self._targets.find(workload, status, to)

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
        # in a disaster they may be gone with everything else, and come back with the configuration
        keys = self._places.server_keys(workload.registry, lenient=True) if workload and workload.registry else {}
        return RestoreJob(
            status,
            target,
            request,
            partial(self._targets.filler, self.tools.builder, target, keys=keys),
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
        server = self._places.server(target.server, target.token) if target.server else None
        return newest_in(target, status.point.workload, component, server)

    def _secrets_of(self, target: RestoreTarget, workload: Workload | None) -> list[str]:
        """What no output of a command may show, as far as it can be told: in a disaster a connection may be gone, too."""
        listed = workload.protected_configuration.secrets if workload and workload.protected_configuration else ()
        found = [target.store, target.artifacts, target.auth_store, target.server, target.token]
        for reference in listed:
            with suppress(MusterError):
                found.append(self._places.resolve(reference))
        return [value for value in found if value]


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
