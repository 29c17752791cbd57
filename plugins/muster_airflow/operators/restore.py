"""The steps of a restore, and of a drill: plan, restore, validate, ask again, conclude. Nothing is written before the plan stands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk.exceptions import AirflowSkipException

from muster.codec import from_json, to_json
from muster.domain.fidelity import FidelityReport
from muster.domain.recovery_report import ComponentOutcome, SmokeOutcome, ValidationOutcome
from muster.domain.restore_plan import RestorePlan
from muster.domain.timing import Span
from muster.errors import NotFound, SmokeFailed, Unfaithful, UsageError, ValidationFailed
from muster_airflow.operators.recovery import FAILURE, Site, WorkloadOperator, hand_on, handed_on

if TYPE_CHECKING:
    from muster.domain.drill import DrillOutcome
    from muster.operations.recover import RestoreJob

Kind = Literal["restore", "drill"]
PLAN = "plan"
"""XCom key of the drawn plan; it is there also when the plan was refused."""
FIDELITY = "fidelity"
"""XCom key of the fidelity report of a registry that was removed again; of one that is there it stands in the outcome."""


@dataclass(frozen=True, slots=True)
class PlannedRecovery:
    """
    What every later task of the run works on.

    :param incident_at: when the platform was lost
    :param detected_at: when the run was started
    :param decided: the span of planning
    """

    kind: Kind
    plan: RestorePlan
    incident_at: datetime
    detected_at: datetime
    decided: Span


class PlanRestoreOperator(WorkloadOperator):
    """
    Draw the plan, and refuse it if anything forbids it; change nothing. Returns the labels of the datasets that will be restored.

    The plan itself is the XCom ``plan``.

    :param point: id of a point, a unique beginning of it, or ``latest`` (templated)
    :param to: ``origin``, a target of the catalog, or a folder (templated)
    :param incident_at: ISO 8601 time of the loss; empty or ``None`` for the start of the run (templated)
    :raises PermanentError: of the kind of whatever forbids it first; the message has all of it
    """

    template_fields: Sequence[str] = ("workload", "point", "to", "incident_at")

    def __init__(self, *, point: str, to: str, incident_at: str = "", kind: Kind = "restore", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.point = point
        self.to = to
        self.incident_at = incident_at
        self.kind = kind

    def perform(self, at: Site) -> Any:
        from muster.operations.restore import plan_restore

        started_at, detected_at = at.platform.clock.now(), _started_at(at)
        incident_at = incident_time(self.incident_at, detected_at)
        status = at.vault.point(self.point, at.name)
        job = at.platform.restore_job(status, at.platform.target(at.workload, status, self.to))
        plan = plan_restore(at.vault, job.status, job.target, job.target_of)
        decided = Span("decide", "plan", started_at, at.platform.clock.now())
        planned = PlannedRecovery(self.kind, plan, incident_at, detected_at, decided)
        at.context["ti"].xcom_push(key=PLAN, value=to_json(planned))
        for warning in plan.warnings:
            self.log.warning("%s", warning)
        plan.approve()
        self.log.info("Point %s, %d bytes, goes to %s", plan.point, plan.size, plan.target)
        return [action.component for action in plan.actions if action.component.startswith("dataset/")]


class PlannedOperator(WorkloadOperator):
    """
    A step of a planned recovery.

    :param plan: the XCom ``plan`` of `PlanRestoreOperator` (templated)
    """

    template_fields: Sequence[str] = ("workload", "plan")

    def __init__(self, *, plan: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan

    def approved(self) -> PlannedRecovery:
        """The plan as a value; raises what forbids it, whatever somebody marked as successful."""
        planned = from_json(PlannedRecovery, self.plan)
        planned.plan.approve()
        return planned

    def job(self, at: Site, planned: PlannedRecovery) -> RestoreJob:
        """
        The planned point, its target, and who restores it.

        HTML data docs of a drill lie apart, so that a drill and a restore of the same point do not get in each other's way.
        """
        plan = planned.plan
        status = at.vault.point(plan.point, plan.workload)
        job = at.platform.restore_job(status, at.platform.target(at.workload, status, plan.target))
        return job if planned.kind == "restore" else replace(job, docs=job.docs.with_name(f"{plan.workload}-drill"))


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

        planned = self.approved()
        if self.component not in {action.component for action in planned.plan.actions}:
            raise AirflowSkipException(f"{self.component} is not in the plan")
        job = self.job(at, planned)
        try:
            outcome = restore_component(at.vault, job.status, self.component, job.target_of, at.platform.clock)
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

        planned, name = self.approved(), self.component.removeprefix("dataset/")
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

        planned = self.approved()
        job = self.job(at, planned)
        outcomes = smoke_all(at.vault, job, planned.plan, at.platform.tools)
        wrong = [f"{o.model} answers otherwise: {'; '.join(o.differences[:3])}" for o in outcomes if not o.equal]
        self.log.info("Asked %d models again: %s", len(outcomes), "; ".join(wrong) or "all answer as they did")
        failed = SmokeFailed("; ".join(wrong), "the report names every difference")
        return hand_on(at, [to_json(outcome) for outcome in outcomes], failed if wrong else None)


class ConcludeRecoveryOperator(WorkloadOperator):
    """
    Measure, write the report into the vault, mark the point. Returns the figures of the report.

    A restore whose plan was refused has not begun, so it is not reported. A drill's is: an empty sandbox refuses nothing, so what
    forbids it lies in the point or in this machine.

    :param planned_by: id of the task that drew the plan
    :param restored_by: ids of the tasks that restore components
    :param validated_by: id of the task that validates datasets
    :param asked_by: id of the task that asks the models
    :raises PermanentError: if not everything came back as it was; the report is written all the same
    """

    def __init__(
        self, *, planned_by: str, restored_by: Sequence[str], validated_by: str, asked_by: str, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.planned_by = planned_by
        self.restored_by = restored_by
        self.validated_by = validated_by
        self.asked_by = asked_by

    def perform(self, at: Site) -> Any:
        from muster.operations.conclude import Incident, Outcomes, check_recovery, conclude

        planned = self._planned(at)
        outcomes = Outcomes(
            planned.decided,
            tuple(from_json(ComponentOutcome, value) for value in handed_on(at, self.restored_by)),
            tuple(from_json(ValidationOutcome, value) for value in handed_on(at, [self.validated_by])),
            tuple(from_json(SmokeOutcome, value) for value in handed_on(at, [self.asked_by])),
            self._first_failure(at),
            tuple(from_json(FidelityReport, value) for value in handed_on(at, self.restored_by, FIDELITY)),
            self.drilled(),
        )
        incident = Incident(planned.kind, planned.incident_at, planned.detected_at)
        status = at.vault.point(planned.plan.point, planned.plan.workload)
        report = conclude(at.vault, status, planned.plan, incident, outcomes, at.platform.tools)
        self.log.info("%s of %s: %s", report.kind, report.point, report.summary())
        check_recovery(report)
        return report.summary()

    def drilled(self) -> Callable[[str | None], DrillOutcome] | None:
        """What a drill adds to the report, by the point from which everything came back; None for a restore."""
        return None

    def _planned(self, at: Site) -> PlannedRecovery:
        found = handed_on(at, [self.planned_by], PLAN)
        if not found:
            raise NotFound("no plan was drawn, so there is nothing to conclude", f"look at the task {self.planned_by}")
        planned = from_json(PlannedRecovery, found[0])
        if planned.kind == "restore":
            planned.plan.approve()
        return planned

    def _first_failure(self, at: Site) -> str | None:
        """What the first failed task before this one said, in the order of the graph."""
        order = [task for task in self.dag.topological_sort() if task.task_id in self.upstream_task_ids]  # type: ignore[no-untyped-call]
        return next(iter(handed_on(at, [task.task_id for task in order], FAILURE)), None)


def incident_time(text: str, otherwise: datetime) -> datetime:
    """
    The time of the loss, in UTC; a time without a zone is taken as UTC.

    :raises UsageError: if it is no time, or later than `otherwise`
    """
    if text in ("", "None"):
        return otherwise
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"incident_at {text!r} is no time", "give it in ISO 8601, such as 2026-11-23T02:00:00Z, or leave it empty"
        ) from None
    at = (given if given.tzinfo else given.replace(tzinfo=UTC)).astimezone(UTC)
    if at > otherwise:
        raise UsageError(f"incident_at {text} is later than the start of this run", "give the time of the loss in UTC")
    return at


def _started_at(at: Site) -> datetime:
    started = at.context["dag_run"].start_date
    return started.astimezone(UTC) if started else at.platform.clock.now()
