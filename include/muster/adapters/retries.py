"""How a request is tried again, and how long is waited between two tries, for all stores alike."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from muster.errors import AlreadyExists, StoreUnavailable

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


def created(create: Callable[[bool], None], read: Callable[[], bytes], data: bytes | memoryview, retries: int) -> None:
    """
    Create an object, by requests which themselves demand that there is none.

    Only the one who counts the attempts can tell an object that was there before from its own, whose first answer was lost
    (docs/adr/0007-lost-answer-on-a-conditional-put.md).

    :param create: sends one request; told whether one was sent before
    :param read: gives what lies under the key
    :param retries: how often a request without an answer is tried again
    :raises AlreadyExists: if an object is there that is not ours
    :raises StoreUnavailable: of the last try
    """
    for attempt in range(retries + 1):
        try:
            create(attempt > 0)
        except AlreadyExists:
            if attempt and read() == data:
                return
            raise
        except StoreUnavailable:
            if attempt == retries:
                raise
            pause(attempt)
        else:
            return
