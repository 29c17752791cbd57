"""Verification names whatever is not as it was written, and what needs it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from fakes import FrozenClock, MemoryStore
from muster.domain.content import ContentRef, TreeEntry, TreeRef
from muster.domain.recovery_point import Mark
from muster.errors import UsageError
from muster.vault.anchors import Anchor
from muster.vault.layout import digest
from muster.vault.turns import chosen
from muster.vault.vault import Finding, Vault
from vaults import POINT, flip, make_vault, memory_file, noise, reopen, seal, store_tree, summarise, write_entries

KINDS = ("vault.json", "RESTORE.md", "keys/", "packs/", "indexes/", "points/", "marks/", "audit/")


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def trees(store: MemoryStore) -> tuple[TreeRef, TreeRef]:
    """A vault with two points and a mark: ``small`` is in both, ``large`` in the second only."""
    vault, _ = make_vault(store)
    small = store_tree(vault, {"s/a": b"text " * 100, "s/b": noise(2000)})
    large = store_tree(vault, {"l": noise(6_000_000, 5)})
    seal(vault, small, number=0)
    seal(vault, small, large, number=1)
    vault.mark(Mark("flights", f"{POINT}0", "verified", FrozenClock().now()))
    return small, large


@pytest.fixture
def vault(store: MemoryStore, trees: tuple[TreeRef, TreeRef]) -> Vault:
    return reopen(store)


def objects(store: MemoryStore, kind: str) -> Iterator[tuple[str, bytes]]:
    found = [(key, data) for key, data in sorted(store.objects.items()) if key.startswith(kind)]
    assert found, f"there is no {kind} to damage"
    return iter(found)


def found_at(findings: tuple[Finding, ...], key: str) -> Finding:
    there = [finding for finding in findings if finding.object == key]
    assert there, f"{key} is not named in {[str(finding) for finding in findings]}"
    return there[0]


def test_a_whole_vault_has_no_findings(vault: Vault, store: MemoryStore) -> None:
    """And every object of it was read, packs and all."""
    report = vault.verify()
    assert report.ok, [str(finding) for finding in report.findings]
    assert report.objects == len(store.objects)
    assert report.bytes == sum(map(len, store.objects.values()))


@pytest.mark.parametrize("kind", KINDS)
def test_one_wrong_bit_in_any_object_is_named(vault: Vault, store: MemoryStore, kind: str) -> None:
    """At the beginning, in the middle and at the end of every object of every kind."""
    for key, whole in objects(store, kind):
        for at in (0, 9, len(whole) // 3, len(whole) // 2, len(whole) - 9, len(whole) - 1):
            store.objects[key] = flip(whole, at)
            found_at(vault.verify().findings, key)
        store.objects[key] = whole
    assert vault.verify().ok


@pytest.mark.parametrize("kind", KINDS)
def test_any_object_cut_short_is_named(vault: Vault, store: MemoryStore, kind: str) -> None:
    """Also one that is empty; packs even if no pack is read again."""
    for key, whole in objects(store, kind):
        for size in (0, 10, len(whole) - 1):
            store.objects[key] = whole[:size]
            found_at(vault.verify(share=0.0).findings, key)
        store.objects[key] = whole


@pytest.mark.parametrize("kind", KINDS)
def test_any_object_with_something_added_is_named(vault: Vault, store: MemoryStore, kind: str) -> None:
    """Even a line end that means nothing in JSON."""
    for key, whole in objects(store, kind):
        store.objects[key] = whole + b"\n"
        found_at(vault.verify(share=0.0).findings, key)
        store.objects[key] = whole


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("indexes/", "audit/")])
def test_any_object_that_is_missing_is_named(vault: Vault, store: MemoryStore, kind: str) -> None:
    """Instructions, keys, packs, manifests and marks: none can be taken away unnoticed."""
    for key, whole in objects(store, kind):
        del store.objects[key]
        found_at(vault.verify(share=0.0).findings, key)
        store.objects[key] = whole


def test_a_missing_index_is_noticed_harms_nothing_and_is_written_anew(
    vault: Vault, store: MemoryStore, trees: tuple[TreeRef, TreeRef]
) -> None:
    """What it said stands in the packs: restore goes on, the next snapshot mends it."""
    for key, _ in list(objects(store, "indexes/")):
        del store.objects[key]
        assert "no index names pack" in found_at(vault.verify().findings, "indexes/").what
        fresh = reopen(store)
        assert fresh.tree(trees[1]).read(fresh.tree(trees[1]).entry("l")) == noise(6_000_000, 5)
    with reopen(store).writer():
        pass
    assert reopen(store).verify().ok


def test_a_damaged_index_harms_nothing(vault: Vault, store: MemoryStore, trees: tuple[TreeRef, TreeRef]) -> None:
    """Content is read, dedupe works, and the next snapshot writes what it said anew."""
    for key, whole in list(objects(store, "indexes/")):
        store.objects[key] = flip(whole, 100)
    fresh = reopen(store)
    assert fresh.tree(trees[0]).read(fresh.tree(trees[0]).entry("s/b")) == noise(2000)
    with fresh.writer() as writer:
        writer.store_tree([memory_file("s/b", noise(2000))])
        assert writer.stats.reused_chunks >= 1


def test_a_damaged_pack_names_the_points_and_files_that_need_it(vault: Vault, store: MemoryStore) -> None:
    """Of a pack that both points need both are named, of the other's only the one; files are those that are hit."""
    for key, whole in objects(store, "packs/"):
        store.objects[key] = flip(whole, 100)
        finding = found_at(vault.verify().findings, key)
        if len(finding.points) == 2:
            assert finding.files in {("dataset/d0: s/a",), ("dataset/d0: s/b",)}
        else:
            assert finding.points == (f"{POINT}1",)
            assert finding.files == ("dataset/d1: l",)
        assert all(part in str(finding) for part in (key, finding.points[0], finding.files[0]))
        store.objects[key] = whole


