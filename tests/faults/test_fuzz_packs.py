"""Packs, chunks, indexes and lists of entries with anything in them, sealed or not: only errors of ours come out."""

from __future__ import annotations

import functools
import json
import struct
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from fakes import MemoryStore
from faults.fuzzing import ANYTHING, altered, bounded, mutated, ours, raw_json
from faults.sealing_lies import Lie, sealed_index, sealed_pack
from faults.snapshots import FILES, take
from muster.domain.content import ContentRef, TreeEntry, TreeRef
from muster.errors import IntegrityError, MusterError
from muster.vault.changes import compare
from muster.vault.index import Index
from muster.vault.index_objects import open_index
from muster.vault.layout import digest, pack_key
from muster.vault.pack_proof import prove_pack
from muster.vault.packs import ENTRY, MAXIMUM, PackEntry, read_pack
from muster.vault.reader import ChunkReader
from muster.vault.sources import bytes_file
from muster.vault.tree_reader import StoredTree
from muster.vault.trees import encode_rows
from muster.vault.vault import Vault
from vaults import make_vault, read_entries, reopen

SIZES = st.sampled_from([0, 1, 16, 40, 300, 2**24, 2**31, 2**32 - 1]) | st.integers(0, 2**32 - 1)
FLAGS = st.sampled_from([0, 1, 1, 1, 2, 3, 255])
COMPRESSED = zstandard.ZstdCompressor().compress(b"plain " * 100)
PAYLOADS = st.sampled_from([b"plain", b"", COMPRESSED, COMPRESSED * 2]) | mutated(COMPRESSED) | st.binary(max_size=60)


@functools.cache
def vault_of() -> tuple[MemoryStore, Vault]:
    """A vault with one point; no test changes it."""
    store = MemoryStore()
    vault, _ = make_vault(store)
    take(vault, FILES)
    return store, vault


def whole_pack() -> bytes:
    store, _ = vault_of()
    return next(data for key, data in store.objects.items() if key.startswith("packs/"))


def use_pack(data: bytes, wanted: bytes = b"") -> None:
    """All that is done with a pack: adopt it, prove it, read a chunk, through an index that is only what the pack says."""
    _, vault = vault_of()
    name = digest(data)
    store = MemoryStore()
    store.put(pack_key(name), data)

    def read(start: int, length: int) -> bytes:
        return store.get_range(pack_key(name), start, length)

    pack = ours(lambda: read_pack(vault._master, name, len(data), read))
    for known in (None, None if isinstance(pack, MusterError) else pack):
        proven = prove_pack(vault._master, name, len(data), read, known)  # type: ignore[arg-type]
        assert proven.damage or isinstance(pack, tuple)
    index = Index(store, vault._master)
    assert not ours(index.reconcile) or isinstance(pack, tuple)
    reader = ChunkReader(store, vault._master, index)
    chunks = [chunk for one in index.packs().values() for chunk in one.chunks()]
    for chunk in {*chunks[:4], wanted}:
        found = ours(lambda chunk=chunk: reader.fetch([chunk]))  # type: ignore[misc]
        assert isinstance(found, MusterError) or vault._master.chunk_id(found[chunk]) == chunk  # type: ignore[index]


@given(mutated(whole_pack()) | st.binary(max_size=300))
@bounded(150)
def test_any_bytes_are_a_pack_or_damaged(data: bytes) -> None:
    """Nothing is read from a pack that is not the chunk that was wanted."""
    use_pack(data)


LIES = st.builds(Lie, PAYLOADS, SIZES, FLAGS, st.binary(min_size=32, max_size=32), st.none() | SIZES, st.none() | SIZES)


@st.composite
def half_true(draw: st.DrawFn) -> Lie:
    """A chunk that would be right, but for one or two things that are said of it."""
    lie = Lie(COMPRESSED, 600, 1, vault_of()[1]._master.chunk_id(b"plain " * 100))
    wrong = {"size": SIZES, "flags": FLAGS, "offset": SIZES, "length": SIZES, "payload": PAYLOADS}
    names = draw(st.lists(st.sampled_from(sorted(wrong)), max_size=2, unique=True))
    return lie._replace(**{name: draw(wrong[name]) for name in names})


