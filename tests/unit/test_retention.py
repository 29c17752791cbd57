"""Which points are kept, and why."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.domain.content import ContentRef, TreeRef
from muster.domain.recovery_point import Component, Mark, PointStatus, RecoveryPoint
from muster.domain.retention import PERIODS, RetentionPolicy, Verdict, judge

NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
DAY = timedelta(days=1)
TREE = TreeRef(ContentRef(0, "ab" * 32, ()), 0, 0, 0)


def point_at(at: datetime, *marks: Mark, number: int = 0, locked_until: datetime | None = None) -> PointStatus:
    """A point taken at a moment; several at one moment have numbers."""
    name = f"{at.astimezone(UTC):%Y%m%dT%H%M%SZ}-{number:08x}"
    point = RecoveryPoint(1, "v", "flights", name, at, at, None, (), (), {}, {}, "0", locked_until)
    return PointStatus(point, marks)


def mark(kind: str, at: datetime = NOW, **summary: object) -> Mark:
    """A mark of whichever point it is put on."""
    return Mark("flights", "any", kind, at, summary)  # type: ignore[arg-type]


SUSPECT = mark("suspect", reason="rows are missing")


def nightly(nights: int, until: datetime = NOW) -> list[PointStatus]:
    """One point a night, at two o'clock, oldest first."""
    last = until.replace(hour=2, minute=0)
    return [point_at(last - night * DAY) for night in reversed(range(nights))]


def kept(verdicts: list[Verdict]) -> list[datetime]:
    return [verdict.status.point.taken_at for verdict in verdicts if verdict.keep]


# --- rules ------------------------------------------------------------------------------------------------------------


def test_nightly_points_of_a_year_come_down_to_days_weeks_and_months() -> None:
    """7 days, the Sundays of 5 weeks (the present one counts), the last nights of 12 months; each says which places it fills."""
    verdicts = judge(nightly(400), RetentionPolicy(daily=7, weekly=5, monthly=12), NOW)
    assert [f"{at:%m-%d}" for at in kept(verdicts)] == [
        *("12-31", "01-31", "02-28", "03-31", "04-30", "05-31", "06-30", "07-31", "08-31", "09-30", "10-31"),
        *("11-01", "11-08", "11-15"),  # Sundays; the 22nd is among the days
        *("11-17", "11-18", "11-19", "11-20", "11-21", "11-22", "11-23"),
    ]
    reasons = {f"{v.status.point.taken_at:%m-%d}": v.reasons for v in verdicts if v.keep}
    assert reasons["11-23"] == ("the newest good point", "daily 1 of 7", "weekly 1 of 5", "monthly 1 of 12")
    assert reasons["11-22"] == ("daily 2 of 7", "weekly 2 of 5")
    assert reasons["12-31"] == ("monthly 12 of 12",)
    assert {v.reasons for v in verdicts if not v.keep} == {("no rule keeps it: daily 7, weekly 5, monthly 12",)}


def test_expiring_every_night_of_a_year_ends_as_judging_once() -> None:
    """A point that a rule will want later is never expired before."""
    policy = RetentionPolicy(last=2, daily=7, weekly=5, monthly=12, yearly=2)
    there: list[PointStatus] = []
    for new in nightly(365):
        there = [v.status for v in judge([*there, new], policy, new.point.taken_at) if v.keep]
    assert [status.point.taken_at for status in there] == kept(judge(nightly(365), policy, NOW))


def test_when_snapshots_stop_nothing_is_expired() -> None:
    """Ten years after the last point, the same points are kept as on the day after it."""
    policy = RetentionPolicy(daily=7, weekly=5)
    assert kept(judge(nightly(100), policy, NOW + 3650 * DAY)) == kept(judge(nightly(100), policy, NOW))