def test_a_damaged_copy_is_named_but_no_point_needs_it_if_there_is_a_whole_one(store: MemoryStore) -> None:
    """Two writers that did not know of each other stored the same: the point is as good as before."""
    vault, _ = make_vault(store)
    other = reopen(store)
    with vault.writer() as one, other.writer() as two:
        tree = one.store_tree([memory_file("a", noise(1000))])
        two.store_tree([memory_file("a", noise(1000))])
    seal(vault, tree)
    for key, whole in list(objects(store, "packs/")):
        store.objects[key] = flip(whole, 60)
        (finding,) = reopen(store).verify().findings
        assert (finding.object, finding.points) == (key, ())
        del store.objects[key]
        assert reopen(store).verify().ok
        store.objects[key] = whole


def test_only_the_points_that_are_asked_for_are_searched_for_damage(vault: Vault, store: MemoryStore) -> None:
    """The first point does not need the large file's pack."""
    first = vault.point(f"{POINT}0").point
    (large,) = (key for key, data in objects(store, "packs/") if len(data) > 1_000_000)
    store.objects[large] = flip(store.objects[large], 100)
    assert vault.verify([first]).ok
    assert not vault.verify().ok


def test_a_file_that_is_not_its_digest_is_found_although_all_its_chunks_are_whole(store: MemoryStore) -> None:
    """A list of entries that a broken program wrote: chunks of one file under the digest of another."""
    vault, _ = make_vault(store)
    tree = vault.tree(store_tree(vault, {"a": b"aaa", "b": b"bbb"}))
    a, b = tree.entries()
    wrong: list[TreeEntry] = [replace(a, content=replace(a.content, chunks=b.content.chunks)), b]
    listing = vault.tree(store_tree(vault, {"list": write_entries(wrong)})).entry("list").content
    assert isinstance(listing, ContentRef)
    seal(vault, summarise(listing, wrong))
    assert vault.verify().ok
    (finding,) = vault.verify(share=0.0, files=True).findings
    assert finding.files == ("dataset/d0: a",)
    assert "does not match its digest" in finding.what


def test_a_mark_that_was_taken_away_is_noticed(vault: Vault, store: MemoryStore) -> None:
    """Nobody turns a suspect point into a good one by deleting the mark."""
    vault.mark(Mark("flights", f"{POINT}1", "suspect", FrozenClock().now(), {"reason": "test"}))
    (key,) = (key for key, _ in objects(store, "marks/") if "suspect" in key)
    del store.objects[key]
    finding = found_at(vault.verify(share=0.0).findings, key)
    assert finding.points == (f"{POINT}1",)


