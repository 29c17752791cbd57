"""The steps of a restore, and of a drill, after its plan: restore, validate, ask again, cut over, conclude."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from muster.codec import from_json, to_json
from muster.domain.approval import Approval
from muster.domain.evidence import Failed
from muster.domain.fidelity import FidelityReport
from muster.domain.recovery_report import ComponentOutcome, CutOver, SmokeOutcome, ValidationOutcome
from muster.errors import NotFound, SmokeFailed, Unfaithful, ValidationFailed
from muster_airflow.metrics import emit_recovery
from muster_airflow.operators.plan import PLAN, Planned, PlannedRecovery, run_of
from muster_airflow.operators.recovery import FAILURE, Site, WorkloadOperator, hand_on, handed_on
from muster_airflow.report_link import ReportLink, report_url

if TYPE_CHECKING:
    from muster.domain.drill import DrillOutcome
    from muster.operations.conclude import Outcomes
    from muster.operations.restore_job import RestoreJob

FIDELITY = "fidelity"
"""XCom key of the fidelity report of a registry that was removed again; of one that is there it stands in the outcome."""


class GatedOperator(WorkloadOperator):
    """
    A step behind a gate.

    Neither what is handed from task to task nor the state of the gate is trusted: anybody who may edit the run could change both.
    The vault's own trail is asked, in which only a key of the vault can write.
    """

    gated = True
    """Whether somebody must have approved the plan. What runs in a sandbox says no, and nothing that is handed over can."""

    def approval(self, at: Site, planned: Planned) -> Approval | None:
        """
        The approval of this very plan for this very run; None where none is needed.

        :raises PermanentError: if the plan was refused, or nobody has approved it
        """
        from muster.operations.approve import require_approval

        if not self.gated:
            return None
        planned.plan.require_allowed()
        return require_approval(at.vault, planned.plan, run_of(at.context))


class ApplyingOperator(GatedOperator):
    """
    A step that does what a plan says.

    :param plan: the XCom ``plan`` of the task that drew it (templated)
    """

    template_fields: Sequence[str] = ("workload", "plan")

    def __init__(self, *, plan: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan


class PlannedOperator(ApplyingOperator):
    """A step of a planned recovery."""

    def approved(self, at: Site) -> PlannedRecovery:
        """The plan as a value, if nothing forbids it and it has passed the gate."""
        planned = from_json(PlannedRecovery, self.plan)
        planned.plan.require_allowed()
        self.approval(at, planned)
        return planned

    def job(self, at: Site, planned: PlannedRecovery) -> RestoreJob:
        """
        The planned point, its target, and who restores it.

        HTML data docs of a drill lie apart, so that a drill and a restore of the same point do not get in each other's way.
        """
        plan = planned.plan
        status = at.vault.point(plan.point, plan.workload)
        target = at.platform.target(at.workload, status, plan.target)
        job = at.platform.restore_job(status, target, planned.request)
        return (
            job
            if planned.request.kind == "restore"
            else replace(job, docs=job.docs.with_name(f"{plan.workload}-drill"))
        )


class RestoreComponentOperator(PlannedOperator):
    """
    Put one component back, reconciled with what was captured. Returns a `ComponentOutcome`; skipped if the plan does not have it.

    :param component: label of the component, ``dataset/flights`` (templated)
    """

    template_fields: Sequence[str] = ("workload", "plan", "component")

    def __init__(self, *, component: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.component = component

    def perform(self, at: Site) -> Any:
        from muster.operations.restore import restore_component

        planned = self.approved(at)
        action = planned.plan.action(self.component)
        if action is None:
            raise AirflowSkipException(f"{self.component} is not in the plan")
        job = self.job(at, planned)
        try:
            outcome = restore_component(at.vault, job, action, planned.stamp, at.platform.clock)
        except Unfaithful as error:
            at.context["ti"].xcom_push(key=FIDELITY, value=to_json(error.report))
            raise
        self.log.info("%s is back: %d files, %d bytes", self.component, outcome.files, outcome.size)
        if outcome.fidelity:
            self.log.info("Fidelity of %s: %s", self.component, outcome.fidelity.line)
        return to_json(outcome)


class ValidateRestoredOperator(PlannedOperator):
    """
    Judge a restored dataset by the expectations that the point carries. Returns a `ValidationOutcome`, also when the task fails.

    :param component: label of the dataset (templated)
    :raises ValidationFailed: if an expectation is not met
    """

    template_fields: Sequence[str] = ("workload", "plan", "component")

    def __init__(self, *, component: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.component = component

    def perform(self, at: Site) -> Any:
        from muster.operations.conclude import expected_checks
        from muster.operations.recover import validate_one

        planned, name = self.approved(at), self.component.removeprefix("dataset/")
        job = self.job(at, planned)
        if name not in expected_checks(job.status, planned.plan)[0]:
            raise AirflowSkipException(f"the point has no expectations for the dataset {name}")
        outcome = validate_one(at.vault, job, name, at.platform.tools)
        failures = "; ".join(outcome.failures[:3])
        failed = ValidationFailed(f"dataset {name} does not meet {outcome.suite}: {failures}", "see the data docs")
        self.log.info("Dataset %s: %s", name, failures or "all expectations are met")
        return hand_on(at, to_json(outcome), None if outcome.success else failed)


class SmokeInferenceOperator(PlannedOperator):
    """
    Ask the restored models what they were asked when the point was taken. Returns all `SmokeOutcome`, also when the task fails.

    :raises SmokeFailed: if a model answers otherwise, or not at all
    """

    def perform(self, at: Site) -> Any:
        from muster.operations.recover import smoke_all

        planned = self.approved(at)
        job = self.job(at, planned)
        outcomes = smoke_all(at.vault, job, planned.plan, at.platform.tools)
        wrong = [f"{o.model} answers otherwise: {'; '.join(o.differences[:3])}" for o in outcomes if not o.equal]
        self.log.info("Asked %d models again: %s", len(outcomes), "; ".join(wrong) or "all answer as they did")
        failed = SmokeFailed("; ".join(wrong), "the report names every difference")
        return hand_on(at, [to_json(outcome) for outcome in outcomes], failed if wrong else None)


@dataclass(frozen=True, slots=True)
class Steps:
    """
    The tasks whose outcomes make a recovery.

    :param restored_by: ids of the tasks that restore components
    :param validated_by: id of the task that validates datasets
    :param asked_by: id of the task that asks the models
    """

    restored_by: Sequence[str]
    validated_by: str
    asked_by: str

    def outcomes(self, at: Site, planned: PlannedRecovery) -> Outcomes:
        """What they have handed on so far."""
        from muster.operations.conclude import Outcomes

        return Outcomes(
            planned.decided,
            tuple(from_json(ComponentOutcome, value) for value in handed_on(at, self.restored_by)),
            tuple(from_json(ValidationOutcome, value) for value in handed_on(at, [self.validated_by])),
            tuple(from_json(SmokeOutcome, value) for value in handed_on(at, [self.asked_by])),
            unfaithful=tuple(from_json(FidelityReport, value) for value in handed_on(at, self.restored_by, FIDELITY)),
        )


class CutOverOperator(PlannedOperator):
    """
    See once more that what was proven is still there, and put it to use as the plan says. Returns a `CutOver`, also when it fails;
    skipped if not everything came back and was proven, which the last task says.

    :param steps: the tasks before it
    :raises CutOverFailed: if the place does not serve
    """

    def __init__(self, *, steps: Steps, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.steps = steps

    def perform(self, at: Site) -> Any:
        from muster.operations.conclude import failures_of
        from muster.operations.cut_over import cut_over, failed

        planned = self.approved(at)
        job, outcomes = self.job(at, planned), self.steps.outcomes(at, planned)
        if found := failures_of(job.status, planned.plan, outcomes):
            raise AirflowSkipException(f"it is not cut over: {found[0].why}")
        outcome = cut_over(at.vault, job, planned.plan, outcomes, at.platform.tools)
        for line in outcome.done:
            self.log.info("%s", line)
        if outcome.output:
            self.log.info("The command said: %s", outcome.output)
        return hand_on(at, to_json(outcome), failed(outcome.failure) if outcome.failure else None)


class ConcludeRecoveryOperator(GatedOperator):
    """
    Measure, write the report into the vault, mark the point. Returns the figures of the report.

    A restore whose plan was refused has not begun, so it is not reported. A drill's is: an empty sandbox refuses nothing, so what
    forbids it lies in the point or in this machine.

    :param planned_by: id of the task that drew the plan
    :param steps: the tasks that did the work
    :param cut_over_by: id of the task that cuts over; None in a drill
    :raises PermanentError: if not everything came back as it was; the report is written all the same
    """

    operator_extra_links = (ReportLink(),)
    report = ""
    """Where the report is to be read, when there is one."""

    def __init__(self, *, planned_by: str, steps: Steps, cut_over_by: str | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.planned_by = planned_by
        self.steps = steps
        self.cut_over_by = cut_over_by

    def perform(self, at: Site) -> Any:
        from muster.operations.conclude import Incident, check_recovery, conclude

        planned, failed = self._planned(at), self._failed(at)
        approval = self.approval(at, planned)  # without one, a restore has not begun
        cut_over = handed_on(at, [self.cut_over_by]) if self.cut_over_by else []
        decided = replace(planned.decided, finished_at=approval.approved_at) if approval else planned.decided
        outcomes = replace(
            self.steps.outcomes(at, planned),
            decided=decided,
            failure=failed[0].why if failed else None,
            failed=failed,
            from_this_vault=self.from_this_vault(),
            drilled=self.drilled(),
            cut_over=from_json(CutOver, cut_over[0]) if cut_over else None,
        )
        incident = Incident(planned.request.kind, planned.request.at, planned.detected_at, approval)
        status = at.vault.point(planned.plan.point, planned.plan.workload)
        report = conclude(at.vault, status, planned.plan, incident, outcomes, at.platform.tools)
        self.log.info("%s of %s: %s", report.kind, report.point, report.summary())
        self.report = report_url(report.workload, report.point, report.finished_at)
        self.log.info("The report: %s", self.report)
        emit_recovery(report)
        check_recovery(report)
        return report.summary()

    def from_this_vault(self) -> bool:
        """Whether it was read out of the vault that gets the report."""
        return True

    def drilled(self) -> Callable[[str | None], DrillOutcome] | None:
        """What a drill adds to the report, by the point from which everything came back; None for a restore."""
        return None

    def _planned(self, at: Site) -> PlannedRecovery:
        found = handed_on(at, [self.planned_by], PLAN)
        if not found:
            raise NotFound("no plan was drawn, so there is nothing to conclude", f"look at the task {self.planned_by}")
        return from_json(PlannedRecovery, found[0])

    def _failed(self, at: Site) -> tuple[Failed, ...]:
        """What each failed task before this one said, in the order of the graph."""
        order = [task for task in self.dag.topological_sort() if task.task_id in self.upstream_task_ids]  # type: ignore[no-untyped-call]
        return tuple(Failed(task.task_id, why) for task in order for why in handed_on(at, [task.task_id], FAILURE))