def test_days_are_days_of_utc() -> None:
    """Two points of one day in Auckland may be of two days in UTC."""
    auckland = timedelta(hours=13)
    from datetime import timezone

    first = point_at(datetime(2026, 11, 22, 12, 30, tzinfo=timezone(auckland)))  # 23:30 of the 21st in UTC
    second = point_at(datetime(2026, 11, 22, 13, 30, tzinfo=timezone(auckland)))  # 00:30 of the 22nd
    assert all(v.keep for v in judge([first, second], RetentionPolicy(daily=2), NOW))
    third = point_at(datetime(2026, 11, 23, 12, 30, tzinfo=timezone(auckland)))  # 23:30 of the 22nd
    assert [v.keep for v in judge([second, third], RetentionPolicy(daily=2), NOW)] == [False, True]


def test_weeks_are_those_of_iso_8601() -> None:
    """The last days of December and the first of January may be of one week."""
    points = [point_at(datetime(2026, 12, 31, 2, tzinfo=UTC)), point_at(datetime(2027, 1, 1, 2, tzinfo=UTC))]
    later = datetime(2027, 1, 2, tzinfo=UTC)
    assert [v.keep for v in judge(points, RetentionPolicy(weekly=5), later)] == [False, True]
    assert [v.keep for v in judge(points, RetentionPolicy(yearly=5), later)] == [True, True]


# --- what keeps a point whatever the rules say ------------------------------------------------------------------------


def test_the_newest_good_points_stay_whatever_the_policy_says() -> None:
    """Even a policy of nothing at all keeps one, and as many as the minimum says."""
    assert kept(judge(nightly(9), RetentionPolicy(), NOW)) == [NOW.replace(hour=2)]
    verdicts = judge(nightly(9), RetentionPolicy(minimum=3), NOW)
    assert [v.reasons for v in verdicts if v.keep] == [
        ("minimum 3 of 3",),
        ("minimum 2 of 3",),
        ("the newest good point", "minimum 1 of 3"),
    ]
    assert len(kept(judge(nightly(9), RetentionPolicy(minimum=0), NOW))) == 1


def test_a_held_point_stays_until_every_hold_is_released() -> None:
    """A release lifts the holds that it names; clocks that differ cannot mix them up."""
    audit, court = mark("held", NOW, reason="audit"), mark("held", NOW - 9 * DAY, reason="court")
    old = nightly(9)[0]
    for order in ((audit, court), (court, audit)):
        verdict = judge([replace(old, marks=order), *nightly(8)], RetentionPolicy(), NOW)[0]
        assert (verdict.keep, set(verdict.reasons)) == (True, {"held: audit", "held: court"})
    released = mark("released", NOW - 20 * DAY, holds=[audit.at.isoformat()])
    verdict = judge([replace(old, marks=(released, court, audit)), *nightly(8)], RetentionPolicy(), NOW)[0]
    assert verdict.reasons == ("held: court",)
    both = mark("released", holds=[audit.at.isoformat(), court.at.isoformat()])
    assert not judge([replace(old, marks=(court, audit, both)), *nightly(8)], RetentionPolicy(), NOW)[0].keep


def test_a_locked_point_stays_until_its_lock_ends() -> None:
    """The store would refuse to remove it anyhow."""
    locked = point_at(NOW - 40 * DAY, locked_until=NOW + DAY)
    assert judge([locked, *nightly(8)], RetentionPolicy(), NOW)[0].reasons == ("locked until 2026-11-24 03:00:00Z",)
    assert not judge([locked, *nightly(8)], RetentionPolicy(), NOW + DAY)[0].keep