@given(
    st.lists(LIES | half_true(), max_size=4),
    st.none() | st.binary(max_size=100) | st.binary(min_size=45, max_size=45),
    st.none() | SIZES,
)
@bounded(150)
def test_any_pack_with_good_seals_is_read_or_damaged(
    lies: list[Lie], directory: bytes | None, count: int | None
) -> None:
    """Whatever the directory says of chunks, and whatever the chunks are, of which no two are said to be the same."""
    _, vault = vault_of()
    use_pack(sealed_pack(vault._master, lies, directory, count), vault._master.chunk_id(b"plain " * 100))


ROWS = st.builds(
    lambda name, salt, size, count, directory: struct.pack(">32s32sQI", name, salt, size, count) + directory,
    st.sampled_from([bytes(32), b"\1" * 32]) | st.binary(min_size=32, max_size=32),
    st.binary(min_size=32, max_size=32),
    st.integers(0, 2**64 - 1) | SIZES,
    st.integers(0, 3) | SIZES,
    st.lists(
        st.builds(ENTRY.pack, st.binary(min_size=32, max_size=32), SIZES, SIZES, SIZES, FLAGS).map(bytes), max_size=3
    ).map(b"".join),
)


@given(st.lists(ROWS, max_size=4).map(b"".join) | st.binary(max_size=200), st.data())
@bounded(120)
def test_any_index_with_a_good_seal_is_read_or_damaged(rows: bytes, data: st.DataObject) -> None:
    """It may name packs that are not there, stand for others, or for itself: what is stored is read all the same."""
    there, vault = vault_of()
    key, sealed = sealed_index(vault._master, rows)
    sealed = data.draw(st.just(sealed) | st.just(sealed) | mutated(sealed))
    assert isinstance(ours(lambda: open_index(vault._master, key, sealed)), tuple | IntegrityError)
    store = MemoryStore()
    store.objects = {**there.objects, key: sealed, f"indexes/{digest(sealed)}": sealed}
    index = Index(store, vault._master)
    index.reconcile()
    tree = StoredTree(ChunkReader(store, vault._master, index), root_of())
    assert {entry.path: tree.read(entry) for entry in tree.entries()} == FILES


def test_a_sealed_index_may_lie_about_a_pack_that_is_there() -> None:
    """Rows with wrong places, sizes or lengths: the chunk cannot be read from there, and nothing else is given for it."""
    there, vault = vault_of()
    (pack,) = vault._index.packs().values()
    rows = list(pack.entries())

    @given(st.lists(st.tuples(SIZES, SIZES, SIZES, FLAGS), min_size=len(rows), max_size=len(rows)))
    @bounded(100)
    def run(lies: list[tuple[int, int, int, int]]) -> None:
        directory = b"".join(ENTRY.pack(*PackEntry(row.chunk, *lie)) for row, lie in zip(rows, lies, strict=True))
        head = struct.pack(">32s32sQI", bytes.fromhex(pack.name), pack.salt, pack.size, len(rows))
        key, sealed = sealed_index(vault._master, head + directory)
        store = MemoryStore()
        store.objects = {name: data for name, data in there.objects.items() if not name.startswith("indexes/")}
        store.objects[key] = sealed
        tree = StoredTree(ChunkReader(store, vault._master, Index(store, vault._master)), root_of())
        found = ours(lambda: {entry.path: tree.read(entry) for entry in tree.entries()})
        assert found == FILES or isinstance(found, IntegrityError)
        reopen(store).verify(files=True)

    run()


# --- lists of entries -------------------------------------------------------------------------------------------------


@functools.cache
def root_of() -> TreeRef:
    return vault_of()[1].points()[0].point.components[0].tree


@functools.cache
def good_entries() -> list[dict[str, object]]:
    """Entries of every kind whose contents are in the vault."""
    _, vault = vault_of()
    lines = [line for rows in vault.tree(root_of()).lots() for line in encode_rows(rows).splitlines()]
    link = {"path": "link", "kind": "link", "link": "noise"}
    folder = {"path": "zz", "kind": "dir", "mode": 0o700, "mtime_ns": 10**18}
    return sorted([*map(json.loads, lines), link, folder], key=lambda entry: str(entry["path"]))


def reference(lines: bytes, root: ContentRef | None = None) -> TreeRef:
    """A reference that the list adds up to, as far as it adds up to anything."""
    try:
        rows = [json.loads(line) for line in lines.splitlines()]
        sizes = [int(row["content"]["size"]) for row in rows if isinstance(row, dict) and row.get("content")]
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        rows, sizes = [], []
    return TreeRef(root or ContentRef(len(lines), digest(lines), ()), len(sizes), len(rows), sum(sizes))


