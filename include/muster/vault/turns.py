"""Which packs a verification reads again, so that after a known number of them each had its turn, in whatever rhythm."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import floor

_RING = 1 << 32
_FINEST = 1_000_000
"""A share is taken for the nearest fraction with a denominator up to this: 0.1 for a tenth, which in binary it is not."""


def chosen(packs: Sequence[str], share: float, turn: int) -> list[str]:
    """
    The packs whose turn it is: a window over their names (which are evenly spread) that moves on by its own width each time.

    The windows of consecutive turns adjoin without a gap, by whole numbers. So in any ceil(1/share) turns in a row, every pack that was
    there at all of them is read; one that is added waits that long at most.

    :param turn: how often the whole vault was verified before
    :return: of any packs at all, at least one, unless the share is 0
    """
    width = Fraction(share).limit_denominator(_FINEST)
    if width >= 1:
        return list(packs)
    start, end = floor(turn * width * _RING), floor((turn + 1) * width * _RING)
    found = [pack for pack in packs if (int(pack[:8], 16) - start) % _RING < end - start]
    return found or (list(packs[:1]) if share else [])
