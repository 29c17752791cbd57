"""Whether small pieces of work are done side by side: that helps if they wait, and costs if they only compute."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

_SLOW = 0.001
_LOOK_AGAIN = 32
_NEAR_S, _NEAR_RATE = 0.01, 250e6
_FAR = 2.0
_WEIGHT = 0.1


_SMALL = 64 * 1024
_one_thread = threading.Lock()


def small_steps(size: int) -> AbstractContextManager[object]:
    """
    Held while pieces of about so many bytes are hashed or opened one after the other.

    Each gives the interpreter up for microseconds, and threads that take it from one another so often take longer than one (docs/adr/0010):
    they take turns, a lot at a time. Large pieces go side by side.
    """
    return _one_thread if size < _SMALL else nullcontext()


class Pace:
    """
    Tells from the lot that was measured last whether pieces of work wait for a disk or a network.

    Python runs one thread at a time. Pieces that give the interpreter up for some microseconds at a time, as reading and hashing small
    files does, take several times as long in threads that take it from one another as in one thread (docs/adr/0010). Where each
    piece waits for its source, for a millisecond or more, several threads wait at once. One lot in `_LOOK_AGAIN` is done alone all the
    same, since lots that are done beside one another wait for one another.
    """

    def __init__(self) -> None:
        self._waiting = False
        self._since = 0
        self._lock = threading.Lock()

    @property
    def waits(self) -> bool:
        """Whether the next lot is better done beside others."""
        with self._lock:
            self._since += 1
            return self._waiting and self._since % _LOOK_AGAIN != 0

    @contextmanager
    def measured(self, pieces: int) -> Iterator[None]:
        """Do a lot of so many pieces, and see whether each takes long, and longer than it computes."""
        wall, processor = time.perf_counter(), time.thread_time()
        yield
        wall, processor = time.perf_counter() - wall, time.thread_time() - processor
        self._waiting = wall > max(2 * processor, _SLOW * pieces)


class Lanes:
    """
    How many pieces of megabytes are fetched at once: few while they come as from a disk, many when they come over a network.

    A disk, or a server on this machine, keeps the processors busy with two. Over a network each request waits, and one connection
    brings a fraction of what many do (docs/adr/0010). It is far if requests take on the average more than `_FAR` times `_NEAR_S` and
    their bytes at `_NEAR_RATE`; what was found far stays so.

    :param few: at first
    :param many: when it is far; so many must fit into memory
    """

    def __init__(self, few: int, many: int) -> None:
        self._free = threading.Semaphore(few)
        self._more = many - few
        self._lock = threading.Lock()
        self._ratio = 1.0

    @property
    def far(self) -> bool:
        """Whether it was found to be."""
        return not self._more

    def taken(self) -> AbstractContextManager[object]:
        """Held while a piece is fetched and opened."""
        return self._free

    @contextmanager
    def measured(self, size: int) -> Iterator[None]:
        """Around a request for so many bytes."""
        began = time.perf_counter()
        yield
        took = time.perf_counter() - began
        with self._lock:
            self._ratio += _WEIGHT * (took / (_NEAR_S + size / _NEAR_RATE) - self._ratio)
            if self._more and self._ratio > _FAR:
                self._free.release(self._more)
                self._more = 0
