"""What becomes of what a restore moved aside: plan it, have it approved, do it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from muster.codec import from_json, to_json
from muster.domain.undo_plan import UndoPlan
from muster.errors import UsageError
from muster.report.plan import undo_in_markdown
from muster_airflow.forms import UNDO_CHOICES
from muster_airflow.operators.approve import ApproveOperator
from muster_airflow.operators.plan import PLAN, requested_by, run_of, running
from muster_airflow.operators.recovery import Site, WorkloadOperator
from muster_airflow.operators.restore import ApplyingOperator

if TYPE_CHECKING:
    from muster.domain.undo_plan import UndoVerb
    from muster.operations.approve import Plan
    from muster.operations.undo import JobFor

NOT_BESIDE_AN_UNDO = ("snapshot", "restore", "rollback")
"""Families of DAGs that must not be at work on the same workload; undos wait for each other by themselves."""


@dataclass(frozen=True, slots=True)
class PlannedUndo:
    """
    What every later task of the run works on.

    :param planned_at: when the plan stood
    :param requested_by: who triggered the run
    """

    plan: UndoPlan
    planned_at: datetime
    requested_by: str


class PlanUndoOperator(WorkloadOperator):
    """
    Draw the plan, and refuse it if anything forbids it; change nothing. Returns what lies aside, in words.

    The plan itself is the XCom ``plan``.

    :param stamp: which restore; empty or ``None`` for the newest that moved something aside (templated)
    :param then: what becomes of it, one of `UNDO_CHOICES` (templated)
    :param reason: why; it is recorded (templated)
    :raises PermanentError: of the kind of whatever forbids it first; the message has all of it
    """

    template_fields: Sequence[str] = ("workload", "stamp", "then", "reason")

    def __init__(self, *, stamp: str, then: str, reason: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stamp = stamp
        self.then = then
        self.reason = reason

    def perform(self, at: Site) -> Any:
        from muster.operations.undo import let_pass

        verb = UNDO_CHOICES.get(self.then)
        if verb is None:
            raise UsageError(f"nothing is known to do as {self.then!r}", f"choose one of: {', '.join(UNDO_CHOICES)}")
        if not self.reason.strip():
            raise UsageError("nobody said why", "fill in the reason; it is recorded")
        plan = _drawn(at, verb, None if self.stamp in ("", "None") else self.stamp, self.reason)
        planned = PlannedUndo(plan, at.platform.clock.now(), requested_by(at.context))
        at.context["ti"].xcom_push(key=PLAN, value=to_json(planned))
        for warning in plan.warnings:
            self.log.warning("%s", warning)
        let_pass(at.vault, plan)
        self.log.info("Plan %s: %s, of the restore %s: %s", plan.digest[:16], self.then, plan.stamp, plan.aside)
        return list(plan.aside)


class ApproveUndoOperator(ApproveOperator):
    """The gate of an undo."""

    def planned(self) -> PlannedUndo:
        """As `PlanUndoOperator` hands it over."""
        return from_json(PlannedUndo, self.plan)

    def question(self, plan: UndoPlan, asked_by: str) -> tuple[str, str]:
        """Which restore, which places, what lies aside there, and why."""
        then = next(words for words, verb in UNDO_CHOICES.items() if verb == plan.verb)
        subject = f"{then.capitalize()} what the restore {plan.stamp} of {self.workload} moved aside?"
        return subject, undo_in_markdown(plan, asked_by, self.approvers)

    def plan_again(self, at: Site) -> Plan:
        """
        :raises PermanentError: if anything forbids it now
        """
        plan = self.planned().plan
        now = _drawn(at, plan.verb, plan.stamp, plan.reason)
        now.require_allowed()
        return now


class ApplyUndoOperator(ApplyingOperator):
    """
    Put back, or delete for ever, what the approved plan says. Returns the places that were touched, in words.

    :raises Refused: if nobody has approved this very plan for this run, or it would be another one now
    """

    def perform(self, at: Site) -> Any:
        from muster.operations.undo import undo

        planned = from_json(PlannedUndo, self.plan)
        self.approval(at, planned)
        job_for, busy = _circumstances(at)
        places = undo(at.vault, planned.plan, job_for, busy, run=run_of(at.context))
        for place in places:
            self.log.info("%s %s", place, "is back" if planned.plan.verb == "undo" else "is deleted")
        return list(places)


def _drawn(at: Site, verb: UndoVerb, stamp: str | None, reason: str) -> UndoPlan:
    """The plan as it is now."""
    from muster.operations.undo import choose, plan_undo, replaced

    job_for, busy = _circumstances(at)
    return choose(replaced(at.vault, at.name, verb), stamp, lambda what: plan_undo(what, verb, reason, job_for, busy))


def _circumstances(at: Site) -> tuple[JobFor, list[str]]:
    """Who resolves the places, and what else is at work on the workload."""
    return partial(at.platform.undo_job, at.vault), running(at, NOT_BESIDE_AN_UNDO)
