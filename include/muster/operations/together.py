"""Run pieces of work side by side and lose none of their failures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

Given = TypeVar("Given")
Result = TypeVar("Result")


def side_by_side(work: Callable[[Given], Result], items: Sequence[Given]) -> tuple[list[Result], list[BaseException]]:
    """
    Call `work` for every item, each in its own thread, and wait for all of them: also when the caller is interrupted, so that
    nobody still writes where the caller is going to clean up.

    :return: the results in the order of the items, without those that failed; and every failure, in the same order
    """
    with ThreadPoolExecutor(max_workers=max(1, len(items))) as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            wait(futures)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    errors = [future.exception() for future in futures]
    results = [future.result() for future, error in zip(futures, errors, strict=True) if error is None]
    return results, [error for error in errors if error is not None]
