"""Expiry of points, and of what no point needs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from expiring import DAY, SHARED, assert_whole, expire, files_of, nightly, packs, run_to_the_end, sealed
from fakes import Fault, FaultKind, FaultyStore, FrozenClock, MemoryStore
from muster.domain.content import TreeRef
from muster.domain.recovery_point import Mark, RecoveryPoint
from muster.domain.retention import RetentionPolicy
from muster.errors import IncompletePoint, IntegrityError, NotFound, Refused, StoreUnavailable, UsageError
from muster.operations import hold
from muster.operations.expire import ExpiryReport, expire_points
from muster.operations.hold import hold_point, release_point
from muster.vault.expire import ExpiryRun
from muster.vault.vault import Vault
from vaults import extract, flip, make_vault, memory_file, noise, reopen, store_tree


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def store(clock: FrozenClock) -> MemoryStore:
    return MemoryStore(clock)


@pytest.fixture
def vault(store: MemoryStore, clock: FrozenClock) -> Vault:
    return make_vault(store, clock)[0]


# --- points -----------------------------------------------------------------------------------------------------------


def test_a_dry_run_changes_nothing_and_tells_what_would_go(
    vault: Vault, store: MemoryStore, clock: FrozenClock
) -> None:
    """Every point is named with its reasons; the packs that only expired points need are counted."""
    nightly(vault, clock, 6)
    before = dict(store.objects)
    report = expire(store, clock, apply=False, hours=96)
    assert store.objects == before
    assert [verdict.keep for verdict in report.verdicts] == [False, False, False, False, True, True]
    assert (len(report.leaving), report.swept.condemned, report.swept.young) == (4, 3, 1)
    assert [line["reasons"] for line in report.as_dict()["points"]][-1] == ["the newest good point", "daily 1 of 2"]


def test_an_expired_point_is_gone_and_the_trail_says_why(vault: Vault, store: MemoryStore, clock: FrozenClock) -> None:
    """The rest is whole, and its packs are still there: they are only named."""
    points = nightly(vault, clock, 4)
    there = packs(store)
    report = expire(store, clock)
    assert [point.point for point in points[2:]] == [status.point.point for status in reopen(store).points()]
    assert packs(store) == there
    assert report.swept.condemned == 2
    (record,) = [
        r for r in vault.audit() if r.subject == f"points/flights/{points[0].point}.json" and r.action == "expire"
    ]
    assert (record.outcome, record.details["reasons"]) == ("expired", ["no rule keeps it: daily 2"])
    assert reopen(store, clock=clock).verify().ok


def test_packs_go_after_the_grace_with_all_that_speaks_of_them(
    vault: Vault, store: MemoryStore, clock: FrozenClock, tmp_path: Path
) -> None:
    """Once everything is done, the vault holds what it would hold if the expired points had never been there."""
    points = nightly(vault, clock, 5)
    vault.mark(Mark("flights", points[0].point, "verified", clock.now()))
    clock.advance(4 * DAY.total_seconds())
    reports = run_to_the_end(store, clock)
    assert [report.swept.condemned for report in reports] == [3, 0, 0, 0, 0, 0, 0, 0]
    assert [report.swept.waiting for report in reports] == [0, 3, 3, 0, 0, 0, 0, 0]
    assert [report.swept.removed for report in reports] == [0, 0, 0, 3, 0, 0, 0, 0]
    assert assert_whole(store, clock, tmp_path) == [3, 4]
    needed = {pack for status in reopen(store).points() for pack in status.point.packs}
    assert packs(store) == needed
    assert [key for key in store.objects if key.startswith(("marks/", "condemned/"))] == []
    assert sum(report.swept.indexes for report in reports) == 3
    vault = reopen(store, clock=clock)
    with vault.writer() as writer:
        writer.store_tree([])
    assert reopen(store, clock=clock).verify().ok


def test_a_workload_that_the_catalog_does_not_know_keeps_everything(
    vault: Vault, store: MemoryStore, clock: FrozenClock
) -> None:
    """Two workloads in one vault: each by its own policy."""
    nightly(vault, clock, 4)
    clock.advance(-3 * DAY.total_seconds())
    for _ in range(3):
        sealed(vault, clock, store_tree(vault, SHARED), workload="ledger")
        clock.advance(DAY.total_seconds())
    expire(store, clock)
    assert len(reopen(store).points("flights")) == 2
    assert len(reopen(store).points("ledger")) == 3


def test_a_held_point_stays_and_goes_when_it_is_released(clock: FrozenClock) -> None:
    """By its mark and by the store's own hold; packs that another held point needs stay held."""
    store = MemoryStore(clock, locking=True)
    vault, _ = make_vault(store, clock)
    first, second, *_ = nightly(vault, clock, 5)
    for point in (first, second):
        status = hold_point(vault, vault.point(point.point), "court order", clock)
        assert [hold.summary["reason"] for hold in status.holds] == ["court order"]
    expire(store, clock)
    assert {first.point, second.point} <= {status.point.point for status in reopen(store).points()}
    with pytest.raises(Refused):
        store.delete(f"points/flights/{first.point}.json")
    clock.advance(60)
    release_point(vault, vault.point(first.point), "case closed", clock)
    locks = store.locks()
    held = {pack for pack in {*first.packs, *second.packs} if locks and locks.of(f"packs/{pack[:2]}/{pack}").held}
    assert held == set(second.packs)
    expire(store, clock)
    names = {status.point.point for status in reopen(store).points()}
    assert (first.point in names, second.point in names) == (False, True)
    with pytest.raises(UsageError, match="is not held"):
        release_point(vault, vault.point(reopen(store).points()[-1].point.point), "x", clock)
    with pytest.raises(UsageError, match="a reason is missing"):
        hold_point(vault, vault.point(second.point), " ", clock)


