"""How a request is tried again: what was put off has its own patience, and what a server says of it is heeded."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from muster.adapters import retries
from muster.adapters.retries import LONGEST_PAUSE_S, LONGEST_WAIT_S, PATIENCE_S, Postponed, retry_after, tried
from muster.errors import StoreUnavailable


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited each time; nobody waits."""
    waited: list[float] = []
    monkeypatch.setattr(retries.time, "sleep", waited.append)
    return waited


def failing(*errors: Exception) -> Callable[[], str]:
    """A call that fails so often, and then gives something."""
    left = list(errors)

    def call() -> str:
        if left:
            raise left.pop(0)
        return "given"

    return call


def test_what_was_put_off_is_sent_again_when_the_server_wants_it(waits: list[float]) -> None:
    """Also a request that is never sent twice; a wait is no shorter than was said, and a minute at most."""
    assert (
        tried(failing(Postponed("busy", after_s=7), Postponed("busy", after_s=9_000), Postponed("busy")), 0) == "given"
    )
    assert [7 < waits[0] < 8, 60 < waits[1] < 61, 0 < waits[2] < 1] == [True, True, True]


def test_patience_with_a_busy_server_ends(waits: list[float]) -> None:
    """A server that puts everything off is waited for, for minutes, and not for ever."""
    with pytest.raises(Postponed, match="busy"):
        tried(failing(*[Postponed("busy", after_s=20)] * 1000), 4)
    assert PATIENCE_S - LONGEST_WAIT_S < sum(waits) <= PATIENCE_S


def test_lost_answers_have_tries_of_their_own(waits: list[float]) -> None:
    """What was put off takes none of them away, and a request that is sent once is not sent again after a lost answer."""
    lost, busy = StoreUnavailable("lost"), Postponed("busy", after_s=1)
    assert tried(failing(lost, busy, busy, lost), 2) == "given"
    with pytest.raises(StoreUnavailable, match="lost"):
        tried(failing(busy, lost), 0)
    assert max(waits) < LONGEST_PAUSE_S


@pytest.mark.parametrize(
    ("said", "seconds"), [("12", 12), (" 0 ", 0), ("soon", None), ("", None), ("-3", None), ("²", None)]
)
def test_header_may_say_seconds(said: str, seconds: float | None) -> None:
    """Anything else means nothing."""
    assert retry_after(said) == seconds


def test_header_may_say_a_date() -> None:
    """One that has passed means now."""
    now = datetime.now(UTC)
    assert 25 < (retry_after(format_datetime(now + timedelta(seconds=30), usegmt=True)) or 0) <= 30
    assert retry_after(format_datetime(now - timedelta(days=1), usegmt=True)) == 0
