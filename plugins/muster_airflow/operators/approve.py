"""The gate of a restore: a second person looks at the plan, and decides."""

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
from muster_airflow.operators.plan import PlannedRecovery, requested_by, run_of, running
from muster_airflow.operators.recovery import FAILURE, Site

if TYPE_CHECKING:
    from airflow.sdk import Context


class ApproveRestoreOperator(ApprovalOperator):
    """
    Show the plan to people, and let the restore go on when one of the workload's approvers, who did not ask for it, approves.

    An answer of anybody else does not count: it is recorded, and the question is put again. Approval, rejection and timeout are
    recorded in the vault's audit trail, with the digest of the plan; the tasks behind the gate look there, and nowhere else. Just
    before the approval counts the plan is drawn again, and must be the same.

    :param workload: its name in the catalog (templated)
    :param plan: the XCom ``plan`` of `PlanRestoreOperator` (templated)
    :param approvers: names of those who may decide; anybody but the requester if it is empty
    """

    template_fields: Sequence[str] = ("subject", "body", "workload", "plan")

    def __init__(self, *, workload: str, plan: Any, approvers: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(subject=f"Restore {workload}?", body="", fail_on_reject=True, **kwargs)
        self.workload = workload
        self.plan = plan
        self.approvers = list(approvers)

    def execute(self, context: Context) -> Any:
        """
        Put the question; the task waits without a slot until somebody answers, or the time is over.

        A decision that an earlier try has recorded stands: Airflow 3.3 takes a task for lost that is answered in the second in which it
        began to wait, and tries it again.
        """
        planned = self._planned()
        if already := self._decided_before(context, planned):
            return already
        self.subject = f"Restore {self.workload} to {planned.plan.target} from {planned.plan.point}?"
        self.body = plan_in_markdown(planned.plan, planned.requested_by, self.approvers)
        if self.response_timeout:
            waited = datetime.now(UTC) - planned.decided.finished_at
            self.response_timeout = max(self.response_timeout - waited, self.response_timeout / 100)
        return super().execute(context)

    def _decided_before(self, context: Context, planned: PlannedRecovery) -> Any:
        from muster.operations.approve import APPROVED, decision

        at = Site(RecoveryHook(context).platform, context, self.workload)
        outcome = decision(at.vault, planned.plan, run_of(context))
        if outcome is None:
            return None
        if outcome != APPROVED:
            raise Refused(f"the plan was decided on before: {outcome}", "trigger a new run")
        self.log.info("The plan %s was approved before", planned.plan.digest[:16])
        return {"plan": planned.plan.digest}

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Judge the answer, record it, and let the restore go on or not."""
        try:
            return self._decided(context, event)
        except MusterError as error:
            context["ti"].xcom_push(key=FAILURE, value=error.message)
            raise

    def _decided(self, context: Context, event: dict[str, Any]) -> Any:
        from muster.operations.approve import APPROVED, NOT_COUNTED, REJECTED, TIMED_OUT, may_decide, record_decision

        at = Site(RecoveryHook(context).platform, context, self.workload)
        planned = self._planned()
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
        if event["chosen_options"] != [self.APPROVE]:
            record(REJECTED, "")
            raise Refused(f"{person} rejected the plan", "ask why; nothing was touched")
        self._require_unchanged(at, planned)
        record(APPROVED, "")
        self.log.info("%s approved the plan %s", person, planned.plan.digest[:16])
        return {"approved_by": person, "plan": planned.plan.digest}

    def _require_unchanged(self, at: Site, planned: PlannedRecovery) -> None:
        from muster.operations.approve import require_same_plan
        from muster.operations.restore import plan_restore

        status = at.vault.point(planned.plan.point, at.name)
        target = at.platform.target(at.workload, status, planned.plan.target)
        now = plan_restore(at.vault, at.platform.restore_job(status, target, planned.request, running(at)))
        require_same_plan(now, planned.plan.digest)

    def _planned(self) -> PlannedRecovery:
        planned = from_json(PlannedRecovery, self.plan)
        planned.plan.require_allowed()
        return planned