def test_a_hold_that_comes_while_an_expiry_runs_is_heeded_or_told(
    vault: Vault, store: MemoryStore, clock: FrozenClock
) -> None:
    """Before the last look it keeps the point; after it, whoever holds learns that the point is gone."""
    first, second, *_ = nightly(vault, clock, 5)
    run = vault.expiry.begin()
    verdicts = [v for v in expire(store, clock, apply=False).verdicts if not v.keep]
    hold_point(vault, vault.point(first.point), "court order", clock)
    (kept,) = run.expire(verdicts[:1])
    assert (kept.reason, kept.refused) == ("held: court order", False)
    late = vault.point(second.point)
    run.expire(verdicts[1:2])
    with pytest.raises(NotFound, match="there is no point"):
        hold_point(vault, late, "court order", clock)


class InBetween(MemoryStore):
    """A store in which something is done right before something is put, or deleted, for the first time."""

    def __init__(self, clock: FrozenClock) -> None:
        super().__init__(clock)
        self.before: dict[str, tuple[str, Callable[[str], object]]] = {}

    def put(self, key: str, data: bytes | memoryview) -> None:
        super().put(key, data)
        self._reached("put", key)

    def delete(self, key: str) -> None:
        self._reached("delete", key)
        super().delete(key)

    def _reached(self, call: str, key: str) -> None:
        prefix, work = self.before.get(call, ("nothing", print))
        if key.startswith(prefix):
            del self.before[call]
            work(key)


@pytest.fixture
def between(clock: FrozenClock) -> tuple[InBetween, Vault, list[RecoveryPoint]]:
    """Such a store, with a vault and four nights in it, of which the policy lets two go."""
    store = InBetween(clock)
    vault, _ = make_vault(store, clock)
    return store, vault, nightly(vault, clock, 4)


def applied(store: InBetween, clock: FrozenClock) -> ExpiryReport:
    return expire_points(reopen(store, clock=clock), {"flights": RetentionPolicy(daily=2)}, clock, apply=True)


