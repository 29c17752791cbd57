"""Trees: what goes in comes out, and nothing is stored twice."""

from __future__ import annotations

import io
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes import MemoryStore
from muster.domain.content import ContentRef, TreeEntry, TreeRef
from muster.errors import IncompletePoint, IntegrityError, NotFound, SourceChanged, SourceInvalid, TargetNotEmpty
from muster.ports import SourceFile
from muster.vault.vault import Vault
from vaults import (
    disk_file,
    extract,
    listing,
    make_vault,
    memory_file,
    noise,
    reopen,
    seal,
    store_tree,
    summarise,
    write_entries,
)

MiB = 1024 * 1024


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def vault(store: MemoryStore) -> Vault:
    return make_vault(store)[0]


@pytest.mark.parametrize("time", [1 << 63, -(1 << 63) - 1, (1 << 63) - 1, -(1 << 63)])
def test_a_time_that_no_list_can_tell_is_left_out(
    vault: Vault, store: MemoryStore, tmp_path: Path, caplog: pytest.LogCaptureFixture, time: int
) -> None:
    """File systems know times after 2262. The file comes back, and so does everything beside it; the log says what was left out."""
    told = time if -(1 << 63) <= time < 1 << 63 else None
    folder = SourceFile("folder", kind="dir", mode=0o700, mtime_ns=time)
    tree = store_tree(vault, [memory_file("file", b"x", mtime_ns=time), folder, memory_file("other", b"precious")])
    seal(vault, tree)  # by what it noted, without reading the list
    entries = {entry.path: entry for entry in reopen(store).tree(tree).entries()}
    assert [entries["file"].mtime_ns, entries["folder"].mtime_ns] == [told, told]
    assert ("file is stored without its time" in caplog.text) == (told is None)
    if told is None:
        assert extract(reopen(store), tree, tmp_path / "back") == {"file": b"x", "other": b"precious"}
        assert reopen(store).verify().ok


def test_files_of_every_size_and_name_come_back(vault: Vault, store: MemoryStore, tmp_path: Path) -> None:
    """Empty, tiny, of one chunk, of many chunks and several packs, compressible or not, with names in any script."""
    files = {
        "empty": b"",
        "one byte": b"x",
        "a/deep/er/\u00fcml\u00e4ut \u65e5\u672c\u8a9e \U0001f600": b"text " * 1000,
        'line\nbreak and "quotes" \\': b"y",
        "zeros": bytes(9 * MiB),
        "large": noise(40 * MiB),
        "same as large": noise(40 * MiB),
    }
    tree = store_tree(vault, files)
    assert (tree.files, tree.entries, tree.size) == (7, 7, sum(map(len, files.values())))
    assert extract(reopen(store), tree, tmp_path) == files
    assert sum(key.startswith("packs/") for key in store.objects) == 2


def test_a_tree_of_nothing_is_a_tree(vault: Vault, store: MemoryStore, tmp_path: Path) -> None:
    """No files: nothing is restored, and that is right."""
    tree = store_tree(vault, {})
    assert extract(reopen(store), tree, tmp_path) == {}


def test_folders_links_modes_and_times_come_back(vault: Vault, tmp_path: Path) -> None:
    """Also an empty folder, a folder that nobody may write to, a dangling link and a link to a folder."""
    tree = store_tree(
        vault,
        [
            SourceFile("empty folder", kind="dir", mode=0o750),
            SourceFile("closed", kind="dir", mode=0o555, mtime_ns=1_000_000_000_000_000_001),
            memory_file("closed/run.sh", b"#!/bin/sh\n", mode=0o755, mtime_ns=1_234_567_890_123_456_789),
            SourceFile("dangling", kind="link", link="../no/where"),
            SourceFile("to folder", kind="link", link="closed"),
        ],
    )
    extract(vault, tree, tmp_path)
    assert (tmp_path / "empty folder").stat().st_mode & 0o7777 == 0o750
    assert (tmp_path / "closed").stat().st_mode & 0o7777 == 0o555
    assert (tmp_path / "closed").stat().st_mtime_ns == 1_000_000_000_000_000_001
    assert (tmp_path / "closed/run.sh").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "closed/run.sh").stat().st_mtime_ns == 1_234_567_890_123_456_789
    assert (tmp_path / "dangling").readlink() == Path("../no/where")
    assert (tmp_path / "to folder/run.sh").read_bytes() == b"#!/bin/sh\n"


