"""Stand-ins for what a test cannot wait for: a store in memory, a store that breaks on command, a frozen clock."""

from __future__ import annotations

import os
import secrets
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

from muster.adapters.blob_keys import checked_key
from muster.adapters.bucket_proofs import Attempt, proofs
from muster.adapters.bulk import in_bulk
from muster.errors import AlreadyExists, IntegrityError, NotFound, Refused, StoreUnavailable
from muster.ports import PROBES, BlobInfo, BlobStore, Clock, Guarantees, Lock, Locks, Proof, Versions

Operation = Literal["put", "get", "get_range", "info", "list", "delete", "lock_of", "extend", "hold", "any"]
FaultKind = Literal["fail", "full", "lose_answer", "truncate", "flip", "refuse", "kill", "kill_after"]


class FrozenClock:
    """A clock that moves only when told to."""

    def __init__(self, at: datetime = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)) -> None:
        self._at = at

    def now(self) -> datetime:
        return self._at

    def advance(self, seconds: float) -> datetime:
        """Move on, and return the new time."""
        self._at += timedelta(seconds=seconds)
        return self._at


class MemoryStore:
    """
    A `BlobStore` in a dictionary. Tests damage what it holds through `objects`.

    :param locking: it can lock its objects, in compliance mode, and then refuses what a bucket with Object Lock refuses
    """

    def __init__(self, clock: Clock | None = None, name: str = "test", *, locking: bool = False) -> None:
        self._locks = MemoryLocks(self) if locking else None
        self.objects: dict[str, bytes] = {}
        self._written: dict[str, datetime] = {}
        self._clock = clock
        self._name = name
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"memory://{self._name}"

    def guarantees(self) -> Guarantees:
        return Guarantees(immutable=self._locks is not None, conditional_put=True, versioned=False)

    def locks(self) -> Locks | None:
        return self._locks

    def versions(self) -> Versions | None:
        return None

    def prove(self) -> Iterator[Proof]:
        return proofs(self, _MemoryTrial(self), f"{PROBES}{secrets.token_hex(16)}")

    def now(self) -> datetime:
        """The time by which this store judges locks."""
        return self._clock.now() if self._clock else datetime.now(UTC)

    def put(self, key: str, data: bytes) -> None:
        checked_key(key)
        with self._lock:
            if key in self.objects:
                raise AlreadyExists(f"{key} is already in {self.url}", "nothing is ever overwritten")
            self.objects[key] = bytes(data)
            self._written[key] = self.now()

    def get(self, key: str) -> bytes:
        checked_key(key)
        with self._lock:
            return self._held(key)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        data = self.get(key)
        if start < 0 or length < 0 or start + length > len(data):
            raise IntegrityError(f"{key} in {self.url} is shorter than {start + length} bytes", "verify the vault")
        return data[start : start + length]

    def info(self, key: str) -> BlobInfo:
        checked_key(key)
        with self._lock:
            return BlobInfo(key, len(self._held(key)), self._time(key))

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        with self._lock:
            found = [BlobInfo(key, len(data), self._time(key)) for key, data in self.objects.items()]
        return iter(sorted((info for info in found if info.key.startswith(prefix)), key=lambda info: info.key))

    def delete(self, key: str) -> None:
        checked_key(key)
        with self._lock:
            self._held(key)
            if self._locks:
                self._locks.forbid(key)
            del self.objects[key]

    def _held(self, key: str) -> bytes:
        if key not in self.objects:
            raise NotFound(f"there is no {key} in {self.url}", "list the store to see what it holds")
        return self.objects[key]

    def _time(self, key: str) -> datetime:
        return self._written.get(key, datetime(2026, 11, 23, tzinfo=UTC))


class _MemoryTrial:
    """What is tried on a `MemoryStore` that locks."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def attempts(self, key: str) -> Iterator[Attempt]:
        yield Attempt("a locked object cannot be deleted", self.removal(key))

    def removal(self, key: str) -> Callable[[], None]:
        return lambda: self._store.delete(key)

    def settings(self) -> Iterator[Proof]:
        return iter(())


class MemoryLocks:
    """The `Locks` of a `MemoryStore`; its clock says when a retention has ended."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.by_key: dict[str, Lock] = {}

    def of(self, key: str) -> Lock:
        self._store.info(key)
        return self.by_key.get(key, Lock())

    def extend(self, keys: Iterable[str], until: datetime) -> int:
        return sum(in_bulk(lambda key: self._extend(key, until), keys))

    def hold(self, keys: Iterable[str], *, held: bool) -> None:
        in_bulk(lambda key: self._set(key, replace(self.of(key), held=held)), keys)

    def _extend(self, key: str, until: datetime) -> bool:
        there = self.of(key)
        if there.until and there.until >= until:
            return False
        self._set(key, replace(there, until=until, mode="compliance"))
        return True

    def _set(self, key: str, lock: Lock) -> None:
        self.by_key[key] = lock

    def forbid(self, key: str) -> None:
        """Refuse the removal of what is locked."""
        lock = self.by_key.get(key, Lock())
        if lock.held or (lock.until and lock.until > self._store.now()):
            raise Refused(f"{key} in {self._store.url} is locked until {lock.until}", "wait for the end of its lock")