def test_a_hold_between_an_expirys_record_and_its_removal_keeps_the_point(
    between: tuple[InBetween, Vault, list[RecoveryPoint]], clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record is taken back, and so whoever holds waits for that before saying that the point is held."""
    store, vault, points = between
    pauses: list[float] = []
    monkeypatch.setattr(hold.time, "sleep", pauses.append)
    told: list[str] = []

    def held(_: str) -> None:
        try:
            hold_point(reopen(store, clock=clock), vault.point(points[0].point), "court order", clock)
        except StoreUnavailable as error:
            told.append(error.message)

    store.before["put"] = (
        "audit/",
        lambda _: store.before.update(put=("audit/", held)),
    )  # not the first record: `begun`
    report = applied(store, clock)
    assert [(kept.status.point.point, kept.reason) for kept in report.kept] == [(points[0].point, "held: court order")]
    assert len(told) == 1  # the very process that should have gone on was waiting for it
    assert "an expiry has begun to remove it" in told[0]
    assert len(pauses) == hold.ATTEMPTS - 1
    assert reopen(store, clock=clock).point(points[0].point).holds
    assert reopen(store, clock=clock).verify().ok
    again = hold_point(reopen(store, clock=clock), vault.point(points[0].point), "once more", clock)
    assert len(again.holds) == 2


def test_a_hold_right_before_the_removal_is_not_said_to_be_one(
    between: tuple[InBetween, Vault, list[RecoveryPoint]], clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The expiry has looked for the last time: whoever holds sees its record, waits, and learns that the point is gone."""
    store, vault, points = between
    attempts: list[float] = []

    def pause(seconds: float) -> None:
        attempts.append(seconds)
        store.objects.pop(f"points/flights/{points[0].point}.json", None)  # as the expiry does meanwhile

    monkeypatch.setattr(hold.time, "sleep", pause)
    told: list[str] = []

    def held(_: str) -> None:
        try:
            hold_point(reopen(store, clock=clock), vault.point(points[0].point), "court order", clock)
        except NotFound as error:
            told.append(error.message)

    store.before["delete"] = ("points/", held)
    applied(store, clock)
    assert len(attempts) == 1
    assert told == [f"point {points[0].point} of flights was expired while it was put on hold"]


def test_an_expiry_that_was_killed_long_ago_does_not_hinder_a_hold(
    between: tuple[InBetween, Vault, list[RecoveryPoint]], clock: FrozenClock
) -> None:
    """Its record stands, and nothing came of it."""
    store, vault, points = between

    def killed(_: str) -> None:
        raise KeyboardInterrupt

    store.before["delete"] = ("points/", killed)
    with pytest.raises(KeyboardInterrupt):
        applied(store, clock)
    clock.advance(2 * hold.EXPIRING.total_seconds())
    assert hold_point(vault, vault.point(points[0].point), "court order", clock).holds


def test_a_point_that_is_found_damaged_meanwhile_lets_no_other_go(
    between: tuple[InBetween, Vault, list[RecoveryPoint]], clock: FrozenClock
) -> None:
    """The verdicts were drawn when it was good. The one whose record is written is taken back, and the others stay as well."""
    store, vault, points = between

    def doubt(_: str) -> None:
        vault.mark(Mark("flights", points[-1].point, "suspect", clock.now(), {"cause": "verification"}))

    store.before["put"] = ("audit/", lambda _: store.before.update(put=("audit/", doubt)))
    report = applied(store, clock)
    assert [kept.status.point.point for kept in report.kept] == [points[0].point, points[1].point]
    assert "was marked suspect since this expiry began" in report.kept[0].reason
    assert len(reopen(store, clock=clock).points()) == 4
    assert reopen(store, clock=clock).verify().ok
    assert [v.status.point.point for v in applied(store, clock).leaving] == [points[0].point]


def test_what_the_store_locks_or_refuses_stays_is_named_and_hinders_nothing(clock: FrozenClock) -> None:
    """A lock that the manifest does not know is asked for; a refusal without one is an error, when the rest is done."""
    store = MemoryStore(clock, locking=True)
    vault, _ = make_vault(store, clock)
    locked, refused, third, *_ = nightly(vault, clock, 5)
    locks = store.locks()
    assert locks
    locks.extend([f"points/flights/{locked.point}.json"], clock.now() + 9 * DAY)
    refusing = FaultyStore(store, Fault("refuse", "delete", prefix=f"points/flights/{refused.point}"))
    report = expire(refusing, clock)
    assert {kept.status.point.point: kept.refused for kept in report.kept} == {locked.point: False, refused.point: True}
    assert [verdict.status.point.point for verdict in report.leaving] == [third.point]
    assert "locked by the store until 2026-12-07" in report.kept[0].reason
    with pytest.raises(Refused, match=f"did not let 1 objects be removed\n  {refused.point}"):
        report.check()
    assert reopen(store, clock=clock).verify().ok
    del store.objects[f"points/flights/{refused.point}.json"]
    assert "it was written once, and it is gone" in str(reopen(store, clock=clock).verify().findings[0])


def test_locked_packs_stay_until_their_locks_end(clock: FrozenClock) -> None:
    """Condemned and past the grace, but the store would refuse: they are counted as locked, and go later."""
    store = MemoryStore(clock, locking=True)
    vault, _ = make_vault(store, clock)
    nightly(vault, clock, 5)
    locks = store.locks()
    assert locks
    locks.extend([key for key in store.objects if key.startswith("packs/")], clock.now() + 20 * DAY)
    clock.advance(4 * DAY.total_seconds())
    reports = run_to_the_end(store, clock, 30)
    assert [bool(report.swept.locked) for report in reports] == [*[False] * 3, *[True] * 13, *[False] * 14]
    assert [report.swept.removed for report in reports if report.swept.removed] == [3]
    assert not any(report.swept.refused for report in reports)


# --- what must be complete before anything goes -----------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["points/", "marks/", "audit/"])
def test_an_incomplete_listing_removes_nothing(
    vault: Vault, store: MemoryStore, clock: FrozenClock, prefix: str
) -> None:
    """Manifests, marks or records that a listing leaves out are missed by what the trail tells."""
    points = nightly(vault, clock, 5)
    for point in points:
        vault.mark(Mark("flights", point.point, "verified", clock.now()))
    clock.advance(4 * DAY.total_seconds())
    expire(store, clock)
    clock.advance(4 * DAY.total_seconds())
    nightly(vault, clock, 2, first=13)
    truncated = FaultyStore(store, Fault("truncate", "list", times=None, prefix=prefix))
    with pytest.raises(IntegrityError):
        expire(truncated, clock)
    assert [call for call in truncated.calls if call[0] == "delete"] == []


@pytest.mark.parametrize("prefix", ["points/", "marks/", "audit/"])
def test_one_damaged_document_removes_nothing(
    vault: Vault, store: MemoryStore, clock: FrozenClock, prefix: str
) -> None:
    """A damaged manifest may need anything, a damaged mark may be a hold, a damaged record may tell of either."""
    points = nightly(vault, clock, 5)
    vault.mark(Mark("flights", points[0].point, "held", clock.now(), {"reason": "court order"}))
    key = next(key for key in sorted(store.objects) if key.startswith(prefix))
    store.objects[key] = flip(store.objects[key], 40)
    watching = FaultyStore(store)
    with pytest.raises(IntegrityError, match="nothing was removed"):
        expire(watching, clock)
    assert [call for call in watching.calls if call[0] == "delete"] == []


def test_a_point_whose_packs_are_damaged_keeps_every_copy(
    vault: Vault, store: MemoryStore, clock: FrozenClock, tmp_path: Path
) -> None:
    """What was stored again elsewhere is named by no manifest, and is needed all the same."""
    nightly(vault, clock, 1)
    hold_point(vault, vault.point("latest"), "audit", clock)
    (held,) = vault.points()
    before = packs(store)
    pack = held.point.packs[0]
    summary = {"reason": "verification", "damaged_packs": [pack]}
    vault.mark(Mark("flights", held.point.point, "suspect", clock.now(), summary))
    again = reopen(store, clock=clock)
    store_tree(again, files_of(0))
    (copy,) = packs(store) - before
    nightly(again, clock, 3, first=1)
    clock.advance(4 * DAY.total_seconds())
    run_to_the_end(store, clock)
    assert {pack, copy} <= packs(store)
    del store.objects[f"packs/{pack[:2]}/{pack}"]
    clock.advance(4 * DAY.total_seconds())
    run_to_the_end(store, clock)
    (component,) = held.point.components
    assert extract(reopen(store, clock=clock), component.tree, tmp_path) == files_of(0)


def test_when_it_cannot_be_told_what_a_point_needs_no_pack_goes(
    vault: Vault, store: MemoryStore, clock: FrozenClock
) -> None:
    """A chunk that is nowhere might be in what a later heal brings back; points themselves still expire."""
    points = nightly(vault, clock, 5)
    pack = (set(points[4].packs) - set(points[0].packs)).pop()
    del store.objects[f"packs/{pack[:2]}/{pack}"]
    clock.advance(4 * DAY.total_seconds())
    for _ in range(8):
        with pytest.raises(IntegrityError, match=f"cannot be told which packs point {points[4].point}"):
            expire(store, clock)
        clock.advance(DAY.total_seconds())
    assert len(packs(store)) == 5
    assert len(reopen(store).points()) == 2


def test_the_report_of_a_drill_stays_as_long_as_its_point(
    vault: Vault, store: MemoryStore, clock: FrozenClock, tmp_path: Path
) -> None:
    """Reports lie in packs that no manifest names."""
    points = nightly(vault, clock, 3)
    report = {"report.json": noise(500, 7)}
    for point in points[1:]:
        tree = store_tree(vault, {"report.json": noise(500, 7)} if point is points[2] else {"r": noise(500, 8)})
        vault.mark(Mark("flights", point.point, "drilled", clock.now(), {}, tree))
    clock.advance(4 * DAY.total_seconds())
    run_to_the_end(store, clock)
    vault = reopen(store, clock=clock)
    marks = [mark for status in vault.points() for mark in status.marks]
    assert extract(vault, marks[-1].report, tmp_path) == report  # type: ignore[arg-type]
    nightly(vault, clock, 2, first=15)
    clock.advance(4 * DAY.total_seconds())
    run_to_the_end(store, clock)
    assert packs(store) == {pack for status in reopen(store).points() for pack in status.point.packs}


# --- beside a snapshot ------------------------------------------------------------------------------------------------


def condemned_beside_a_writer(vault: Vault, store: MemoryStore, clock: FrozenClock) -> tuple[Vault, TreeRef]:
    """A snapshot that has built on packs which were condemned after it began, and has not sealed."""
    nightly(vault, clock, 3)
    clock.advance(4 * DAY.total_seconds())
    slow = reopen(store, clock=clock)
    tree = store_tree(slow, files_of(0))
    assert expire(store, clock).swept.condemned == 1
    return slow, tree


def test_a_snapshot_that_built_on_a_pack_before_it_was_condemned_is_sealed_without_it(
    vault: Vault, store: MemoryStore, clock: FrozenClock, tmp_path: Path
) -> None:
    """Its seal stores those chunks again, and expiry takes the old copies."""
    slow, tree = condemned_beside_a_writer(vault, store, clock)
    old = packs(store)
    clock.advance(DAY.total_seconds())
    point = sealed(slow, clock, tree)
    assert packs(store) - old <= set(point.packs)
    assert len(packs(store) - old) == 1
    run_to_the_end(store, clock)
    assert len(old - packs(store)) == 2, "that of the night before, and that of the night which expired meanwhile"
    assert extract(reopen(store, clock=clock), tree, tmp_path) == files_of(0)
    assert reopen(store, clock=clock).verify().ok


def test_a_snapshot_slower_than_the_grace_is_refused_and_its_rerun_works(
    vault: Vault, store: MemoryStore, clock: FrozenClock
) -> None:
    """What it built on is gone, so it is not sealed."""
    slow, tree = condemned_beside_a_writer(vault, store, clock)
    clock.advance(3 * DAY.total_seconds())
    assert expire(store, clock).swept.removed == 1
    with pytest.raises(IncompletePoint, match="take the snapshot again"):
        sealed(slow, clock, tree)
    sealed(slow, clock, store_tree(slow, files_of(0)))
    assert reopen(store, clock=clock).verify().ok


def test_a_writer_that_begins_later_does_not_build_on_a_condemned_pack(
    vault: Vault, store: MemoryStore, clock: FrozenClock
) -> None:
    """Also one that has the index of old in memory, and is told that it knows the content."""
    slow, _ = condemned_beside_a_writer(vault, store, clock)
    before = packs(store)
    for other, new in ((slow, 2), (reopen(store, clock=clock), 0)):
        with other.writer() as writer:
            writer.store_tree([memory_file(*item) for item in files_of(0).items()])
        assert writer.stats.new_chunks == new
    assert len(packs(store) - before) == 1


class During(FaultyStore):
    """Does something once, right before the first call of an operation on a key that begins so."""

    def __init__(self, inner: MemoryStore, operation: str, prefix: str, work: Callable[[], object]) -> None:
        super().__init__(inner)
        self._when, self._work = (operation, prefix), [work]

    def _before(self, operation: str, key: str) -> FaultKind | None:
        if self._work and operation == self._when[0] and key.startswith(self._when[1]):
            self._work.pop()()
        return super()._before(operation, key)


def test_a_seal_that_takes_too_long_is_refused_before_it_writes(
    vault: Vault, store: MemoryStore, clock: FrozenClock
) -> None:
    """More than six hours after its look at the condemnations, it must look again."""
    tree = store_tree(vault, files_of(0))
    slow = reopen(During(store, "list", "indexes/", lambda: clock.advance(6 * 3600 + 1)), clock=clock)
    with pytest.raises(StoreUnavailable, match="sealing took"):
        sealed(slow, clock, tree)
    assert vault.points() == []
    sealed(slow, clock, tree)


def test_a_seal_that_stood_still_for_days_notices_what_it_lost(
    vault: Vault, store: MemoryStore, clock: FrozenClock
) -> None:
    """A machine that was frozen with all its clocks wakes up in the middle of a seal, and writes its manifest."""
    nightly(vault, clock, 3)
    clock.advance(4 * DAY.total_seconds())
    frozen = FrozenClock(clock.now())
    tree = store_tree(reopen(store, clock=frozen), files_of(0))

    def days_pass() -> None:
        assert expire(store, clock).swept.condemned == 1
        clock.advance(3 * DAY.total_seconds())
        assert expire(store, clock).swept.removed == 1

    slow = reopen(During(store, "put", "points/", days_pass), clock=frozen)
    with pytest.raises(IncompletePoint, match="was sealed, but pack"):
        sealed(slow, frozen, tree)


def test_a_point_whose_manifest_comes_between_decision_and_removal_keeps_its_packs(
    vault: Vault, store: MemoryStore, clock: FrozenClock, tmp_path: Path
) -> None:
    """A seal that passed its gate in time, and whose manifest is late: an expiry lists manifests once more before it removes."""
    nightly(vault, clock, 3)
    clock.advance(4 * DAY.total_seconds())
    slow = FrozenClock(clock.now())
    tree = store_tree(reopen(store, clock=slow), files_of(0))
    runs: list[ExpiryRun] = []

    def an_expiry_begins() -> None:
        assert expire(store, clock).swept.condemned == 1
        clock.advance(3 * DAY.total_seconds())
        runs.append(reopen(store, clock=clock).expiry.begin())

    sealed(reopen(During(store, "put", "points/", an_expiry_begins), clock=slow), slow, tree)
    assert runs[0].sweep().removed == 0
    assert extract(reopen(store, clock=clock), tree, tmp_path) == files_of(0)


def test_two_expiries_at_once_remove_the_same(
    vault: Vault, store: MemoryStore, clock: FrozenClock, tmp_path: Path
) -> None:
    """Whichever is first at an object, the other finds it gone, and nothing else is touched."""
    nightly(vault, clock, 5)
    clock.advance(4 * DAY.total_seconds())
    for operation, prefix in (
        ("delete", "points/"),
        ("put", "condemned/"),
        ("delete", "packs/"),
        ("delete", "indexes/"),
    ):
        other = During(store, operation, prefix, lambda: expire(store, clock))
        expire(other, clock)
        clock.advance(3 * DAY.total_seconds())
    run_to_the_end(store, clock)
    assert assert_whole(store, clock, tmp_path) == [3, 4]
    assert packs(store) == {pack for status in reopen(store).points() for pack in status.point.packs}


# --- clocks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [timedelta(days=-30), timedelta(hours=-5), timedelta(hours=5), timedelta(days=30)])
@pytest.mark.parametrize("whose", ["ours", "the store's"])
def test_a_clock_that_is_wrong_never_shortens_the_grace(ahead: timedelta, whose: str, tmp_path: Path) -> None:
    """Packs stay for the whole grace by the clock that is right, whichever it is and wherever the other stands."""
    right = FrozenClock()
    store = MemoryStore(right)
    vault, _ = make_vault(store, right)
    nightly(vault, right, 5)
    right.advance(4 * DAY.total_seconds())
    before = packs(store)
    for hour in range(0, 72, 8):
        wrong = FrozenClock(right.now() + (ahead if hour % 16 else -ahead))
        if whose == "ours":
            expire(store, wrong)
        else:
            store._clock = wrong
            expire(store, right)
            store._clock = right
        assert packs(store) == before, f"after {hour} h"
        right.advance(8 * 3600)
    run_to_the_end(store, right, 12)
    right.advance(60 * DAY.total_seconds())
    run_to_the_end(store, right, 12)
    assert assert_whole(store, right, tmp_path) == [3, 4]
    assert len(packs(store)) == 3


def test_a_grace_too_short_for_a_snapshot_is_refused(vault: Vault, store: MemoryStore, clock: FrozenClock) -> None:
    """Nothing is looked at."""
    with pytest.raises(UsageError, match="too short"):
        expire(store, clock, hours=23)
    with pytest.raises(UsageError, match="too short"):
        expire(store, clock, hours=23, apply=False)


def test_a_policy_by_which_nothing_would_be_left_leaves_the_newest(
    vault: Vault, store: MemoryStore, clock: FrozenClock
) -> None:
    """There is always a point to come back to."""
    nightly(vault, clock, 3)
    report = expire_points(reopen(store, clock=clock), {"flights": RetentionPolicy()}, clock, apply=True)
    assert [verdict.keep for verdict in report.verdicts] == [False, False, True]
