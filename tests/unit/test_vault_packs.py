"""Packs, indexes and the lists of trees, byte by byte."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from muster.domain.content import ContentRef, TreeEntry, TreeRef
from muster.errors import IntegrityError, MusterError
from muster.vault.envelope import SigningKey
from muster.vault.header import read_header
from muster.vault.index import read_index, write_index
from muster.vault.keys import MasterKey
from muster.vault.layout import digest
from muster.vault.pack_proof import prove_pack
from muster.vault.packs import ENTRY, FLAG_ZSTD, Pack, PackBuilder, PackEntry, compress, open_chunk, read_pack
from vaults import flip, noise, read_entries, summarise, write_entries

MASTER = MasterKey(bytes(range(32)))
PLAINS = [b"a" * 100_000, noise(200_000), b"", b"tiny"]


def build(plains: list[bytes]) -> tuple[Pack, bytes]:
    builder = PackBuilder(MASTER)
    for plain in plains:
        payload, flags = compress(memoryview(plain))
        builder.add(MASTER.chunk_id(plain), payload, len(plain), flags)
    pack, data = builder.finish()
    return pack, bytes(data)


PACK, DATA = build(PLAINS)
INDEX = write_index(MASTER, [PACK, build([b"other"])[0]])


def ranges(data: bytes):
    return lambda start, length: data[start : start + length]


def open_entry(pack: Pack, ordinal: int, entry: PackEntry, data: bytes = DATA) -> bytes:
    sealed = data[entry.offset : entry.offset + entry.length]
    return open_chunk(MASTER, MASTER.pack_cipher(pack.salt), pack.name, ordinal, entry, sealed)


def test_a_pack_gives_back_what_went_in() -> None:
    """Every chunk comes back from its place, and the directory from the pack's own end."""
    assert read_pack(MASTER, PACK.name, len(DATA), ranges(DATA)) == PACK
    assert [open_entry(PACK, n, entry) for n, entry in enumerate(PACK.entries())] == PLAINS


def test_a_pack_is_named_by_all_its_bytes() -> None:
    """Whoever holds no key can still check a pack."""
    assert PACK.name == digest(DATA)
    assert len(DATA) == PACK.size


def test_a_chunk_does_not_open_in_another_place() -> None:
    """Neither another ordinal, nor another row of the directory, nor another id opens a sealed chunk."""
    first, second = list(PACK.entries())[:2]
    for ordinal, entry in [
        (1, first),
        (0, first._replace(chunk=second.chunk)),
        (0, first._replace(size=first.size + 1)),
        (0, first._replace(flags=0)),
    ]:
        with pytest.raises(IntegrityError, match=PACK.name):
            open_entry(PACK, ordinal, entry)


def test_a_chunk_stored_under_another_id_is_noticed() -> None:
    """A broken writer's chunk opens under its seal, and is refused by its id, and by its length."""
    for chunk, size in ((MASTER.chunk_id(b"other"), 4), (MASTER.chunk_id(b"this"), 5)):
        builder = PackBuilder(MASTER)
        builder.add(chunk, b"this", size, 0)
        pack, data = builder.finish()
        with pytest.raises(IntegrityError, match="does not match its id"):
            open_entry(pack, 0, next(pack.entries()), data)


@given(at=st.integers(0, len(DATA) - 1))
def test_one_wrong_bit_anywhere_in_a_pack_is_noticed(at: int) -> None:
    """By name always; and by the chunk's seal or the directory's: by the whole without its name, and without reading the whole."""
    damaged = flip(DATA, at)
    assert digest(damaged) != PACK.name
    try:
        same_directory = read_pack(MASTER, PACK.name, len(damaged), ranges(damaged)) == PACK
    except IntegrityError:
        same_directory = False
    damage = prove_pack(MASTER, PACK.name, len(damaged), ranges(damaged), PACK).damage
    assert damage
    assert damage.chunks or not same_directory


