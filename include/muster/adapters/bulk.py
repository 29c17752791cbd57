"""Many small requests at once, none of them forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from muster.errors import MusterError

REQUESTS_AT_ONCE = 16

T = TypeVar("T")


def in_bulk(call: Callable[[str], T], keys: Iterable[str], at_once: int = REQUESTS_AT_ONCE) -> list[T]:
    """
    What a call gives for each key, in the order of the keys; the calls run side by side, and every one is waited for.

    :param at_once: how many

    :raises MusterError: the first failure, with the number of all of them in its message
    """
    wanted = list(keys)
    with ThreadPoolExecutor(at_once) as pool:
        outcomes = list(pool.map(lambda key: _outcome(call, key), wanted))
    failures = [error for _, error in outcomes if error is not None]
    if len(failures) > 1:
        first = failures[0]
        raise type(first)(f"{first.message} (and {len(failures) - 1} more of {len(wanted)} failed)", first.hint)
    if failures:
        raise failures[0]
    return [given for given, error in outcomes if error is None]  # type: ignore[misc]


def _outcome(call: Callable[[str], T], key: str) -> tuple[T | None, MusterError | None]:
    try:
        return call(key), None
    except MusterError as error:
        return None, error
