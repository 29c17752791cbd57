"""Durations and cron expressions, as the catalog writes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from croniter import croniter  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st

from muster.catalog.durations import format_duration, parse_duration
from muster.catalog.schedule import largest_gap


@given(st.integers(min_value=1, max_value=36500 * 86400))
def test_a_duration_survives_being_written(seconds: int) -> None:
    """What is written is read as the same span."""
    span = timedelta(seconds=seconds)
    assert parse_duration(format_duration(span)) == span


def _part(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    ranged = st.tuples(number, number).filter(lambda p: p[0] < p[1]).map(lambda p: f"{p[0]}-{p[1]}")
    step = st.integers(1, high).map(lambda n: f"*/{n}")
    one = st.one_of(number.map(str), ranged)
    return st.one_of(st.just("*"), step, st.lists(one, min_size=1, max_size=3).map(",".join))


@settings(max_examples=60, deadline=None)
@given(st.tuples(_part(0, 59), _part(0, 23), _part(1, 28), _part(1, 12), _part(0, 6)).map(" ".join))
def test_no_gap_that_airflow_would_leave_is_longer_than_ours(expression: str) -> None:
    """Over the next moments that croniter gives, the gap is never longer than the one we promise."""
    gap = largest_gap(expression)
    moments = croniter(expression, datetime(2024, 1, 1, tzinfo=UTC))
    first = [moments.get_next(datetime) for _ in range(200)]
    assert max(later - earlier for earlier, later in pairwise(first)) <= gap


@pytest.mark.parametrize(
    ("expression", "gap"),
    [
        ("0 2 * * *", timedelta(days=1)),
        ("*/15 * * * *", timedelta(minutes=15)),
        ("*/25 * * * *", timedelta(minutes=25)),
        ("0 9-17 * * mon-fri", timedelta(days=2, hours=16)),
        ("0 0 1 * *", timedelta(days=31)),
        ("0 0 31 * *", timedelta(days=61)),
        ("0 0 1-31 * 0", timedelta(days=1)),
        ("0 0 1-31 * */2", timedelta(days=2)),
        ("0 0 29 feb *", timedelta(days=1461)),
        ("0 0 1,15 * 5", timedelta(days=7)),
        ("0 0 * * 7", timedelta(days=7)),
        ("@hourly", timedelta(hours=1)),
        ("@monthly", timedelta(days=31)),
    ],
)
def test_the_longest_gap_of_a_schedule(expression: str, gap: timedelta) -> None:
    """The gap is the longest that occurs, not the usual one."""
    assert largest_gap(expression) == gap


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "* * * *",
        "* * * * * *",
        "a * * * *",
        "*/0 * * * *",
        "5-1 * * * *",
        "* * * * 8",
        "* * L * *",
        "@once",
        "*-3 * * * *",
    ],
)
def test_what_is_no_schedule_is_refused(expression: str) -> None:
    """Nothing that Airflow would read otherwise, or not at all, is taken for a schedule."""
    with pytest.raises(ValueError, match=r"cron expression|allowed are|run upwards"):
        largest_gap(expression)
