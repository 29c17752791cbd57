"""How files are read for a snapshot: small ones at once, where they are or side by side, and not at all if nothing changed."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes import MemoryStore
from muster.domain.content import TreeRef
from muster.errors import IncompletePoint, IntegrityError, SourceChanged, SourceInvalid
from muster.ports import LocalFile, SourceFile
from muster.vault import noted as noting
from muster.vault import packs as packing
from muster.vault import writer as writing
from muster.vault.chunking import MINIMUM
from muster.vault.layout import pack_key
from muster.vault.pace import Pace
from muster.vault.reader import ids
from muster.vault.sources import changed_files, folder_files
from muster.vault.trees import Row, Unchanged
from muster.vault.vault import Vault
from vaults import extract, make_vault, memory_file, noise, read_folder, reopen, seal, store_tree


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def vault(store: MemoryStore) -> Vault:
    return make_vault(store)[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Some hundred files in folders whose names sort otherwise than their paths."""
    for number in range(300):
        path = tmp_path / "source" / ("a", "a-b", "a.d", "a/deep")[number % 4] / f"{number:03}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(noise(number, number))
    return tmp_path / "source"


def snapshot(vault: Vault, folder: Path, before: TreeRef | None = None) -> tuple[TreeRef, int, int]:
    """A tree of the folder; how many files were taken over, and how many bytes were read."""
    rows = vault.tree(before).rows() if before else ()
    with vault.writer() as writer:
        tree = writer.store_tree(changed_files(folder, rows))
    return tree, writer.stats.known_files, writer.stats.read_bytes


def test_a_folder_that_did_not_change_is_not_read(vault: Vault, folder: Path, tmp_path: Path) -> None:
    """Nothing is opened: the second snapshot works although nobody could read the files any more; the trees are one."""
    tree, known, _ = snapshot(vault, folder)
    assert known == 0
    listing = tree.root.size
    again, known, read = snapshot(vault, folder, tree)
    assert (again, known, read) == (tree, 300, listing)
    assert extract(vault, again, tmp_path / "back") == read_folder(folder)


def test_only_what_changed_is_read(vault: Vault, folder: Path, tmp_path: Path) -> None:
    """A file with other bytes of the same size, one removed, one new, one with another mode; all else is taken over."""
    tree, _, _ = snapshot(vault, folder)
    (folder / "a" / "100").write_bytes(noise(100, 7))
    (folder / "a-b" / "101").unlink()
    (folder / "a-b" / "new").write_bytes(b"new")
    (folder / "a.d" / "102").chmod(0o600)
    again, known, read = snapshot(vault, folder, tree)
    assert known == 297
    assert read == 100 + 3 + 102 + again.root.size
    back = tmp_path / "back"
    assert extract(vault, again, back) == read_folder(folder)
    assert (back / "a.d" / "102").stat().st_mode & 0o777 == 0o600


def test_what_the_vault_has_lost_is_read_again(vault: Vault, store: MemoryStore, folder: Path, tmp_path: Path) -> None:
    """Nothing changed, and the pack is gone: every file is read, and the new tree is whole."""
    tree, _, _ = snapshot(vault, folder)
    rows = list(vault.tree(tree).rows())
    for key in [key for key in store.objects if key.startswith("packs/")]:
        del store.objects[key]
    later = reopen(store)
    later._index.refresh()
    later._index.reconcile()
    with later.writer() as writer:
        again = writer.store_tree(changed_files(folder, rows))
    assert writer.stats.known_files == 1  # the empty file needs no pack
    assert extract(reopen(store), again, tmp_path / "back") == read_folder(folder)


