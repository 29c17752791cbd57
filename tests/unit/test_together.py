"""Work side by side."""

from __future__ import annotations

import threading
import time

import pytest

from muster.operations.together import side_by_side


def test_results_and_failures_keep_their_order() -> None:
    """Nothing that fails hides what came of the others, nor another failure."""

    def work(number: int) -> int:
        if number % 2:
            raise ValueError(number)
        return number * 10

    results, failures = side_by_side(work, [4, 3, 2, 1])
    assert results == [40, 20]
    assert [failure.args for failure in failures] == [(3,), (1,)]


def test_nothing_is_side_by_side_with_nothing() -> None:
    """No items, no threads, no results."""
    assert side_by_side(str, []) == ([], [])


def test_an_interrupted_caller_waits_for_work_that_is_going_on() -> None:
    """Whoever cleans up after an interrupt finds nobody still writing."""
    ended = threading.Event()

    def work(_: int) -> None:
        time.sleep(1.0)
        ended.set()

    main = threading.main_thread().ident
    assert main is not None
    import signal

    threading.Timer(0.3, signal.pthread_kill, (main, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        side_by_side(work, [1])
    assert ended.is_set()
