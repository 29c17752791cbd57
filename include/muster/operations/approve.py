"""Approve a plan: whoever decides, decides on one digest, and the vault's audit trail keeps the decision."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Protocol

from muster.domain.approval import Approval
from muster.errors import PermanentError, Refused
from muster.vault.audit import AuditRecord
from muster.vault.vault import Vault

APPROVE = "approve"
APPROVED, REJECTED, TIMED_OUT, NOT_COUNTED = "approved", "rejected", "timed out", "not counted"
ASK, ASKED = "ask", "asked"
DECISIONS = (APPROVED, REJECTED, TIMED_OUT)
SHORTEST_DIGEST = 8
"""Digits of a plan's digest that people must give at least."""


class Plan(Protocol):
    """What somebody decides on."""

    @property
    def workload(self) -> str: ...

    @property
    def point(self) -> str: ...

    @property
    def digest(self) -> str:
        """Of all that an approval of it is for."""

    @property
    def override(self) -> str:
        """Why it goes on although a policy forbids it; empty for not at all."""

    def require_allowed(self) -> None:
        """
        :raises PermanentError: if anything forbids it
        """


def may_decide(person: str, requested_by: str, approvers: Sequence[str]) -> str | None:
    """
    Why a person may not decide on what another asked for, or None if they may.

    :param approvers: those whom the catalog names; if it names none, anybody but the one who asked
    """
    if not person:
        return "nobody is signed in"
    if person == requested_by:
        return f"{person} asked for it, and nobody approves their own plan"
    if approvers and person not in approvers:
        return f"{person} is none of the workload's approvers ({', '.join(approvers)})"
    return None


def record_question(vault: Vault, plan: Plan, run: str) -> None:
    """Put into the audit trail which plan people are shown in a run."""
    vault.record(ASK, subject_of(plan), ASKED, {"plan": plan.digest, "run": run})


def require_asked(vault: Vault, plan: Plan, run: str) -> None:
    """
    :raises Refused: if people were shown another plan in this run: what was handed from task to task was changed while they thought
    """
    asked = vault.find_record(ASK, subject_of(plan), lambda record: record.details.get("run") == run)
    if asked is None or asked.details.get("plan") != plan.digest:
        raise Refused(
            f"the plan {plan.digest[:16]} is not the one that was shown: it was exchanged while people decided on it",
            "trigger a new run, and find out in Airflow's audit log who changed or cleared this one",
        )


def record_decision(vault: Vault, plan: Plan, outcome: str, approval: Approval, run: str) -> None:
    """
    Put a decision into the audit trail: what was decided on which plan, who asked, who decided, and why.

    :param run: what the approval is for, and nothing else: the run of a DAG, or a name of its own
    """
    vault.record(
        APPROVE,
        subject_of(plan),
        outcome,
        {
            "plan": approval.plan_digest,
            "requested_by": approval.requested_by,
            "decided_by": approval.approved_by,
            "decided_at": approval.approved_at.isoformat(),
            "reason": approval.reason,
            "how": approval.how,
            "run": run,
            "override": plan.override,
        },
    )


def decision(vault: Vault, plan: Plan, run: str) -> str | None:
    """What was decided on this very plan for this run, as the trail has it: approved, rejected or timed out; None if nothing was."""
    record = recorded(vault, APPROVE, plan, run, DECISIONS)
    return record.outcome if record else None


def require_approval(vault: Vault, plan: Plan, run: str) -> Approval:
    """
    The approval of this very plan for this run, from the vault's own audit trail: signed, and written once.

    :raises Refused: if there is none
    """
    record = recorded(vault, APPROVE, plan, run, (APPROVED,))
    if record is None:
        raise Refused(
            f"nobody has approved the plan {plan.digest[:16]} of {plan.workload} for this run",
            "trigger a new run, and have its plan approved by somebody else",
        )
    return Approval(
        plan_digest=plan.digest,
        requested_by=str(record.details["requested_by"]),
        approved_by=str(record.details["decided_by"]),
        approved_at=datetime.fromisoformat(str(record.details["decided_at"])),
        reason=str(record.details["reason"]),
        how=str(record.details["how"]),
    )


def require_same_plan(plan: Plan, digest: str) -> None:
    """
    :param digest: of the plan that was approved, or its first 8 digits and more
    :raises Refused: if the plan is another one now
    """
    if len(digest) < SHORTEST_DIGEST or not plan.digest.startswith(digest.lower()):
        raise Refused(
            f"the plan is not the approved one any more: its digest is {plan.digest[:16]}, not {digest[:16]}",
            "look at the plan again: a place, or what was found out about the point, has changed meanwhile",
        )


def let_pass(
    vault: Vault, plan: Plan, action: str, told: Callable[[str], dict[str, object]], digest: str | None = None
) -> None:
    """
    Let the plan pass, or record that it was refused, and raise why.

    :param action: of the record
    :param told: the details of the record, by the reason
    :param digest: of the plan that was approved; None if none was asked for
    :raises PermanentError: of the first refusal's kind
    """
    try:
        plan.require_allowed()
        if digest is not None:
            require_same_plan(plan, digest)
    except PermanentError as error:
        vault.record_if_possible(action, subject_of(plan), "refused", told(error.message))
        raise


def recorded(vault: Vault, action: str, plan: Plan, run: str, outcomes: Collection[str]) -> AuditRecord | None:
    """The newest record of an action on this very plan for this run that ended so; None if there is none."""

    def wanted(record: AuditRecord) -> bool:
        said = record.details
        return (said.get("plan"), said.get("run")) == (plan.digest, run) and record.outcome in outcomes

    return vault.find_record(action, subject_of(plan), wanted)


def subject_of(plan: Plan) -> str:
    """Of the records about a plan."""
    return f"{plan.workload}/{plan.point}"
