"""The gate of whatever changes a place for good: a second person looks at the plan, and decides."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator

from muster.codec import from_json
from muster.domain.approval import Approval
from muster.errors import MusterError, Refused
from muster.report.plan import plan_in_markdown
from muster_airflow.hooks.recovery import RecoveryHook
from muster_airflow.operators.plan import (
    NOT_BESIDE_A_RESTORE,
    Planned,
    PlannedRecovery,
    requested_by,
    run_of,
    running,
)
from muster_airflow.operators.recovery import FAILURE, Site
from muster_airflow.policies import LOST_ANSWER_DELAY

if TYPE_CHECKING:
    from airflow.sdk import Context

    from muster.domain.restore_plan import RestorePlan
    from muster.operations.approve import Plan


class ApproveOperator(ApprovalOperator):
    """
    Show a plan to people, and let the run go on when one of the workload's approvers, who did not ask for it, approves.

    An answer of anybody else does not count: it is recorded, and the question is put again. Approval, rejection and timeout are
    recorded in the vault's audit trail, with the digest of the plan; the tasks behind the gate look there, and nowhere else. What was
    handed over is not trusted here either: what people are shown is drawn anew, the trail keeps which plan that was, and an answer
    counts for no other one. Just before the approval counts it is drawn once more, and must be the same. Subclasses say what plan that is.

    :param workload: its name in the catalog (templated)
    :param plan: the XCom ``plan`` of the task that drew it (templated)
    :param approvers: names of those who may decide; anybody but the requester if it is empty
    """

    template_fields: Sequence[str] = ("subject", "body", "workload", "plan")

    def __init__(self, *, workload: str, plan: Any, approvers: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(subject=f"Approve the plan of {workload}?", body="", fail_on_reject=True, **kwargs)
        self.workload = workload
        self.plan = plan
        self.approvers = list(approvers)
        self.retry_delay = LOST_ANSWER_DELAY  # whatever the DAG says of its other tasks

    def planned(self) -> Planned:
        """What was handed over."""
        raise NotImplementedError

    def question(self, plan: Any, asked_by: str) -> tuple[str, str]:
        """
        What people are asked: a line, and in Markdown everything that an approval is for.

        :param plan: as `plan_again` has drawn it
        """
        raise NotImplementedError

    def plan_again(self, at: Site) -> Plan:
        """The plan as it would be now."""
        raise NotImplementedError

    def execute(self, context: Context) -> Any:
        """
        Put the question; the task waits without a slot until somebody answers, or the time is over.

        A decision that an earlier try has recorded stands: Airflow 3.3 takes a task for lost that is answered in the second in which it
        began to wait, and tries it again.
        """
        from muster.operations.approve import record_question, require_same_plan

        planned = self._allowed()
        at = Site(RecoveryHook(context).platform, context, self.workload)
        if already := self._decided_before(at, planned):
            return already
        shown = self.plan_again(at)
        require_same_plan(shown, planned.plan.digest)
        record_question(at.vault, shown, run_of(context))
        self.subject, self.body = self.question(shown, requested_by(context))
        if self.response_timeout:
            waited = datetime.now(UTC) - planned.planned_at
            self.response_timeout = max(self.response_timeout - waited, self.response_timeout / 100)
        return super().execute(context)

    def _decided_before(self, at: Site, planned: Planned) -> Any:
        from muster.operations.approve import APPROVED, decision

        outcome = decision(at.vault, planned.plan, run_of(at.context))
        if outcome is None:
            return None
        if outcome != APPROVED:
            raise Refused(f"the plan was decided on before: {outcome}", "trigger a new run")
        self.log.info("The plan %s was approved before", planned.plan.digest[:16])
        return {"plan": planned.plan.digest}

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Judge the answer, record it, and let the run go on or not."""
        try:
            return self._decided(context, event)
        except MusterError as error:
            context["ti"].xcom_push(key=FAILURE, value=error.message)
            raise

    def _decided(self, context: Context, event: dict[str, Any]) -> Any:
        from muster.operations.approve import (
            APPROVED,
            NOT_COUNTED,
            REJECTED,
            TIMED_OUT,
            may_decide,
            record_decision,
            require_asked,
            require_same_plan,
        )

        at = Site(RecoveryHook(context).platform, context, self.workload)
        planned = self._allowed()
        user = event.get("responded_by_user") or {}
        person = str(user.get("name") or "") if isinstance(user, dict) else str(getattr(user, "name", ""))
        now, asked = at.platform.clock.now(), requested_by(context)

        def record(outcome: str, reason: str) -> None:
            decision = Approval(planned.plan.digest, asked, person, now, reason, "airflow")
            record_decision(at.vault, planned.plan, outcome, decision, run_of(context))

        if "error" in event:
            record(TIMED_OUT, str(event.get("error_type", "")))
            raise Refused("nobody decided on the plan in time", "trigger a new run when an approver is there")
        objection = may_decide(person, asked, self.approvers)
        if objection:
            record(NOT_COUNTED, objection)
            self.log.warning("The answer does not count: %s. Waiting for another", objection)
            return self.execute(context)
        require_asked(at.vault, planned.plan, run_of(context))
        if event["chosen_options"] != [self.APPROVE]:
            record(REJECTED, "")
            raise Refused(f"{person} rejected the plan", "ask why; nothing was touched")
        require_same_plan(self.plan_again(at), planned.plan.digest)
        record(APPROVED, "")
        self.log.info("%s approved the plan %s", person, planned.plan.digest[:16])
        return {"approved_by": person, "plan": planned.plan.digest}

    def _allowed(self) -> Planned:
        planned = self.planned()
        planned.plan.require_allowed()
        return planned


class ApproveRestoreOperator(ApproveOperator):
    """The gate of a restore."""

    def planned(self) -> PlannedRecovery:
        """As `PlanRestoreOperator` hands it over."""
        return from_json(PlannedRecovery, self.plan)

    def question(self, plan: RestorePlan, asked_by: str) -> tuple[str, str]:
        """Point, place, and what happens to what is there."""
        subject = f"Restore {self.workload} to {plan.target} from {plan.point}?"
        return subject, plan_in_markdown(plan, asked_by, self.approvers)

    def plan_again(self, at: Site) -> Plan:
        """Looks at the point and the place once more."""
        from muster.operations.restore import plan_restore

        planned = self.planned()
        status = at.vault.point(planned.plan.point, at.name)
        target = at.platform.target(at.workload, status, planned.plan.target)
        busy = running(at, NOT_BESIDE_A_RESTORE)
        return plan_restore(at.vault, at.platform.restore_job(status, target, planned.request, busy))
