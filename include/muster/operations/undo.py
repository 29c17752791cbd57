"""Undo a restore that replaced something: put the old state back; or discard it, for ever. Look first, then do it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache

from muster.domain.recovery_point import Component
from muster.domain.restore_plan import Action, Refusal, at_work, draw_plan, require_none
from muster.domain.restore_request import RestoreRequest
from muster.domain.undo_plan import UndoPart, UndoPlan, UndoVerb
from muster.errors import NotFound, PermanentError, Refused
from muster.operations import approve
from muster.operations.approve import recorded, subject_of
from muster.operations.at_rest import BEGUN, DONE
from muster.operations.restore_job import RestoreJob
from muster.ports import Aside
from muster.vault.audit import AuditRecord
from muster.vault.vault import Vault

SET_ASIDE, UNDO, DISCARD = "set aside", "undo", "discard"
JobFor = Callable[["Replaced"], RestoreJob]
"""Resolves the places that a restore filled, as the catalog names them now."""


@dataclass(frozen=True, slots=True)
class Moved:
    """
    One place of which something was moved aside.

    :param path: what of the component was restored there; empty for all of it
    :param where: the place then, in words without secrets; None in records of before places were recorded
    :param also: other places of it
    """

    component: str
    path: str
    where: str | None = None
    also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Replaced:
    """
    A restore that moved something aside which nobody has put back or discarded.

    :param stamp: its name in what was moved
    :param to: the name of its target
    :param at: when the first of it was moved
    """

    workload: str
    point: str
    stamp: str
    to: str
    at: datetime
    parts: tuple[Moved, ...]

    @property
    def request(self) -> RestoreRequest:
        """What was asked, as far as the places of its components depend on it."""
        only = tuple(f"{part.component}/{part.path}" if part.path else part.component for part in self.parts)
        return RestoreRequest("restore", self.at, only=only)


def replaced(vault: Vault, workload: str, verb: UndoVerb) -> list[Replaced]:
    """
    Every restore of a workload that moved something aside, oldest first; from the audit trail.

    :param verb: what is to be done: what was put back can still be discarded, namely what the restore had made
    """
    over = (UNDO, DISCARD) if verb == UNDO else (DISCARD,)
    records = [record for record in vault.audit() if record.subject.partition("/")[0] == workload]
    ended = {str(r.details.get("stamp")) for r in records if r.action in over and r.outcome == DONE}
    by_stamp: dict[str, list[AuditRecord]] = {}
    for record in records:
        stamp = str(record.details.get("stamp"))
        if record.action == SET_ASIDE and stamp not in ended:
            by_stamp.setdefault(stamp, []).append(record)
    return [_replaced(stamp, found) for stamp, found in sorted(by_stamp.items())]


def choose(found: Sequence[Replaced], stamp: str | None, plan_for: Callable[[Replaced], UndoPlan]) -> UndoPlan:
    """
    The plan for the restore that is meant: that of a stamp, or the newest of which anything lies aside.

    A restore that failed has put back itself what it moved. One whose places cannot be judged is not passed over: the plan says why.

    :param found: oldest first
    :raises NotFound: if there is none; it names those of the audit trail
    """
    for one in reversed(found):
        if stamp in (None, one.stamp):
            plan = plan_for(one)
            if stamp or plan.aside or plan.refusals:
                return plan
    if stamp is None or not found:
        raise NotFound(
            "no restore has moved anything aside that is still there",
            "a restore moves aside only what it replaces, and what has come back or was deleted is not there any more",
        )
    there = ", ".join(f"{one.stamp} ({one.point} to {one.to})" for one in found)
    raise NotFound(
        f"no restore {stamp} has moved anything aside that is still there; these have, by the audit trail: {there}",
        "name one of these, or none for the newest",
    )


def plan_undo(what: Replaced, verb: UndoVerb, reason: str, job_for: JobFor, running: Sequence[str] = ()) -> UndoPlan:
    """
    What would be put back, or deleted. Looks at the places; changes nothing.

    Whatever forbids it is collected into `refusals`, all of it at once: also a place that is another now than when it was moved.

    :param running: what else is at work on the workload, in words
    :raises StoreUnavailable: if a place does not answer
    """
    refusals = at_work(what.stamp, running)
    parts: list[UndoPart] = []
    try:
        job = job_for(what)
        drawn = draw_plan(job.status, job.target, job.request)
    except PermanentError as error:
        refusals.append(Refusal.of(what.stamp, error))
    else:
        for moved in what.parts:
            try:
                parts.append(_look(job, moved, drawn.action(moved.component), what, verb))
            except PermanentError as error:
                refusals.append(Refusal.of(moved.component, error))
    return UndoPlan(
        workload=what.workload,
        point=what.point,
        stamp=what.stamp,
        verb=verb,
        target=what.to,
        set_aside_at=what.at,
        reason=reason.strip(),
        parts=tuple(parts),
        refusals=tuple(refusals),
        warnings=tuple(_warnings(what, parts)),
    )


def let_pass(vault: Vault, plan: UndoPlan, digest: str | None = None) -> None:
    """
    Let the plan pass, or record that it was refused, and raise why.

    :param digest: of the plan that was approved; None if none was asked for
    :raises PermanentError: of the first refusal's kind
    """
    approve.let_pass(vault, plan, plan.verb, lambda why: {**_facts(plan), "refused": why}, digest)


def undo(
    vault: Vault, plan: UndoPlan, job_for: JobFor, running: Sequence[str] = (), *, run: str = ""
) -> tuple[str, ...]:
    """
    Put back, or delete for ever, what the plan says and nothing else. The plan is drawn again before anything is touched.

    Safe to repeat for the same run: what an earlier try has done is known by the audit trail, and the rest is done.

    :param running: what else is at work on the workload, in words
    :param run: for which the plan was approved; empty where nobody else approves
    :return: the places that were touched; of a second try, the rest of them
    :raises Refused: if the plan would be another one now, or a place cannot be moved
    """
    if done := recorded(vault, plan.verb, plan, run, (DONE,)):
        return tuple(str(place) for place in done.details["places"])
    what = next((one for one in replaced(vault, plan.workload, plan.verb) if one.stamp == plan.stamp), None)
    if what is None:
        raise NotFound(
            f"what the restore {plan.stamp} of {plan.workload} moved aside was put back or deleted since the plan was drawn",
            "the audit trail says by whom: `muster audit export`",
        )
    job_for = cache(job_for)  # what was looked at is what is moved
    now = plan_undo(what, plan.verb, plan.reason, job_for, running)
    if recorded(vault, plan.verb, plan, run, (BEGUN,)) and now.is_rest_of(plan):
        require_none(now.refusals)
    else:
        let_pass(vault, now, plan.digest)
    subject, details = subject_of(plan), {**_facts(plan), "plan": plan.digest, "run": run}
    vault.record(plan.verb, subject, BEGUN, details)
    job = job_for(what)
    touched: list[str] = []
    for part in reversed(plan.parts):
        aside = _aside(job, part.component, part.path)
        touched += aside.put_back(plan.stamp) if plan.verb == UNDO else aside.discard(plan.stamp, part.aside)
    vault.record(plan.verb, subject, DONE, {**details, "places": touched})
    return tuple(touched)


def _look(job: RestoreJob, moved: Moved, action: Action | None, what: Replaced, verb: UndoVerb) -> UndoPart:
    """
    :raises Refused: if the catalog has no such place any more, or another one, or one of which nothing can be moved
    """
    if action is None:
        raise Refused(
            f"the catalog has no place for it at {what.to} any more, so that nobody knows where its old state lies",
            f"put the place back into the catalog{f': it was {moved.where}' if moved.where else ''}",
        )
    if moved.where is not None and (moved.where, moved.also) != (action.where, action.also):
        raise Refused(
            f"it was moved aside at {_places(moved.where, moved.also)}, and the catalog names {_places(action.where, action.also)} now",
            "let the catalog name the earlier place for as long as this takes, or move by hand what lies beside it",
        )
    kept = _aside(job, moved.component, moved.path).kept(what.stamp)
    aside = kept.before if verb == UNDO else (*kept.before, *kept.undone)
    return UndoPart(moved.component, moved.path, action.where, action.also, aside, kept.there)


def _warnings(what: Replaced, parts: Sequence[UndoPart]) -> Iterator[str]:
    for part in parts:
        if not part.aside:
            yield f"{part.component}: nothing of it lies aside any more"
    unknown = [moved.component for moved in what.parts if moved.where is None]
    if unknown:
        yield f"{', '.join(unknown)}: the audit trail does not say where it was moved aside, so the place is the catalog's of today"


def _aside(job: RestoreJob, label: str, path: str) -> Aside:
    component: Component | None = job.status.point.component(label)
    if component is None:
        raise NotFound(f"point {job.status.point.point} has no component {label}", "verify the vault")
    return job.target_of(component, path).aside()


def _replaced(stamp: str, records: Sequence[AuditRecord]) -> Replaced:
    workload, _, point = records[0].subject.partition("/")
    parts = dict.fromkeys(_moved(record) for record in records)
    return Replaced(workload, point, stamp, str(records[0].details["to"]), records[0].at, tuple(parts))


def _moved(record: AuditRecord) -> Moved:
    said = record.details
    where = said.get("where")
    return Moved(
        str(said["component"]),
        str(said["path"]),
        None if where is None else str(where),
        tuple(str(place) for place in said.get("also", ())),
    )


def _places(where: str, also: Sequence[str]) -> str:
    return ", ".join((where, *also))


def _facts(plan: UndoPlan) -> dict[str, str]:
    return {"stamp": plan.stamp, "to": plan.target, "reason": plan.reason}