def test_a_suspect_point_takes_no_place_that_a_good_one_could_have() -> None:
    """Three bad nights do not push three good ones out; the bad ones are kept for inquiry and then go."""
    nights = nightly(10)
    points = [*nights[:7], *(replace(status, marks=(SUSPECT,)) for status in nights[7:9]), nights[9]]
    policy = RetentionPolicy(daily=3)
    verdicts = judge(points, policy, NOW)
    assert [v.status.point.taken_at.day for v in verdicts if v.keep] == [19, 20, 21, 22, 23]
    assert verdicts[7].reasons == ("suspect, kept 14 d for inquiry",)
    later = judge(points, policy, NOW + 15 * DAY)
    assert [v.status.point.taken_at.day for v in later if v.keep] == [19, 20, 23]
    assert later[7].reasons == ("suspect for longer than 14 d",)


def test_suspect_points_stay_where_there_is_no_newer_good_one() -> None:
    """They may be all that is left."""
    points = [replace(status, marks=(SUSPECT,)) for status in nightly(5)]
    verdicts = judge(points, RetentionPolicy(daily=1), NOW + 100 * DAY)
    assert {v.reasons for v in verdicts} == {("suspect, and there is no newer good point",)}
    mixed = judge([*nightly(6)[:1], *points], RetentionPolicy(daily=1), NOW + 100 * DAY)
    assert all(v.keep for v in mixed)


def test_a_point_from_the_future_stays_is_named_and_takes_no_place() -> None:
    """Somebody's clock is wrong: nothing is lost by it, whoever's it is."""
    future = point_at(NOW + 300 * DAY)
    verdicts = judge([*nightly(5), future], RetentionPolicy(daily=2), NOW)
    assert [v.keep for v in verdicts] == [False, False, False, True, True, True]
    assert verdicts[-1].reasons == (
        "taken at 2027-09-19 03:00:00Z, which is still to come by our clock: 2026-11-23 03:00:00Z",
    )
    assert verdicts[-2].reasons[0] == "the newest good point"
    assert all(v.keep for v in judge(nightly(50), RetentionPolicy(daily=2), NOW - 100 * DAY))


def test_without_a_policy_everything_stays() -> None:
    """A workload without retention, or one that has left the catalog, expires nothing."""
    verdicts = judge(nightly(3), None, NOW)
    assert {v.reasons for v in verdicts} == {("its workload has no retention in the catalog",)}
    assert all(v.keep for v in verdicts)


def test_what_a_person_accepted_is_a_good_point_again_and_nothing_else_is() -> None:
    """Only the doubt that it changed too much is lifted; a failed check stays one."""
    changed = Component("changes", "flights", TREE, NOW, "test", {"failures": ["9 of 10 files changed"]})
    marks = (mark("suspect", reason="9 of 10 files changed", cause="changes"), mark("accepted", reason="new camera"))
    status = point_at(NOW)
    status = replace(status, point=replace(status.point, components=(changed,)))
    assert replace(status, marks=marks[:1]).doubts == (
        "changes/flights: 9 of 10 files changed",
        "9 of 10 files changed",
    )
    assert replace(status, marks=marks).doubts == ()
    assert replace(status, marks=(*marks, SUSPECT)).doubts == ("rows are missing",)
    failed = replace(changed, kind="validation")
    unmet = replace(status, point=replace(status.point, components=(changed, failed)), marks=marks)
    assert unmet.doubts == ("validation/flights: 9 of 10 files changed",)


# --- what holds of every policy ---------------------------------------------------------------------------------------

COUNTS = st.integers(0, 6)
POLICIES = st.builds(
    RetentionPolicy,
    **dict.fromkeys(PERIODS, COUNTS),
    minimum=st.integers(0, 4),
    inquiry=st.sampled_from([DAY, 9 * DAY]),
)
STANDINGS = st.sampled_from([(), (), (), (SUSPECT,), (mark("held", reason="r"),), (SUSPECT, mark("held", reason="r"))])
MINUTES = st.integers(-2 * 365 * 24 * 60, 3 * 24 * 60)


