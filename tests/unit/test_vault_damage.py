"""Damage that is known does no more harm: nothing new builds on it, and it stops nothing that does not need it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakes import FrozenClock, MemoryStore
from muster.domain.content import TreeRef
from muster.errors import IncompletePoint, IntegrityError, StoreUnavailable
from muster.vault.vault import Vault
from vaults import POINT, extract, flip, make_vault, memory_file, noise, reopen, seal, store_tree, verify_points

FILES = {"a": noise(5000), "b": b"text " * 1000}


class UnsteadyStore(MemoryStore):
    """Does not answer to the next request for an index."""

    down = False

    def get(self, key: str) -> bytes:
        if self.down and key.startswith("indexes/"):
            self.down = False
            raise StoreUnavailable("the store does not answer", "wait")
        return super().get(key)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def tree(store: MemoryStore) -> TreeRef:
    """A vault with one point."""
    vault, _ = make_vault(store)
    tree = store_tree(vault, FILES)
    seal(vault, tree)
    return tree


def packs(store: MemoryStore) -> list[str]:
    return [key for key in sorted(store.objects) if key.startswith("packs/")]


def damage_packs(store: MemoryStore) -> set[str]:
    """One wrong bit in every pack that there is now; their names."""
    for key in packs(store):
        store.objects[key] = flip(store.objects[key], 100)
    return {key.rpartition("/")[2] for key in packs(store)}


def damage(store: MemoryStore, kind: str) -> str:
    """One wrong bit in the one object that there is of a kind; its key."""
    (key,) = (key for key in store.objects if key.startswith(kind))
    store.objects[key] = flip(store.objects[key], 100)
    return key


def verify(vault: Vault) -> None:
    verify_points(vault, vault.points(), 1.0, FrozenClock())


def test_a_new_point_does_not_build_on_content_that_was_found_damaged(
    store: MemoryStore, tree: TreeRef, tmp_path: Path
) -> None:
    """Once a verification has named a damaged pack, the next snapshot stores its chunks again, and its point can be restored."""
    damaged = damage_packs(store)
    with pytest.raises(IntegrityError, match="is damaged"):
        verify(reopen(store))
    vault = reopen(store)
    assert {name for mark in vault.point(POINT + "0").marks for name in mark.summary["damaged_packs"]} == damaged
    with vault.writer() as writer:
        again = writer.store_tree([memory_file(path, content) for path, content in FILES.items()])
        assert writer.stats.reused_chunks == 0
    point = seal(vault, again, number=1)
    assert damaged.isdisjoint(point.packs)
    fresh = reopen(store)
    assert fresh.point("latest", "flights").point == point
    assert extract(fresh, again, tmp_path) == FILES
    assert fresh.verify([point]).ok


def test_a_file_known_from_an_earlier_point_is_read_again_if_its_content_was_found_damaged(
    store: MemoryStore, tree: TreeRef, tmp_path: Path
) -> None:
    """That the source says it has not changed is no reason to build on a damaged pack."""
    known = {entry.path: entry.content for entry in reopen(store).tree(tree).entries()}
    damage_packs(store)
    with pytest.raises(IntegrityError, match="is damaged"):
        verify(reopen(store))
    again = store_tree(reopen(store), [memory_file(path, data, known=known[path]) for path, data in FILES.items()])
    assert extract(reopen(store), again, tmp_path) == FILES


def test_what_was_captured_before_the_damage_was_found_is_not_sealed(store: MemoryStore, tree: TreeRef) -> None:
    """A verification that ends between capture and seal is heeded by a program that has not stored anything itself."""
    captured = store_tree(reopen(store), FILES)
    damage_packs(store)
    with pytest.raises(IntegrityError, match="is damaged"):
        verify(reopen(store))
    with pytest.raises(IncompletePoint, match="found damaged"):
        seal(reopen(store), captured, number=1)


def test_what_is_whole_in_a_damaged_pack_can_still_be_read(store: MemoryStore) -> None:
    """A pack that nothing new builds on is better than nothing for what is there already, also for whoever writes."""
    vault, _ = make_vault(store)
    with vault.writer() as writer:
        whole = writer.store_tree([memory_file("a", FILES["a"])])
        hit = writer.store_tree([memory_file("z", noise(5000, 7))])
    seal(vault, whole, hit)
    (key,) = packs(store)
    end = len(store.objects[key])
    for at in range(100, end, 500):
        store.objects[key] = flip(store.objects[key], at)
        try:
            assert vault.tree(whole).read(vault.tree(whole).entry("a")) == FILES["a"]
            assert not vault.verify().ok
            break
        except IntegrityError:
            store.objects[key] = flip(store.objects[key], at)
    with pytest.raises(IntegrityError, match="is damaged"):
        verify(vault)
    with vault.writer():
        assert vault.tree(whole).read(vault.tree(whole).entry("a")) == FILES["a"]


@pytest.mark.parametrize("kind", ["points/trips/", f"marks/{POINT}1/"])
def test_damage_to_one_workload_does_not_stop_another(store: MemoryStore, tree: TreeRef, kind: str) -> None:
    """Its points are listed with their marks; only who asks for all workloads is told."""
    vault = reopen(store)
    seal(vault, tree, number=1, workload="trips")
    verify(vault)
    damage(store, kind)
    assert [len(status.marks) for status in reopen(store).points("flights")] == [1]
    for workload in ("trips", None):
        with pytest.raises(IntegrityError):
            reopen(store).points(workload)


@pytest.mark.parametrize("kind", [f"points/flights/{POINT}1", f"marks/{POINT}1/"])
def test_a_damaged_manifest_or_mark_is_a_finding_of_a_verification(
    store: MemoryStore, tree: TreeRef, kind: str
) -> None:
    """It does not keep the other points from being verified, nor other damage from being found and marked."""
    vault = reopen(store)
    seal(vault, tree, number=1)
    verify(vault)
    key = damage(store, kind)
    pack = max(packs(store), key=lambda pack: len(store.objects[pack]))
    store.objects[pack] = flip(store.objects[pack], 100)
    vault = reopen(store)
    readable = vault.readable_points("flights")
    assert [status.point.point for status in readable] == [f"{POINT}0", f"{POINT}1"][: 1 if "points" in kind else 2]
    with pytest.raises(IntegrityError) as failure:
        verify_points(vault, readable, 1.0, FrozenClock())
    assert key in failure.value.message
    assert pack in failure.value.message
    assert reopen(store).point(f"{POINT}0").suspect


def test_an_index_that_could_not_be_read_at_first_is_read_the_next_time() -> None:
    """A store that did not answer once leaves nobody with an empty index."""
    store = UnsteadyStore()
    vault, _ = make_vault(store)
    seal(vault, tree := store_tree(vault, FILES))
    vault = reopen(store)
    store.down = True
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            vault._index.holds(bytes(32))
        store.down = True
    store.down = False
    assert vault._index.holds(bytes.fromhex(tree.root.chunks[0]))
