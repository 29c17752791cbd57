"""What a vault has lost comes back: from a replica or from the source, never over anything, and the points are whole again."""

from __future__ import annotations

import functools
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fakes import Fault, FaultyStore, FrozenClock, MemoryStore
from fakes_components import FakeSource
from muster.adapters.local_store import LocalStore
from muster.domain.content import TreeRef
from muster.domain.recovery_point import Mark
from muster.errors import IntegrityError, SourceInvalid, StoreUnavailable, UsageError
from muster.operations.heal import Help, heal, usable
from muster.operations.hold import hold_point, release_point
from muster.operations.take import SnapshotJob
from muster.operations.verify import Thoroughness, examine
from muster.ports import BlobStore
from muster.vault.layout import pack_key
from muster.vault.vault import Vault
from vault_snapshots import in_child
from vaults import (
    POINT,
    extract,
    flip,
    make_vault,
    memory_file,
    noise,
    point_over,
    reopen,
    seal,
    store_tree,
    verify_points,
)

FILES = {"a": noise(5000), "b": b"text " * 1000}
LARGE = {"large": noise(3_000_000, 5)}


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def trees(store: MemoryStore, clock: FrozenClock) -> tuple[TreeRef, TreeRef]:
    """A vault with two points and a mark; the second needs what the first does, and more."""
    vault, _ = make_vault(store, clock)
    small = store_tree(vault, FILES)
    seal(vault, small, number=0)
    large = store_tree(vault, LARGE)
    seal(vault, small, large, number=1)
    vault.mark(Mark("flights", f"{POINT}0", "drilled", clock.now()))
    return small, large


@pytest.fixture
def replica(store: MemoryStore, trees: tuple[TreeRef, TreeRef]) -> MemoryStore:
    copy = MemoryStore(name="replica")
    copy.objects = dict(store.objects)
    return copy


@pytest.fixture
def vault(store: MemoryStore, replica: MemoryStore, clock: FrozenClock) -> Vault:
    return Ticking(store, clock).vault


class Ticking:
    """The vault, opened by a clock that moves a second at each look: no two marks have one time."""

    def __init__(self, store: BlobStore, clock: FrozenClock) -> None:
        self.clock = clock
        self.vault = reopen(store, clock=self)

    def now(self) -> datetime:
        return self.clock.advance(1)


def keys(store: MemoryStore, prefix: str) -> list[str]:
    found = [key for key in sorted(store.objects) if key.startswith(prefix)]
    assert found
    return found


def damage_packs(store: MemoryStore) -> None:
    for key in keys(store, "packs/"):
        store.objects[key] = flip(store.objects[key], 100)


def chunks_of(vault: Vault, tree: TreeRef) -> set[str]:
    """The ids of everything that a tree needs."""
    contents = [tree.root, *(entry.content for entry in vault.tree(tree).entries() if entry.content)]
    return {chunk for content in contents for chunk in content.chunks}


def assert_whole(store: MemoryStore, trees: tuple[TreeRef, TreeRef], tmp_path: Path) -> None:
    """Restored as it was stored, verified without a finding, and nothing speaks against any point."""
    vault = reopen(store)
    assert extract(vault, trees[0], tmp_path / "small") == FILES
    assert extract(vault, trees[1], tmp_path / "large") == LARGE
    assert vault.verify().findings == ()
    assert not [status.point.point for status in vault.points() if status.suspect]
    vault.audit()


def test_damaged_chunks_come_back_in_new_packs(
    vault: Vault, store: MemoryStore, replica: MemoryStore, trees: tuple[TreeRef, TreeRef], tmp_path: Path
) -> None:
    """The damaged packs stay as they are; the points are whole again, and the latest is good."""
    damage_packs(store)
    before = dict(store.objects)
    healed = heal(vault, Help([replica]), vault._clock)
    assert healed.points == (f"{POINT}0", f"{POINT}1")
    assert healed.chunks == len(keys(replica, "packs/"))
    assert before.items() <= store.objects.items()
    assert_whole(store, trees, tmp_path)
    assert reopen(store).point("latest", "flights").point.point == f"{POINT}1"
    assert {finding.object for finding in reopen(store).verify().notices} == set(keys(replica, "packs/"))


