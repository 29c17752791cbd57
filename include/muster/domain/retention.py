"""
Which points are kept, and why: grandfather, father, son, as a pure function.

A rule such as ``daily: 7`` keeps the newest good point of each of the seven newest days (in UTC) that have one, not of the last
seven days of the calendar: when snapshots stop, nothing is expired. For the same reason a clock that is wrong does not matter to
the rules; it matters only to the end of a lock and of an inquiry. The idea of counting periods that have points is restic's
(``restic forget``).

A point is judged alike whether others were expired before or not, and to know of fewer points never expires more: whoever sees
only a part of a vault keeps too much.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from muster.domain.recovery_point import PointStatus

INQUIRY = timedelta(days=14)
"""How long a suspect point is kept for those who want to find out what happened, unless the policy says otherwise."""
_SKEW = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """
    How many points of each kind are kept.

    :param last: the newest ones
    :param hourly: the newest of so many hours; and so on
    :param minimum: good points that are kept whatever the other rules say; at least 1
    :param inquiry: how long a suspect point is kept that is older than the newest good one
    """

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    minimum: int = 1
    inquiry: timedelta = INQUIRY

    def __str__(self) -> str:
        counts = {rule: getattr(self, rule) for rule in PERIODS}
        return ", ".join(f"{rule} {count}" for rule, count in counts.items() if count) or "nothing"


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    What becomes of a point.

    :param keep: whether it stays
    :param reasons: every reason to keep it, or why nothing keeps it; never empty
    """

    status: PointStatus
    keep: bool
    reasons: tuple[str, ...]


Period = Callable[[datetime], tuple[int, ...]]
PERIODS: dict[str, Period | None] = {
    "last": None,
    "hourly": lambda at: (at.year, at.month, at.day, at.hour),
    "daily": lambda at: (at.year, at.month, at.day),
    "weekly": lambda at: tuple(at.isocalendar())[:2],
    "monthly": lambda at: (at.year, at.month),
    "yearly": lambda at: (at.year,),
}
"""Which hour, day, week (of ISO 8601, from Monday), month or year a moment is in; None counts every point."""


def judge(points: Sequence[PointStatus], policy: RetentionPolicy | None, now: datetime) -> list[Verdict]:
    """
    Judge all points of one workload, oldest first.

    :param policy: None keeps everything: a workload without retention, or one that has left the catalog
    :param now: the present moment by our clock; only locks, inquiries and points from the future depend on it
    """
    ordered = sorted(points, key=lambda status: (status.point.taken_at, status.point.point))
    if policy is None:
        return [Verdict(status, True, ("its workload has no retention in the catalog",)) for status in ordered]
    reasons: dict[str, list[str]] = {status.point.point: [] for status in ordered}
    newest_first = ordered[::-1]
    good = [status for status in newest_first if not status.suspect and not _from_future(status, now)]
    for status, reason in (*_of_rules(good, policy), *_of_circumstances(newest_first, good, policy, now)):
        reasons[status.point.point].append(reason)
    return [_verdict(status, reasons[status.point.point], policy) for status in ordered]


def _verdict(status: PointStatus, reasons: list[str], policy: RetentionPolicy) -> Verdict:
    if reasons:
        return Verdict(status, True, tuple(reasons))
    why = f"suspect for longer than {_words(policy.inquiry)}" if status.suspect else f"no rule keeps it: {policy}"
    return Verdict(status, False, (why,))


def _of_rules(good: list[PointStatus], policy: RetentionPolicy) -> Iterator[tuple[PointStatus, str]]:
    """
    The points that fill a place of a rule.

    :param good: all that may, newest first; a suspect point never takes the place of one of them
    """
    for status in good[:1]:
        yield status, "the newest good point"
    for number, status in enumerate(good[: max(1, policy.minimum)], 1):
        if policy.minimum > 1:
            yield status, f"minimum {number} of {policy.minimum}"
    for rule, period in PERIODS.items():
        wanted = getattr(policy, rule)
        for number, status in enumerate(_newest_of_each(good, period), 1):
            if number > wanted:
                break
            yield status, f"{rule} {number} of {wanted}"


def _newest_of_each(good: list[PointStatus], period: Period | None) -> Iterator[PointStatus]:
    before = None
    for status in good:
        this = period(status.point.taken_at.astimezone(UTC)) if period else None
        if this is None or this != before:
            yield status
        before = this


def _of_circumstances(
    newest_first: list[PointStatus], good: list[PointStatus], policy: RetentionPolicy, now: datetime
) -> Iterator[tuple[PointStatus, str]]:
    """What keeps a point whatever the rules say."""
    newest_good = good[0].point.taken_at if good else None
    for status in newest_first:
        point = status.point
        yield from ((status, f"held: {hold.summary.get('reason', 'no reason given')}") for hold in status.holds)
        if point.locked_until and point.locked_until > now:
            yield status, f"locked until {_moment(point.locked_until)}"
        if _from_future(status, now):
            yield status, f"taken at {_moment(point.taken_at)}, which is still to come by our clock: {_moment(now)}"
        if status.suspect:
            yield from ((status, reason) for reason in _of_suspicion(status, newest_good, policy, now))


def _of_suspicion(
    status: PointStatus, newest_good: datetime | None, policy: RetentionPolicy, now: datetime
) -> Iterator[str]:
    taken = status.point.taken_at
    if newest_good is None or taken >= newest_good:
        yield "suspect, and there is no newer good point"
    if now - max(taken, status.point.sealed_at) <= policy.inquiry:
        yield f"suspect, kept {_words(policy.inquiry)} for inquiry"


def _from_future(status: PointStatus, now: datetime) -> bool:
    return status.point.taken_at > now + _SKEW


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def _words(span: timedelta) -> str:
    days = span / timedelta(days=1)
    return f"{days:g} d" if days >= 1 else f"{span / timedelta(hours=1):g} h"