@st.composite
def histories(draw: st.DrawFn) -> list[PointStatus]:
    """Points of two years, some bad, some held, some locked, some at one moment, some from the future; in any order."""
    moments = draw(st.lists(st.tuples(MINUTES, STANDINGS, st.booleans()), max_size=30))
    return [
        point_at(NOW + timedelta(minutes=at), *marks, number=number, locked_until=NOW + DAY if locked else None)
        for number, (at, marks, locked) in enumerate(moments)
    ]


@given(histories(), POLICIES)
def test_every_point_is_judged_once_with_a_reason_and_in_any_order_alike(
    points: list[PointStatus], policy: RetentionPolicy
) -> None:
    """Oldest first, whatever the order in which they were listed."""
    verdicts = judge(points, policy, NOW)
    assert {v.status.point.point for v in verdicts} == {status.point.point for status in points}
    assert len(verdicts) == len(points)
    assert all(v.reasons for v in verdicts)
    assert verdicts == judge(points[::-1], policy, NOW) == sorted(verdicts, key=lambda v: v.status.point.taken_at)


@given(histories(), POLICIES)
def test_what_must_stay_stays(points: list[PointStatus], policy: RetentionPolicy) -> None:
    """Held, locked, from the future, the newest good one and as many as the minimum: no policy expires them."""
    verdicts = {v.status.point.point: v.keep for v in judge(points, policy, NOW)}
    past = [s for s in points if s.point.taken_at <= NOW + timedelta(minutes=5)]  # by any clock
    good = sorted((s for s in past if not s.suspect), key=lambda s: (s.point.taken_at, s.point.point), reverse=True)
    safe = [s for s in points if s.holds or s.point.locked_until or s.point.taken_at > NOW + timedelta(minutes=5)]
    assert all(verdicts[s.point.point] for s in [*safe, *good[: max(1, policy.minimum)]])


@given(histories(), POLICIES, st.sampled_from([*PERIODS, "minimum"]), st.integers(1, 3))
def test_a_larger_count_never_expires_more(
    points: list[PointStatus], policy: RetentionPolicy, rule: str, more: int
) -> None:
    """To keep more of one kind keeps everything that was kept before."""
    larger = replace(policy, **{rule: getattr(policy, rule) + more})
    before, after = judge(points, policy, NOW), judge(points, larger, NOW)
    assert {v.status.point.point for v in before if v.keep} <= {v.status.point.point for v in after if v.keep}


@given(histories(), POLICIES, st.randoms(use_true_random=False))
def test_whoever_sees_only_some_of_the_points_expires_no_more(
    points: list[PointStatus], policy: RetentionPolicy, chance: object
) -> None:
    """An incomplete listing may keep too much; it never takes what a complete one keeps."""
    seen = [status for status in points if chance.random() < 0.6]  # type: ignore[attr-defined]
    whole = {v.status.point.point for v in judge(points, policy, NOW) if v.keep}
    part = {v.status.point.point for v in judge(seen, policy, NOW) if v.keep}
    assert whole & {status.point.point for status in seen} <= part


@given(histories(), POLICIES)
def test_expiring_twice_expires_nothing_more(points: list[PointStatus], policy: RetentionPolicy) -> None:
    """What an expiry leaves is what the next one keeps, for the same reasons."""
    first = [v for v in judge(points, policy, NOW) if v.keep]
    assert judge([v.status for v in first], policy, NOW) == first


@given(histories(), POLICIES)
def test_suspect_points_change_nothing_for_good_ones(points: list[PointStatus], policy: RetentionPolicy) -> None:
    """A good point is judged as if there were no suspect ones."""
    good = [status for status in points if not status.suspect]
    assert [v for v in judge(points, policy, NOW) if not v.status.suspect] == judge(good, policy, NOW)


@pytest.mark.parametrize(
    ("policy", "text"), [(RetentionPolicy(), "nothing"), (RetentionPolicy(last=1, yearly=2), "last 1, yearly 2")]
)
def test_a_policy_says_what_it_keeps(policy: RetentionPolicy, text: str) -> None:
    """In the words of the catalog."""
    assert str(policy) == text
