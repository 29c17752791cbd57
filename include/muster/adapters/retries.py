"""How long to wait between two tries of a request, for all stores alike."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from muster.errors import StoreUnavailable

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0

T = TypeVar("T")


def pause(attempt: int) -> None:
    """Wait after the given attempt, counted from 0: twice as long each time, and never as long as another who began with us."""
    longest = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**attempt)
    time.sleep(random.uniform(longest / 2, longest))  # noqa: S311 - spreads retries, guards nothing


def tried(call: Callable[[], T], retries: int) -> T:
    """
    What a call gives, which may be made any number of times.

    :param retries: how often a call that ended in StoreUnavailable is made again
    :raises StoreUnavailable: of the last try
    """
    for attempt in range(retries):
        try:
            return call()
        except StoreUnavailable:
            pause(attempt)
    return call()
