"""Stores that are slow, flaky, late, full, read-only, or whose clocks jump: an error and a retry at worst, never a silent loss."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from fakes import FrozenClock, MemoryStore
from faults.snapshots import FILES, complaints, contents, contents_or_error, point_id, take
from faults.stores import (
    FlakyStore,
    FullStore,
    JumpingClock,
    LateStore,
    ReadOnlyStore,
    SkewedStore,
    SlowStore,
    StoreAround,
)
from muster.domain.recovery_point import Mark
from muster.errors import MusterError, Refused, StoreUnavailable, TransientError
from muster.ports import BlobStore
from vaults import make_vault, noise, reopen

SEEDS = range(12)


def day(number: int) -> dict[str, bytes]:
    """The files of a workload on a day: most stay, one changes, one comes."""
    return FILES | {"changing": noise(200, number), f"added-{number}": b"%d" % number}


@pytest.fixture
def store() -> MemoryStore:
    """A sound store with a vault, and the point of day 0."""
    store = MemoryStore()
    vault, _ = make_vault(store)
    take(vault, day(0))
    return store


def until_done(work: Callable[[], object], most: int = 400) -> int:
    """Try again whatever may help, as a task with retries does; return how many attempts it took."""
    for attempt in range(1, most + 1):
        try:
            work()
            return attempt
        except TransientError:
            continue
    pytest.fail(f"{most} attempts were not enough")


def pack_bytes(store: MemoryStore) -> int:
    """What all packs weigh."""
    return sum(len(data) for key, data in store.objects.items() if key.startswith("packs/"))


def assert_sound(store: BlobStore, days: range) -> None:
    """On the store itself, faults aside: each day is as it was taken, and there is nothing to complain of."""
    assert complaints(store) == []
    for number in days:
        assert contents_or_error(store, number) == day(number), f"day {number}"


@pytest.mark.parametrize("seed", range(3))
def test_a_slow_store_changes_nothing_but_the_time(store: MemoryStore, seed: int) -> None:
    """Answers that come late and out of order."""
    slow = SlowStore(store, 0.002, seed)
    for number in (1, 2):
        take(reopen(slow), day(number), number)
        assert contents_or_error(slow, number) == day(number)
    assert complaints(slow) == []
    assert_sound(store, range(3))


class StuckStore(StoreAround):
    """Does not answer to any read of a range before it is let go."""

    def __init__(self, inner: BlobStore) -> None:
        super().__init__(inner)
        self.asked, self.go = threading.Event(), threading.Event()

    def before(self, operation: str, key: str, size: int = 0) -> None:
        if operation == "get_range":
            self.asked.set()
            assert self.go.wait(30)


def test_a_store_that_does_not_answer_keeps_nobody_from_another(store: MemoryStore) -> None:
    """Trees are read side by side: one whose list hangs makes no other wait."""
    stuck = StuckStore(store)
    with ThreadPoolExecutor(1) as waiting:
        restored = waiting.submit(contents_or_error, stuck, 0)
        try:
            assert stuck.asked.wait(30)
            elsewhere = ThreadPoolExecutor(1).submit(contents_or_error, store, 0)
            assert elsewhere.result(timeout=30) == day(0)
        finally:
            stuck.go.set()
        assert restored.result(timeout=30) == day(0)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_flaky_store_costs_attempts_and_nothing_else(store: MemoryStore, seed: int) -> None:
    """One call in twenty fails, half of these after they were done: ten days later all are there, stored about once."""
    flaky, sound = FlakyStore(store, 0.05, seed), MemoryStore()
    make_vault(sound)
    take(reopen(sound), day(0))
    for number in range(1, 11):
        until_done(lambda number=number: take(reopen(flaky), day(number), number))
        take(reopen(sound), day(number), number)
        until_done(lambda number=number: contents(reopen(flaky), reopen(flaky).point(point_id(number)).point))
    assert flaky.failures > 0
    assert_sound(store, range(11))
    assert pack_bytes(store) <= 1.5 * pack_bytes(sound)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_mark_over_a_flaky_store_is_written_once(store: MemoryStore, seed: int) -> None:
    """A lost answer makes the writer try again, not write twice."""
    flaky = FlakyStore(store, 0.3, seed)
    mark = Mark("flights", point_id(0), "drilled", FrozenClock().now())
    until_done(lambda: reopen(flaky).mark(mark))
    assert [status.marks for status in reopen(store).points()] == [(mark,)]
    assert complaints(store) == []


@pytest.mark.parametrize("lists_only", [True, False], ids=["listed-late", "seen-late"])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_store_that_shows_objects_late_costs_errors_but_no_content(
    store: MemoryStore, seed: int, lists_only: bool
) -> None:
    """
    The port promises that what was put is seen at once; a store that breaks this may fail snapshots, never empty them.

    What was said to be sealed is there, whole, when the store has settled; what failed can be taken again.
    """
    late = LateStore(store, 12, seed, lists_only=lists_only)
    for number in range(1, 6):
        try:
            take(reopen(late), day(number), number)
        except MusterError:
            late.settle()
            take(reopen(store), day(number), number)
    for number in range(6):
        assert contents_or_error(store, number) == day(number), f"day {number}"
    lost = [line for line in complaints(store) if not line.startswith("audit/")]
    assert lost == []


@pytest.mark.parametrize("share", [n / 20 for n in range(20)])
def test_a_store_that_is_full_in_the_middle_says_so_and_goes_on_with_more_room(
    store: MemoryStore, share: float
) -> None:
    """At any point of a snapshot: the error speaks of space, older points are whole, the rerun ends."""
    twin = MemoryStore()
    twin.objects = dict(store.objects)
    before = sum(map(len, twin.objects.values()))
    take(reopen(twin), day(1), 1)
    needed = sum(map(len, twin.objects.values())) - before
    full = FullStore(store, int(needed * share))
    with pytest.raises(StoreUnavailable, match="no space left"):
        take(reopen(full), day(1), 1)
    assert contents_or_error(store, 0) == day(0)
    assert complaints(store) == []
    full.room = 10 * needed
    take(reopen(full), day(1), 1)
    assert_sound(store, range(2))


def test_a_read_only_store_serves_restores_and_verifications(store: MemoryStore) -> None:
    """Credentials that cannot write are enough to come back; a snapshot says what it lacks."""
    bound = ReadOnlyStore(store)
    assert contents_or_error(bound, 0) == day(0)
    assert complaints(bound) == []
    assert len(reopen(bound).audit()) == 2
    before = dict(store.objects)
    with pytest.raises(Refused, match="permission"):
        take(reopen(bound), day(1), 1)
    assert store.objects == before


@pytest.mark.parametrize("seed", SEEDS)
def test_clocks_that_jump_by_hours_lose_nothing(store: MemoryStore, seed: int) -> None:
    """Two machines and a store, none of which agree on the time, nor each with itself."""
    truth, dice = FrozenClock(), random.Random(seed)
    skewed = SkewedStore(store, JumpingClock(truth, 30, seed))
    for number in range(1, 6):
        clock = JumpingClock(truth, 30, dice.random())
        # A seal that seems to have taken longer than expiry waits is refused, and tried again.
        until_done(
            lambda number=number, clock=clock: take(reopen(skewed, clock=clock), day(number), number, clock=clock)
        )
        reopen(skewed, clock=clock).mark(Mark("flights", point_id(number), "verified", clock.now()))
    for number in range(6):
        assert contents_or_error(skewed, number) == day(number)
    assert_sound(store, range(6))
    assert [status.point.point for status in reopen(store).points()] == [point_id(number) for number in range(6)]
    assert all(len(status.marks) == 1 for status in reopen(store).points()[1:])