def test_a_point_or_mark_put_in_the_place_of_another_is_noticed(vault: Vault, store: MemoryStore) -> None:
    """Validly signed, in its right place, but not the one that was sealed there: only whoever has the key could do it."""
    point = vault.point(f"{POINT}1").point
    key = f"points/flights/{POINT}1.json"
    del store.objects[key]
    vault._points.write(replace(point, objectives={"rpo_s": 1.0}), Anchor((vault.audit()[0].digest,)))
    assert "not the one that the audit trail says" in found_at(vault.verify(share=0.0).findings, key).what


def test_a_mark_of_no_point_is_named(vault: Vault, store: MemoryStore) -> None:
    """Whoever takes a point away leaves its marks behind; those of an expired point are removed later, and are no finding."""
    (mark,) = (key for key, _ in objects(store, "marks/"))
    key = f"points/flights/{POINT}0.json"
    del store.objects[key]
    assert "is not whole or not there" in found_at(vault.verify(share=0.0).findings, mark).what
    vault.record("expire", key, "expired")
    assert vault.verify(share=0.0).ok
    del store.objects[mark]
    assert vault.verify(share=0.0).ok


def test_a_point_whose_expiry_the_store_refused_is_still_missed(vault: Vault, store: MemoryStore) -> None:
    """A removal that did not happen is told as such, so that a later one by somebody else is noticed."""
    key = f"points/flights/{POINT}1.json"
    vault.record("expire", key, "expired")
    vault.record("expire", key, "refused", {"sha256": digest(store.objects[key])})
    assert vault.verify(share=0.0).ok
    del store.objects[key]
    assert "it is gone" in found_at(vault.verify(share=0.0).findings, key).what


def test_an_expired_point_is_not_missed(vault: Vault, store: MemoryStore) -> None:
    """What the trail says was expired may be gone."""
    key = f"points/flights/{POINT}1.json"
    vault.record("expire", key, "removed")
    del store.objects[key]
    assert vault.verify().ok


def test_a_pack_of_a_killed_writer_is_no_finding(vault: Vault, store: MemoryStore) -> None:
    """A pack that no index names and no point needs is what a kill leaves behind."""
    before = set(store.objects)
    store_tree(vault, {"x": noise(5000, 9)})
    for key in set(store.objects) - before:
        if key.startswith("indexes/"):
            del store.objects[key]
    assert vault.verify().ok


def test_noise_under_a_packs_name_is_named(vault: Vault, store: MemoryStore) -> None:
    """Also a pack that nothing needs."""
    data = noise(500)
    key = f"packs/{digest(data)[:2]}/{digest(data)}"
    store.objects[key] = data
    found_at(vault.verify().findings, key)


def test_a_share_is_between_nothing_and_all(vault: Vault) -> None:
    """Anything else is a mistake of the caller."""
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(UsageError, match="not a share"):
            vault.verify(share=share)


def test_the_rolling_share_comes_to_every_pack() -> None:
    """In 1/share times each pack has its turn, and each takes about its share."""
    packs = sorted(digest(str(n).encode()) for n in range(1000))
    for share, times in ((0.1, 10), (0.3, 4), (0.5, 2)):
        turns = [chosen(packs, share, turn) for turn in range(7, 7 + times)]
        assert {pack for turn in turns for pack in turn} == set(packs)
        assert all(abs(len(turn) - share * 1000) < 60 for turn in turns)
    assert chosen(packs, 1.0, 3) == packs
    assert chosen(packs, 0.0, 3) == []
    assert chosen(packs[:1], 0.01, 3) == packs[:1]


def test_progress_reaches_the_whole(vault: Vault, store: MemoryStore) -> None:
    """The last figure of packs and of files is the total."""
    told: dict[str, tuple[int, int | None]] = {}
    vault.verify(files=True, progress=lambda what, done, total: told.update({what: (done, total)}))
    size = sum(len(data) for _, data in objects(store, "packs/"))
    assert told["verify packs"] == (size, size)
    assert told["verify files"][0] == told["verify files"][1]
