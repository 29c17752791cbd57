"""Several writers on one store, of whom one moves at a time: a seeded schedule says whose call of the store comes next."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fakes import AroundStore
from muster.ports import BlobInfo, BlobStore


class Turns:
    """
    Hands the turn from writer to writer after each call of the store.

    Whoever has the turn goes on until its next call has been made; the others wait within theirs. So the order of all calls
    follows from the seed, except among the threads of one writer.

    :param change: how likely it is that the turn goes on to another writer, after each call
    """

    def __init__(self, writers: int, seed: int, change: float) -> None:
        self._dice = random.Random(seed)
        self._change = change
        self._going = list(range(writers))
        self._turn = self._dice.choice(self._going)
        self._passed = threading.Condition()

    def call(self, writer: int, work: Callable[[], Any]) -> Any:
        """Make a call of the store when it is this writer's turn."""
        with self._passed:
            self._passed.wait_for(lambda: self._turn == writer)
            try:
                return work()
            finally:
                self._pass_on()

    def leave(self, writer: int) -> None:
        """This writer has ended, and takes no more turns."""
        with self._passed:
            self._going.remove(writer)
            self._turn = self._dice.choice(self._going) if self._going else -1
            self._passed.notify_all()

    def _pass_on(self) -> None:
        if len(self._going) > 1 and self._dice.random() < self._change:
            self._turn = self._dice.choice([other for other in self._going if other != self._turn])
            self._passed.notify_all()


class TurnStore(AroundStore):
    """A store as one of the writers sees it."""

    def __init__(self, inner: BlobStore, turns: Turns, writer: int) -> None:
        super().__init__(inner)
        self._turns, self._writer = turns, writer

    def put(self, key: str, data: bytes) -> None:
        self._turns.call(self._writer, lambda: self.inner.put(key, data))

    def get(self, key: str) -> bytes:
        return self._turns.call(self._writer, lambda: self.inner.get(key))

    def get_range(self, key: str, start: int, length: int) -> bytes:
        return self._turns.call(self._writer, lambda: self.inner.get_range(key, start, length))

    def info(self, key: str) -> BlobInfo:
        return self._turns.call(self._writer, lambda: self.inner.info(key))

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        return iter(self._turns.call(self._writer, lambda: list(self.inner.list(prefix))))

    def delete(self, key: str) -> None:
        self._turns.call(self._writer, lambda: self.inner.delete(key))


def together(
    store: BlobStore,
    works: Sequence[Callable[[BlobStore], Any]],
    seed: int,
    *,
    change: float = 0.5,
    view: Callable[[BlobStore], BlobStore] = lambda store: store,
) -> list[Any]:
    """
    Do several works on one store at once; what each returned, or the exception that ended it.

    :param view: through what each of them sees the store, such as `faults.stores.PagedStore`
    """
    turns = Turns(len(works), seed, change)
    results: list[Any] = [None] * len(works)

    def do(writer: int) -> None:
        try:
            results[writer] = works[writer](view(TurnStore(store, turns, writer)))
        except BaseException as error:
            results[writer] = error
        finally:
            turns.leave(writer)

    threads = [threading.Thread(target=do, args=(writer,), daemon=True) for writer in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads), f"a writer hangs; seed {seed}"
    return results
