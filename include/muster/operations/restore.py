"""Restore a recovery point: look first, then put every component back and reconcile it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace

from muster.codec import from_json
from muster.domain.fidelity import FidelityReport
from muster.domain.recovery_point import Component, PointStatus
from muster.domain.recovery_report import ComponentOutcome
from muster.domain.restore_plan import Refusal, RestorePlan, draw_plan
from muster.domain.restore_target import RestoreTarget
from muster.domain.timing import Span
from muster.errors import NotFound, PermanentError, Unfaithful
from muster.ports import Clock, ComponentTarget
from muster.vault.vault import Vault

TargetOf = Callable[[Component], ComponentTarget]


def plan_restore(vault: Vault, status: PointStatus, target: RestoreTarget, target_of: TargetOf) -> RestorePlan:
    """
    What a restore would do. Reads the manifest and looks at the target; changes nothing.

    Whatever forbids the restore is collected into `refusals`, all of it at once.

    :raises StoreUnavailable: if a target or the vault does not answer
    """
    plan = draw_plan(status, target)
    refusals = list(plan.refusals)
    for action in plan.actions:
        component = _component(status, action.component)
        try:
            deque(vault.tree(component.tree).stream(), maxlen=0)  # so that its list is known to be whole
            target_of(component).check(component.details)
        except PermanentError as error:
            refusals.append(Refusal(action.component, type(error).__name__, error.message, error.hint))
    return replace(plan, refusals=tuple(refusals))


def restore_component(
    vault: Vault, status: PointStatus, label: str, target_of: TargetOf, clock: Clock
) -> ComponentOutcome:
    """
    Put one component back, reconciled with what was captured. If it fails, its place is as empty as it was.

    :raises Unfaithful: if it came back with a difference; the report that it carries names the component
    """
    component = _component(status, label)
    started = clock.now()
    try:
        facts = target_of(component).restore(component.details, vault.tree(component.tree))
    except Unfaithful as error:
        error.report = replace(error.report, component=label)
        raise
    told = facts.pop("fidelity_report", None)
    fidelity = replace(from_json(FidelityReport, told), component=label) if told else None
    span = Span("restore", label, started, clock.now())
    return ComponentOutcome(label, component.tree.files, component.tree.size, span, facts, fidelity)


def _component(status: PointStatus, label: str) -> Component:
    component = status.point.component(label)
    if component is None:
        have = ", ".join(c.label for c in status.point.components)
        raise NotFound(f"point {status.point.point} has no component {label}", f"it has {have}")
    return component