@dataclass(frozen=True, eq=False)
class Fault:
    """
    What goes wrong at which call of a store.

    * fail          StoreUnavailable, and nothing was done
    * full          StoreUnavailable that speaks of space, and nothing was done
    * refuse        Refused, and nothing was done
    * lose_answer   it was done, and StoreUnavailable is raised all the same
    * truncate      half of the bytes are written, or given back
    * flip          one bit in the middle of the bytes is written, or given back, wrong
    * kill          the process kills itself (SIGKILL) before the call; ``kill_after``: after it

    :param at: the first matching call that is hit, counted from 1
    :param times: how many matching calls are hit from there on; None for all
    :param prefix: only keys that begin so match
    """

    kind: FaultKind
    operation: Operation = "any"
    at: int = 1
    times: int | None = 1
    prefix: str = ""

    def matches(self, operation: str, key: str) -> bool:
        return self.operation in ("any", operation) and key.startswith(self.prefix)

    def hits(self, count: int) -> bool:
        return count >= self.at and (self.times is None or count < self.at + self.times)


class AroundStore:
    """Another store: what of the port concerns no single object. Subclasses say what becomes of the other calls."""

    def __init__(self, inner: BlobStore) -> None:
        self.inner = inner

    @property
    def url(self) -> str:
        return self.inner.url

    def guarantees(self) -> Guarantees:
        return self.inner.guarantees()

    def locks(self) -> Locks | None:
        return self.inner.locks()

    def versions(self) -> Versions | None:
        return self.inner.versions()

    def prove(self) -> Iterator[Proof]:
        return self.inner.prove()


class FaultyStore(AroundStore):
    """Another store, with faults. `calls` tells what was asked of it, in order; `faults` may be changed under way."""

    def __init__(self, inner: BlobStore, *faults: Fault) -> None:
        super().__init__(inner)
        self.faults = list(faults)
        self.calls: list[tuple[str, str]] = []
        self._counts: dict[Fault, int] = {}
        self._lock = threading.Lock()

    def locks(self) -> Locks | None:
        inner = self.inner.locks()
        return FaultyLocks(self, inner) if inner else None

    def put(self, key: str, data: bytes) -> None:
        fault = self._before("put", key)
        self.inner.put(key, _damaged(fault, data))
        self._after(fault, "put", key)

    def get(self, key: str) -> bytes:
        fault = self._before("get", key)
        data = _damaged(fault, self.inner.get(key))
        self._after(fault, "get", key)
        return data

    def get_range(self, key: str, start: int, length: int) -> bytes:
        fault = self._before("get_range", key)
        data = _damaged(fault, self.inner.get_range(key, start, length))
        self._after(fault, "get_range", key)
        return data

    def info(self, key: str) -> BlobInfo:
        fault = self._before("info", key)
        info = self.inner.info(key)
        self._after(fault, "info", key)
        return info

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        fault = self._before("list", prefix)
        found = list(self.inner.list(prefix))
        self._after(fault, "list", prefix)
        return iter(found[: len(found) // 2] if fault == "truncate" else found)

    def delete(self, key: str) -> None:
        fault = self._before("delete", key)
        self.inner.delete(key)
        self._after(fault, "delete", key)

    @contextmanager
    def faults_around(self, operation: Operation, key: str) -> Iterator[None]:
        """What goes wrong before and after a call that gives nothing back."""
        fault = self._before(operation, key)
        yield
        self._after(fault, operation, key)

    def _before(self, operation: str, key: str) -> FaultKind | None:
        kind = self._next_fault(operation, key)
        if kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "fail":
            raise StoreUnavailable(f"{self.url} did not answer {operation} {key}", "try again")
        if kind == "refuse":
            raise Refused(f"no permission for {operation} {key} in {self.url}", "ask whoever owns the store")
        if kind == "full":
            raise StoreUnavailable(f"there is no space left in {self.url} for {key}", "make room, then try again")
        return kind

    def _after(self, kind: FaultKind | None, operation: str, key: str) -> None:
        if kind == "kill_after":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "lose_answer":
            raise StoreUnavailable(f"the answer of {self.url} to {operation} {key} was lost", "try again")

    def _next_fault(self, operation: str, key: str) -> FaultKind | None:
        hit: FaultKind | None = None
        with self._lock:
            self.calls.append((operation, key))
            for fault in self.faults:
                if fault.matches(operation, key):
                    count = self._counts[fault] = self._counts.get(fault, 0) + 1
                    hit = hit or (fault.kind if fault.hits(count) else None)
        return hit


class FaultyLocks:
    """The locks of a store, with the faults of a `FaultyStore`; the key of a call in bulk is its first."""

    def __init__(self, store: FaultyStore, inner: Locks) -> None:
        self._store, self._inner = store, inner

    def of(self, key: str) -> Lock:
        with self._store.faults_around("lock_of", key):
            return self._inner.of(key)

    def extend(self, keys: Iterable[str], until: datetime) -> int:
        wanted = list(keys)
        with self._store.faults_around("extend", wanted[0] if wanted else ""):
            return self._inner.extend(wanted, until)

    def hold(self, keys: Iterable[str], *, held: bool) -> None:
        wanted = list(keys)
        with self._store.faults_around("hold", wanted[0] if wanted else ""):
            self._inner.hold(wanted, held=held)


def _damaged(kind: FaultKind | None, data: bytes | memoryview) -> bytes | memoryview:
    if kind == "truncate":
        return data[: len(data) // 2]
    if kind == "flip" and data:
        middle = len(data) // 2
        return bytes(data[:middle]) + bytes([data[middle] ^ 1]) + data[middle + 1 :]
    return data
