"""Single models of a registry in use, moved back to what they were at a point: plan it, have it approved, do it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from airflow.sdk.exceptions import AirflowSkipException

from muster.codec import from_json, to_json
from muster.domain.merge_plan import RollbackPlan
from muster.errors import UsageError
from muster.report.plan import rollback_in_markdown
from muster_airflow.forms import CONFLICT_RULES
from muster_airflow.operators.approve import ApproveOperator
from muster_airflow.operators.plan import PLAN, moment, requested_by, run_of, running
from muster_airflow.operators.recovery import Site, WorkloadOperator
from muster_airflow.operators.restore import ApplyingOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from muster.domain.merge_plan import OnConflict
    from muster.domain.recovery_point import PointStatus
    from muster.domain.selection import Wanted
    from muster.operations.approve import Plan
    from muster.ports.registry import RegistryMerge

NOT_BESIDE_A_ROLLBACK = ("restore", "undo")
"""
Families of DAGs that must not be at work on the same workload; rollbacks wait for each other by themselves. A snapshot may: it sees one
moment of a registry, and rows are put in by one transaction.
"""


@dataclass(frozen=True, slots=True)
class PlannedRollback:
    """
    What every later task of the run works on.

    :param models: what was asked for, ``NAME`` or ``NAME@ALIAS``, patterns as they were written
    :param to: the target by its name, or a folder
    :param planned_at: when the plan stood
    :param requested_by: who triggered the run
    """

    plan: RollbackPlan
    models: tuple[str, ...]
    to: str
    planned_at: datetime
    requested_by: str


class PlanRollbackOperator(WorkloadOperator):
    """
    Draw the plan, and refuse it if anything forbids it; change nothing. Returns what it changes, as the audit trail will have it.

    The plan itself is the XCom ``plan``.

    :param point: id of a point, a unique beginning of it, ``latest`` or ``verified`` (templated)
    :param before: ISO 8601 time: the newest verified point before it; empty or ``None`` for no matter when (templated)
    :param models: ``NAME`` or ``NAME@ALIAS``, one a line (templated)
    :param to: ``origin``, a target of the catalog, or a folder (templated)
    :param rule: what is done about conflicts, one of `CONFLICT_RULES` (templated)
    :param reason: why; it is recorded (templated)
    :raises PermanentError: of the kind of whatever forbids it first; the message has all of it
    """

    template_fields: Sequence[str] = ("workload", "point", "before", "models", "to", "rule", "reason")

    def __init__(self, *, point: str, before: str, models: str, to: str, rule: str, reason: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.point = point
        self.before = before
        self.models = models
        self.to = to
        self.rule = rule
        self.reason = reason

    def perform(self, at: Site) -> Any:
        from muster.operations.choose import choose_point
        from muster.operations.rollback import facts, let_pass

        rule, models = self._asked()
        status = choose_point(at.vault, at.name, self.point, moment(self.before, "before"))
        plan = _drawn(at, status, models, self.to, rule, self.reason)
        planned = PlannedRollback(plan, models, self.to, at.platform.clock.now(), requested_by(at.context))
        at.context["ti"].xcom_push(key=PLAN, value=to_json(planned))
        for warning in plan.warnings:
            self.log.warning("%s", warning)
        let_pass(at.vault, plan)
        found = facts(plan)
        self.log.info("Plan %s: from point %s into %s: %s", plan.digest[:16], plan.point, plan.target, found)
        return found

    def _asked(self) -> tuple[OnConflict, tuple[str, ...]]:
        """
        :raises UsageError: if the form was filled in by something that has not read it
        """
        models = tuple(line.strip() for line in self.models.splitlines() if line.strip())
        if not models:
            raise UsageError("no model is named", "name at least one: NAME, a pattern such as flight-*, or NAME@ALIAS")
        if self.rule not in CONFLICT_RULES:
            hint = f"choose one of: {', '.join(CONFLICT_RULES)}"
            raise UsageError(f"no rule for conflicts is called {self.rule!r}", hint)
        if not self.reason.strip():
            raise UsageError("nobody said why", "fill in the reason; it is recorded")
        return cast("OnConflict", self.rule), models


class ApproveRollbackOperator(ApproveOperator):
    """The gate of a rollback. Skipped, and with it all that is behind it, if there is nothing to approve."""

    def planned(self) -> PlannedRollback:
        """As `PlanRollbackOperator` hands it over."""
        return from_json(PlannedRollback, self.plan)

    def execute(self, context: Context) -> Any:
        """Put the question; nobody is asked where everything is there as it was."""
        plan = self.planned().plan
        if not plan.merge.changes:
            stays = len(plan.merge.conflicts) + len(plan.merge.left)
            raise AirflowSkipException(
                f"{', '.join(plan.merge.models)}: nothing is to be brought back from {plan.point}"
                + (f"; {stays} differences stay as they are" if stays else ", everything is there as it was")
            )
        return super().execute(context)

    def question(self, plan: RollbackPlan, asked_by: str) -> tuple[str, str]:
        """Which models, from which point, what changes and what stays, and why."""
        subject = f"Roll {', '.join(plan.merge.models)} of {self.workload} back to {plan.point}?"
        return subject, rollback_in_markdown(plan, asked_by, self.approvers)

    def plan_again(self, at: Site) -> Plan:
        """
        :raises PermanentError: if anything forbids it now
        """
        planned = self.planned()
        status = at.vault.point(planned.plan.point, at.name)
        now = _drawn(at, status, planned.models, planned.to, planned.plan.rule, planned.plan.reason)
        now.require_allowed()
        return now


class ApplyRollbackOperator(ApplyingOperator):
    """
    Bring back what the approved plan says. Returns what was changed, as the audit trail has it.

    :raises Refused: if nobody has approved this very plan for this run, or it would be another one now
    """

    def perform(self, at: Site) -> Any:
        from muster.operations.rollback import facts, roll_back_approved

        planned = from_json(PlannedRollback, self.plan)
        self.approval(at, planned)
        plan = planned.plan
        status = at.vault.point(plan.point, at.name)
        wanted, registry = _wanted(planned.models), _registry(at, status, planned.to)
        busy = running(at, NOT_BESIDE_A_ROLLBACK)
        roll_back_approved(at.vault, status, wanted, registry, plan, run_of(at.context), busy)
        done = facts(plan)
        self.log.info("%s: back to %s in %s: %s", ", ".join(plan.merge.models), plan.point, plan.target, done)
        return done


def _drawn(
    at: Site, status: PointStatus, models: Sequence[str], to: str, rule: OnConflict, reason: str
) -> RollbackPlan:
    """The plan as it is now."""
    from muster.operations.rollback import plan_rollback

    registry, busy = _registry(at, status, to), running(at, NOT_BESIDE_A_ROLLBACK)
    return plan_rollback(at.vault, status, _wanted(models), registry, rule, reason, busy)


def _registry(at: Site, status: PointStatus, to: str) -> RegistryMerge:
    return at.platform.registry_in_use(at.platform.target(at.workload, status, to))


def _wanted(models: Sequence[str]) -> list[Wanted]:
    from muster.domain.selection import Wanted

    return [Wanted.parse(model) for model in models]
