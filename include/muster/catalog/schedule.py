"""
Cron expressions, as far as the catalog needs them: which minutes they name, and how far apart those can lie.

The meaning is that of Airflow's timetables (croniter 6): five fields; when both the day of the month and the day of the week are
restricted, either may match. Times are UTC, so no day has 23 or 25 hours. Ranges of one value are refused: croniter reads the
weekday 0-0 as all week.
"""

from __future__ import annotations

import re
from datetime import date, timedelta
from functools import lru_cache
from itertools import pairwise

PRESETS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
ALLOWED = 'five fields "minute hour day month weekday" of numbers, names, *, ranges (1-5), lists (1,3) and steps (*/15), or @daily'
FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 0, 7))
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
NAMES = {
    "month": {name: number for number, name in enumerate(MONTHS, 1)},
    "weekday": {name: number for number, name in enumerate(WEEKDAYS)},
}
YEARS = (2000, 2029)
"""Thirty years in which every fourth is a leap year: each date falls on each weekday, so the longest gap of any expression occurs."""


@lru_cache(maxsize=256)
def largest_gap(expression: str) -> timedelta:
    """
    The longest time between two neighbouring moments of a cron expression.

    :raises ValueError: with a message for people, if it is none, or never comes
    """
    parts = _parts(expression)
    minutes, hours, days, months, weekdays = (_field(part, *spec) for part, spec in zip(parts, FIELDS, strict=True))
    weekdays = frozenset(day % 7 for day in weekdays)
    times = sorted(60 * hour + minute for hour in hours for minute in minutes)
    within = max((later - earlier for earlier, later in pairwise(times)), default=0)
    any_day = parts[2] == "*" or (len(days) == 31 and "*" in parts[4])
    any_weekday = parts[4] == "*" or (len(weekdays) == 7 and "*" in parts[2])
    if any_day and any_weekday and len(months) == 12:
        return timedelta(minutes=max(within, 1440 - times[-1] + times[0]))
    matching = _matching_days(days, months, weekdays, both=any_day or any_weekday)
    if len(matching) < 2:
        raise ValueError(f"{expression!r} names a day that never comes")
    apart = max(later - earlier for earlier, later in pairwise(matching))
    return timedelta(minutes=max(within, apart * 1440 - times[-1] + times[0]))


def _parts(expression: str) -> list[str]:
    parts = PRESETS.get(expression, expression).split()
    if len(parts) != len(FIELDS):
        raise ValueError(f"{expression!r} is not a cron expression; write {ALLOWED}")
    return parts


def _field(text: str, name: str, low: int, high: int) -> frozenset[int]:
    found: set[int] = set()
    for item in text.lower().split(","):
        match = re.fullmatch(r"(?:\*|([a-z0-9]+)(?:-([a-z0-9]+))?)(?:/(\d+))?", item)
        step = int(match[3] or 1) if match else 0
        if match is None or step < 1:
            raise ValueError(f"{item!r} is no {name} of a cron expression; write {ALLOWED}")
        start, end = _bounds(match, name, low, high)
        found.update(range(start, end + 1, step))
    return frozenset(found)


def _bounds(match: re.Match[str], name: str, low: int, high: int) -> tuple[int, int]:
    """First and last value of ``*``, ``5``, ``5/10`` (from 5 on) or ``1-5``."""
    top = 6 if name == "weekday" else high
    if match[1] is None:
        return low, top
    start = _number(match[1], name, low, high)
    if match[2] is None:
        return start, max(top, start) if match[3] else start
    end = _number(match[2], name, low, high)
    if end <= start:
        raise ValueError(f"the {name} range {match[0]!r} must run upwards; write single values, or two ranges")
    return start, end


def _number(text: str, name: str, low: int, high: int) -> int:
    number = int(text) if text.isdigit() else NAMES.get(name, {}).get(text, -1)
    if not low <= number <= high:
        raise ValueError(f"{text!r} is no {name}; allowed are {low} to {high}")
    return number


def _matching_days(days: frozenset[int], months: frozenset[int], weekdays: frozenset[int], *, both: bool) -> list[int]:
    found = []
    first, last = date(YEARS[0], 1, 1).toordinal(), date(YEARS[1], 12, 31).toordinal()
    for ordinal in range(first, last + 1):
        day = date.fromordinal(ordinal)
        by_day, by_weekday = day.day in days, ordinal % 7 in weekdays
        if day.month in months and ((by_day and by_weekday) if both else (by_day or by_weekday)):
            found.append(ordinal)
    return found
