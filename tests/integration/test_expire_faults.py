"""Expiry that is killed, or whose store fails, at each of its calls: nothing that stays is lost, and the next one ends the work."""

from __future__ import annotations

import contextlib
import shutil
import signal
from functools import cache
from pathlib import Path

import pytest

from expiring import ClockedFolder, assert_whole, expire, much_to_do, night_of, packs, run_to_the_end
from fakes import Fault, FaultKind, FaultyStore, FrozenClock, MemoryStore
from muster.errors import MusterError, StoreUnavailable
from muster.ports import BlobStore
from vault_snapshots import in_child
from vaults import reopen

LEFT = [13, 14]
KILLS: tuple[FaultKind, ...] = ("kill", "kill_after")


@cache
def memory() -> tuple[FrozenClock, MemoryStore]:
    """Such a vault, in memory, made once."""
    clock = FrozenClock()
    store = MemoryStore(clock)
    much_to_do(store, clock)
    return clock, store


def copied() -> tuple[FrozenClock, MemoryStore]:
    """A copy of it, which may be changed."""
    clock, original = memory()
    own = FrozenClock(clock.now())
    store = MemoryStore(own)
    store.objects, store._written = dict(original.objects), dict(original._written)
    return own, store


@cache
def calls_of_an_expiry() -> list[tuple[str, str]]:
    """What an expiry asks of its store, in order, with the folder that each call is about."""
    clock, store = copied()
    counting = FaultyStore(store)
    expire(counting, clock)
    return [(operation, key.partition("/")[0]) for operation, key in counting.calls]


def test_an_expiry_records_before_it_removes_and_removes_what_names_before_what_is_named() -> None:
    """Record, manifest; condemnation, record, packs, index objects, marks, condemnations: the list of faults below is complete."""
    changes = [call for call in calls_of_an_expiry() if call[0] in ("put", "delete")]
    assert list(dict.fromkeys(changes[1:])) == [
        ("put", "audit"),
        ("delete", "points"),
        ("put", "condemned"),
        ("delete", "packs"),
        ("delete", "indexes"),
        ("delete", "marks"),
        ("delete", "condemned"),
    ]
    assert changes[:4] == [("put", "audit"), ("put", "audit"), ("delete", "points"), ("put", "audit")]
    assert changes[-1] == ("put", "audit")


def assert_nothing_is_lost_and_the_next_ends_it(store: BlobStore, clock: FrozenClock, folder: Path) -> None:
    """The points that stay are whole, now and after the expiries that follow; in the end only they are left."""
    assert set(assert_whole(store, clock, folder / "interrupted")) >= set(LEFT)
    run_to_the_end(store, clock, 8)
    assert assert_whole(store, clock, folder / "ended") == LEFT
    assert packs(store) == {pack for status in reopen(store, clock=clock).points() for pack in status.point.packs}
    assert not [info.key for info in store.list("condemned/")]


def assert_packs_of_the_points(store: BlobStore, clock: FrozenClock) -> None:
    """The points that stay are there, and all packs of every point that is."""
    statuses = reopen(store, clock=clock).points()
    assert {night_of(status.point) for status in statuses} >= set(LEFT)
    assert {pack for status in statuses for pack in status.point.packs} <= packs(store)


@pytest.mark.parametrize("kind", ["fail", "lose_answer"])
def test_an_expiry_whose_store_fails_at_any_call_loses_nothing(kind: FaultKind, tmp_path: Path) -> None:
    """Each call of an expiry fails in its turn, or is done and its answer is lost; the expiry says so, or was not touched by it."""
    told = 0
    for number in range(1, len(calls_of_an_expiry()) + 1):
        clock, store = copied()
        try:
            expire(FaultyStore(store, Fault(kind, at=number)), clock)
        except MusterError as error:
            assert isinstance(error, StoreUnavailable), f"at call {number}: {error}"  # noqa: PT017 - the call may also succeed
            told += 1
        assert_packs_of_the_points(store, clock)
        if number % 8 == 0:
            assert_nothing_is_lost_and_the_next_ends_it(store, clock, tmp_path / str(number))
    assert told > len(calls_of_an_expiry()) * 0.9


@pytest.mark.parametrize("kind", ["truncate", "flip"])
def test_an_expiry_that_reads_wrong_once_removes_nothing_that_is_needed(kind: FaultKind, tmp_path: Path) -> None:
    """A listing of which half is missing, or an object that is read with a bit wrong: at each call in its turn."""
    for number, (operation, _) in enumerate(calls_of_an_expiry(), 1):
        if operation not in ("get", "get_range", "list"):
            continue
        clock, store = copied()
        with contextlib.suppress(MusterError):
            expire(FaultyStore(store, Fault(kind, at=number)), clock)
        assert_packs_of_the_points(store, clock)
        if number % 10 == 0:
            assert_nothing_is_lost_and_the_next_ends_it(store, clock, tmp_path / str(number))


def test_a_kill_at_any_write_or_removal_loses_nothing(tmp_path: Path) -> None:
    """SIGKILL just before and just after each, in a folder."""
    clock = FrozenClock()
    much_to_do(ClockedFolder(tmp_path / "vault", clock), clock)
    for operation in ("put", "delete"):
        for number in range(1, sum(call[0] == operation for call in calls_of_an_expiry()) + 1):
            for kind in KILLS:
                folder = tmp_path / f"{kind}-{operation}-{number}"
                shutil.copytree(tmp_path / "vault", folder)
                own = FrozenClock(clock.now())
                store = ClockedFolder(folder, own)
                killing = FaultyStore(store, Fault(kind, operation, at=number))
                assert in_child(lambda killing=killing, own=own: expire(killing, own)) == -signal.SIGKILL
                assert_nothing_is_lost_and_the_next_ends_it(store, own, tmp_path / f"out-{kind}-{operation}-{number}")
