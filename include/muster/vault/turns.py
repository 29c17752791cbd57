"""Which packs are read again on which day, so that after a known number of days each had its turn."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from fractions import Fraction
from math import floor

_RING = 1 << 32
_DAY_0 = datetime(1970, 1, 1, tzinfo=UTC)
_FINEST = 1_000_000
"""A share is taken for the nearest fraction with a denominator up to this: 0.1 for a tenth, which in binary it is not."""


def chosen(packs: Sequence[str], share: float, today: datetime) -> list[str]:
    """
    The packs whose turn it is: a window over their names (which are evenly spread) that moves on by its own width each day.

    The windows of consecutive days adjoin without a gap, by whole numbers. So in any ceil(1/share) days in a row, every pack that was
    there on all of them is read; one that is added waits that long at most. A second run on a day (in UTC) reads the same packs
    again. A day that is missed leaves out its window, whose packs come again ceil(1/share) days after it.

    :return: of any packs at all, at least one, unless the share is 0
    """
    width = Fraction(share).limit_denominator(_FINEST)
    if width >= 1:
        return list(packs)
    day = (today - _DAY_0).days
    start, end = floor(day * width * _RING), floor((day + 1) * width * _RING)
    turn = [pack for pack in packs if (int(pack[:8], 16) - start) % _RING < end - start]
    return turn or (list(packs[:1]) if share else [])
