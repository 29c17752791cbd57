"""How a request is tried again, and how long is waited between two tries, for all stores alike."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from muster.errors import AlreadyExists, StoreUnavailable

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
LONGEST_WAIT_S = 60.0
"""However long a server wants us to wait."""
PATIENCE_S = 300.0
"""How long one request is sent again to a server that puts it off."""

T = TypeVar("T")


class Postponed(StoreUnavailable):
    """
    A server has not processed a request, and wants it later: whatever it makes, it may be sent again.

    :param after_s: in how many seconds, if the server says so
    """

    def __init__(self, message: str, hint: str = "", after_s: float | None = None) -> None:
        super().__init__(message, hint)
        self.after_s = after_s


def pause(attempt: int) -> None:
    """Wait after the given attempt, counted from 0: twice as long each time, and never as long as another who began with us."""
    time.sleep(_spread(attempt))


def tried(call: Callable[[], T], retries: int) -> T:
    """
    What a call gives, which may be made any number of times if `retries` is not zero.

    A call that ended in Postponed is made again in any case, until we have waited for `PATIENCE_S` altogether.

    :param retries: how often a call that ended in any other StoreUnavailable is made again
    :raises StoreUnavailable: of the last try
    """
    lost, postponed, waited = 0, 0, 0.0
    while True:
        try:
            return call()
        except Postponed as error:
            wait = min(error.after_s or 0.0, LONGEST_WAIT_S) + _spread(postponed)
            postponed, waited = postponed + 1, waited + wait
            if waited > PATIENCE_S:
                raise
            time.sleep(wait)
        except StoreUnavailable:
            if lost == retries:
                raise
            pause(lost)
            lost += 1


def retry_after(said: str) -> float | None:
    """How many seconds a header ``Retry-After`` means, which has their number or a date; None for anything else."""
    if re.fullmatch(r"\s*\d+\s*", said, re.ASCII):
        return float(said)
    try:
        at = parsedate_to_datetime(said)
    except (TypeError, ValueError):
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())


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


def _spread(attempt: int) -> float:
    longest = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(attempt, 16))
    return random.uniform(longest / 2, longest)  # noqa: S311 - spreads retries, guards nothing
