"""Several programs work in one vault at once, without a lock server: in hundreds of orders of their calls, none harms another."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from fakes import FrozenClock, MemoryStore
from faults.snapshots import FILES, complaints, contents_or_error, point_id, take
from faults.stores import HazyStore
from faults.turns import together
from muster.domain.recovery_point import Mark
from muster.errors import AlreadyExists
from muster.ports import BlobStore
from vaults import make_vault, noise, reopen

ORDERS = range(60)
OURS = FILES | {"ours": noise(400, 1), "shared": noise(600, 3)}
THEIRS = FILES | {"theirs": noise(400, 2), "shared": noise(600, 3)}
Work = Callable[[BlobStore], Any]


@pytest.fixture
def store() -> MemoryStore:
    """A vault with point 0."""
    store = MemoryStore()
    vault, _ = make_vault(store)
    take(vault, FILES)
    return store


def snapshot(files: dict[str, bytes], number: int, workload: str = "flights") -> Work:
    """What a program does that takes one snapshot."""
    return lambda store: take(reopen(store), files, number, workload)


def raise_first(results: list[Any]) -> None:
    """Nobody may fail."""
    for result in results:
        if isinstance(result, BaseException):
            raise result


@pytest.mark.parametrize("view", [lambda store: store, HazyStore], ids=["listed-at-once", "listed-hazily"])
@pytest.mark.parametrize("seed", ORDERS)
def test_two_snapshots_at_once_both_succeed(store: MemoryStore, seed: int, view: type[HazyStore]) -> None:
    """Of two workloads with some content in common; each restores, and the trail and the packs are as they should be."""
    works = [snapshot(OURS, 1), snapshot(THEIRS, 2, "trips")]
    raise_first(together(store, works, seed, view=view))
    assert contents_or_error(store, 1) == OURS
    assert contents_or_error(store, 2, "trips") == THEIRS
    assert complaints(store) == []


@pytest.mark.parametrize("seed", ORDERS)
def test_one_snapshot_run_twice_at_once_is_one_point(store: MemoryStore, seed: int) -> None:
    """A task that was thought dead and its successor take the same point: both end well, and there is one."""
    raise_first(together(store, [snapshot(OURS, 1), snapshot(OURS, 1)], seed))
    assert [status.point.point for status in reopen(store).points()] == [point_id(0), point_id(1)]
    assert contents_or_error(store, 1) == OURS
    assert complaints(store) == []


@pytest.mark.parametrize("seed", ORDERS)
def test_of_two_different_snapshots_under_one_name_one_wins(store: MemoryStore, seed: int) -> None:
    """The other is told so; what is there is wholly the winner's."""
    results = together(store, [snapshot(OURS, 1), snapshot(THEIRS, 1)], seed)
    lost = [result for result in results if isinstance(result, BaseException)]
    assert [type(error) for error in lost] == [AlreadyExists]
    won = THEIRS if isinstance(results[0], AlreadyExists) else OURS
    assert contents_or_error(store, 1) == won
    assert complaints(store) == []


@pytest.mark.parametrize("seed", ORDERS)
def test_of_two_creations_in_one_place_one_wins(seed: int) -> None:
    """There is one vault, which opens with the one passphrase, and the other creator is told that there is one."""
    empty = MemoryStore()
    results = together(empty, [make_vault, make_vault], seed)
    lost = [result for result in results if isinstance(result, BaseException)]
    assert [type(error) for error in lost] == [AlreadyExists]
    take(reopen(empty), OURS, 1)
    assert contents_or_error(empty, 1) == OURS
    assert complaints(empty) == []


@pytest.mark.parametrize("view", [lambda store: store, HazyStore], ids=["listed-at-once", "listed-hazily"])
@pytest.mark.parametrize("seed", ORDERS)
def test_a_verification_beside_snapshots_raises_no_false_alarm(
    store: MemoryStore, seed: int, view: type[HazyStore]
) -> None:
    """What is being written while it looks is neither damage nor a loss."""

    def write(store: BlobStore) -> None:
        vault = reopen(store)
        for number in (1, 2):
            vault.record("begin", f"{number}", "ok")
            point = take(vault, OURS | {"number": b"%d" % number}, number)
            vault.mark(Mark(point.workload, point.point, "drilled", FrozenClock().now()))

    change = random.Random(seed).choice([0.05, 0.2, 0.5])
    report, written = together(store, [lambda store: reopen(store).verify(), write], seed, change=change, view=view)
    raise_first([report, written])
    assert [str(finding) for finding in report.findings] == []


@pytest.mark.parametrize("view", [lambda store: store, HazyStore], ids=["listed-at-once", "listed-hazily"])
@pytest.mark.parametrize("seed", ORDERS)
def test_the_trail_of_three_who_write_at_once_holds(store: MemoryStore, seed: int, view: type[HazyStore]) -> None:
    """It forks, the forks are joined, and no record is missing or counted wrongly."""

    def record(who: str) -> Work:
        def work(store: BlobStore) -> None:
            vault = reopen(store)
            for turn in range(4):
                vault.record("look", f"{who} {turn}", "ok")

        return work

    change = random.Random(seed).choice([0.2, 0.5, 0.9])
    raise_first(together(store, [record(who) for who in "abc"], seed, change=change, view=view))
    assert len(reopen(store).audit()) == 2 + 12
    assert complaints(store) == []


@pytest.mark.parametrize("seed", ORDERS)
def test_marks_of_one_kind_at_one_moment_are_all_kept(store: MemoryStore, seed: int) -> None:
    """Two programs say different things of one point in the same microsecond."""
    now = FrozenClock().now()

    def say(what: str) -> Work:
        return lambda store: reopen(store).mark(Mark("flights", point_id(0), "drilled", now, {"said": what}))

    raise_first(together(store, [say("this"), say("that")], seed))
    (status,) = reopen(store).points()
    assert sorted(mark.summary["said"] for mark in status.marks) == ["that", "this"]
    assert complaints(store) == []
