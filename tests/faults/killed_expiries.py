"""An expiry that is killed, in a vault in which it has everything to do that there is."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from pathlib import Path

from expiring import (
    DAY,
    TWO_DAYS,
    ClockedFolder,
    assert_condemnations_are_needed,
    expire,
    much_to_do,
    packs,
    sealed,
)
from fakes import FrozenClock
from faults.kills import assert_nothing_but_objects, assert_sound, needed_packs, restored
from muster.adapters.local_store import LocalStore
from muster.adapters.system_clock import SystemClock
from muster.vault.index_merge import MOST
from vaults import reopen, store_tree

Nights = dict[str, dict[str, bytes]]
LEAVING = 2
STAYING = 2
ABANDONED = 10
STAGES = (
    "nothing is written",
    "it is recorded as begun",
    "a point is gone",
    "a point is recorded and still there",
    "all points are gone that go",
    "the removal is recorded",
    "packs are condemned",
    "packs are gone",
    "index objects are gone",
    "marks are gone",
    "a condemnation is gone",
    "all is done",
)
BRIEF = {"a point is recorded and still there", "all is done"}
"""Stages that take so few steps that two hundred kills may pass them by."""


class KilledExpiry:
    """See `faults.kills.Work`."""

    def __init__(self) -> None:
        self._held: Nights = {}
        self._stay: Nights = {}

    def prepare(self, home: Path) -> None:
        """The vault of `much_to_do`, whose last night is some days ago, with merged index objects."""
        clock = FrozenClock(SystemClock().now() - 19 * DAY)
        ever = much_to_do(ClockedFolder(home / "vault", clock), clock, ABANDONED)
        there = restored_nights(LocalStore(home / "vault"))
        self._held = {name: ever[name] for name in there}
        assert there == self._held
        self._stay = dict(sorted(self._held.items())[-STAYING:])
        assert len(self._held) == LEAVING + STAYING
        assert len(_keys(LocalStore(home / "vault"), "indexes/")) > MOST

    def do(self, home: Path, vault: Path, *, long: bool = False) -> None:
        expire(LocalStore(vault), SystemClock())

    def stage(self, before: set[str], after: set[str]) -> str:
        gone = Counter(key.partition("/")[0] for key in before - after)
        new = Counter(key.partition("/")[0] for key in after - before)
        reached = (
            True,
            new["audit"] >= 1,
            gone["points"] >= 1,
            new["audit"] > 1 + gone["points"] < 1 + LEAVING,
            gone["points"] == LEAVING,
            new["audit"] >= 2 + LEAVING,
            new["condemned"] >= 1,
            gone["packs"] > 0,
            gone["indexes"] > 0,
            gone["marks"] > 0,
            gone["condemned"] > 0,
            new["audit"] == 3 + LEAVING,
        )
        return [stage for stage, there in zip(STAGES, reached, strict=True) if there][-1]

    def check(self, home: Path, vault: Path, number: int, *, long: bool) -> None:
        """
        Every point is whole or gone as it should be. A snapshot of what was removed can be taken at once (after each second kill). The
        next expiries end the work, and leave the packs that the points need and no other; a third leaves no condemnation but of packs
        that an index still names.
        """
        store = LocalStore(vault)
        assert_nothing_but_objects(vault)
        points = restored_nights(store)
        assert self._stay.items() <= points.items() <= self._held.items()
        assert_sound(store)
        stay = self._stay if number % 2 else self._with_a_point_of_old_content(vault)
        clock = FrozenClock(SystemClock().now())
        for _ in range(2 + (number % 3 == 0)):
            expire(ClockedFolder(vault, clock), clock, policies=TWO_DAYS)
            clock.advance(timedelta(days=4).total_seconds())
        assert restored_nights(store) == stay
        assert packs(store) == needed_packs(store)
        assert {key.partition("/")[2].partition("/")[0] for key in _keys(store, "marks/")} <= stay.keys()
        if number % 3 == 0:
            assert_condemnations_are_needed(store)
        assert_sound(store)

    def _with_a_point_of_old_content(self, vault: Path) -> Nights:
        """Take a point now of what the first point that goes held; what then stays after the next expiry."""
        clock = FrozenClock(SystemClock().now())
        opened = reopen(LocalStore(vault), clock=clock)
        files = next(iter(self._held.values()))
        point = sealed(opened, clock, store_tree(opened, files))
        newest = max(self._stay)
        return {newest: self._stay[newest], point.point: files}


def restored_nights(store: LocalStore) -> Nights:
    """Every point that is listed; each has one component."""
    return {point: dict(next(iter(held.values()))) for point, held in restored(store).items()}


def _keys(store: LocalStore, prefix: str) -> list[str]:
    return [info.key for info in store.list(prefix)]


WORK = KilledExpiry()
