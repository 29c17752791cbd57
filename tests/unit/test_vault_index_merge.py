"""Many small index objects, the one that stands for them, and what may be removed."""

from __future__ import annotations

import os
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import Fault, FaultyStore, FrozenClock, MemoryStore
from muster.errors import StoreUnavailable
from muster.vault.index import Index, write_index
from muster.vault.index_merge import MOST, due, superseded
from muster.vault.index_objects import LARGEST
from muster.vault.keys import MasterKey
from muster.vault.layout import digest, pack_key
from muster.vault.packs import Pack, PackBuilder
from vaults import flip, make_vault, noise, reopen, seal, store_tree

MASTER = MasterKey(bytes(range(32)))
HOUR = 3600


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def store(clock: FrozenClock) -> MemoryStore:
    return MemoryStore(clock)


def snapshot(store: MemoryStore, number: int) -> Pack:
    """What a writer leaves: a pack, and the index over it."""
    builder = PackBuilder(MASTER)
    plain = b"%d" % number
    builder.add(MASTER.chunk_id(plain), plain, len(plain), 0)
    pack, data = builder.finish()
    store.put(pack_key(pack.name), data)
    index = Index(store, MASTER)
    index.reconcile()
    index.save([pack])
    return pack


def indexes(store: MemoryStore) -> set[str]:
    return {key for key in store.objects if key.startswith("indexes/")}


def read(store: MemoryStore) -> tuple[Index, list[str]]:
    """An index as a new process loads it, and the index objects that it read."""
    counting = FaultyStore(store)
    index = Index(counting, MASTER)
    index.refresh()
    return index, [key for operation, key in counting.calls if operation == "get" and key.startswith("indexes/")]


# --- when -------------------------------------------------------------------------------------------------------------


@given(sizes=st.lists(st.integers(1, 2 * LARGEST) | st.integers(1, 5000), max_size=300))
@settings(max_examples=100)
def test_few_index_objects_lie_side_by_side_whatever_their_sizes(sizes: list[int]) -> None:
    """Besides those that hold half of the limit or more, at most as many small ones as may, and a geometric row of others."""
    there, written, total = dict[str, int](), 0, 0
    for number, size in enumerate(sizes):
        there[f"{number}"] = size
        total += size
        while merged := due(there):
            assert len(merged) > 1
            there[f"{number} {len(there)}"] = new = sum(there.pop(key) for key in merged)
            assert new <= LARGEST
            written += new
        assert sum(there.values()) == total
        assert sum(2 * size <= LARGEST for size in there.values()) <= MOST + 24
    assert written <= total * 24


def test_small_snapshots_are_written_again_a_few_times_only() -> None:
    """A thousand equal snapshots: each row is written again about log2(1000 / 16) times, and at most 22 objects are left at any time."""
    there, written = dict[str, int](), 0
    for number in range(1000):
        there[f"{number}"] = 1000
        if merged := due(there):
            there[f"m{number}"] = new = sum(there.pop(key) for key in merged)
            written += new
        assert len(there) <= MOST + 6
    assert written < 8 * 1000 * 1000


# --- what is read -----------------------------------------------------------------------------------------------------


def test_one_index_object_stands_for_many(store: MemoryStore) -> None:
    """After 40 snapshots a new process knows every pack, and reads few of the index objects; none was removed."""
    packs = [snapshot(store, number) for number in range(40)]
    index, keys = read(store)
    assert set(index.packs()) == {pack.name for pack in packs}
    assert all(index.holds(MASTER.chunk_id(b"%d" % number)) for number in range(40))
    assert len(indexes(store)) > 40
    assert len(keys) <= MOST + 4
    assert index.reconcile() == []


def test_a_damaged_merged_index_leads_back_to_those_that_it_replaces(store: MemoryStore) -> None:
    """One wrong bit in the object that stands for the others: they are read, and nothing has to be learned from packs."""
    packs = [snapshot(store, number) for number in range(MOST + 1)]
    merged = max(indexes(store), key=lambda key: len(store.objects[key]))
    assert len(read(store)[1]) <= 4
    store.objects[merged] = flip(store.objects[merged], 100)
    index, _ = read(store)
    assert set(index.packs()) == {pack.name for pack in packs}
    assert list(index.damaged) == [merged]
    assert index.reconcile() == []


def test_without_any_whole_index_the_packs_themselves_are_read(store: MemoryStore) -> None:
    """The merged one is damaged after expiry took those that it replaced: every chunk is found all the same."""
    packs = [snapshot(store, number) for number in range(MOST + 1)]
    (merged, *others) = sorted(indexes(store), key=lambda key: len(store.objects[key]), reverse=True)
    store.objects[merged] = flip(store.objects[merged], 100)
    for key in others:
        store.delete(key)
    index, _ = read(store)
    assert index.missing([MASTER.chunk_id(b"%d" % number) for number in range(MOST + 1)]) == []
    assert set(index.packs()) == {pack.name for pack in packs}


def test_two_writers_that_merge_at_once_do_no_harm(store: MemoryStore) -> None:
    """Both write one over the same packs; a later merge makes one of the two."""
    first = [snapshot(store, number) for number in range(MOST)]
    both = [Index(store, MASTER), Index(store, MASTER)]
    for index in both:
        index.refresh()
    for number, index in enumerate(both):
        pack = _loose(store, b"both %d" % number)
        index.save([pack])
        first.append(pack)
    assert set(read(store)[0].packs()) == {pack.name for pack in first}
    later = [snapshot(store, number) for number in range(100, 100 + 2 * MOST)]
    index, keys = read(store)
    assert set(index.packs()) == {pack.name for pack in first + later}
    assert len(keys) <= MOST + 4