LISTS = (
    altered(good_entries()).map(
        lambda rows: b"".join(raw_json(row) + b"\n" for row in rows) if isinstance(rows, list) else b""
    )
    | mutated(b"".join(raw_json(row) + b"\n" for row in good_entries()))
    | st.lists(ANYTHING, max_size=3).map(lambda rows: b"".join(raw_json(row) + b"\n" for row in rows))
    | st.binary(max_size=60)
)


@given(LISTS)
@bounded(180)
def test_any_bytes_are_a_list_of_entries_or_none(lines: bytes) -> None:
    """A list that is taken for one can be restored, or the restore says what is wrong."""
    entries = ours(lambda: read_entries(lines, reference(lines)))
    if isinstance(entries, MusterError):
        return
    _, vault = vault_of()
    tree = vault.tree(root_of())
    assert all(isinstance(entry, TreeEntry) for entry in entries)  # type: ignore[union-attr]
    with tempfile.TemporaryDirectory() as folder:
        ours(lambda: tree.extract([(entry, Path(folder, entry.path)) for entry in entries]))  # type: ignore[union-attr]
    for entry in entries:  # type: ignore[union-attr]
        ours(lambda entry=entry: tree.read(entry))  # type: ignore[misc]


@given(LISTS)
@bounded(60)
def test_any_stored_list_can_be_compared_or_not(lines: bytes) -> None:
    """What a snapshot is compared with may be anything, as it stands in the vault with a good digest."""
    _, vault = vault_of()
    with vault.writer() as writer:
        stored = writer.store_tree([bytes_file("list", lines)])
    content = vault.tree(stored).entries()[0].content
    assert content
    tree = vault.tree(reference(lines, content))
    ours(lambda: compare(tree, vault.tree(root_of())))
    ours(lambda: compare(vault.tree(root_of()), tree, "folder/"))
    assert isinstance(ours(tree.entries), list | tuple | MusterError)


@given(st.binary(max_size=200) | st.lists(st.sampled_from(["own", "none"]), max_size=6))
@bounded(60)
def test_any_stored_table_of_pages_leads_to_a_list_or_to_none(given: bytes | list[str]) -> None:
    """Bytes, or ids of chunks that are there and that are not, any number of times."""
    _, vault = vault_of()
    known = {"own": bytes.fromhex(root_of().root.chunks[0]), "none": bytes(32)}
    table = given if isinstance(given, bytes) else b"".join(known[name] for name in given)
    with vault.writer() as writer:
        stored = writer.store_tree([bytes_file("table", table)])
    content = vault.tree(stored).entries()[0].content
    assert content
    ref = replace(root_of(), root=replace(root_of().root, chunks=content.chunks), paged=True)
    found = ours(vault.tree(ref).entries)
    assert isinstance(found, MusterError) or (given == ["own"] and found == vault.tree(root_of()).entries())


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        ({"path": "a/" * 500_000 + "a", "kind": "dir"}, "would leave"),
        ({"path": "a", "kind": "link", "link": "b\0"}, "can have no name"),
        (
            {"path": "a", "kind": "file", "content": {"size": 1, "sha256": "", "chunks": []}, "mtime_ns": "9" * 40},
            "not entries",
        ),
    ],
)
def test_what_no_folder_can_hold_is_no_entry(entry: dict[str, object], what: str) -> None:
    """Paths so deep that looking at all folders above takes hours, links to names with a NUL, times beyond every clock."""
    lines = json.dumps(entry).encode() + b"\n"
    with pytest.raises(IntegrityError, match=what):
        read_entries(lines, reference(lines))


def test_a_chunk_whose_name_is_none_ends_an_extraction(tmp_path: Path) -> None:
    """It is looked up before the file is read."""
    _, vault = vault_of()
    entry = TreeEntry("a", content=ContentRef(1, "0" * 64, ("zz",)))
    with pytest.raises(IntegrityError, match="names a chunk that cannot be"):
        vault.tree(root_of()).extract([(entry, tmp_path / "a")])


def test_the_largest_chunk_is_that_of_the_format() -> None:
    """What these tests take for too large is what docs/format.md says."""
    assert MAXIMUM == 4 * 1024 * 1024
