"""Stores that behave badly in one way each: late, flaky, forgetful of their own order, full, read-only."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from fakes import AroundStore, FrozenClock
from muster.errors import NotFound, Refused, StoreUnavailable
from muster.ports import BlobInfo, BlobStore, Clock


class StoreAround(AroundStore):
    """Another store. Subclasses say what happens before and after each of its calls; here nothing does."""

    def put(self, key: str, data: bytes) -> None:
        self.before("put", key, len(data))
        self.inner.put(key, data)
        self.after("put", key)

    def get(self, key: str) -> bytes:
        self.before("get", key)
        data = self.inner.get(key)
        self.after("get", key)
        return data

    def get_range(self, key: str, start: int, length: int) -> bytes:
        self.before("get_range", key)
        data = self.inner.get_range(key, start, length)
        self.after("get_range", key)
        return data

    def info(self, key: str) -> BlobInfo:
        self.before("info", key)
        info = self.inner.info(key)
        self.after("info", key)
        return info

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        self.before("list", prefix)
        found = list(self.inner.list(prefix))
        self.after("list", prefix)
        return iter(found)

    def delete(self, key: str) -> None:
        self.before("delete", key)
        self.inner.delete(key)
        self.after("delete", key)

    def before(self, operation: str, key: str, size: int = 0) -> None:
        """Called before each call of the inner store; may raise instead of it."""

    def after(self, operation: str, key: str) -> None:
        """Called when the inner store has done it; may raise all the same."""


class SlowStore(StoreAround):
    """Answers after a while, and not in the order in which it was asked."""

    def __init__(self, inner: BlobStore, seconds: float, seed: int) -> None:
        super().__init__(inner)
        self._seconds, self._dice = seconds, random.Random(seed)

    def before(self, operation: str, key: str, size: int = 0) -> None:
        time.sleep(self._dice.random() * self._seconds)

    def after(self, operation: str, key: str) -> None:
        time.sleep(self._dice.random() * self._seconds)


class FlakyStore(StoreAround):
    """
    Fails a share of all calls; in half of these it did what was asked.

    Which calls fail follows from the seed, the call, the key and how often it was made, so threads do not change it.
    """

    def __init__(self, inner: BlobStore, share: float, seed: int) -> None:
        super().__init__(inner)
        self._share, self._seed, self._lock = share, seed, threading.Lock()
        self._asked: Counter[tuple[str, str]] = Counter()
        self.failures = 0

    def before(self, operation: str, key: str, size: int = 0) -> None:
        with self._lock:
            self._asked[operation, key] += 1
        self._maybe_fail("before", operation, key)

    def after(self, operation: str, key: str) -> None:
        self._maybe_fail("after", operation, key)

    def _maybe_fail(self, when: str, operation: str, key: str) -> None:
        call = f"{self._seed} {when} {operation} {key} {self._asked[operation, key]}"
        if random.Random(call).random() < self._share / 2:
            with self._lock:
                self.failures += 1
            raise StoreUnavailable(f"{self.url} did not answer {operation} {key}", "try again")


class LateStore(StoreAround):
    """
    Breaks the port's promise: an object that was put is seen only some calls later.

    :param lists_only: whether `get`, `get_range` and `info` see it at once, and only `list` does not
    """

    def __init__(self, inner: BlobStore, most_calls: int, seed: int, *, lists_only: bool) -> None:
        super().__init__(inner)
        self._most, self._dice, self._lists_only = most_calls, random.Random(seed), lists_only
        self._lock = threading.Lock()
        self._calls = 0
        self._seen_from: dict[str, int] = {}

    def before(self, operation: str, key: str, size: int = 0) -> None:
        with self._lock:
            self._calls += 1
        hidden = operation not in ("put", "list") and not self._lists_only and self._hides(key)
        if hidden:
            raise NotFound(f"there is no {key} in {self.url}", "list the store to see what it holds")

    def after(self, operation: str, key: str) -> None:
        if operation == "put":
            with self._lock:
                self._seen_from[key] = self._calls + self._dice.randint(0, self._most)

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        return (info for info in super().list(prefix) if not self._hides(info.key))

    def settle(self) -> None:
        """Show everything from now on, until more is put."""
        self._seen_from.clear()

    def _hides(self, key: str) -> bool:
        return self._seen_from.get(key, 0) > self._calls


class FullStore(StoreAround):
    """Has room for a number of bytes; `room` may be changed."""

    def __init__(self, inner: BlobStore, room: int) -> None:
        super().__init__(inner)
        self.room, self._lock = room, threading.Lock()

    def before(self, operation: str, key: str, size: int = 0) -> None:
        if operation != "put":
            return
        with self._lock:
            if size > self.room:
                raise StoreUnavailable(f"there is no space left in {self.url} for {key}", "make room, then try again")
            self.room -= size


class ReadOnlyStore(StoreAround):
    """Credentials that may read and nothing else."""

    def before(self, operation: str, key: str, size: int = 0) -> None:
        if operation in ("put", "delete"):
            raise Refused(f"no permission to {operation} {key} in {self.url}", "look at the rights")


class HazyStore(StoreAround):
    """Lists in its own time, as buckets and folders do: of what others put meanwhile, some is seen and some is not."""

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        self.before("list", prefix)
        first = {info.key for info in self.inner.list(prefix)}
        self.after("list", prefix)
        self.before("list", prefix)
        found = list(self.inner.list(prefix))
        self.after("list", prefix)
        return iter([info for info in found if info.key in first or random.Random(info.key).random() < 0.5])


class JumpingClock:
    """A clock that nobody looks after: each look at it is hours away from the truth, this way or that."""

    def __init__(self, truth: FrozenClock, hours: float, seed: int) -> None:
        self._truth, self._hours, self._dice = truth, hours, random.Random(seed)

    def now(self) -> datetime:
        self._truth.advance(1)
        return self._truth.now() + timedelta(hours=self._dice.uniform(-self._hours, self._hours))


class SkewedStore(StoreAround):
    """A store whose own times are wrong."""

    def __init__(self, inner: BlobStore, clock: Clock) -> None:
        super().__init__(inner)
        self._clock = clock

    def info(self, key: str) -> BlobInfo:
        return replace(super().info(key), modified=self._clock.now())

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        return (replace(info, modified=self._clock.now()) for info in super().list(prefix))