def test_many_small_files_share_packs(vault: Vault, store: MemoryStore, tmp_path: Path) -> None:
    """Two thousand files make one pack, and come back."""
    files = {f"{n % 7}/{n}": noise(100 + n, n) for n in range(2000)}
    tree = store_tree(vault, files)
    assert sum(key.startswith("packs/") for key in store.objects) == 1
    assert extract(reopen(store), tree, tmp_path) == files


def test_the_second_snapshot_stores_nothing_new(vault: Vault, store: MemoryStore) -> None:
    """The same files again: no pack and no index is written."""
    files = {"a": noise(5 * MiB), "b": b"text"}
    first = store_tree(vault, files)
    before = set(store.objects)
    again = reopen(store)
    with again.writer() as writer:
        second = writer.store_tree([memory_file(*item) for item in files.items()])
        assert (writer.stats.new_chunks, writer.stats.new_stored_bytes) == (0, 0)
        assert writer.stats.read_bytes > 5 * MiB
    assert second == first
    assert set(store.objects) == before


def test_one_byte_inserted_into_a_large_file_stores_few_chunks(vault: Vault) -> None:
    """Of 20 MiB about three chunks are new, and the list of entries."""
    before = noise(20 * MiB)
    store_tree(vault, {"f": before})
    with vault.writer() as writer:
        writer.store_tree([memory_file("f", before[: 10 * MiB] + b"!" + before[10 * MiB :])])
        assert 1 <= writer.stats.new_chunks <= 4
        assert writer.stats.reused_chunks >= 10


def test_known_content_is_not_opened(vault: Vault, store: MemoryStore) -> None:
    """A file that an earlier point has is taken over without a read."""
    tree = store_tree(vault, {"a": b"content"})
    known = vault.tree(tree).entry("a").content
    again = reopen(store)
    with again.writer() as writer:
        taken = writer.store_tree([SourceFile("b", _never, size=7, known=known)])
        assert (writer.stats.known_files, writer.stats.reused_chunks) == (1, 1)
    assert again.tree(taken).read(again.tree(taken).entry("b")) == b"content"


def test_known_content_that_the_vault_lacks_is_read(vault: Vault) -> None:
    """A reference to a chunk that is not there, or of another size, is not believed."""
    gone = ContentRef(7, "ab" * 32, ("cd" * 32,))
    tree = store_tree(vault, [memory_file("a", b"content", known=gone)])
    assert vault.tree(tree).read(vault.tree(tree).entry("a")) == b"content"
    known = vault.tree(tree).entry("a").content
    longer = store_tree(vault, [memory_file("a", b"content!", known=known)])
    assert vault.tree(longer).read(vault.tree(longer).entry("a")) == b"content!"


def _never() -> io.BytesIO:
    raise AssertionError("this must not be opened")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"size": 3}, "size 4 or more instead of 3"),
        ({"size": 9}, "size 7 instead of 9"),
        ({"md5": "0" * 32}, "MD5 9a0364b9e99bb480dd25e1f0284c8555 instead of 000"),
    ],
)
def test_a_file_that_is_not_what_the_source_said_fails(vault: Vault, wrong: dict[str, object], said: str) -> None:
    """Both values and the file are named."""
    with pytest.raises(SourceChanged, match=rf"some/file has {said}"):
        store_tree(vault, [memory_file("some/file", b"content", **wrong)])


def test_a_file_that_grows_while_it_is_read_fails(vault: Vault, tmp_path: Path) -> None:
    """Even if neither size nor MD5 was known, the cut is not taken from a file that moves."""
    path = tmp_path / "growing"
    path.write_bytes(noise(5 * MiB))

    class Growing(io.FileIO):
        def readinto(self, room: Any) -> int:
            if not self.tell():
                with path.open("ab") as other:
                    other.write(b"more")
            return super().readinto(room)

    with pytest.raises(SourceChanged, match="growing changed while it was read"):
        store_tree(vault, [SourceFile("growing", lambda: Growing(path))])


def test_a_file_that_never_ends_is_given_up(vault: Vault) -> None:
    """Reading stops as soon as there is more than the source said."""

    class Endless(io.RawIOBase):
        def readinto(self, room: Any) -> int:
            return len(room)

    with pytest.raises(SourceChanged, match="endless has size 1001 or more instead of 1000"):
        store_tree(vault, [SourceFile("endless", Endless, size=1000)])


