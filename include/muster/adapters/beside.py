"""Work that is done beside other work, and given up when that fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Result = TypeVar("Result")
Item = TypeVar("Item")


class StillWanted:
    """Whether what is being done is still wanted."""

    def __init__(self) -> None:
        self._given_up = threading.Event()

    def give_up(self) -> None:
        """It is not wanted any more."""
        self._given_up.set()

    def given_up(self) -> bool:
        """Whether it is not wanted any more."""
        return self._given_up.is_set()

    def check(self) -> None:
        """
        :raises CancelledError: if it is not wanted any more
        """
        if self.given_up():
            raise CancelledError

    def each(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items, as long as they are wanted; then an error, as by `check`."""
        for item in items:
            self.check()
            yield item


@contextmanager
def beside(work: Callable[[StillWanted], Result]) -> Iterator[Future[Result]]:
    """
    Begin work in a thread of its own. Whoever leaves the context before it has ended waits for it, and nobody wants it any more.

    :param work: looks now and then whether it is wanted
    """
    wanted = StillWanted()
    with ThreadPoolExecutor(1, "muster-beside") as thread:
        begun = thread.submit(work, wanted)
        try:
            yield begun
        finally:
            wanted.give_up()
