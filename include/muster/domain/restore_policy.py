"""Whether a point may be restored to a place now, and why: a pure function that gives its reasons."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from muster.domain.recovery_point import Mark, PointStatus
from muster.domain.restore_request import RestoreRequest
from muster.domain.restore_target import RestoreTarget

UNPROVEN = "the point was neither verified nor drilled since it was sealed"
_OVERRIDE = "as the reason of an override (--override, or the form's override)"
HEADROOM = 1.05
"""Space that must be free, as a multiple of the plain bytes: folders and indexes of the file system take some, too."""


@dataclass(frozen=True, slots=True)
class Disk:
    """
    A file system to which components would go.

    :param needed: plain bytes that would be written
    :param likely: bytes that they are likely to take there: copies in a cache, installed packages
    """

    place: str
    needed: int
    free: int
    likely: int = 0


@dataclass(frozen=True, slots=True)
class Circumstances:
    """
    What is the case where and when a restore is planned.

    :param running: what else is at work on the workload, in words: ``a run of snapshot__flights``; None if that cannot be known
    :param allowed: jurisdictions that may hold the workload; None if it says nothing of that
    :param newest_verified: the newest point that a restore would take without being overridden, for the hint
    """

    disks: Sequence[Disk] = ()
    running: Sequence[str] | None = None
    allowed: Sequence[str] | None = None
    newest_verified: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    What a policy says, and why.

    :param passed: whether it lets the restore pass, overridden or not
    :param overridden: whether it passes only because somebody said why
    """

    policy: str
    passed: bool
    reason: str
    hint: str = ""
    overridden: bool = False


def judge(
    status: PointStatus, target: RestoreTarget, request: RestoreRequest, circumstances: Circumstances
) -> tuple[Verdict, ...]:
    """
    What each policy says. A drill is judged by none that a person could override: it is how a point becomes a verified one.
    """
    hard = [*_place(target, circumstances), *_space(circumstances)]
    if request.kind == "drill":
        return tuple(hard)
    doubts = [_trusted(status, circumstances), _verified(status, circumstances), _past(status, request)]
    soft = [_overridden(verdict, request.override) for verdict in (*doubts, *_alone(circumstances))]
    return (*soft, *hard)


def proof(status: PointStatus) -> Mark | None:
    """
    The newest mark that proves that the point comes back: it was read again, or all of it came back out of this vault.

    None if there is none, if something speaks against the point, or if it failed to come back since.
    """
    if status.suspect:
        return None
    found: Mark | None = None
    for mark in sorted(status.marks, key=lambda mark: mark.at):
        if mark.kind == "verified":
            found = mark
        elif mark.kind in ("drilled", "restored"):
            found = None if not mark.summary.get("passed", True) else mark if mark.summary.get("whole", True) else found
    return found


def verified(status: PointStatus) -> bool:
    """Whether there is a `proof` of it."""
    return proof(status) is not None


def newest_verified(statuses: Sequence[PointStatus], before: datetime | None = None) -> PointStatus | None:
    """The newest verified point whose cut is not later than a time, or None."""
    good = [s for s in statuses if verified(s) and (before is None or s.point.taken_at <= before)]
    return max(good, key=lambda s: (s.point.taken_at, s.point.point), default=None)


def _overridden(verdict: Verdict, reason: str) -> Verdict:
    if verdict.passed or not reason:
        return verdict
    return Verdict(verdict.policy, True, f"{verdict.reason}; overridden: {reason}", overridden=True)


def _trusted(status: PointStatus, circumstances: Circumstances) -> Verdict:
    if not status.suspect:
        return Verdict("trusted", True, "nothing speaks against the point")
    return Verdict("trusted", False, f"the point is suspect: {'; '.join(status.doubts)}", _other_point(circumstances))


def _verified(status: PointStatus, circumstances: Circumstances) -> Verdict:
    if status.suspect:
        return Verdict("verified", True, "judged as suspect")
    if last := proof(status):
        return Verdict("verified", True, f"{last.kind} at {last.at:%Y-%m-%d %H:%M:%S}Z")
    failed = any(not m.summary.get("passed", True) for m in status.marks if m.kind in ("drilled", "restored"))
    told = "the point failed to come back when it was tried last" if failed else UNPROVEN
    return Verdict("verified", False, told, _other_point(circumstances))


def _other_point(circumstances: Circumstances) -> str:
    other = circumstances.newest_verified
    take = (
        f"take the newest verified point, {other}"
        if other
        else "run `muster verify POINT`; there is no verified one yet"
    )
    return f"{take}; or say why this one all the same, {_OVERRIDE}"


def _past(status: PointStatus, request: RestoreRequest) -> Verdict:
    after = (status.point.taken_at - request.at).total_seconds()
    if after <= 0:
        return Verdict("before the loss", True, "the point was cut before the platform was lost")
    return Verdict(
        "before the loss",
        False,
        f"the point was cut {after:.0f} s after the platform was lost, so it may show the damage",
        f"take an older point, or say why this one all the same, {_OVERRIDE}",
    )


def _place(target: RestoreTarget, circumstances: Circumstances) -> Iterator[Verdict]:
    allowed = circumstances.allowed
    if allowed is None:
        return
    only = f"the workload may be only in {', '.join(allowed)}"
    if target.jurisdiction is None and target.catalogued:
        hint = "say in the catalog where the target lies (jurisdiction)"
        yield Verdict("residency", False, f"{only}, and nobody says where {target.name} lies", hint)
    elif target.jurisdiction is None:
        yield Verdict("residency", True, f"{only}; this machine is taken to be there")
    elif target.jurisdiction not in allowed:
        hint = "restore to a target in one of these, or have another jurisdiction allowed in the catalog"
        yield Verdict("residency", False, f"{only}, and {target.name} lies in {target.jurisdiction}", hint)
    else:
        yield Verdict("residency", True, f"{target.name} lies in {target.jurisdiction}")


def _space(circumstances: Circumstances) -> Iterator[Verdict]:
    for disk in circumstances.disks:
        if disk.needed * HEADROOM > disk.free:
            told = f"{disk.needed} bytes go to {disk.place}, where {disk.free} are free"
            yield Verdict("space", False, told, "make room there, or restore to another place")
        elif disk.likely > disk.free:
            told = f"{disk.needed} bytes go to {disk.place}, and are likely to take {disk.likely} there, where {disk.free} are free"
            yield Verdict("space", True, f"{told}: it may not be enough")
        else:
            yield Verdict("space", True, f"{disk.place} has room")


def _alone(circumstances: Circumstances) -> Iterator[Verdict]:
    for what in circumstances.running or ():
        yield Verdict(
            "alone",
            False,
            f"{what} is at work on the same workload",
            f"wait until it has ended, or end it; or say why not, {_OVERRIDE}",
        )
    if circumstances.running is not None and not circumstances.running:
        yield Verdict("alone", True, "nothing else is at work on the workload")
