"""Points and marks."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from fakes import Fault, FaultyStore, FrozenClock, MemoryStore
from muster.domain.content import TreeRef
from muster.domain.recovery_point import Mark, latest_good
from muster.errors import AlreadyExists, IncompletePoint, IntegrityError, NotFound, StoreUnavailable, UsageError
from muster.vault.vault import Vault
from vaults import POINT, flip, make_vault, memory_file, noise, point_over, reopen, seal, store_tree


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def vault(store: MemoryStore, clock: FrozenClock) -> Vault:
    return make_vault(store, clock)[0]


@pytest.fixture
def tree(vault: Vault) -> TreeRef:
    return store_tree(vault, {"a": b"content", "b": noise(3_000_000)})


# --- sealing ----------------------------------------------------------------------------------------------------------


def test_a_sealed_point_is_read_as_it_was_sealed(vault: Vault, tree: TreeRef, store: MemoryStore) -> None:
    """With the vault's id and the packs that it needs filled in."""
    sealed = vault.seal(replace(point_over(vault, tree), vault="", format=0))
    assert (sealed.vault, sealed.format) == (vault.id, 1)
    assert [f"packs/{p[:2]}/{p}" for p in sealed.packs] == [key for key in store.objects if key.startswith("packs/")]
    assert reopen(store).point(sealed.point).point == sealed


def test_the_manifest_is_an_in_toto_statement_over_the_components(
    vault: Vault, tree: TreeRef, store: MemoryStore
) -> None:
    """Anybody can read which trees it speaks of, and which audit record was newest."""
    import base64

    newest = vault.audit()[-1].digest
    seal(vault, tree)
    envelope = json.loads(store.objects[f"points/flights/{POINT}0.json"])
    statement = json.loads(base64.b64decode(envelope["payload"]))
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "urn:muster:recovery-point:1"
    assert statement["subject"] == [{"name": "dataset/d0", "digest": {"sha256": tree.root.sha256}}]
    assert statement["audit_head"] == newest


def test_sealing_again_returns_what_is_there(vault: Vault, tree: TreeRef, store: MemoryStore) -> None:
    """A retried task gets the point of its first try, and nothing is written."""
    first = seal(vault, tree)
    before = dict(store.objects)
    later = replace(point_over(vault, tree), sealed_at=FrozenClock().advance(60))
    assert reopen(store).seal(later) == first
    assert store.objects == before


def test_another_content_under_the_same_id_is_refused(vault: Vault, tree: TreeRef) -> None:
    """A sealed point never changes."""
    seal(vault, tree)
    with pytest.raises(AlreadyExists, match="sealed already, with other components"):
        seal(vault, store_tree(vault, {"a": b"other"}))


def test_a_point_with_a_chunk_that_is_nowhere_is_not_sealed(vault: Vault, tree: TreeRef, store: MemoryStore) -> None:
    """A missing pack, and one that was cut short, stop the seal; the file is named and no manifest is there."""
    key = next(key for key in store.objects if key.startswith("packs/"))
    whole = store.objects.pop(key)
    for fresh in (vault, reopen(store)):
        with pytest.raises(IncompletePoint, match="was not sealed"):
            seal(fresh, tree)
    store.objects[key] = whole[:-1]
    with pytest.raises(IncompletePoint, match="was not sealed"):
        seal(vault, tree)
    assert not [key for key in store.objects if key.startswith("points/")]
    store.objects[key] = whole
    assert seal(vault, tree).packs


def test_the_file_whose_chunk_is_missing_is_named(vault: Vault, tree: TreeRef, store: MemoryStore) -> None:
    """Its list of entries is whole, one file is not."""
    big = store_tree(vault, {"small": b"s"} | {f"f{n}": noise(20_000_000, n) for n in range(3)})
    entry = vault.tree(big).entry("f0")
    pack = vault._index.locations(bytes.fromhex(entry.content.chunks[0]))[0].pack.name
    del store.objects[f"packs/{pack[:2]}/{pack}"]
    with pytest.raises(IncompletePoint, match=r"dataset/d0: f\d needs chunk|list of entries"):
        seal(vault, big)


