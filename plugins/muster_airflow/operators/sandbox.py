"""The steps of a drill that a restore does not have, and those of a restore as they run in a sandbox."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from muster_airflow.operators.plan import PlanRestoreOperator
from muster_airflow.operators.recovery import RecoveryOperator, Site, WorkloadOperator
from muster_airflow.operators.restore import (
    ConcludeRecoveryOperator,
    RestoreComponentOperator,
    SmokeInferenceOperator,
    ValidateRestoredOperator,
)

if TYPE_CHECKING:
    from muster.bootstrap import Platform
    from muster.domain.drill import DrillOutcome
    from muster.drills.platform import DrillPlatform


class PrepareSandboxOperator(WorkloadOperator):
    """
    Make a new empty sandbox for one drill, choose what is broken in it, and write that down. Returns the sandbox's path.

    What killed runs of this DAG left behind is removed first.

    :param point: the point that is asked for: an id, a unique beginning of it, or ``latest`` (templated)
    :param fault: a fault's name, ``scheduled``, ``random`` or ``none`` (templated)
    :param seed: of a random choice; empty or ``None`` to draw one (templated)
    :raises StoreUnavailable: if the sandbox cannot be made; nothing is left then
    :raises Refused: if the fault cannot strike this workload
    """

    template_fields: Sequence[str] = ("workload", "point", "fault", "seed")

    def __init__(self, *, point: str, fault: str, seed: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.point = point
        self.fault = fault
        self.seed = seed

    def perform(self, at: Site) -> Any:
        from muster.drills.rehearsal import Wanted, clean, prepare
        from muster.drills.sandbox import Owner, make, tear_down

        dag_id = at.context["dag_run"].dag_id
        clean(at.platform, again=dag_id)
        sandbox = make(at.platform.state, at.name, at.platform.clock)
        try:
            with entered(at, str(sandbox.folder)) as inside:
                wanted = Wanted(self.fault, None if self.seed in ("", "None") else int(self.seed))
                state = prepare(inside, at.vault.point(self.point, at.name), wanted, Owner.ours(dag_id))
        except BaseException:
            tear_down(sandbox.folder)
            raise
        for line in state.choice.passed_over:
            self.log.warning("Passed over: %s", line)
        self.log.info("Fault: %s (%s); it must end so: %s", state.choice.fault, state.choice.how, state.expected)
        self.log.info("Kept apart by %s", state.isolation)
        return str(sandbox.folder)


class InSandbox(RecoveryOperator):
    """
    A step that sees the platform from within the sandbox: the vault in a view, confined tools, places below its folder, the fault.

    :param sandbox: what `PrepareSandboxOperator` returned (templated)
    """

    gated = False

    def __init__(self, *, sandbox: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sandbox = sandbox

    def perform(self, at: Site) -> Any:
        with entered(at, self.sandbox) as inside:
            return super().perform(replace(at, platform=cast("Platform", inside)))


class StrikeOperator(WorkloadOperator):
    """
    Let the fault strike, see whether anybody notices, and do what is to be done. Returns the id of the point to recover from.

    :param sandbox: what `PrepareSandboxOperator` returned (templated)
    """

    template_fields: Sequence[str] = ("workload", "sandbox")

    def __init__(self, *, sandbox: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sandbox = sandbox

    def perform(self, at: Site) -> Any:
        from muster.drills.strikes import strike

        with entered(at, self.sandbox) as inside:
            state = strike(inside)
        for line in state.story:
            self.log.info("%s", line)
        return state.point


class PlanDrillOperator(InSandbox, PlanRestoreOperator):
    """`PlanRestoreOperator` in a sandbox."""

    template_fields: Sequence[str] = (*PlanRestoreOperator.template_fields, "sandbox")


class DrillComponentOperator(InSandbox, RestoreComponentOperator):
    """`RestoreComponentOperator` in a sandbox."""

    template_fields: Sequence[str] = (*RestoreComponentOperator.template_fields, "sandbox")


class ValidateDrilledOperator(InSandbox, ValidateRestoredOperator):
    """`ValidateRestoredOperator` in a sandbox."""

    template_fields: Sequence[str] = (*ValidateRestoredOperator.template_fields, "sandbox")


class SmokeDrilledOperator(InSandbox, SmokeInferenceOperator):
    """`SmokeInferenceOperator` in a sandbox."""

    template_fields: Sequence[str] = (*SmokeInferenceOperator.template_fields, "sandbox")


class ConcludeDrillOperator(ConcludeRecoveryOperator):
    """
    `ConcludeRecoveryOperator`, which fails as well if the fault ended otherwise than it must. It writes to the true vault.

    :param sandbox: what `PrepareSandboxOperator` returned (templated)
    """

    template_fields: Sequence[str] = (*ConcludeRecoveryOperator.template_fields, "sandbox")
    gated = False

    def __init__(self, *, sandbox: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sandbox = sandbox

    def from_this_vault(self) -> bool:
        from muster.drills.sandbox import Sandbox

        return Sandbox(Path(self.sandbox)).state.replica is None

    def drilled(self) -> Callable[[str | None], DrillOutcome] | None:
        from muster.drills.sandbox import Sandbox

        return Sandbox(Path(self.sandbox)).state.outcome


class RemoveSandboxOperator(RecoveryOperator):
    """
    End every process of the sandbox, and remove it, whole.

    :param sandbox: what `PrepareSandboxOperator` returned (templated)
    :raises Refused: if that is no sandbox of ours; nothing was removed
    :raises MusterError: if something of it is still running, or still there
    """

    template_fields: Sequence[str] = ("sandbox",)

    def __init__(self, *, sandbox: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sandbox = sandbox

    def perform(self, at: Site) -> Any:
        from muster.drills.sandbox import remove

        remove(at.platform.state, Path(self.sandbox))
        self.log.info("Removed %s", self.sandbox)


@contextmanager
def entered(at: Site, sandbox: str) -> Iterator[DrillPlatform]:
    """The platform as it is seen from within a sandbox; the true vault is opened to be read."""
    from muster.drills.circumstances import reach_of
    from muster.drills.platform import DrillPlatform
    from muster.drills.sandbox import Sandbox

    reach = reach_of(at.platform, at.workload.vault)
    with DrillPlatform(at.platform, at.vault, Sandbox(Path(sandbox)), reach).entered() as inside:
        yield inside
