"""Vaults whose points grow old: nightly points over trees of their own, policies, and what must hold after every expiry."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fakes import FrozenClock
from muster.adapters.local_store import LocalStore
from muster.domain.content import TreeRef
from muster.domain.recovery_point import Mark, RecoveryPoint
from muster.domain.retention import RetentionPolicy
from muster.operations.expire import ExpiryReport, Policies, expire_points
from muster.ports import BlobStore, Clock
from muster.vault.vault import Vault
from vaults import extract, make_vault, noise, point_over, reopen, store_tree

DAY = timedelta(days=1)
TWO_DAYS = {"flights": RetentionPolicy(daily=2)}
SHARED = {"shared": noise(3000, 1)}


class ClockedFolder(LocalStore):
    """A folder whose objects are as old as a clock says."""

    def __init__(self, path: Path, clock: FrozenClock) -> None:
        super().__init__(path)
        self._clock = clock

    def put(self, key: str, data: bytes) -> None:
        super().put(key, data)
        os.utime(self._path(key), times=(self._clock.now().timestamp(),) * 2)


def files_of(night: int) -> dict[str, bytes]:
    """What the point of a night holds: a file that all have, and one of its own."""
    return {**SHARED, f"night-{night}": noise(2000, 100 + night)}


def sealed(vault: Vault, clock: FrozenClock, *trees: TreeRef, workload: str = "flights") -> RecoveryPoint:
    """A point that was taken now."""
    now = clock.now()
    name = f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-00000000"
    point = point_over(vault, *trees, workload=workload)
    return vault.seal(replace(point, point=name, taken_at=now, sealed_at=now))


def nightly(vault: Vault, clock: FrozenClock, nights: int, first: int = 0) -> list[RecoveryPoint]:
    """A point each night; the clock ends a day after the last. What all have in common lies in a pack of its own."""
    store_tree(vault, SHARED)
    points = []
    for night in range(first, first + nights):
        points.append(sealed(vault, clock, store_tree(vault, files_of(night))))
        clock.advance(DAY.total_seconds())
    return points


def expire(
    store: BlobStore, clock: Clock, *, apply: bool = True, hours: float = 72, policies: Policies = TWO_DAYS
) -> ExpiryReport:
    """One expiry, as another process would do it."""
    vault = reopen(store, clock=clock)
    return expire_points(vault, policies, clock, apply=apply, grace=timedelta(hours=hours))


def run_to_the_end(store: BlobStore, clock: FrozenClock, nights: int = 8) -> list[ExpiryReport]:
    """Expire once a day until nothing is left to be done."""
    reports = []
    for _ in range(nights):
        reports.append(expire(store, clock))
        clock.advance(DAY.total_seconds())
    return reports


def much_to_do(store: BlobStore, clock: FrozenClock, abandoned: int = 0) -> dict[str, dict[str, bytes]]:
    """
    A vault in which one more expiry has everything to do that it can: points to expire, packs to condemn, packs condemned long ago
    to remove with the index objects and marks that nobody needs then, and a condemnation that is carried out.

    :param abandoned: how many trees were stored in the last nights that no point names
    :return: what each point that was ever sealed held
    """
    make_vault(store, clock)
    held = {}
    for first, nights in ((0, 3), (7, 2), (13, 2)):
        if first:
            expire(store, clock)
        vault = reopen(store, clock=clock)
        for night, point in enumerate(nightly(vault, clock, nights, first), first):
            held[point.point] = files_of(night)
            vault.mark(Mark("flights", point.point, "verified", clock.now()))
        for number in range(abandoned if first == 13 else 0):
            store_tree(reopen(store, clock=clock), {"abandoned": noise(1000, 1000 + number)})
        clock.advance(4 * DAY.total_seconds())
    return held


def packs(store: BlobStore) -> set[str]:
    """Names of the packs that are there."""
    return {info.key.rpartition("/")[2] for info in store.list("packs/")}


def night_of(point: RecoveryPoint) -> int:
    """Which night a point is of, counted from the first of `FrozenClock`."""
    return (point.taken_at - datetime(2026, 11, 23, 2, tzinfo=UTC)).days


def assert_whole(store: BlobStore, clock: FrozenClock, folder: Path) -> list[int]:
    """Every point restores to what it held, and verification finds nothing; return the nights that are left."""
    vault = reopen(store, clock=clock)
    nights = []
    for status in vault.points():
        night = night_of(status.point)
        (component,) = status.point.components
        assert extract(vault, component.tree, folder / status.point.point) == files_of(night)
        nights.append(night)
    report = vault.verify()
    assert report.ok, [str(finding) for finding in report.findings]
    return nights


def assert_condemnations_are_needed(store: BlobStore) -> None:
    """Each that is left names a pack that an index still names: without it, nothing would keep rubbish from taking that name."""
    vault = reopen(store)
    vault._index.refresh()
    named = vault._index.named_by(info.key for info in store.list("indexes/"))
    assert [left.key for left in vault._condemned.all() if left.packs.isdisjoint(named)] == []
