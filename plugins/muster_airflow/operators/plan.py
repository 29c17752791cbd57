"""The first step of a restore, and of a drill: draw the plan, and change nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol

from muster.codec import to_json
from muster.domain.restore_plan import RestorePlan
from muster.domain.restore_request import RestoreRequest
from muster.domain.timing import Span, stamp_of
from muster.errors import UsageError
from muster_airflow.operators.recovery import Site, WorkloadOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from muster.operations.approve import Plan

Kind = Literal["restore", "drill"]
PLAN = "plan"
"""XCom key of the drawn plan; it is there also when the plan was refused."""


class Planned(Protocol):
    """What is handed from the task that draws a plan to those that decide on it and apply it."""

    @property
    def plan(self) -> Plan: ...

    @property
    def planned_at(self) -> datetime: ...

    @property
    def requested_by(self) -> str: ...


@dataclass(frozen=True, slots=True)
class PlannedRecovery:
    """
    What every later task of the run works on.

    :param detected_at: when the run was started
    :param decided: the span of planning
    :param requested_by: who triggered the run
    """

    request: RestoreRequest
    plan: RestorePlan
    detected_at: datetime
    decided: Span
    requested_by: str

    @property
    def planned_at(self) -> datetime:
        """When the plan stood."""
        return self.decided.finished_at

    @property
    def stamp(self) -> str:
        """The name of this restore in what it moves aside."""
        return stamp_of(self.decided.started_at)


class PlanRestoreOperator(WorkloadOperator):
    """
    Draw the plan, and refuse it if anything forbids it; change nothing. Returns the labels of the datasets that will be restored.

    The plan itself is the XCom ``plan``.

    :param point: id of a point, a unique beginning of it, ``latest`` or ``verified`` (templated)
    :param before: ISO 8601 time: the newest verified point before it; empty or ``None`` for no matter when (templated)
    :param to: ``origin``, a target of the catalog, or a folder (templated)
    :param incident_at: ISO 8601 time of the loss; empty or ``None`` for the start of the run (templated)
    :param only: what to restore, one a line; empty for everything (templated)
    :param replace: ``True`` to move what is in the way aside (templated)
    :param override: why a policy is overridden (templated)
    :raises PermanentError: of the kind of whatever forbids it first; the message has all of it
    """

    template_fields: Sequence[str] = (
        *("workload", "point", "before", "to", "incident_at"),
        *("only", "replace", "override"),
    )

    def __init__(
        self,
        *,
        point: str,
        to: str,
        before: str = "",
        incident_at: str = "",
        only: str = "",
        replace: str = "False",
        override: str = "",
        kind: Kind = "restore",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.point = point
        self.before = before
        self.to = to
        self.incident_at = incident_at
        self.only = only
        self.replace = replace
        self.override = override
        self.kind = kind

    def perform(self, at: Site) -> Any:
        from muster.operations.choose import choose_point
        from muster.operations.recover import let_pass
        from muster.operations.restore import plan_restore

        started_at, detected_at = at.platform.clock.now(), _started_at(at)
        lost_at = incident_time(self.incident_at, detected_at)
        status = choose_point(at.vault, at.name, self.point, moment(self.before, "before"), lost_at)
        request = RestoreRequest(
            self.kind,
            lost_at,
            only=tuple(line.strip() for line in self.only.splitlines() if line.strip()),
            replace=self.replace == "True",
            override=self.override.strip(),
        )
        busy = running(at, NOT_BESIDE_A_RESTORE) if self.kind == "restore" else None
        target = at.platform.target(at.workload, status, self.to)
        plan = plan_restore(at.vault, at.platform.restore_job(status, target, request, busy))
        decided = Span("decide", "plan", started_at, at.platform.clock.now())
        planned = PlannedRecovery(request, plan, detected_at, decided, requested_by(at.context))
        at.context["ti"].xcom_push(key=PLAN, value=to_json(planned))
        for warning in plan.warnings:
            self.log.warning("%s", warning)
        for verdict in plan.verdicts:
            how = "overridden" if verdict.overridden else "passed" if verdict.passed else "forbids it"
            self.log.info("Policy %s: %s: %s", verdict.policy, how, verdict.reason)
        let_pass(at.vault, plan, self.kind)
        self.log.info("Plan %s: point %s, %d bytes, goes to %s", plan.digest[:16], plan.point, plan.size, plan.target)
        return [action.component for action in plan.actions if action.component.startswith("dataset/")]


def incident_time(text: str, otherwise: datetime) -> datetime:
    """
    The time of the loss, in UTC; a time without a zone is taken as UTC.

    :raises UsageError: if it is no time, or later than `otherwise`
    """
    at = moment(text, "incident_at")
    if at is None:
        return otherwise
    if at > otherwise:
        raise UsageError(f"incident_at {text} is later than the start of this run", "give the time of the loss in UTC")
    return at


def moment(text: str, name: str) -> datetime | None:
    """
    A time of a form, in UTC; a time without a zone is taken as UTC. None if the field was left empty.

    :raises UsageError: if it is no time
    """
    if text in ("", "None"):
        return None
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        hint = "give it in ISO 8601, such as 2026-11-23T02:00:00Z, or leave it empty"
        raise UsageError(f"{name} {text!r} is no time", hint) from None
    return (given if given.tzinfo else given.replace(tzinfo=UTC)).astimezone(UTC)


NOT_BESIDE_A_RESTORE = ("snapshot", "undo", "rollback")
"""Families of DAGs that must not be at work on the same workload; restores wait for each other by themselves."""


def running(at: Site, verbs: Iterable[str]) -> list[str]:
    """Runs of Airflow that are at work on the same workload, of these families of DAGs."""
    dags = [f"{verb}__{at.name}" for verb in verbs]
    return [f"a run of {dag}" for dag in dags if at.context["ti"].get_dr_count(dag, states=["running"])]


def run_of(context: Context) -> str:
    """What an approval is for: this run of this DAG, and no other."""
    run = context["dag_run"]
    return f"{run.dag_id} {run.run_id}"


def requested_by(context: Context) -> str:
    """Who triggered the run; ``airflow`` if nobody did."""
    return getattr(context["dag_run"], "triggering_user_name", None) or "airflow"


def _started_at(at: Site) -> datetime:
    started = at.context["dag_run"].start_date
    return started.astimezone(UTC) if started else at.platform.clock.now()