def test_a_file_that_is_gone_or_cannot_be_read_fails(vault: Vault, tmp_path: Path) -> None:
    """A file that vanished may be retried; one that is a folder or forbidden must be mended."""
    with pytest.raises(SourceChanged, match="vanished is no longer there"):
        store_tree(vault, [disk_file(tmp_path / "vanished")])
    (tmp_path / "folder").mkdir()
    with pytest.raises(SourceInvalid, match="folder cannot be read"):
        store_tree(vault, [disk_file(tmp_path / "folder")])


def test_an_input_output_error_in_the_middle_of_a_file_fails(vault: Vault) -> None:
    """A disk that gives up half way makes no half file."""

    class Broken(io.BytesIO):
        def readinto(self, room: Any) -> int:
            if self.tell():
                raise OSError(5, "Input/output error")
            return super().readinto(room)

    with pytest.raises(SourceInvalid, match=r"disk cannot be read: .*Input/output error"):
        store_tree(vault, [SourceFile("disk", lambda: Broken(noise(9 * MiB)))])


@pytest.mark.parametrize("path", ["", "/abs", "../up", "a/../b", "a//b", "./a", "a/", "nul\0", "bad\udcff"])
def test_a_path_that_could_not_be_restored_is_refused(vault: Vault, path: str) -> None:
    """Bad paths are refused when they are stored, not when they are needed."""
    with pytest.raises(SourceInvalid, match="cannot be stored"):
        store_tree(vault, [memory_file(path, b"")])


def test_paths_that_exclude_each_other_are_refused(vault: Vault) -> None:
    """Not twice the same, and nothing below a file or a link."""
    with pytest.raises(SourceInvalid, match="a comes twice"):
        store_tree(vault, [memory_file("a", b"1"), memory_file("a", b"2")])
    with pytest.raises(SourceInvalid, match="a/b lies below a"):
        store_tree(vault, [memory_file("a", b"1"), memory_file("a/b", b"2")])
    with pytest.raises(SourceInvalid, match="l/b lies below l"):
        store_tree(vault, [SourceFile("l", kind="link", link="/etc"), memory_file("l/b", b"2")])


def test_nothing_is_restored_over_what_is_there(vault: Vault, tmp_path: Path) -> None:
    """A file, a folder or a dangling link in the way stops the restore before it has written anything."""
    tree = store_tree(vault, {"a/x": b"new", "b": b"new"})
    obstacles = [Path("b"), Path("a")]
    for number, obstacle in enumerate(obstacles):
        target = tmp_path / str(number)
        target.mkdir()
        (target / obstacle).write_bytes(b"old")
        with pytest.raises(TargetNotEmpty):
            extract(vault, tree, target)
        assert listing(target) == {str(obstacle)}
        assert (target / obstacle).read_bytes() == b"old"
    dangling = tmp_path / "dangling"
    dangling.mkdir()
    (dangling / "b").symlink_to("nowhere")
    with pytest.raises(TargetNotEmpty, match="b is there already"):
        extract(vault, tree, dangling)


def test_a_damaged_chunk_is_named_with_pack_and_file_and_leaves_no_half_file(
    vault: Vault, store: MemoryStore, tmp_path: Path
) -> None:
    """A small and a large file, each damaged: the message has all three names, and no file of that name appears."""
    for number, size in enumerate((1000, 20 * MiB)):
        tree = store_tree(vault, {"the/file": noise(size, number + 7)})
        pack = vault.tree(tree).entry("the/file")
        (key,) = _packs_with(vault, pack.content)
        whole = store.objects[key]
        store.objects[key] = whole[:100] + bytes([whole[100] ^ 1]) + whole[101:]
        with pytest.raises(IntegrityError, match=rf"the/file: .*{key.rpartition('/')[2]}.*chunk") as raised:
            extract(reopen(store), tree, tmp_path / str(number))
        assert pack.content.chunks[0] in raised.value.message
        assert listing(tmp_path / str(number)) == {"the"}
        store.objects[key] = whole


def _packs_with(vault: Vault, content: ContentRef) -> set[str]:
    names = {vault._index.locations(bytes.fromhex(chunk))[0].pack.name for chunk in content.chunks}
    return {f"packs/{name[:2]}/{name}" for name in names}


