"""The platform as it is seen from within a sandbox: the same points, a view of the vault, places and tools of its own, and the fault."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from muster.adapters.gx_validator import GxValidator
from muster.adapters.harm import poison_files, poison_model
from muster.adapters.mlflow_server import LocalMlflowServer
from muster.adapters.network_cell import Confined, NetworkCell
from muster.adapters.process_model_runner import ProcessModelRunner
from muster.adapters.sandboxed_store import SandboxedStore
from muster.adapters.switching import ProcessSwitching
from muster.adapters.uv_environment import EnvironmentTarget, UvEnvironment
from muster.bootstrap import Platform
from muster.domain.drill import Harm
from muster.domain.recovery_point import Component, PointStatus
from muster.domain.restore_request import RestoreRequest
from muster.domain.restore_target import RestoreTarget, target_below
from muster.drills.circumstances import Reach
from muster.drills.sandbox import MARK, DrillState, Sandbox
from muster.errors import MusterError
from muster.operations.restore_job import RestoreJob
from muster.operations.tools import Tools
from muster.ports import BlobStore, Clock, ComponentTarget, Json, TreeReader
from muster.vault.vault import Vault
from muster.vault.views import store_of, view

SKEW = timedelta(hours=-26)
"""What the clock is wrong by under `clock_skew`: the newest points lie in its future."""
NO_INDEX = "http://127.0.0.1:9/simple"
"""The discard port of this machine: nobody serves packages there."""
INDEXES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL")


class SkewedClock:
    """A clock that is wrong by always the same."""

    def __init__(self, truth: Clock, by: timedelta) -> None:
        self._truth, self._by = truth, by

    def now(self) -> datetime:
        return self._truth.now() + self._by


class DrillPlatform:
    """
    What the steps of a recovery need, wired for one drill.

    It is used where a `Platform` is: it has the same catalog, and gives vaults, tools, targets and jobs of its own.

    :param platform: the true one
    :param truth: the true vault, to which only the report goes
    :param reach: how its store is reached to be read
    """

    def __init__(self, platform: Platform, truth: Vault, sandbox: Sandbox, reach: Reach) -> None:
        self.truth_platform, self.truth, self.sandbox, self.reach = platform, truth, sandbox, reach
        self.catalog, self.state = platform.catalog, sandbox.folder
        self._cell = NetworkCell()
        self._views: dict[tuple[str, str], Vault] = {}

    @property
    def drill(self) -> DrillState:
        """What is known of the drill, as it stands now."""
        return self.sandbox.state

    @contextmanager
    def entered(self) -> Iterator[DrillPlatform]:
        """Go in: from here on processes are confined, and temporary files lie in the sandbox."""
        with self.sandbox.temporary_files(), self._cell.opened():
            yield self

    @property
    def isolation(self) -> str:
        """Which isolation is in force, in words."""
        narrow = ", with credentials of its own for that" if self.reach.narrow else ""
        processes = (
            f"models, registry server and installer: {self._cell.statement}; no credentials in their environment"
        )
        return f"{processes}; the vault is only read{narrow}"

    @property
    def marks(self) -> Mapping[str, str]:
        """By what all processes of the sandbox are known, and where their temporary files go."""
        return {MARK: str(self.sandbox.folder), "TMPDIR": str(self.sandbox.place("tmp"))}

    @property
    def environment(self) -> Mapping[str, str]:
        """What the confined processes of the sandbox are told."""
        index = dict.fromkeys(INDEXES, NO_INDEX) if self._fault == "package_index_down" else {}
        return {**self.marks, "HOME": str(self.sandbox.folder), **index}

    @property
    def _fault(self) -> str | None:
        try:
            return self.drill.active
        except MusterError:  # nothing is written down yet
            return None

    @property
    def clock(self) -> Clock:
        """What measures the drill: always the truth."""
        return self.truth_platform.clock

    @property
    def vault_clock(self) -> Clock:
        """What the vault takes for the time: the truth, unless the fault is that it is wrong."""
        return SkewedClock(self.clock, SKEW) if self._fault == "clock_skew" else self.clock

    @property
    def tools(self) -> Tools:
        """The tools, confined."""
        confined = self._confined
        runner, server = ProcessModelRunner(confined=confined), LocalMlflowServer(confined=confined)
        return Tools(
            self.clock, UvEnvironment(confined), GxValidator(), runner, server, self.sandbox.folder, ProcessSwitching()
        )

    @property
    def _confined(self) -> Confined:
        return Confined(self._cell, self.environment)

    # --- vault --------------------------------------------------------------------------------------------------------

    def vault(self, _name: str = "") -> Vault:
        """The vault as the drill sees it now."""
        drill = self.drill
        base = self._store if drill.replica is None else self.replicas[drill.replica]
        return self.seen(base, Harm() if drill.lifted else drill.harm)

    @cached_property
    def _store(self) -> BlobStore:
        """The true store, with the credentials that the catalog gives to whoever only reads."""
        return self.reach.store() if self.reach.narrow else store_of(self.truth)

    def vault_of(self, _workload: object) -> Vault:
        """The same."""
        return self.vault()

    def seen(self, base: BlobStore, harm: Harm) -> Vault:
        """A copy of the vault through a view of its store."""
        over, kind = self.sandbox.place("vault"), (base.url, f"{harm} {type(self.vault_clock)}")
        if kind not in self._views:
            self._views[kind] = view(self.truth, lambda _: SandboxedStore(base, over, harm), self.vault_clock)
        return self._views[kind]

    @cached_property
    def replicas(self) -> list[BlobStore]:
        """Where the catalog says that copies of the workload's vault lie."""
        workload = self.catalog.workloads.get(self.drill.workload)
        return self.truth_platform.replicas(workload.vault) if workload else []

    # --- places -------------------------------------------------------------------------------------------------------

    def target(self, _workload: object, status: PointStatus, to: str) -> RestoreTarget:
        """Below the sandbox, whatever is asked for."""
        below = Path(to).resolve()
        folder = below if below.is_relative_to(self.sandbox.folder.resolve()) else self.sandbox.folder
        return target_below(str(folder), [component.name for component in status.point.of_kind("dataset")])

    def restore_job(
        self, status: PointStatus, target: RestoreTarget, request: RestoreRequest, running: Sequence[str] | None = None
    ) -> RestoreJob:
        """As in the true platform; what comes back from a poisoned point is poisoned, and environments are built confined."""
        job = self.truth_platform.restore_job(status, target, request, running)
        poison = self._poison if status.point.point == self.drill.asked else None

        def target_of(component: Component, path: str) -> ComponentTarget:
            if component.kind == "environment":
                return EnvironmentTarget(Path(str(target.environment)), UvEnvironment(self._confined))
            place = job.target_of(component, path)
            return _Poisoned(place, target, component) if poison == component.kind else place

        return replace(job, target_of=target_of)

    @property
    def _poison(self) -> str | None:
        """The kind of component that is poisoned in the point that was asked for."""
        return {"poisoned_dataset": "dataset", "poisoned_model": "registry"}.get(self._fault or "")

    def job_below(self, vault: Vault, point: str, name: str = "") -> RestoreJob:
        """A job that restores a point below the sandbox, or below a folder of it."""
        status = vault.point(point, self.drill.workload)
        target = self.target(None, status, os.fspath(self.sandbox.folder / name))
        return self.restore_job(status, target, RestoreRequest("drill", self.clock.now()))


class _Poisoned:
    """A place to which a component comes back as it was captured, and with it what was done to it before."""

    def __init__(self, place: Any, target: RestoreTarget, component: Component) -> None:
        self._place, self._target, self._component = place, target, component

    def __getattr__(self, name: str) -> Any:
        return getattr(self._place, name)

    def restore(self, details: Mapping[str, Json], tree: TreeReader) -> dict[str, Json]:
        facts: dict[str, Json] = self._place.restore(details, tree)
        if self._component.kind == "dataset":
            poison_files(Path(self._target.datasets[self._component.name]))
        else:
            poison_model(Path(str(self._target.artifacts)))
        return facts
