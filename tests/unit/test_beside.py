"""Work beside other work: its result, its failure, and its end when nobody wants it any more."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import CancelledError, Future
from contextlib import suppress

import pytest

from muster.adapters.beside import StillWanted, beside


def test_the_result_and_the_failure_are_those_of_the_work() -> None:
    """Whoever asks is told; it ran in another thread."""
    with beside(lambda _: threading.get_ident()) as working:
        assert working.result() != threading.get_ident()
    with beside(lambda _: 1 / 0) as working, pytest.raises(ZeroDivisionError):
        working.result()


def test_what_nobody_wants_any_more_ends() -> None:
    """A failure of the one ends the other, which would go on for ever, and is waited for."""
    began, seen = threading.Event(), []

    def work(wanted: StillWanted) -> None:
        for number in wanted.each(itertools.count()):
            seen.append(number)
            began.set()

    def interrupted() -> Future[None]:
        with suppress(KeyboardInterrupt), beside(work) as working:
            began.wait()
            raise KeyboardInterrupt
        return working

    working = interrupted()
    assert seen
    with pytest.raises(CancelledError):
        working.result()


def test_all_of_it_is_given_while_it_is_wanted() -> None:
    """Nothing is passed over."""
    assert list(StillWanted().each(range(5))) == list(range(5))
