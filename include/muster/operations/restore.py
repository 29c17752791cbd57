"""Restore a recovery point: look first, then put every component back and reconcile it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from statistics import median
from typing import Any

from muster.codec import from_json
from muster.domain.fidelity import FidelityReport
from muster.domain.recovery_point import Component, PointStatus
from muster.domain.recovery_report import ComponentOutcome
from muster.domain.restore_plan import ORIGIN, Action, Refusal, RestorePlan, draw_plan, overlaps
from muster.domain.restore_policy import judge, newest_verified
from muster.domain.restore_request import below
from muster.domain.timing import Span
from muster.errors import NotFound, PermanentError, Refused, TargetNotEmpty, Unfaithful
from muster.operations.at_rest import BEGUN, tell_begun
from muster.operations.restore_job import RestoreJob
from muster.ports import Clock, ComponentTarget, TreeReader
from muster.vault.vault import Vault

REMEMBERED = 5
"""Of how many earlier recoveries the expected time is the median."""


def plan_restore(vault: Vault, job: RestoreJob) -> RestorePlan:
    """
    What a restore would do. Reads the manifest and looks at the target; changes nothing.

    Whatever forbids the restore is collected into `refusals`, all of it at once.

    :raises NotFound: if the point does not have what is asked for
    :raises StoreUnavailable: if a target or the vault does not answer
    """
    plan = draw_plan(job.status, job.target, job.request)
    plan = replace(plan, refusals=(*plan.refusals, *overlaps(plan)))
    looks = [_look(vault, job, action) for action in plan.actions]
    plan = replace(
        plan,
        actions=tuple(action for action, _ in looks),
        refusals=(*plan.refusals, *(refusal for _, refusal in looks if refusal)),
    )
    known = vault.readable_points(plan.workload)
    best = newest_verified(known)
    circumstances = replace(job.circumstances(plan), newest_verified=best.point.point if best else None)
    plan = replace(plan, expected_s=_expected(known))
    return plan.judged(judge(job.status, job.target, job.request, circumstances), job.request.override)


def action_for(job: RestoreJob, label: str) -> Action:
    """
    What would be done with one component where nothing is, without a look at its place.

    :raises NotFound: if the point does not have it, or the target has no place for it
    """
    action = draw_plan(job.status, job.target, job.request).action(label)
    if action is None:
        raise NotFound(f"{label} is not to be restored to {job.target.name}", "look at the plan")
    return action


def restore_component(vault: Vault, job: RestoreJob, action: Action, stamp: str, clock: Clock) -> ComponentOutcome:
    """
    Put one component back, reconciled with what was captured. If it fails, its place is as it was.

    What is there already, whole and equal, is left. What is in the way is moved aside under the stamp, if the plan says so. Then the
    newest thing with a time is read out of what came back.

    :raises Unfaithful: if it came back with a difference; the report that it carries names the component
    """
    component = _component(job.status, action.component)
    _require_planned_place(job, action)
    if job.target.name == ORIGIN:
        tell_begun(vault, job.status.point, action.component)
    started = clock.now()
    try:
        facts, kept = _there_or_restored(vault, job, action, stamp, component)
    except Unfaithful as error:
        error.report = replace(error.report, component=action.component)
        raise
    told = facts.pop("fidelity_report", None)
    fidelity = replace(from_json(FidelityReport, told), component=action.component) if told else None
    newest = None if action.path else job.newest_in(component)
    span = Span("restore", action.component, started, clock.now())
    return ComponentOutcome(
        action.component, action.files, action.size, span, facts, fidelity, newest=newest, kept=kept
    )


def _there_or_restored(
    vault: Vault, job: RestoreJob, action: Action, stamp: str, component: Component
) -> tuple[dict[str, Any], bool]:
    """
    What is free is filled; what is there and equal is left, also if an earlier try of this restore put it there; else as planned.

    :return: facts, and whether it was there
    """
    target, tree = job.target_of(component, action.path), vault.tree(component.tree)
    try:
        target.check(component.details)
    except TargetNotEmpty:
        facts = target.holds(component.details, tree)
        if facts is not None:
            return facts, True
        if action.effect != "replace":
            raise
        with _moved_aside(vault, job, action, stamp, target):
            return target.restore(component.details, tree), False
    return target.restore(component.details, tree), False


def _require_planned_place(job: RestoreJob, action: Action) -> None:
    """
    :raises Refused: if the component would go elsewhere than the plan says: then the catalog or a connection was changed meanwhile
    """
    now = action_for(job, action.component)
    if (now.where, now.also) != (action.where, action.also):
        raise Refused(
            f"{action.component} would go to {now.where} now, and the plan says {action.where}",
            "the catalog or a connection was changed after the plan was drawn: plan again",
        )


@contextmanager
def _moved_aside(vault: Vault, job: RestoreJob, action: Action, stamp: str, target: ComponentTarget) -> Iterator[None]:
    """
    Record first, then move what is there, then let the place be filled: whatever ends it half way, the trail says where the old
    state lies. It is put back if filling fails.
    """
    aside, point = target.aside(), job.status.point
    place = {"component": action.component, "path": action.path, "where": action.where, "also": list(action.also)}
    details = {"stamp": stamp, "to": job.target.name, **place}
    if vault.silent:
        raise Refused(
            f"what is at {action.where} cannot be moved aside: no record can say where it went ({vault.silent})",
            "restore to a folder, or move it out of the way yourself",
        )
    vault.record("set aside", f"{point.workload}/{point.point}", BEGUN, details)
    aside.set_aside(stamp)
    try:
        yield
    except BaseException:
        aside.put_back(stamp)
        raise


def _look(vault: Vault, job: RestoreJob, action: Action) -> tuple[Action, Refusal | None]:
    """What would be done at the place of a component, and what forbids it."""
    component = _component(job.status, action.component)
    tree = vault.tree(component.tree)
    target = job.target_of(component, action.path)
    try:
        action = _measured(action, tree)
        try:
            target.check(component.details)
        except TargetNotEmpty as error:
            if target.holds(component.details, tree) is not None:
                return replace(action, effect="keep"), None
            if job.request.replace:
                target.aside()
                return replace(action, effect="replace"), None
            raise TargetNotEmpty(
                error.message,
                f"{error.hint}; or ask for what is there to be moved aside (--replace, or the form's replace)",
            ) from error
    except PermanentError as error:
        return action, Refusal.of(action.component, error)
    return action, None


def _measured(action: Action, tree: TreeReader) -> Action:
    """
    Read the whole list, so that it is known to be whole; of an action on a path, count what is at it.

    :raises NotFound: if nothing is there
    """
    if not action.path:
        deque(tree.stream(), maxlen=0)
        return action
    kind = action.component.split("/")[0]
    found = [e for e in tree.stream() if below(kind, action.path, e.path) is not None]
    if not found:
        raise NotFound(f"{action.component} has nothing at {action.path}", "paths are relative to the repository")
    sizes = [entry.content.size for entry in found if entry.content is not None]
    return replace(action, files=len(sizes), size=sum(sizes))


def _expected(known: Sequence[PointStatus]) -> float | None:
    """Seconds that restoring and checking took the last times that a recovery passed."""
    marks = [mark for status in known for mark in status.marks if mark.kind in ("restored", "drilled")]
    marks.sort(key=lambda mark: mark.at)
    times = [mark.summary.get("recovery_time_s") for mark in marks if mark.summary.get("passed")]
    took = [float(t.get("restore", 0)) + float(t.get("validate", 0)) for t in times if isinstance(t, dict)]
    return median(took[-REMEMBERED:]) if took else None


def _component(status: PointStatus, label: str) -> Component:
    component = status.point.component(label)
    if component is None:
        have = ", ".join(c.label for c in status.point.components)
        raise NotFound(f"point {status.point.point} has no component {label}", f"it has {have}")
    return component