def test_who_stored_a_tree_seals_it_without_reading_it(
    vault: Vault, store: MemoryStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a writer found and stored is looked up at the seal; another process reads the list, and finds the same packs."""
    before, _, _ = snapshot(vault, folder)
    (folder / "new").write_bytes(b"new")
    tree, known, _ = snapshot(vault, folder, before)
    assert known == 300
    read = store.get_range
    looked: list[str] = []
    monkeypatch.setattr(store, "get_range", lambda *of: looked.append(of[0]) or read(*of))
    sealed = seal(vault, tree)
    assert len(sealed.packs) == 2
    assert not looked
    assert seal(reopen(store), tree, number=1).packs == sealed.packs
    assert looked


def test_memory_for_what_trees_need_is_bounded(
    vault: Vault, store: MemoryStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tree with too many chunks is read at the seal, and so are the first of many trees; points need the same packs all the same."""
    for module in (noting, writing):
        monkeypatch.setattr(module, "MOST", 32 * 400)
    trees = [snapshot(vault, folder)[0], store_tree(vault, {"one": b"1"})]
    (folder / "more").mkdir()
    for number in range(120):
        (folder / "more" / f"{number}").write_bytes(noise(number + 1, 1000 + number))
    trees.append(snapshot(vault, folder)[0])
    assert list(vault._noted._trees) == trees[:2]
    trees.append(store_tree(vault, list(folder_files(folder / "more"))))
    trees.append(store_tree(vault, list(folder_files(folder / "a"))))
    assert vault._noted._size <= 32 * 400
    assert list(vault._noted._trees) == [trees[1], *trees[3:]]
    packs = [seal(vault, tree, number=number).packs for number, tree in enumerate(trees)]
    assert packs == [seal(reopen(store), tree, number=10 + number).packs for number, tree in enumerate(trees)]


def test_a_file_that_is_read_again_does_not_make_a_point_need_what_it_was(
    vault: Vault, store: MemoryStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a file that lost a chunk, and is another by now though nothing tells it, the other chunks are not needed any more."""
    monkeypatch.setattr(packing, "PACK_TARGET", 4096)
    (folder / "large").write_bytes(noise(8 * 1024 * 1024, 7))
    tree, _, _ = snapshot(vault, folder)
    rows = list(vault.tree(tree).rows())
    (content,) = (row.content for row in rows if row.path == "large")
    assert content
    packs = [vault._index.best(chunk)[0] for chunk in ids(content)]
    kept, lost, *_ = [pack for pack in packs if len(list(vault._index.packs()[pack].chunks())) == 1]
    del store.objects[pack_key(lost)]
    found = (folder / "large").stat()
    (folder / "large").write_bytes(noise(8 * 1024 * 1024, 8))
    os.utime(folder / "large", ns=(found.st_atime_ns, found.st_mtime_ns))
    later = reopen(store)
    later._index.refresh()
    later._index.reconcile()
    with later.writer() as writer:
        again = writer.store_tree(changed_files(folder, rows))
    assert writer.stats.known_files > 250
    sealed = seal(later, again)
    assert kept not in sealed.packs
    assert sealed.packs == seal(reopen(store), again, number=1).packs


@pytest.mark.parametrize("again", [False, True], ids=["stored", "taken over"])
def test_what_was_stored_and_is_lost_before_the_seal_is_named(
    vault: Vault, store: MemoryStore, folder: Path, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    """What the writer knows of a tree is held to what the store has when the point is sealed."""
    monkeypatch.setattr(packing, "PACK_TARGET", 4096)
    tree, _, _ = snapshot(vault, folder)
    if again:
        tree, _, _ = snapshot(vault, folder, tree)
    (chunk,) = ids(next(row.content for row in vault.tree(tree).rows() if row.path.endswith("/150") and row.content))
    del store.objects[pack_key(vault._index.best(chunk)[0])]
    with pytest.raises(IncompletePoint, match=r"d0: a[-.a-z]*/\d+ needs chunk [0-9a-f]{64}, which is in no pack"):
        seal(vault, tree)


def test_entries_of_an_earlier_tree_need_not_be_files_of_the_folder(vault: Vault, folder: Path) -> None:
    """Folders and links among them are passed over."""
    rows = [Row(kind="dir", path="a"), Row(kind="link", link="x", path="a-b/101"), Row(kind="dir", path="z")]
    found = list(changed_files(folder, rows))
    assert len(found) == 300
    assert not any(isinstance(one, Unchanged) for one in found)


# --- small files ------------------------------------------------------------------------------------------------------


def test_a_small_file_on_disk_is_held_to_what_its_source_said(vault: Vault, tmp_path: Path) -> None:
    """Longer, shorter, gone, not readable: as for any other file."""
    path = tmp_path / "file"
    path.write_bytes(b"content")
    for size, said in ((3, "size 4 or more instead of 3"), (9, "size 7 instead of 9")):
        with pytest.raises(SourceChanged, match=said):
            store_tree(vault, [SourceFile("f", LocalFile(str(path)), size=size)])
    with pytest.raises(SourceChanged, match="f is no longer there"):
        store_tree(vault, [SourceFile("f", LocalFile(f"{path}-not"), size=7)])
    with pytest.raises(SourceInvalid, match="f cannot be read"):
        store_tree(vault, [SourceFile("f", LocalFile(str(tmp_path)), size=7)])


def test_a_small_file_that_is_written_to_while_it_is_read_fails(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though its size stays the same."""
    path = tmp_path / "file"
    path.write_bytes(b"content")
    read = os.read

    def disturbed(file: int, size: int) -> bytes:
        data = read(file, size)
        if data == b"content":
            path.write_bytes(b"CONTENT")
            os.utime(path, ns=(1, 1))
        return data

    monkeypatch.setattr(os, "read", disturbed)
    with pytest.raises(SourceChanged, match="f changed while it was read"):
        store_tree(vault, [SourceFile("f", LocalFile(str(path)), size=7)])


@pytest.mark.parametrize("content", [b"content", noise(6 * MINIMUM)], ids=["small", "large"])
def test_a_stream_that_gives_its_bytes_in_drops_is_read_to_its_end(vault: Vault, content: bytes) -> None:
    """A short read is not the end of a file."""

    class Drops(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(size or 1, 3) if size and size > 0 else 3)

        def readinto(self, room: Any) -> int:
            return super().readinto(room[:1000])

    tree = store_tree(vault, [SourceFile("f", lambda: Drops(content), size=len(content))])
    assert vault.tree(tree).read(vault.tree(tree).entry("f")) == content


def test_a_stream_that_can_only_be_read_from_is_read(vault: Vault) -> None:
    """Not every client's stream puts bytes where they are wanted."""

    class Plain:
        def __init__(self, content: bytes) -> None:
            self._stream = io.BytesIO(content)
            self.read, self.close = self._stream.read, self._stream.close

        def __enter__(self) -> Plain:
            return self

        def __exit__(self, *_: object) -> None:
            self.close()

    content = noise(9 * MINIMUM)
    tree = store_tree(vault, [SourceFile("f", lambda: Plain(content))])  # type: ignore[arg-type, return-value]
    assert vault.tree(tree).read(vault.tree(tree).entry("f")) == content


# --- pace -------------------------------------------------------------------------------------------------------------


class Waiting:
    """Files that each take a while to be opened, and how many were being opened at the same time at most."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.most, self._now, self._lock = seconds, 0, 0, threading.Lock()

    def files(self, count: int) -> Iterator[SourceFile]:
        return (SourceFile(f"{number:04}", self._open, size=1) for number in range(count))

    def _open(self) -> io.BytesIO:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        time.sleep(self.seconds)
        with self._lock:
            self._now -= 1
        return io.BytesIO(b"x")


def test_files_that_must_be_waited_for_are_waited_for_side_by_side(vault: Vault) -> None:
    """After the first lot, as of a remote that takes three milliseconds a file."""
    slow = Waiting(0.003)
    store_tree(vault, slow.files(640))
    assert slow.most > 1


def test_the_pace_is_looked_at_again() -> None:
    """One lot in 32 is done alone, so that a source which has become quick is noticed."""
    pace = Pace()
    assert not pace.waits
    with pace.measured(1):
        time.sleep(0.05)
    told = [pace.waits for _ in range(64)]
    assert told.count(False) == 2
    with pace.measured(1):
        pass
    assert not pace.waits


class Far(MemoryStore):
    """A store that takes its time for parts of objects, and counts how many are asked for at once."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds, self.most = seconds, 0
        self._now, self._counting = 0, threading.Lock()

    def get_range(self, key: str, start: int, length: int) -> bytes:
        with self._counting:
            self._now += 1
            self.most = max(self.most, self._now)
        time.sleep(self.seconds)
        with self._counting:
            self._now -= 1
        return super().get_range(key, start, length)


@pytest.mark.parametrize("files", [True, False])
@pytest.mark.parametrize(("seconds", "many"), [(0.0, False), (0.2, True)])
def test_more_is_fetched_at_once_from_afar(seconds: float, many: bool, files: bool, tmp_path: Path) -> None:
    """Two pieces as long as they come quickly, more as soon as they do not: by a restore, and by a verification."""
    store = Far(0.0)
    vault, _ = make_vault(store)
    tree = store_tree(vault, {f"{number}": noise(25 << 20, number) for number in range(4)})
    seal(vault, tree)
    store.seconds, store.most = seconds, 0
    if files:
        extract(vault, tree, tmp_path)
    else:
        assert vault.verify().ok
    assert (store.most > 2) == many


# --- long lists -------------------------------------------------------------------------------------------------------


def many(changed: frozenset[int] = frozenset()) -> dict[str, bytes]:
    """Ten thousand files of 16 bytes, some of which changed."""
    return {
        f"{number // 100}/{number:05}": b"%s %11d" % (b"new" if number in changed else b"old", number)
        for number in range(10_000)
    }


def test_of_a_long_list_only_the_pieces_beside_changes_are_stored_anew(vault: Vault, tmp_path: Path) -> None:
    """One file of a hundred, all over the list: less than a third of what the list took is new, and both trees come back."""
    with vault.writer() as writer:
        before = writer.store_tree([memory_file(*item) for item in many().items()])
        whole = writer.stats.new_stored_bytes
    changed = many(frozenset(range(0, 10_000, 100)))
    with vault.writer() as writer:
        after = writer.store_tree([memory_file(*item) for item in changed.items()])
        new = writer.stats.new_stored_bytes
    assert before.paged
    assert after.paged
    assert new < whole / 3
    assert extract(vault, before, tmp_path / "before") == many()
    assert extract(vault, after, tmp_path / "after") == changed


def test_a_damaged_table_of_pages_is_named_and_every_piece_of_a_list_is_needed(
    vault: Vault, store: MemoryStore
) -> None:
    """The point names the packs of the table and of the pages; without either, sealing and verifying say what is missing."""
    with vault.writer() as writer:
        writer.store_tree([memory_file("own pack", noise(10))])
    apart = reopen(store)
    with apart.writer() as writer:
        tree = writer.store_tree([memory_file(*item) for item in many().items()])
    point = seal(reopen(store), tree)
    listed = apart.tree(tree).list_chunks
    assert len(listed) > 100
    assert {apart._index.best(chunk)[0] for chunk in listed} <= set(point.packs)
    (pack,) = {apart._index.best(chunk)[0] for chunk in listed}
    del store.objects[f"packs/{pack[:2]}/{pack}"]
    report = reopen(store).verify()
    assert any("the list of entries of dataset/d0 cannot be read" in str(finding) for finding in report.findings)
    with pytest.raises(IntegrityError, match="is in no pack"):
        reopen(store).tree(tree).entries()