def test_content_that_no_writer_has_made_durable_cannot_be_sealed(vault: Vault) -> None:
    """Inside the writer's context the last pack is not stored yet."""
    with vault.writer() as writer:
        tree = writer.store_tree([])
        early = writer.store_tree([memory_file("a", b"x")])
        with pytest.raises(IncompletePoint):
            seal(vault, early)
        assert tree.entries == 0
    assert seal(vault, early)


def test_a_lost_answer_to_the_manifest_is_mended_by_trying_again(store: MemoryStore) -> None:
    """The manifest was written, the store did not say so: the retry finds it."""
    vault, _ = make_vault(store)
    tree = store_tree(vault, {"a": b"1"})
    faulty = FaultyStore(store, Fault("lose_answer", "put", prefix="points/"))
    again = reopen(faulty)
    with pytest.raises(StoreUnavailable):
        seal(again, tree)
    assert seal(again, tree) == reopen(store).point(POINT).point
    assert reopen(store).verify().ok


def test_a_name_that_could_leave_its_place_is_refused(vault: Vault, tree: TreeRef) -> None:
    """Workloads and points are single, plain segments."""
    for workload in ("../keys", "a/b", "", ".hidden"):
        with pytest.raises(UsageError, match="cannot be the name of a workload"):
            seal(vault, tree, workload=workload)


# --- finding ----------------------------------------------------------------------------------------------------------


def test_points_are_listed_oldest_first(vault: Vault, tree: TreeRef) -> None:
    """Whatever the order in which they were sealed, and by workload if one is given."""
    for number in (2, 0, 1):
        seal(vault, tree, number=number, workload="ab"[number % 2])
    assert [status.point.point[-1] for status in vault.points()] == ["0", "1", "2"]
    assert [status.point.point[-1] for status in vault.points("a")] == ["0", "2"]
    assert vault.points("c") == []


def test_a_point_is_found_by_a_beginning_that_no_other_has(vault: Vault, tree: TreeRef) -> None:
    """Several or none are told with what there is."""
    seal(vault, tree, number=0)
    seal(vault, tree, number=1)
    assert vault.point(f"{POINT}1").point.point == f"{POINT}1"
    with pytest.raises(NotFound, match="no one point"):
        vault.point(POINT[:8])
    with pytest.raises(NotFound, match="no point '2030'") as raised:
        vault.point("2030")
    assert f"flights/{POINT}1" in raised.value.hint
    with pytest.raises(NotFound):
        vault.point("")


def test_latest_is_the_newest_that_is_not_suspect(vault: Vault, tree: TreeRef, clock: FrozenClock) -> None:
    """A suspect point is kept, but never the latest good one."""
    for number in range(3):
        seal(vault, tree, number=number)
    vault.mark(Mark("flights", f"{POINT}2", "suspect", clock.now(), {"reason": "test"}))
    assert vault.point("latest", "flights").point.point == f"{POINT}1"
    assert vault.point("latest").point.point == f"{POINT}1"
    assert latest_good(vault.points()) == vault.point("latest")
    seal(vault, tree, workload="other")
    with pytest.raises(UsageError, match="flights, other"):
        vault.point("latest")
    with pytest.raises(NotFound, match="no point 'latest' of nobody"):
        vault.point("latest", "nobody")


def test_no_latest_where_all_are_suspect(vault: Vault, tree: TreeRef, clock: FrozenClock) -> None:
    """Whoever wants a suspect point all the same has to name it."""
    seal(vault, tree)
    vault.mark(Mark("flights", f"{POINT}0", "suspect", clock.now(), {"reason": "test"}))
    with pytest.raises(NotFound, match="is marked suspect"):
        vault.point("latest", "flights")
    assert vault.point(f"{POINT}0").suspect