def test_a_whole_copy_is_used_if_another_is_damaged(store: MemoryStore, tmp_path: Path) -> None:
    """Two writers that did not know of each other stored the same content: one copy is enough."""
    vault, _ = make_vault(store)
    other = reopen(store)
    files = {"a": noise(1000)}
    with vault.writer() as one, other.writer() as two:
        tree = one.store_tree([memory_file(*item) for item in files.items()])
        two.store_tree([memory_file(*item) for item in files.items()])
    packs = sorted(key for key in store.objects if key.startswith("packs/"))
    assert len(packs) == 2
    for number, key in enumerate(packs):
        whole = store.objects[key]
        for damaged in (whole[:60] + bytes([whole[60] ^ 1]) + whole[61:], None):
            if damaged is None:
                del store.objects[key]
            else:
                store.objects[key] = damaged
            assert extract(reopen(store), tree, tmp_path / f"{number}{damaged is None}") == files
            store.objects[key] = whole


def test_a_tree_says_what_it_does_not_have(vault: Vault) -> None:
    """A path that is not there is not found; a folder has no bytes."""
    tree = vault.tree(store_tree(vault, [SourceFile("d", kind="dir")]))
    with pytest.raises(NotFound, match="no e"):
        tree.entry("e")
    with pytest.raises(IntegrityError, match="d is a dir"):
        tree.read(tree.entry("d"))


def test_a_reference_to_another_tree_is_noticed(vault: Vault) -> None:
    """Counts and sizes in the reference are part of what is checked."""
    tree = store_tree(vault, {"a": b"1"})
    with pytest.raises(IntegrityError, match="do not add up"):
        vault.tree(TreeRef(tree.root, 2, 2, 1)).entries()


@pytest.mark.parametrize("size", [10, 9 * MiB])
def test_a_file_that_is_not_its_digest_is_not_restored(vault: Vault, tmp_path: Path, size: int) -> None:
    """All of its chunks are whole, and yet they are not the file: a list of entries that a broken program wrote."""
    entry = vault.tree(store_tree(vault, {"a": noise(size)})).entry("a")
    assert entry.content
    wrong = [replace(entry, content=replace(entry.content, sha256="0" * 64))]
    written = vault.tree(store_tree(vault, {"list": write_entries(wrong)})).entry("list").content
    with pytest.raises(IntegrityError, match="a does not match its digest"):
        extract(vault, summarise(written, wrong), tmp_path)
    assert listing(tmp_path) == set()


def test_several_writers_of_one_vault_work_side_by_side(vault: Vault, store: MemoryStore, tmp_path: Path) -> None:
    """Components are captured in parallel over one open vault; every tree is whole, and the same content is one."""
    shared = noise(3 * MiB, 99)

    def capture(number: int) -> TreeRef:
        return store_tree(vault, {"shared": shared, "own": noise(MiB, number)})

    with ThreadPoolExecutor(4) as pool:
        trees = list(pool.map(capture, range(4)))
    again = reopen(store)
    for number, tree in enumerate(trees):
        expected = {"shared": shared, "own": noise(MiB, number)}
        assert extract(again, tree, tmp_path / str(number)) == expected
    assert again.verify().ok


def test_progress_counts_the_bytes_that_were_read(vault: Vault) -> None:
    """The last figure is the number of plain bytes."""
    told: list[int] = []
    with vault.writer() as writer:
        writer.store_tree([memory_file("a", bytes(5 * MiB))], lambda what, done, total: told.append(done))
        assert told == sorted(told)
        assert told[-1] == writer.stats.read_bytes


def test_the_restored_files_are_written_by_whom_the_umask_allows(vault: Vault, tmp_path: Path) -> None:
    """Without a stored mode the usual one is taken."""
    tree = store_tree(vault, {"a": b"1"})
    before = os.umask(0o027)
    try:
        extract(vault, tree, tmp_path)
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("chunk", ["zz" * 32, "ab", "ab" * 31 + "  ", "\u0661" * 64])
def test_a_list_that_names_a_chunk_which_cannot_be_is_not_sealed(vault: Vault, chunk: str) -> None:
    """Not hexadecimal, too short, with spaces, digits of another script: our own error names the component."""
    wrong = [TreeEntry("a", content=ContentRef(1, "0" * 64, (chunk,)))]
    written = vault.tree(store_tree(vault, {"list": write_entries(wrong)})).entry("list").content
    assert written
    with pytest.raises(IncompletePoint, match=r"d0: .*a chunk that cannot be"):
        seal(vault, summarise(written, wrong))