def test_a_merge_that_fails_fails_the_snapshot_and_loses_nothing(store: MemoryStore) -> None:
    """The index over the writer's own packs was stored before; the next snapshot merges."""
    packs = [snapshot(store, number) for number in range(MOST)]
    packs.append(own := _loose(store, b"own"))
    index = Index(FaultyStore(store, Fault("fail", "put", at=2, prefix="indexes/")), MASTER)
    index.refresh()
    with pytest.raises(StoreUnavailable):
        index.save([own])
    assert set(read(store)[0].packs()) == {pack.name for pack in packs}
    packs.append(snapshot(store, 99))
    index, keys = read(store)
    assert set(index.packs()) == {pack.name for pack in packs}
    assert len(keys) <= 4


def test_packs_that_are_gone_are_left_out_when_indexes_are_merged(store: MemoryStore) -> None:
    """Expiry took most packs: the next merge writes only what is left."""
    packs = [snapshot(store, number) for number in range(MOST)]
    for pack in packs[2:]:
        store.delete(pack_key(pack.name))
    last = snapshot(store, 99)
    index, keys = read(store)
    assert last.name in index.packs()
    assert len(keys) < MOST
    old = {pack.name for pack in packs[2:]}
    assert len(old & set(index.packs())) < len(old)


# --- what may be removed ----------------------------------------------------------------------------------------------


def test_what_another_index_repeats_may_be_removed_and_nothing_else(store: MemoryStore, clock: FrozenClock) -> None:
    """When all superseded ones are gone, a new process knows the same packs, from index objects alone."""
    packs = [snapshot(store, number) for number in range(50)]
    gone = superseded(store, MASTER, clock.advance(HOUR))
    assert len(gone) > 40
    for key in gone:
        store.delete(key)
    index, keys = read(store)
    assert set(index.packs()) == {pack.name for pack in packs}
    assert index.reconcile() == []
    assert set(keys) == indexes(store)
    assert superseded(store, MASTER, clock.advance(HOUR)) == []


def test_what_was_written_after_the_grace_began_stays(store: MemoryStore, clock: FrozenClock) -> None:
    """A reader that listed a while ago finds what he saw."""
    for number in range(MOST):
        snapshot(store, number)
    begun = clock.advance(HOUR)
    snapshot(store, 99)
    old = superseded(store, MASTER, begun)
    assert len(old) == MOST
    assert set(old) < set(superseded(store, MASTER, clock.advance(HOUR)))


def test_an_index_is_not_superseded_by_one_that_cannot_be_read(store: MemoryStore, clock: FrozenClock) -> None:
    """With the merged one damaged, all that it replaced stay; nor is the damaged one returned."""
    for number in range(MOST + 1):
        snapshot(store, number)
    merged = max(indexes(store), key=lambda key: len(store.objects[key]))
    store.objects[merged] = flip(store.objects[merged], 100)
    assert superseded(store, MASTER, clock.advance(HOUR)) == []


def test_of_two_index_objects_that_say_the_same_one_stays(store: MemoryStore, clock: FrozenClock) -> None:
    """Whichever it is; and an index of packs that are all gone is of no use to anybody."""
    pack, gone = _loose(store, b"one"), Pack(os.urandom(32).hex(), bytes(32), 9, b"")
    for packs in ([pack], [pack], [gone]):
        data = write_index(MASTER, packs)
        store.put(f"indexes/{digest(data)}", data)
    removed = superseded(store, MASTER, clock.advance(HOUR))
    assert len(removed) == 2
    for key in removed:
        store.delete(key)
    assert pack.name in read(store)[0].packs()


@given(removed=st.sets(st.integers(0, 60)), lost=st.sets(st.integers(0, 29)), now=st.booleans())
@settings(max_examples=15, deadline=None)
def test_whatever_part_of_an_expiry_was_done_no_pack_is_forgotten(removed: set[int], lost: set[int], now: bool) -> None:
    """Killed after any of its removals, with any packs gone: those that are there are named by what is left."""
    clock = FrozenClock()
    store = MemoryStore(clock)
    packs = [snapshot(store, number) for number in range(30)]
    for number in lost:
        store.delete(pack_key(packs[number].name))
    before = clock.now() if now else clock.advance(HOUR)
    for number, key in enumerate(superseded(store, MASTER, before + timedelta(seconds=now))):
        if number in removed:
            store.delete(key)
    index, _ = read(store)
    assert {packs[number].name for number in range(30) if number not in lost} <= set(index.packs())
    assert index.reconcile() == []


# --- in a vault -------------------------------------------------------------------------------------------------------


def test_a_vault_of_many_snapshots_is_whole_and_a_damaged_merged_index_is_named(store: MemoryStore) -> None:
    """Verify reads every index object, superseded or not; points restore."""
    make_vault(store)
    for number in range(MOST + 4):
        vault = reopen(store)
        seal(vault, store_tree(vault, {"a": noise(300, number)}), number=number)
    assert len(indexes(store)) > MOST + 4
    assert reopen(store).verify().ok
    merged = max(indexes(store), key=lambda key: len(store.objects[key]))
    store.objects[merged] = flip(store.objects[merged], 100)
    report = reopen(store).verify()
    assert report.ok
    assert merged in {notice.object for notice in report.notices}


def _loose(store: MemoryStore, plain: bytes) -> Pack:
    """A pack that no index names yet."""
    builder = PackBuilder(MASTER)
    builder.add(MASTER.chunk_id(plain), plain, len(plain), 0)
    pack, data = builder.finish()
    store.put(pack_key(pack.name), data)
    return pack