def test_damage_in_an_older_manifest_does_not_bar_the_way_to_the_latest(
    vault: Vault, tree: TreeRef, store: MemoryStore
) -> None:
    """At night one rotten old manifest must not stop a restore; one newer than the answer must be looked at first."""
    for number in range(2):
        seal(vault, tree, number=number)
    store.objects[f"points/flights/{POINT}0.json"] = b"{}"
    assert vault.point("latest", "flights").point.point == f"{POINT}1"
    store.objects[f"points/flights/{POINT}1.json"] = b"{}"
    with pytest.raises(IntegrityError, match=f"{POINT}1"):
        vault.point("latest", "flights")


# --- marks ------------------------------------------------------------------------------------------------------------


def test_marks_are_kept_newest_last_and_none_replaces_another(vault: Vault, tree: TreeRef, clock: FrozenClock) -> None:
    """Also two of one kind in one microsecond; the same mark again is one."""
    seal(vault, tree)
    drilled = Mark("flights", f"{POINT}0", "drilled", clock.advance(60), {"passed": True}, tree)
    for mark in (
        drilled,
        Mark("flights", f"{POINT}0", "verified", FrozenClock().now(), {"n": 1}),
        Mark("flights", f"{POINT}0", "verified", FrozenClock().now(), {"n": 2}),
        drilled,
    ):
        vault.mark(mark)
    marks = vault.point(f"{POINT}0").marks
    assert [mark.kind for mark in marks] == ["verified", "verified", "drilled"]
    assert {mark.summary.get("n") for mark in marks[:2]} == {1, 2}
    assert marks[2] == drilled
    assert vault.verify().ok


def test_a_point_that_is_not_there_cannot_be_marked(vault: Vault) -> None:
    """A mark names a sealed point."""
    with pytest.raises(NotFound):
        vault.mark(Mark("flights", f"{POINT}0", "verified", FrozenClock().now()))


def test_a_manifest_or_mark_of_another_place_is_refused(vault: Vault, tree: TreeRef, store: MemoryStore) -> None:
    """A validly signed object copied to another name says something it did not say."""
    seal(vault, tree)
    vault.mark(Mark("flights", f"{POINT}0", "verified", FrozenClock().now()))
    manifest = store.objects[f"points/flights/{POINT}0.json"]
    (mark_key,) = (key for key in store.objects if key.startswith("marks/"))
    store.objects[f"points/flights/{POINT}9.json"] = manifest
    with pytest.raises(IntegrityError, match=rf"points/flights/{POINT}9\.json holds point"):
        vault.points()
    del store.objects[f"points/flights/{POINT}9.json"]
    store.objects[mark_key.replace("verified", "drilled")] = store.objects[mark_key]
    with pytest.raises(IntegrityError, match=r"drilled-.* holds a mark"):
        vault.points()


def test_a_damaged_manifest_is_named(vault: Vault, tree: TreeRef, store: MemoryStore) -> None:
    """One wrong bit in a manifest stops the listing, by its name; the others are named so that they can be opened."""
    seal(vault, tree)
    seal(vault, tree, number=1)
    key = f"points/flights/{POINT}0.json"
    store.objects[key] = flip(store.objects[key], 500)
    with pytest.raises(IntegrityError, match=key) as raised:
        vault.points()
    assert f"flights/{POINT}1" in raised.value.hint


def test_a_point_of_the_future_is_not_the_latest(store: MemoryStore, vault: Vault, tree: TreeRef) -> None:
    """A clock that ran ahead once would hide every point that comes after it; by its id it can be had, and when its time has come."""
    seal(vault, tree, number=0)
    early = FrozenClock()
    early.advance(-3600)
    seen = reopen(store, clock=early)
    with pytest.raises(NotFound, match="lie in the future of this machine's clock"):
        seen.point("latest", "flights")
    assert seen.readable_points("flights", "latest") == []
    assert seen.point(f"{POINT}0").point.point == f"{POINT}0"
    early.advance(3000)
    assert seen.point("latest", "flights") == reopen(store).point("latest", "flights")
