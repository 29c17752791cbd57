"""Each kind of damage is named with the points and files that it touches; what harms nothing is noticed and is no failure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import FrozenClock, MemoryStore
from muster.domain.content import TreeRef
from muster.domain.recovery_point import Mark
from muster.errors import IntegrityError
from muster.operations.verify import Thoroughness, examine
from muster.ports import Hidden
from muster.vault import verify as verify_module
from muster.vault.findings import VerifyReport
from muster.vault.index import Index, write_index
from muster.vault.layout import digest, pack_key
from muster.vault.turns import chosen
from muster.vault.vault import Finding, Vault
from vaults import POINT, flip, make_vault, memory_file, noise, reopen, seal, store_tree, verify_points, write_entries

START = datetime(2026, 11, 23, 3, tzinfo=UTC)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def trees(store: MemoryStore) -> tuple[TreeRef, TreeRef]:
    """A vault with two points: ``small`` is in both, ``large`` in the second only."""
    vault, _ = make_vault(store)
    small = _store_apart(store, {"s/a": noise(900, 3), "s/b": noise(2000)})
    large = _store_apart(store, {"l": noise(2_000_000, 5)})
    seal(vault, small, number=0)
    seal(vault, small, large, number=1)
    return small, large


def _store_apart(store: MemoryStore, files: dict[str, bytes]) -> TreeRef:
    """A tree whose list of entries lies in another pack than its files, so that these can be named when their pack is gone."""
    scratch = MemoryStore()
    scratch.objects = dict(store.objects)
    beforehand = reopen(scratch)
    listing = write_entries(beforehand.tree(store_tree(beforehand, files)).entries())
    store_tree(reopen(store), {"list": listing})
    return store_tree(reopen(store), files)


@pytest.fixture
def vault(store: MemoryStore, trees: tuple[TreeRef, TreeRef]) -> Vault:
    return reopen(store)


def packs(store: MemoryStore) -> list[str]:
    """Keys of all packs, the smallest first."""
    return sorted((key for key in store.objects if key.startswith("packs/")), key=lambda key: len(store.objects[key]))


def finding(report: VerifyReport, key: str) -> Finding:
    (one,) = (found for found in report.findings if found.object == key)
    return one


# --- what is damaged --------------------------------------------------------------------------------------------------


def test_a_missing_pack_is_named_with_points_and_files(vault: Vault, store: MemoryStore) -> None:
    """Whatever the share: nothing of it need be read."""
    *_, small, large = packs(store)
    del store.objects[large]
    found = finding(vault.verify(share=0.0), large)
    assert (found.points, found.files, found.absent) == ((f"{POINT}1",), ("dataset/d1: l",), True)
    del store.objects[small]
    found = finding(vault.verify(share=0.0), small)
    assert found.points == (f"{POINT}0", f"{POINT}1")


def test_a_pack_that_was_cut_short_is_named_with_points_and_files(vault: Vault, store: MemoryStore) -> None:
    """Its size tells; its index knows what was in it."""
    *_, small, _ = packs(store)
    store.objects[small] = store.objects[small][:-1]
    found = finding(vault.verify(share=0.0), small)
    assert found.points == (f"{POINT}0", f"{POINT}1")
    assert found.files == ("dataset/d0: s/a", "dataset/d0: s/b")


def test_an_index_that_says_something_else_than_the_pack_is_named(vault: Vault, store: MemoryStore) -> None:
    """Written by a broken program that had the key: the pack is whole, its place in the index is not."""
    index = Index(store, vault._master)
    index.refresh()
    pack = index.packs()[packs(store)[-2].rpartition("/")[2]]
    row = bytearray(pack.directory)
    row[40] ^= 1  # within the plain length of its first chunk
    data = write_index(vault._master, [pack._replace(directory=bytes(row))])
    key = f"indexes/{digest(data)}"
    store.objects[key] = data
    report = vault.verify()
    assert pack.name in finding(report, key).what
    assert finding(report, key).points == (f"{POINT}0", f"{POINT}1")
    assert pack.name not in report.damaged_packs


def test_an_index_that_alone_knows_a_pack_and_knows_it_wrong_is_named(vault: Vault, store: MemoryStore) -> None:
    """The pack says itself what is in it: what the index says is not believed, and no chunk is taken for damaged."""
    index = Index(store, vault._master)
    index.refresh()
    wrong = [pack._replace(directory=_moved(pack.directory)) for pack in index.packs().values()]
    for key in [key for key in store.objects if key.startswith("indexes/")]:
        del store.objects[key]
    data = write_index(vault._master, wrong)
    store.objects[f"indexes/{digest(data)}"] = data
    report = vault.verify()
    assert f"indexes/{digest(data)}" in {found.object for found in report.findings}
    assert report.damaged_packs == ()


def _moved(directory: bytes) -> bytes:
    row = bytearray(directory)
    row[32:36] = (int.from_bytes(row[32:36], "big") + 1).to_bytes(4, "big")
    return bytes(row)


def test_a_file_whose_chunks_are_there_and_are_not_enough_is_named(store: MemoryStore) -> None:
    """By their sizes alone, without reading any."""
    vault, _ = make_vault(store)
    tree = vault.tree(store_tree(vault, {"a": b"aaa", "b": b"bbbb"}))
    a, b = tree.entries()
    assert a.content
    assert b.content
    wrong = [replace(a, content=replace(a.content, chunks=b.content.chunks)), b]
    listing = vault.tree(store_tree(vault, {"list": write_entries(wrong)})).entry("list").content
    assert listing
    seal(vault, TreeRef(listing, 2, 2, 7))
    (found,) = vault.verify(share=0.0).findings
    assert (found.points, found.files) == ((f"{POINT}0",), ("dataset/d0: a",))
    assert "do not add up" in found.what


def test_digests_that_a_broken_writer_put_down_are_found_when_all_files_are_read(store: MemoryStore) -> None:
    """SHA-256 and MD5, of small files and large ones, in each point that has them; a doubt that only such a run answers."""
    vault, _ = make_vault(store)
    whole = {"large": noise(5_000_000), "small": noise(100), "whole": noise(200)}
    large, small, good = vault.tree(store_tree(vault, whole)).entries()
    assert small.content
    wrong = [replace(large, md5="0" * 32), replace(small, content=replace(small.content, sha256="0" * 64)), good]
    listing = vault.tree(store_tree(vault, {"list": write_entries(wrong)})).entry("list").content
    assert listing
    tree = TreeRef(listing, 3, 3, 5_000_300)
    for number in (0, 1):
        seal(vault, tree, number=number)
    assert vault.verify().ok
    report = vault.verify(share=0.0, files=True)
    named = {(found.points, file) for found in report.findings for file in found.files}
    assert named == {((f"{POINT}{n}",), f"dataset/d0: {path}") for n in (0, 1) for path in ("large", "small")}
    clock = FrozenClock()
    with pytest.raises(IntegrityError):
        verify_points(vault, vault.points(), Thoroughness(files=True), clock)
    clock.advance(60)
    verify_points(vault, vault.points(), 1.0, clock)
    assert all(status.suspect for status in vault.points())


# --- what was put there -----------------------------------------------------------------------------------------------


def test_objects_that_are_no_part_of_a_vault_are_noticed_and_no_failure(vault: Vault, store: MemoryStore) -> None:
    """Wherever they lie; a trial object of the doctor is not worth a word."""
    strangers = {"backup.tar", "packs/zz/hello", f"packs/00/{'1' * 64}", "keys/readme.txt", f"indexes/{'A' * 64}"}
    store.objects |= dict.fromkeys([*strangers, "probe/x"], b"?")
    report = vault.verify()
    assert report.ok
    assert {notice.object for notice in report.notices} == strangers


@pytest.mark.parametrize("kind", ["points/flights/", "marks/"])
def test_a_document_copied_under_another_name_is_named(vault: Vault, store: MemoryStore, kind: str) -> None:
    """Signed as it is, it says where it belongs."""
    vault.mark(Mark("flights", f"{POINT}0", "verified", FrozenClock().now()))
    (key, data), *_ = (
        (key, data) for key, data in store.objects.items() if key.startswith(kind) and f"{POINT}0" in key
    )
    copy = key.replace(f"{POINT}0", f"{POINT}9")
    store.objects[copy] = data
    assert "copied" in finding(vault.verify(share=0.0), copy).what or "holds" in finding(vault.verify(), copy).what


def test_a_manifest_that_comes_back_after_it_expired_is_noticed(vault: Vault, store: MemoryStore) -> None:
    """Half an expiry looks the same, so it is no failure."""
    key = f"points/flights/{POINT}1.json"
    vault.record("expire", key, "removed")
    report = vault.verify(share=0.0)
    assert report.ok
    assert [notice.object for notice in report.notices] == [key]


def test_a_manifest_that_no_record_tells_of_is_noticed(
    vault: Vault, store: MemoryStore, trees: tuple[TreeRef, TreeRef]
) -> None:
    """Its writer was killed between the two, or somebody with the key went past the trail."""
    newest = max(key for key in store.objects if key.startswith("audit/"))
    del store.objects[newest]
    report = vault.verify(share=0.0)
    assert report.ok
    assert [notice.object for notice in report.notices] == [f"points/flights/{POINT}1.json"]


def test_a_vault_that_was_put_back_to_an_older_state_is_noticed_by_whoever_saw_the_newer(
    vault: Vault, store: MemoryStore, trees: tuple[TreeRef, TreeRef]
) -> None:
    """By itself it is whole: only a note elsewhere tells that there was more."""
    older = dict(store.objects)
    seal(vault, trees[0], number=2)
    head = vault.verify(share=0.0).head
    assert vault.verify(share=0.0, heads=[head]).ok
    store.objects = older
    vault = reopen(store)
    assert vault.verify().ok
    (found,) = vault.verify(share=0.0, heads=[head]).findings
    assert head in found.what


def test_what_lies_over_an_object_is_named(store: MemoryStore, trees: tuple[TreeRef, TreeRef]) -> None:
    """A delete marker or a later version, in a store that keeps what is beneath."""
    key = f"points/flights/{POINT}1.json"

    class Versioned(MemoryStore):
        def versions(self) -> Versioned:
            return self

        def hidden(self, prefix: str = "") -> Iterator[Hidden]:
            yield Hidden(key, "delete marker", START)
            yield Hidden("somebody/else", "version", START)

    covered = Versioned()
    covered.objects = store.objects
    (found,) = reopen(covered).verify(share=0.0).findings
    assert (found.object, found.points) == (key, (f"{POINT}1",))
    assert "delete marker" in found.what


# --- what is remembered -----------------------------------------------------------------------------------------------


def test_nothing_builds_on_a_damaged_pack_that_no_verified_point_needs(vault: Vault, store: MemoryStore) -> None:
    """It is noted although no mark speaks of it: also one of a snapshot that was never sealed."""
    store_tree(vault, {"x": noise(50_000, 9)})
    orphan = packs(store)[-2]
    store.objects[orphan] = flip(store.objects[orphan], 100)
    report = examine(vault, vault.points(), Thoroughness(whole=True), FrozenClock())
    assert report.damaged_packs == (orphan.rpartition("/")[2],)
    assert not any(status.suspect for status in vault.points())
    with reopen(store).writer() as writer:
        writer.store_tree([memory_file("x", noise(50_000, 9))])
        assert writer.stats.reused_chunks == 0
    assert vault.verify(share=0.0).ok, "it is known, and nothing needs it"
    assert orphan in {notice.object for notice in vault.verify(share=0.0).notices}


def test_what_was_found_damaged_is_read_again_whatever_the_share(vault: Vault, store: MemoryStore) -> None:
    """A night whose turn it is not finds it all the same, until it is mended."""
    *_, small, _ = packs(store)
    store.objects[small] = flip(store.objects[small], 100)
    with pytest.raises(IntegrityError):
        verify_points(vault, vault.points(), 1.0, FrozenClock())
    assert finding(vault.verify(share=0.0), small).points == (f"{POINT}0", f"{POINT}1")


def test_a_note_of_damage_that_is_damaged_is_named_and_stops_nobody(vault: Vault, store: MemoryStore) -> None:
    """A snapshot goes on without it."""
    vault.healing.note(["ab" * 32])
    (key,) = (key for key in store.objects if key.startswith("damaged/"))
    assert vault.healing.noted() == {"ab" * 32}
    assert vault.verify().ok
    store.objects[key] = flip(store.objects[key], 30)
    assert vault.healing.noted() == set()
    store_tree(reopen(store), {"x": b"x"})
    finding(vault.verify(), key)


def test_the_point_that_is_whole_is_marked_verified_although_another_is_not(vault: Vault, store: MemoryStore) -> None:
    """Unless something was found of which nobody knows what it touches."""
    *_, large = packs(store)
    store.objects[large] = flip(store.objects[large], 100)
    clock = FrozenClock()
    examine(vault, vault.points(), Thoroughness(), clock)
    assert [[mark.kind for mark in status.marks] for status in vault.points()] == [["verified"], ["suspect"]]
    store.objects["RESTORE.md"] += b" "
    clock.advance(60)
    examine(vault, vault.points(), Thoroughness(), clock)
    assert [[mark.kind for mark in status.marks] for status in vault.points()] == [["verified"], ["suspect"] * 2]


# --- whose turn it is -------------------------------------------------------------------------------------------------

names = st.sets(st.binary(min_size=32, max_size=32).map(bytes.hex), min_size=1, max_size=40)
shares = st.one_of(st.integers(1, 100).map(lambda percent: percent / 100), st.integers(1, 60).map(lambda n: 1 / n))


@given(names, shares, st.integers(0, 100_000), st.data())
def test_every_pack_has_its_turn(all_packs: set[str], share: float, first: int, data: st.DataObject) -> None:
    """In any ceil(1/share) turns in a row, each that is there at all of them; others may be added and removed meanwhile."""
    stay = data.draw(st.sets(st.sampled_from(sorted(all_packs))))
    read: set[str] = set()
    for turn in range(first, first + ceil(round(1 / share, 9))):
        there = sorted(stay | data.draw(st.sets(st.sampled_from(sorted(all_packs)))))
        read |= set(chosen(there, share, turn))
    assert stay <= read


def test_a_share_comes_round_in_whatever_rhythm(
    vault: Vault, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It moves on with each verification of the whole that is recorded, whenever that is; one of a single point has no turn."""
    turns: list[int] = []
    monkeypatch.setattr(verify_module, "chosen", lambda packs, _share, turn: turns.append(turn) or packs)
    clock = FrozenClock()
    for days in (0, 1, 7, 14, 7):
        clock.advance(days * 86_400)
        opened = reopen(store, clock=clock)
        examine(opened, opened.points()[:1], Thoroughness(share=0.1), clock)
        examine(opened, opened.points(), Thoroughness(share=0.1, whole=True), clock)
    assert turns[1::2] == [0, 1, 2, 3, 4]


def test_pack_names_are_those_of_their_keys() -> None:
    """What the windows are laid over."""
    name = digest(b"x")
    assert pack_key(name) == f"packs/{name[:2]}/{name}"
    assert chosen([name], 0.0, 0) == []
