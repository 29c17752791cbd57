"""Move single models of a registry that is in use back to what they were at a point: look first, then do it, then record it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from muster.codec import canonical, to_json
from muster.domain.merge_plan import MergePlan, OnConflict, RollbackPlan
from muster.domain.recovery_point import Component, PointStatus
from muster.domain.selection import Wanted
from muster.errors import MusterError, NotFound, Refused
from muster.ports.registry import RegistryMerge
from muster.vault.vault import Vault

ACTION = "rollback"


def plan_rollback(
    vault: Vault, status: PointStatus, wanted: Sequence[Wanted], registry: RegistryMerge, rule: OnConflict = "refuse"
) -> RollbackPlan:
    """
    What a rollback would do. Reads the point and looks at the registry; changes nothing. Conflicts are all listed in it.

    :raises NotFound: if the point has no registry, model or alias of that name
    :raises Refused: if the registry is at another schema revision
    """
    component = _registry_of(status)
    merge = registry.plan(component.details, vault.tree(component.tree), wanted)
    return _told(status, registry, rule, merge)


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
    try:
        if agreed is not None:
            seen = registry.plan(component.details, tree, wanted)
            if mark_of(_told(status, registry, rule, seen)) != agreed:
                raise Refused("the plan is not the one that was agreed to any more", "look at the plan again")
        _record(vault, status, "begun", asked)
        done = _told(status, registry, rule, registry.merge(component.details, tree, wanted, rule, seen))
    except MusterError as error:
        outcome = "refused" if isinstance(error, Refused) else "failed"
        _record(vault, status, outcome, {**asked, "error": error.message})
        raise
    _record(
        vault,
        status,
        "done" if done.merge.changes else "nothing to do",
        {**asked, **_facts(done)},
    )
    return done


def mark_of(plan: RollbackPlan) -> str:
    """What a plan is known by again: another plan has another one."""
    return hashlib.sha256(canonical(to_json(plan))).hexdigest()[:16]


def _told(status: PointStatus, registry: RegistryMerge, rule: OnConflict, merge: MergePlan) -> RollbackPlan:
    point = status.point
    warnings = (f"point {point.point} is marked suspect: {'; '.join(status.doubts)}",) if status.suspect else ()
    return RollbackPlan(point.workload, point.point, point.taken_at, registry.shown, rule, merge, warnings)


def _registry_of(status: PointStatus) -> Component:
    for component in status.point.of_kind("registry"):
        return component
    have = ", ".join(c.label for c in status.point.components)
    raise NotFound(f"point {status.point.point} holds no registry", f"it has {have}")


def _record(vault: Vault, status: PointStatus, outcome: str, facts: dict[str, object]) -> None:
    if not vault.outdated:  # in an emergency a replaced key still brings models back; what it signs would not count
        vault.record(ACTION, f"{status.point.workload}/{status.point.point}", outcome, facts)


def _asked(wanted: Sequence[Wanted], registry: RegistryMerge, rule: OnConflict) -> dict[str, object]:
    return {"models": [str(one) for one in wanted], "target": registry.shown, "on_conflict": rule}


def _facts(done: RollbackPlan) -> dict[str, object]:
    merge = done.merge
    return {
        "aliases": [f"{m.model}@{m.alias}: {m.before or 'none'} → {m.after}" for m in merge.aliases],
        "rows": {"added": sum(t.add for t in merge.tables), "changed": sum(t.change for t in merge.tables)},
        "artifacts": to_json(merge.artifacts),
        "kept": [f"{c.where} {c.id}" for c in merge.conflicts],
    }
