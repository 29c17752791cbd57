"""The trend of recovery times and points: what marks say, against what was promised."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fakes import MemoryStore
from muster.domain.recovery_point import Mark, PointStatus
from muster.domain.trend import trend_of
from vaults import make_vault, point_over

AT = datetime(2026, 11, 1, 2, 0, tzinfo=UTC)


def status(day: int, *marks: Mark, suspect: bool = False) -> PointStatus:
    """A point cut on a day of November at two, and sealed five minutes later."""
    vault, _ = make_vault(MemoryStore())
    taken = AT + timedelta(days=day - 1)
    point = replace(
        point_over(vault, number=day),
        taken_at=taken,
        sealed_at=taken + timedelta(minutes=5),
        objectives={"rpo_s": 90_000.0, "rto_s": 60.0},
    )
    doubt = (Mark("flights", point.point, "suspect", taken, {"reason": "a test"}),) if suspect else ()
    return PointStatus(point, (*marks, *doubt))


def drilled(day: int, seconds: float, *, passed: bool = True, lost: float = 3600.0, **summary: Any) -> Mark:
    told = {
        "passed": passed,
        "recovery_time_s": {"restore": seconds - 1, "validate": 1.0, "total": seconds},
        "recovery_point_s": lost,
        "objectives": {"rpo_s": 86_400.0, "rto_s": 60.0},
    }
    return Mark("flights", "p", "drilled", AT + timedelta(days=day), told | summary)


def test_recoveries_are_told_in_order_with_their_figures_and_objectives() -> None:
    """Whatever order points and marks come in."""
    trend = trend_of("flights", [status(2, drilled(3, 50), drilled(2, 70)), status(1, drilled(1, 30, lost=90_000.0))])
    assert [each.recovery_time for each in trend.recoveries] == [30, 70, 50]
    assert [each.rto_met for each in trend.recoveries] == [True, False, True]
    assert [each.rpo_met for each in trend.recoveries] == [False, True, True]
    assert trend.recoveries[0].stages == {"restore": 29, "validate": 1}
    assert trend.missed == 2


def test_a_slower_week_is_seen() -> None:
    """The newest seven that passed, against all before them; one that failed has no say in how long it takes."""
    slow = [drilled(day, 20 if day < 10 else 30) for day in range(20)]
    trend = trend_of("flights", [status(1, *slow, drilled(20, 900, passed=False))])
    assert (trend.time.count, trend.time.median, trend.time.before, trend.time.worst) == (20, 30, 20, 30)
    assert trend.time.change == pytest.approx(0.5)
    assert trend.missed == 1


def test_no_change_is_told_of_a_few_drills() -> None:
    """Seven at least, and one before them."""
    assert trend_of("flights", [status(1, drilled(1, 20))]).time.change is None


def test_the_most_work_that_would_have_been_lost_is_measured_point_by_point() -> None:
    """From the cut before to the sealing of each good point; a suspect one would not have been restored."""
    trend = trend_of("flights", [status(4), status(1), status(2), status(3, suspect=True)])
    day = 86_400.0
    assert [each.seconds for each in trend.exposures] == [None, day + 300, 2 * day + 300]
    assert [each.met for each in trend.exposures] == [None, True, False]
    assert trend.exposed.worst == 2 * day + 300


def test_a_mark_without_figures_is_a_recovery_without_figures() -> None:
    """Of an older Muster, or of somebody who signs whatever he likes."""
    odd = Mark("flights", "p", "restored", AT, {"recovery_time_s": "long", "objectives": [], "passed": "yes"})
    (each,) = trend_of("flights", [status(1, odd)]).recoveries
    assert (each.kind, each.passed, each.recovery_time, each.rto_met, each.stages) == ("restore", False, None, None, {})
