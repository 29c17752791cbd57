"""Spans of time as the catalog writes them: ``90s``, ``15m``, ``24h``, ``30d``, ``2w``."""

from __future__ import annotations

import re
from datetime import timedelta

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
ALLOWED = "a whole number and a unit, one of s, m, h, d, w: 90s, 15m, 24h, 30d, 2w"
LONGEST = timedelta(days=36500)


def parse_duration(value: object) -> timedelta:
    """
    Read a span of time; longer than nothing, at most 100 years.

    :raises ValueError: with a message for people, if it is not one
    """
    if isinstance(value, timedelta):
        return value
    match = re.fullmatch(r"(\d{1,12})([smhdw])", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is not a duration; write {ALLOWED}")
    seconds = int(match[1]) * UNITS[match[2]]
    if not 0 < seconds <= LONGEST.total_seconds():
        raise ValueError(f"{value!r} is out of range; a duration is longer than nothing and at most 36500d")
    return timedelta(seconds=seconds)


def format_duration(value: timedelta) -> str:
    """The shortest text that `parse_duration` reads as the same span, in days, hours, minutes or seconds."""
    seconds = int(value.total_seconds())
    unit = next(u for u in "dhms" if seconds % UNITS[u] == 0)
    return f"{seconds // UNITS[unit]}{unit}"
