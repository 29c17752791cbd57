"""Decisions of people about single points: hold one, release it, accept one that changed more than usual."""

from __future__ import annotations

import time
from datetime import timedelta

from muster.domain.recovery_point import CHANGES, Mark, PointStatus
from muster.errors import NotFound, StoreUnavailable, UsageError
from muster.ports import Clock
from muster.vault.layout import point_key
from muster.vault.told import REFUSED
from muster.vault.vault import Vault

EXPIRING = timedelta(hours=1)
"""For so long an expiry that has said that it removes a point is believed to be about to: it does so in seconds, by another clock."""
ATTEMPTS, PAUSE = 20, 0.5
"""How often it is seen whether such an expiry has ended, and seconds between."""


def hold_point(vault: Vault, status: PointStatus, reason: str, clock: Clock, cause: str | None = None) -> PointStatus:
    """
    Keep a point from expiry until the hold is released; where the store has legal holds, it refuses to remove it as well.

    :param cause: what made the program hold it by itself; None if a person did
    :raises NotFound: if an expiry that was under way has removed the point
    :raises StoreUnavailable: if one is about to, and has not ended after some seconds; the point is held by its mark, if it stays
    :raises Refused: if the store did not let its objects be held; the point is held by its mark all the same
    :raises IntegrityError: if something of it is nowhere; the point is held by its mark, and by the store what is left of it
    """
    point = status.point
    summary = {"reason": _given(reason), **({"cause": cause} if cause else {})}
    vault.mark(Mark(point.workload, point.point, "held", clock.now(), summary))
    vault.hold_objects(status)
    return _still_there(vault, status, clock)


def release_point(vault: Vault, status: PointStatus, reason: str, clock: Clock) -> PointStatus:
    """
    Lift all holds of a point that are known now; from the next expiry on, its workload's policy decides.

    :raises UsageError: if it is not held
    :raises IntegrityError: if it cannot be told which other points are held, and what they need
    """
    point = status.point
    if not status.holds:
        raise UsageError(f"point {point.point} of {point.workload} is not held", "see `muster show` for its marks")
    # The store's hold goes first: killed in between, the point is still held by its mark.
    vault.release_objects(status)
    lifted = [hold.at.isoformat() for hold in status.holds]
    summary = {"reason": _given(reason), "holds": lifted}
    vault.mark(Mark(point.workload, point.point, "released", clock.now(), summary))
    now = vault.point(point.point, point.workload)
    if now.holds:  # somebody else's, made meanwhile
        vault.hold_objects(now)
    return now


def accept_point(vault: Vault, status: PointStatus, reason: str, clock: Clock) -> PointStatus:
    """
    Say that a point differs from those before it for a good reason. Other doubts, such as failed checks, stay.

    :raises UsageError: if that is not what makes it suspect
    """
    point = status.point
    doubted = any(c.details.get("failures") for c in point.of_kind("changes")) or any(
        mark.kind == "suspect" and mark.summary.get("cause") == CHANGES for mark in status.marks
    )
    if status.accepted or not doubted:
        raise UsageError(
            f"point {point.point} of {point.workload} is not suspect for having changed",
            "nothing is to be accepted; `muster show` says what speaks against it",
        )
    vault.mark(Mark(point.workload, point.point, "accepted", clock.now(), {"reason": _given(reason)}))
    return vault.point(point.point, point.workload)


def _given(reason: str) -> str:
    if not reason.strip():
        raise UsageError("a reason is missing", "say why, in a sentence: whoever reads it later was not there")
    return reason.strip()


def _still_there(vault: Vault, status: PointStatus, clock: Clock) -> PointStatus:
    """
    The point, if no expiry is about to remove it: one that wrote its record before our mark may not have seen the mark.
    """
    named = f"point {status.point.point} of {status.point.workload}"
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE)
        try:
            now = vault.point(status.point.point, status.point.workload)
        except NotFound as error:
            raise NotFound(
                f"{named} was expired while it was put on hold",
                "hold another one; the audit trail says who expired it and why",
            ) from error
        if not _leaving(vault, status, clock):
            return now
    raise StoreUnavailable(
        f"{named} is marked as held, but an expiry has begun to remove it and has not ended yet",
        "see with `muster show` in a minute whether it is there; if it is, it stays",
    )


def _leaving(vault: Vault, status: PointStatus, clock: Clock) -> bool:
    """Whether an expiry has said not long ago that it removes the point, and not taken that back."""
    manifest = point_key(status.point.workload, status.point.point)
    records = vault.records_since(clock.now() - EXPIRING)
    said = [record.outcome for record in records if (record.action, record.subject) == ("expire", manifest)]
    return bool(said) and said[-1] != REFUSED
