"""Undo a restore that replaced something: put the old state back; or discard it, for ever."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from muster.domain.restore_request import RestoreRequest
from muster.errors import NotFound
from muster.operations.restore_job import RestoreJob
from muster.vault.audit import AuditRecord
from muster.vault.vault import Vault

SET_ASIDE, UNDO, DISCARD = "set aside", "undo", "discard"
JobFor = Callable[["Replaced"], RestoreJob]


@dataclass(frozen=True, slots=True)
class Replaced:
    """
    A restore that moved something aside which is still there.

    :param stamp: its name in what was moved
    :param parts: components, each with the path of it that was restored, or an empty one for all of it
    """

    workload: str
    point: str
    stamp: str
    to: str
    at: datetime
    parts: tuple[tuple[str, str], ...]


def replaced(vault: Vault, workload: str, verb: Literal["undo", "discard"]) -> list[Replaced]:
    """
    Every restore of a workload that moved something aside, oldest first; from the audit trail.

    :param verb: what is to be done: what was put back can still be discarded, namely what the restore had made
    """
    over = (UNDO, DISCARD) if verb == UNDO else (DISCARD,)
    records = [record for record in vault.audit() if record.subject.partition("/")[0] == workload]
    ended = {str(r.details.get("stamp")) for r in records if r.action in over and r.outcome == "done"}
    by_stamp: dict[str, list[AuditRecord]] = {}
    for record in records:
        stamp = str(record.details.get("stamp"))
        if record.action == SET_ASIDE and stamp not in ended:
            by_stamp.setdefault(stamp, []).append(record)
    return [_replaced(stamp, found) for stamp, found in sorted(by_stamp.items())]


def undo(
    vault: Vault, what: Replaced, job: RestoreJob, verb: Literal["undo", "discard"], reason: str
) -> tuple[str, ...]:
    """
    Put back, or delete for ever, what a restore moved aside. Safe to repeat.

    :return: the places that were touched
    :raises NotFound: if nothing of it is there any more
    :raises Refused: if a place cannot be moved
    """
    details = {"stamp": what.stamp, "to": what.to, "reason": reason}
    subject = f"{what.workload}/{what.point}"
    vault.record(verb, subject, "begun", details)
    touched: list[str] = []
    for label, path in reversed(what.parts):
        component = job.status.point.component(label)
        if component is None:
            continue
        aside = job.target_of(component, path).aside()
        touched += aside.put_back(what.stamp) if verb == UNDO else aside.discard(what.stamp)
    if not touched:
        vault.record(verb, subject, "nothing there", details)
        raise NotFound(
            f"nothing that the restore {what.stamp} moved aside is there any more",
            "it may have failed and put all of it back itself, or the catalog names other places now",
        )
    vault.record(verb, subject, "done", {**details, "places": touched})
    return tuple(touched)


def request_of(what: Replaced) -> RestoreRequest:
    """What was asked, as far as the places of its components depend on it."""
    return RestoreRequest(
        "restore", what.at, only=tuple(f"{label}/{path}" if path else label for label, path in what.parts)
    )


def newest(found: Sequence[Replaced], stamp: str | None) -> Replaced:
    """
    The one that is meant: by its stamp, or the newest.

    :raises NotFound: if there is none; the hint lists those that there are
    """
    chosen = [one for one in found if stamp is None or one.stamp == stamp]
    if not chosen:
        there = ", ".join(f"{one.stamp} ({one.point} to {one.to})" for one in found) or "nothing"
        raise NotFound("no such restore has moved anything aside that is still there", f"there is: {there}")
    return chosen[-1]


def _replaced(stamp: str, records: Sequence[AuditRecord]) -> Replaced:
    workload, _, point = records[0].subject.partition("/")
    parts = dict.fromkeys((str(r.details["component"]), str(r.details["path"])) for r in records)
    return Replaced(workload, point, stamp, str(records[0].details["to"]), records[0].at, tuple(parts))