def test_a_pack_that_was_cut_is_healed_at_once_with_its_lists_and_files(
    vault: Vault, store: MemoryStore, replica: MemoryStore, trees: tuple[TreeRef, TreeRef], tmp_path: Path
) -> None:
    """While a list of entries is lost nobody knows what else is; when it has come back, its files do too."""
    for key in keys(store, "packs/"):
        store.objects[key] = store.objects[key][: len(store.objects[key]) // 3]
    healed = heal(vault, Help(replicas=[replica]), vault._clock)
    assert healed.left.ok
    assert healed.chunks == len({chunk for tree in trees for chunk in chunks_of(vault, tree)})
    assert_whole(store, trees, tmp_path)


@pytest.mark.parametrize("kind", ["packs/", "points/", "marks/", "keys/", "RESTORE.md", "indexes/"])
def test_what_is_gone_comes_back_under_its_name(
    vault: Vault, store: MemoryStore, replica: MemoryStore, trees: tuple[TreeRef, TreeRef], tmp_path: Path, kind: str
) -> None:
    """Each byte as it was; of indexes, which only repeat what stands in packs, the content in a new one."""
    for key in keys(store, kind):
        del store.objects[key]
    heal(vault, Help([replica]), vault._clock)
    if kind != "indexes/":
        assert {key: store.objects.get(key) for key in keys(replica, kind)} == {
            key: replica.objects[key] for key in keys(replica, kind)
        }
    assert_whole(store, trees, tmp_path)


def test_all_audit_records_come_back(
    vault: Vault, store: MemoryStore, replica: MemoryStore, trees: tuple[TreeRef, TreeRef], tmp_path: Path
) -> None:
    """Those that others name, and those that only the replica has: none is ever removed, and the trail is whole again."""
    for key in keys(store, "audit/")[:-1]:
        del store.objects[key]
    reopen(replica).record("replicate", "here", "copied")
    (foreign,) = replica.objects.keys() - store.objects.keys() - set(keys(replica, "audit/")[:-1])
    heal(vault, Help([replica]), vault._clock)
    assert foreign in store.objects
    assert_whole(store, trees, tmp_path)


def test_everything_but_the_head_of_a_vault_can_come_back(
    vault: Vault, store: MemoryStore, replica: MemoryStore, trees: tuple[TreeRef, TreeRef], tmp_path: Path
) -> None:
    """What tells of the rest is the newest audit record alone."""
    newest = keys(store, "audit/")[-1]
    for key in set(store.objects) - {"vault.json", newest}:
        del store.objects[key]
    heal(vault, Help([replica]), vault._clock)
    assert replica.objects.items() >= {key: store.objects[key] for key in keys(replica, "p")}.items()
    assert_whole(store, trees, tmp_path)


def test_points_that_expired_here_do_not_come_back(
    vault: Vault, store: MemoryStore, replica: MemoryStore, trees: tuple[TreeRef, TreeRef]
) -> None:
    """A replica may keep longer than we do."""
    key = f"points/flights/{POINT}0.json"
    vault.record("expire", key, "removed")
    del store.objects[key]
    assert heal(vault, Help([replica]), vault._clock).objects == ()
    assert key not in store.objects


def test_nothing_that_was_forged_is_put_back(vault: Vault, store: MemoryStore, replica: MemoryStore) -> None:
    """Neither a manifest nor a pack nor a chunk is taken from a replica that does not have it as it was."""
    for kind in ("packs/", "points/"):
        for key in keys(store, kind):
            del store.objects[key]
            replica.objects[key] = flip(replica.objects[key], 200)
    before = set(store.objects)
    with pytest.raises(IntegrityError, match="findings are left") as failure:
        heal(vault, Help([replica]), vault._clock)
    assert f"points/flights/{POINT}1.json" in failure.value.message
    assert not [key for key in store.objects.keys() - before if key.startswith(("packs/", "points/"))]


def test_what_no_replica_has_is_named_by_file_and_point(
    vault: Vault, store: MemoryStore, replica: MemoryStore, trees: tuple[TreeRef, TreeRef], tmp_path: Path
) -> None:
    """What can be healed is healed all the same; the point that is not whole stays suspect."""
    damage_packs(store)
    large = max(keys(store, "packs/"), key=lambda key: len(store.objects[key]))
    replica.objects[large] = flip(replica.objects[large], 300)
    with pytest.raises(IntegrityError) as failure:
        heal(vault, Help([replica]), vault._clock)
    assert f"points: {POINT}1; files: dataset/d1: large" in failure.value.message
    assert [status.suspect for status in reopen(store).points()] == [False, True]
    assert extract(reopen(store), trees[0], tmp_path) == FILES


def test_several_replicas_help_together(
    vault: Vault, store: MemoryStore, replica: MemoryStore, trees: tuple[TreeRef, TreeRef], tmp_path: Path
) -> None:
    """Each has lost something else."""
    second = MemoryStore(name="second")
    second.objects = dict(replica.objects)
    damage_packs(store)
    for number, key in enumerate(keys(replica, "packs/")):
        one = (replica, second)[number % 2]
        one.objects[key] = flip(one.objects[key], 100)
    heal(vault, Help([replica, second]), vault._clock)
    assert_whole(store, trees, tmp_path)


def test_a_damaged_document_that_keeps_its_name_is_reported(
    vault: Vault, store: MemoryStore, replica: MemoryStore, trees: tuple[TreeRef, TreeRef], tmp_path: Path
) -> None:
    """Nothing is overwritten: whoever may remove it does so, and then it comes back."""
    key = f"points/flights/{POINT}1.json"
    store.objects[key] = flip(store.objects[key], 100)
    with pytest.raises(IntegrityError, match=key):
        heal(vault, Help([replica]), vault._clock)
    del store.objects[key]
    heal(vault, Help([replica]), vault._clock)
    assert_whole(store, trees, tmp_path)


def test_another_vault_is_no_replica(vault: Vault) -> None:
    """Its key opens nothing here."""
    other = MemoryStore(name="other")
    make_vault(other)
    for store in (other, MemoryStore(name="empty")):
        with pytest.raises(UsageError, match="no copy of vault"):
            heal(vault, Help([store]), vault._clock)


def test_a_doubt_of_another_cause_is_not_answered(vault: Vault, store: MemoryStore, replica: MemoryStore) -> None:
    """A person's doubt, or a failed check, outlives healing and any verification."""
    vault.mark(Mark("flights", f"{POINT}1", "suspect", vault._clock.now(), {"reason": "it came from a broken sensor"}))
    damage_packs(store)
    heal(vault, Help([replica]), vault._clock)
    verify_points(vault, vault.points(), 1.0, vault._clock)
    first, second = reopen(store).points()
    assert not first.suspect
    assert second.doubts == ("it came from a broken sensor",)


def test_damage_that_is_gone_is_answered_by_a_verification_of_everything(
    vault: Vault, store: MemoryStore, replica: MemoryStore
) -> None:
    """A disk that was mended, or a bucket whose version was uncovered; a share of the packs proves too little."""
    damage_packs(store)
    with pytest.raises(IntegrityError):
        verify_points(vault, vault.points(), 1.0, vault._clock)
    assert all(status.suspect for status in vault.points())
    store.objects |= {key: replica.objects[key] for key in keys(replica, "packs/")}
    verify_points(vault, vault.points(), 0.5, vault._clock)
    assert all(status.suspect for status in vault.points())
    verify_points(vault, vault.points(), 1.0, vault._clock)
    assert not any(status.suspect for status in vault.points())


def test_what_is_still_the_same_at_the_source_comes_back_from_there(
    store: MemoryStore, clock: FrozenClock, tmp_path: Path
) -> None:
    """Equal bytes give equal chunks. What has changed since does not, and is named; nothing is sealed."""
    vault, _ = make_vault(store, clock)
    tree = store_tree(vault, [memory_file(*item, md5=None) for item in FILES.items()])
    seal(vault, tree)
    vault = Ticking(store, clock).vault
    damage_packs(store)
    source = FakeSource("dataset", "d0", {**FILES, "a": b"changed"}, vault._clock)
    job = SnapshotJob("flights", (source,), {}, (), None, {}, {})
    with pytest.raises(IntegrityError, match=r"files: dataset/d0: a\b") as failure:
        heal(vault, Help(sources=[job]), vault._clock)
    assert "dataset/d0: b" not in failure.value.message
    source.files = FILES
    heal(vault, Help(sources=[job]), vault._clock)
    assert extract(reopen(store), tree, tmp_path) == FILES
    assert [status.suspect for status in reopen(store).points()] == [False]


def test_replicas_are_asked_before_sources_and_a_source_that_is_gone_harms_nothing(
    vault: Vault, store: MemoryStore, replica: MemoryStore, trees: tuple[TreeRef, TreeRef], tmp_path: Path
) -> None:
    """The source is not read at all where a replica has everything."""
    gone = FakeSource("dataset", "d0", {}, vault._clock, broken=SourceInvalid("it is gone", "look for it"))
    damage_packs(store)
    heal(vault, Help([replica], [SnapshotJob("flights", (gone,), {}, (), None, {}, {})]), vault._clock)
    assert gone.previous == []
    assert_whole(store, trees, tmp_path)


def test_packs_that_come_back_are_locked_as_long_as_the_point(clock: FrozenClock) -> None:
    """New ones, and those that were put back; and so are documents and the new index."""
    store = MemoryStore(clock, locking=True)
    vault, _ = make_vault(store, clock)
    point = vault.seal(point_over(vault, store_tree(vault, FILES), store_tree(vault, LARGE)), timedelta(days=30))
    replica = MemoryStore(name="replica")
    replica.objects = dict(store.objects)
    damaged, lost = keys(store, "packs/")
    store.objects[damaged] = flip(store.objects[damaged], 100)
    for key in (lost, f"points/flights/{POINT}0.json"):
        del store.objects[key]
    before = set(store.objects)
    vault = Ticking(store, clock).vault
    heal(vault, Help([replica]), vault._clock)
    new = {key for key in store.objects.keys() - before if key.startswith(("packs/", "indexes/", "points/"))}
    assert len(new) == 4
    assert {store.locks().of(key).until for key in new} == {point.locked_until}


def test_a_heal_whose_holds_are_refused_says_so_and_is_one(clock: FrozenClock) -> None:
    """What came back came back; the point is held by its mark, and the report names it as not held by the store."""
    store = MemoryStore(clock, locking=True)
    vault, _ = make_vault(store, clock)
    vault.seal(point_over(vault, store_tree(vault, FILES), number=0))
    replica = MemoryStore(name="replica")
    replica.objects = dict(store.objects)
    hold_point(vault, vault.point(f"{POINT}0"), "evidence", clock)
    (pack,) = vault.point(f"{POINT}0").point.packs
    store.objects[pack_key(pack)] = flip(store.objects[pack_key(pack)], 100)
    refusing = FaultyStore(store, Fault("refuse", "hold", times=None))
    healed = heal(reopen(refusing, clock=clock), Help([replica]), clock)
    assert healed.points == (f"{POINT}0",)
    assert len(healed.unheld) == 1
    assert "NOT held by the store as before" in str(healed)


def test_a_release_lifts_also_from_copies_that_are_not_needed_any_more(clock: FrozenClock) -> None:
    """A hold while a pack was lost holds the copies; when it is back, the release lifts from both."""
    store = MemoryStore(clock, locking=True)
    vault, _ = make_vault(store, clock)
    vault.seal(point_over(vault, store_tree(vault, FILES), number=0))
    (pack,) = vault.point(f"{POINT}0").point.packs
    lost = store.objects.pop(pack_key(pack))
    other = reopen(store, clock=clock)
    other._index.reconcile()
    other.seal(point_over(other, store_tree(other, FILES), number=1))
    vault = reopen(store, clock=clock)
    hold_point(vault, vault.point(f"{POINT}0"), "evidence", clock)
    locks = store.locks()
    assert locks
    (copy,) = (key for key in keys(store, "packs/") if locks.of(key).held)
    store.objects[pack_key(pack)] = lost
    clock.advance(60)
    vault = reopen(store, clock=clock)
    release_point(vault, vault.point(f"{POINT}0"), "closed", clock)
    assert not locks.of(copy).held
    assert not any(locks.of(key).held for key in store.objects)


def test_a_held_point_is_held_with_what_took_the_place_of_its_lost_packs(clock: FrozenClock) -> None:
    """By the heal, and by a hold that comes after it; before, what is left is held, and the hold says that not all is."""
    store = MemoryStore(clock, locking=True)
    vault, _ = make_vault(store, clock)
    vault.seal(point_over(vault, store_tree(vault, FILES), number=0))
    vault.seal(point_over(vault, store_tree(vault, LARGE), number=1))
    vault.seal(point_over(vault, store_tree(vault, {"other": noise(900, 77)}), number=2))
    replica = MemoryStore(name="replica")
    replica.objects = dict(store.objects)
    locks = store.locks()
    assert locks
    hold_point(vault, vault.point(f"{POINT}0"), "evidence", clock)
    for number in (0, 1):
        (pack,) = vault.point(f"{POINT}{number}").point.packs
        store.objects[pack_key(pack)] = flip(store.objects[pack_key(pack)], 100)
    examine(vault, vault.readable_points(), Thoroughness(whole=True), clock)
    del store.objects[pack_key(pack)]
    vault = reopen(store, clock=clock)
    with pytest.raises(IntegrityError, match="cannot be told which packs"):
        hold_point(vault, vault.point(f"{POINT}1"), "evidence", clock)
    assert locks.of(f"points/flights/{POINT}1.json").held
    before = set(keys(store, "packs/"))
    heal(vault, Help([replica]), clock)
    put_back = pack_key(pack)
    anew = set(keys(store, "packs/")) - before - {put_back}
    assert len(anew) == 1
    other, *_ = vault.point(f"{POINT}2").point.packs
    assert {key for key in keys(store, "packs/") if not locks.of(key).held} == {pack_key(other)}
    hold_point(vault, vault.point(f"{POINT}1"), "evidence", clock)
    for number in (0, 1):
        clock.advance(60)
        release_point(vault, vault.point(f"{POINT}{number}"), "closed", clock)
    assert not any(locks.of(key).held for key in store.objects)


@pytest.mark.parametrize("kind", ["kill", "kill_after"])
def test_a_heal_that_is_killed_goes_on(tmp_path: Path, kind: str) -> None:
    """As the out-of-memory killer does it, at every second of its writes: the next one comes to the end."""
    made = LocalStore(tmp_path / "vault")
    vault, _ = make_vault(made)
    trees = store_tree(vault, FILES), store_tree(vault, LARGE)
    seal(vault, *trees)
    shutil.copytree(tmp_path / "vault", tmp_path / "replica")
    for pack in (tmp_path / "vault" / "packs").glob("*/*"):
        data = pack.read_bytes()
        pack.unlink()
        pack.write_bytes(flip(data, 100))
    (tmp_path / "vault" / "RESTORE.md").unlink()
    for at in range(1, 40, 2):
        store = LocalStore(tmp_path / f"{at}")
        shutil.copytree(tmp_path / "vault", tmp_path / f"{at}")
        failing = FaultyStore(store, Fault(kind, "put", at=at))  # type: ignore[arg-type]
        if in_child(functools.partial(_heal, failing, tmp_path / "replica")) == 0:
            break
        _heal(store, tmp_path / "replica")
        vault = reopen(store)
        assert extract(vault, trees[0], tmp_path / f"restored-{at}") == FILES
        assert extract(vault, trees[1], tmp_path / f"restored-{at}") == FILES | LARGE
        assert vault.verify().ok
        assert not vault.points()[0].suspect
    assert at > 6


def _heal(store: BlobStore, replica: Path) -> None:
    vault = Ticking(store, FrozenClock(datetime.now(UTC))).vault
    heal(vault, Help([LocalStore(replica)]), vault._clock)


@pytest.mark.parametrize("kind", ["fail", "lose_answer"])
def test_a_heal_that_was_cut_short_goes_on(
    store: MemoryStore,
    replica: MemoryStore,
    trees: tuple[TreeRef, TreeRef],
    clock: FrozenClock,
    tmp_path: Path,
    kind: str,
) -> None:
    """At each of its writes in turn: nothing of what was there is hurt, and the next one comes to the end."""
    damage_packs(store)
    for prefix in ("points/", "marks/", "RESTORE.md"):
        for key in keys(store, prefix):
            del store.objects[key]
    damaged = dict(store.objects)
    for at in range(1, 60):
        store.objects = dict(damaged)
        failing = FaultyStore(store, Fault(kind, "put", at=at, times=1))  # type: ignore[arg-type]
        try:
            vault = Ticking(failing, clock).vault
            heal(vault, Help([replica]), vault._clock)
        except StoreUnavailable:
            assert damaged.items() <= store.objects.items()
            vault = Ticking(store, clock).vault
            heal(vault, Help([replica]), vault._clock)
            assert_whole(store, trees, tmp_path / str(at))
        else:
            break
    assert at > 8


class Broken(MemoryStore):
    """A replica that does not answer."""

    def get(self, key: str) -> bytes:
        raise StoreUnavailable(f"{self.url} does not answer")


def test_a_replica_that_is_of_no_use_keeps_no_other_from_helping(
    vault: Vault, store: MemoryStore, replica: MemoryStore, trees: tuple[TreeRef, TreeRef], tmp_path: Path
) -> None:
    """It is silent, damaged or another vault's; it is named, and the next one heals. If none is left, what is wrong is the answer."""
    other, damaged = MemoryStore(name="other"), MemoryStore(name="damaged")
    make_vault(other)
    damaged.objects = {**replica.objects, "vault.json": b"garbage"}
    useless = [Broken(name="silent"), damaged, other]
    for alone in useless:
        with pytest.raises((StoreUnavailable, IntegrityError, UsageError), match=alone.url):
            heal(vault, Help([alone]), vault._clock)
    damage_packs(store)
    healed = heal(vault, Help([*useless, replica]), vault._clock)
    assert [why.split(": ")[0] for why in healed.unasked] == [one.url for one in useless]
    assert f"could not help: {useless[0].url}" in str(healed)
    assert_whole(store, trees, tmp_path)
    copies, failures = usable(vault, [*useless, replica])
    assert copies == [replica]
    assert [alone.url in failure.message for alone, failure in zip(useless, failures, strict=True)] == [True] * 3


def test_what_only_a_copy_has_comes_back(
    vault: Vault,
    store: MemoryStore,
    replica: MemoryStore,
    trees: tuple[TreeRef, TreeRef],
    clock: FrozenClock,
    tmp_path: Path,
) -> None:
    """A disk that was put back to an older state gets the points that came after it from the copy, but for those that expired."""
    newer = Ticking(replica, clock).vault
    seal(newer, store_tree(newer, {"new": noise(4000, 9)}), number=2)
    heal(vault, Help([replica]), vault._clock)
    assert [status.point.point for status in reopen(store).points()] == [f"{POINT}{number}" for number in range(3)]
    assert_whole(store, trees, tmp_path)
    vault.auditing.check(copies=[replica])
