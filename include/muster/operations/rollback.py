"""Move single models of a registry that is in use back to what they were at a point: look first, then do it, then record it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from muster.codec import to_json
from muster.domain.merge_plan import MergePlan, OnConflict, RollbackPlan
from muster.domain.recovery_point import Component, PointStatus
from muster.domain.restore_plan import at_work
from muster.domain.selection import Wanted
from muster.errors import MusterError, NotFound, Refused
from muster.operations import approve
from muster.operations.approve import recorded, require_same_plan
from muster.operations.at_rest import BEGUN, DONE
from muster.ports.registry import RegistryMerge
from muster.vault.vault import Vault

ACTION = "rollback"
REFUSED = "refused"


def plan_rollback(
    vault: Vault,
    status: PointStatus,
    wanted: Sequence[Wanted],
    registry: RegistryMerge,
    rule: OnConflict = "refuse",
    reason: str = "",
    running: Sequence[str] = (),
) -> RollbackPlan:
    """
    What a rollback would do. Reads the point and looks at the registry; changes nothing. Whatever forbids it is listed in it: all
    conflicts, and all that is at work.

    :param reason: why it is asked for
    :param running: what else is at work on the workload, in words
    :raises NotFound: if the point has no registry, model or alias of that name
    :raises Refused: if the registry is at another schema revision
    """
    component = _registry_of(status)
    merge = registry.plan(component.details, vault.tree(component.tree), wanted)
    return _told(status, registry, rule, merge, reason, running)


def roll_back(
    vault: Vault,
    status: PointStatus,
    wanted: Sequence[Wanted],
    registry: RegistryMerge,
    rule: OnConflict = "refuse",
    agreed: str | None = None,
    because: Mapping[str, str] | None = None,
) -> RollbackPlan:
    """
    Bring models back into a registry that is in use, next to what is there, and record it in the audit trail: before anything is
    changed, and what came of it; refusals and failures too.

    :param agreed: the `mark_of` the plan that somebody has seen; another one by now is refused
    :param because: who agreed, and why nobody else had to; recorded
    :return: what was done
    :raises Refused: if there are conflicts that the rule does not let pass
    """
    component = _registry_of(status)
    tree = vault.tree(component.tree)
    asked = {**_asked(wanted, registry, rule), **(because or {})}
    seen: MergePlan | None = None
    with _failure_recorded(vault, status, asked):
        if agreed is not None:
            seen = registry.plan(component.details, tree, wanted)
            if mark_of(_told(status, registry, rule, seen)) != agreed:
                raise Refused("the plan is not the one that was agreed to any more", "look at the plan again")
        _record(vault, _subject(status), BEGUN, asked)
        done = _told(status, registry, rule, registry.merge(component.details, tree, wanted, rule, seen))
    outcome = DONE if done.merge.changes else "nothing to do"
    _record(vault, _subject(status), outcome, {**asked, **facts(done)})
    return done


def roll_back_approved(
    vault: Vault,
    status: PointStatus,
    wanted: Sequence[Wanted],
    registry: RegistryMerge,
    plan: RollbackPlan,
    run: str,
    running: Sequence[str] = (),
) -> None:
    """
    Do what an approved plan says and nothing else, and record it as `roll_back` does. The plan is drawn again before anything is changed.

    Safe to repeat for the same run: that an earlier try has begun, or is done, is known by the audit trail. One that was killed has put
    in all rows or none; so the rest is done, or what was done is told as done.

    :param wanted: what the plan was drawn of
    :param run: for which the plan was approved
    :param running: what else is at work on the workload, in words
    :raises Refused: if it would be another plan now, or anything else is at work; or it was done, and the registry has changed since
    """
    component = _registry_of(status)
    asked = {**_asked(wanted, registry, plan.rule), "reason": plan.reason, "plan": plan.digest, "run": run}
    with _failure_recorded(vault, status, asked):
        now = plan_rollback(vault, status, wanted, registry, plan.rule, plan.reason, running)
        if recorded(vault, ACTION, plan, run, (DONE,)):
            if now.merge.changes:
                told = f"this was done, and {', '.join(plan.merge.models)} has changed since"
                raise Refused(told, "trigger a new run, and have its plan approved: an approval is for one rollback")
            return
        now.require_allowed()
        if not (recorded(vault, ACTION, plan, run, (BEGUN,)) and now.is_rest_of(plan)):
            require_same_plan(now, plan.digest)
        if now.merge.changes:
            _record(vault, _subject(status), BEGUN, asked)
            registry.merge(component.details, vault.tree(component.tree), wanted, plan.rule, now.merge)
    _record(vault, _subject(status), DONE, {**asked, **facts(plan)})


def let_pass(vault: Vault, plan: RollbackPlan) -> None:
    """
    Let the plan pass, or record that it was refused, and raise why.

    :raises PermanentError: of the first refusal's kind
    """
    asked = {"models": list(plan.merge.models), "target": plan.target, "on_conflict": plan.rule}
    approve.let_pass(vault, plan, ACTION, lambda why: {**asked, "reason": plan.reason, "error": why})


def mark_of(plan: RollbackPlan) -> str:
    """What a plan is known by again: another plan has another one."""
    return plan.digest[:16]


def facts(plan: RollbackPlan) -> dict[str, object]:
    """What a plan changes and what it leaves as it is, as the audit trail has it: plain JSON."""
    merge = plan.merge
    return {
        "aliases": [f"{m.model}@{m.alias}: {m.before or 'none'} → {m.after}" for m in merge.aliases],
        "rows": {"added": sum(t.add for t in merge.tables), "changed": sum(t.change for t in merge.tables)},
        "artifacts": to_json(merge.artifacts),
        "kept": [f"{c.where} {c.id}" for c in merge.conflicts],
    }


def _told(
    status: PointStatus,
    registry: RegistryMerge,
    rule: OnConflict,
    merge: MergePlan,
    reason: str = "",
    running: Sequence[str] = (),
) -> RollbackPlan:
    point = status.point
    warnings = (f"point {point.point} is marked suspect: {'; '.join(status.doubts)}",) if status.suspect else ()
    return RollbackPlan(
        workload=point.workload,
        point=point.point,
        taken_at=point.taken_at,
        target=registry.shown,
        rule=rule,
        merge=merge,
        warnings=warnings,
        reason=reason.strip(),
        refusals=tuple(at_work(point.workload, running)),
    )


def _registry_of(status: PointStatus) -> Component:
    for component in status.point.of_kind("registry"):
        return component
    have = ", ".join(c.label for c in status.point.components)
    raise NotFound(f"point {status.point.point} holds no registry", f"it has {have}")


def _subject(status: PointStatus) -> str:
    return f"{status.point.workload}/{status.point.point}"


@contextmanager
def _failure_recorded(vault: Vault, status: PointStatus, asked: Mapping[str, object]) -> Iterator[None]:
    try:
        yield
    except MusterError as error:
        outcome = REFUSED if isinstance(error, Refused) else "failed"
        _record(vault, _subject(status), outcome, {**asked, "error": error.message})
        raise


def _record(vault: Vault, subject: str, outcome: str, details: Mapping[str, object]) -> None:
    if not vault.silent:
        vault.record(ACTION, subject, outcome, dict(details))


def _asked(wanted: Sequence[Wanted], registry: RegistryMerge, rule: OnConflict) -> dict[str, object]:
    return {"models": [str(one) for one in wanted], "target": registry.shown, "on_conflict": rule}