@pytest.mark.parametrize("known", [PACK, None], ids=["an index names it", "no index names it"])
def test_a_pack_in_the_place_of_another_is_damaged(known: Pack | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole in itself, as large, sealed with the same key and salt, and with all chunks but one: the one is lost, by the index."""
    monkeypatch.setattr(MASTER, "new_salt", lambda: PACK.salt)
    _, data = build([PLAINS[0], noise(200_000, 9), *PLAINS[2:]])
    assert len(data) == PACK.size
    proven = prove_pack(MASTER, PACK.name, len(data), ranges(data), known)
    assert proven.pack is None
    assert proven.damage
    assert "do not match its name" in proven.damage.why
    assert proven.damage.chunks == ({MASTER.chunk_id(PLAINS[1])} if known else set())


def test_an_index_that_is_wrong_does_not_make_a_whole_pack_a_damaged_one() -> None:
    """What it says of rows of the pack is not so: the pack is read by what it says itself, and compared with its name."""
    rows = list(PACK.entries())
    rows[0], rows[1] = rows[0]._replace(chunk=rows[1].chunk), rows[1]._replace(chunk=rows[0].chunk)
    wrong = PACK._replace(directory=b"".join(ENTRY.pack(*row) for row in rows))
    assert prove_pack(MASTER, PACK.name, len(DATA), ranges(DATA), wrong) == (None, PACK)


@given(data=st.binary(max_size=400), cut=st.integers(0, len(DATA)))
def test_no_bytes_make_the_pack_reader_fail_otherwise(data: bytes, cut: int) -> None:
    """Noise, and packs cut short or with noise at their end, are called damaged."""
    for broken in (data, DATA[:cut] + data, DATA[:40] + data + DATA[-16:]):
        if broken != DATA:
            with pytest.raises(IntegrityError):
                read_pack(MASTER, PACK.name, len(broken), ranges(broken))


@pytest.mark.parametrize("call", [0, 1, 2], ids=["header", "footer", "directory"])
@pytest.mark.parametrize("proves", [False, True], ids=["read", "proved"])
def test_a_store_that_gives_fewer_bytes_than_asked_is_noticed(call: int, proves: bool) -> None:
    """Whichever range comes back short: reading the pack fails as for damage, and proving it names damage."""
    asked: list[int] = []

    def short(start: int, length: int) -> bytes:
        asked.append(start)
        return DATA[start : start + (length // 2 if len(asked) == call + 1 else length)]

    if proves:
        assert prove_pack(MASTER, PACK.name, len(DATA), short, None).damage
    else:
        with pytest.raises(IntegrityError, match=PACK.name):
            read_pack(MASTER, PACK.name, len(DATA), short)


def test_an_index_repeats_the_directories_of_packs() -> None:
    """What an index says of a pack is what the pack says of itself."""
    packs = list(read_index(MASTER, f"indexes/{digest(INDEX)}", INDEX))
    assert packs[0] == PACK
    assert len(packs) == 2


def test_an_index_under_another_name_is_refused() -> None:
    """An index is what its name says, or it is nothing."""
    with pytest.raises(IntegrityError, match="do not match its name"):
        read_index(MASTER, f"indexes/{digest(b'other')}", INDEX)


@given(at=st.integers(0, len(INDEX) - 1), noisy=st.binary(max_size=200))
def test_no_bytes_make_the_index_reader_fail_otherwise(at: int, noisy: bytes) -> None:
    """A wrong bit, a missing end and noise are called damage, also under a name that fits."""
    for broken in (flip(INDEX, at), INDEX[:at], noisy):
        for key in (f"indexes/{digest(INDEX)}", f"indexes/{digest(broken)}"):
            with pytest.raises(IntegrityError):
                list(read_index(MASTER, key, broken))


def test_what_does_not_compress_is_stored_as_it_is() -> None:
    """Text shrinks, noise is not touched, and half of each is decided by what the whole gains."""
    assert compress(memoryview(b"text " * 100_000))[1] == FLAG_ZSTD
    assert compress(memoryview(noise(1 << 20)))[1] == 0
    assert compress(memoryview(noise(100)))[1] == 0
    half = noise(1 << 19) + bytes(1 << 19)
    payload, flags = compress(memoryview(half))
    assert flags == FLAG_ZSTD
    assert len(payload) < 0.6 * len(half)


# --- lists of entries -------------------------------------------------------------------------------------------------

CONTENT = ContentRef(3, "ab" * 32, ("cd" * 32,))
ENTRIES = [
    TreeEntry("a", "dir", mode=0o755),
    TreeEntry('a/\u00e4\n"\\\u2028', content=CONTENT, md5="x", mode=0o644, mtime_ns=1),
    TreeEntry("b", "link", link="a/x"),
]


def root_of(entries: list[TreeEntry]) -> TreeRef:
    return summarise(ContentRef(0, "0" * 64, ()), entries)


def test_a_list_of_entries_is_read_as_it_was_written() -> None:
    """Strange names, absent facts, folders and links survive."""
    assert read_entries(write_entries(ENTRIES), root_of(ENTRIES)) == ENTRIES
    assert read_entries(b"", root_of([])) == []


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([ENTRIES[2], ENTRIES[0]], id="not sorted"),
        pytest.param([ENTRIES[0], ENTRIES[0]], id="twice"),
        pytest.param([replace(ENTRIES[1], path="../x")], id="climbs out"),
        pytest.param([replace(ENTRIES[1], path="/etc/passwd")], id="absolute"),
        pytest.param([ENTRIES[2], replace(ENTRIES[1], path="b/x")], id="below a link"),
        pytest.param([replace(ENTRIES[1], path="f"), replace(ENTRIES[1], path="f/x")], id="below a file"),
        pytest.param([replace(ENTRIES[1], content=None)], id="file without content"),
    ],
)
def test_a_list_that_could_not_be_restored_safely_is_refused(entries: list[TreeEntry]) -> None:
    """Even with valid digests a tree may not write outside its folder or through a link."""
    with pytest.raises(IntegrityError):
        read_entries(write_entries(entries), root_of(entries))


def test_a_list_is_reconciled_with_the_sums_that_name_it() -> None:
    """An entry less, or another size, is not the same tree."""
    data = write_entries(ENTRIES)
    ref = root_of(ENTRIES)
    for wrong in (replace(ref, files=2), replace(ref, entries=2), replace(ref, size=4)):
        with pytest.raises(IntegrityError, match="do not add up"):
            read_entries(data, wrong)


@given(data=st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
@settings(max_examples=200)
def test_no_bytes_make_the_readers_of_documents_fail_otherwise(data: bytes) -> None:
    """Headers, envelopes and lists of entries are what they should be, or called damaged."""
    with pytest.raises(MusterError):
        read_header(data)
    with pytest.raises(IntegrityError):
        signer().open("points/a/b.json", data, "application/vnd.in-toto+json")
    if data.strip():
        with pytest.raises(IntegrityError):
            read_entries(data, root_of(ENTRIES))


@functools.cache
def signer() -> SigningKey:
    return SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(32)))


SIGNED = signer().sign("application/x", {"a": [1, "\u00e4"]})


def test_one_wrong_bit_anywhere_in_a_signed_document_is_noticed() -> None:
    """Every single one, also where base64 or JSON would read the same from other bytes."""
    for at in range(len(SIGNED)):
        for bit in range(8):
            damaged = SIGNED[:at] + bytes([SIGNED[at] ^ 1 << bit]) + SIGNED[at + 1 :]
            with pytest.raises(IntegrityError, match="the-key"):
                signer().open("the-key", damaged, "application/x")


def test_a_signed_document_is_of_its_type_and_of_its_vault() -> None:
    """Neither another type nor another vault's signature passes."""
    assert signer().open("k", SIGNED, "application/x") == {"a": [1, "\u00e4"]}
    with pytest.raises(IntegrityError, match="application/x, not"):
        signer().open("k", SIGNED, "application/y")
    with pytest.raises(IntegrityError, match="valid signature"):
        SigningKey(Ed25519PrivateKey.generate()).open("k", SIGNED, "application/x")
