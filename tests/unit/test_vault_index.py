"""Which chunk lies in which pack: the table of chunks against a plain dictionary, and what is known of packs."""

from __future__ import annotations

import contextlib
import os
import random
import threading
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import MemoryStore
from muster.errors import IntegrityError
from muster.vault.index import Index, Standing, write_index
from muster.vault.index_objects import LARGEST, open_index
from muster.vault.index_table import ChunkTable
from muster.vault.keys import MasterKey
from muster.vault.layout import digest, pack_key
from muster.vault.packs import ENTRY, Pack, PackBuilder
from muster.vault.vault import Vault
from vaults import make_vault, noise, reopen, seal, store_tree

MASTER = MasterKey(bytes(range(32)))
# Ids that begin alike, as far as the table looks before it compares: within their first byte, 12 bits, 8 bytes, and altogether.
ALIKE = [bytes([n & 1]) + bytes(k) + bytes([n]) * (31 - k) for n in range(6) for k in (0, 7, 20, 30)]


def row(chunk: bytes, offset: int = 40) -> bytes:
    return ENTRY.pack(chunk, offset, 20, 4 + chunk[-1], 0)


def made_up(chunks: Iterable[bytes]) -> Pack:
    """What an index would say of a pack with these chunks, which nobody will read."""
    return Pack(os.urandom(32).hex(), bytes(32), 1000, b"".join(map(row, chunks)))


def stored(store: MemoryStore, *plains: bytes) -> Pack:
    """A real pack in the store."""
    builder = PackBuilder(MASTER)
    for plain in plains:
        builder.add(MASTER.chunk_id(plain), plain, len(plain), 0)
    pack, data = builder.finish()
    store.put(pack_key(pack.name), data)
    return pack


# --- the table --------------------------------------------------------------------------------------------------------


@given(
    directories=st.lists(
        st.lists(st.sampled_from(ALIKE) | st.binary(min_size=32, max_size=32), max_size=40), max_size=12
    ),
    room=st.integers(0, 200),
)
@settings(max_examples=300)
def test_the_table_is_a_dictionary_of_all_copies(directories: list[list[bytes]], room: int) -> None:
    """Every row of every directory is found in its place, in order; nothing else is, however alike the ids begin."""
    table, model = ChunkTable(), dict[bytes, list[tuple[int, int]]]()
    for number, chunks in enumerate(directories):
        if number == 3:
            table.reserve(room)
        table.add(b"".join(map(row, chunks)))
        for ordinal, chunk in enumerate(chunks):
            model.setdefault(chunk, []).append((number, ordinal))
        for chunk in ALIKE:
            assert table.find(chunk) == model.get(chunk, [])
    assert len(table) == sum(map(len, directories))
    for chunk, places in model.items():
        assert table.find(chunk) == places
        assert [table.entry(*place).chunk for place in places] == [chunk] * len(places)
        assert table.find(chunk[:31]) == []


def test_the_table_finds_what_is_there_while_it_grows() -> None:
    """A thread that asks sees every chunk that was added before it asked, also while another adds."""
    table, added, stop = ChunkTable(), list[bytes](), threading.Event()
    failures = list[bytes]()

    def ask() -> None:
        while not stop.is_set():
            failures.extend(chunk for chunk in added[-50:] if len(table.find(chunk)) != 1)

    asking = threading.Thread(target=ask)
    asking.start()
    for _ in range(80):
        chunks = [os.urandom(32) for _ in range(100)]
        table.add(b"".join(map(row, chunks)))
        added.extend(chunks)
    stop.set()
    asking.join()
    assert not failures
    assert all(table.find(chunk) for chunk in added)


# --- what is known of packs -------------------------------------------------------------------------------------------


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_nothing_new_builds_on_what_is_doubted_and_the_best_copy_is_read(data: st.DataObject) -> None:
    """Whatever is learned of packs in whatever order: `holds` asks for a sound copy, `locations` gives all that are there, best first."""
    store = MemoryStore()
    plains = [bytes([n]) * 9 for n in range(5)]
    index, packs = Index(store, MASTER), list[Pack]()
    standings = dict[str, Standing]()
    for number in range(data.draw(st.integers(1, 5))):
        packs.append(
            stored(store, *data.draw(st.lists(st.sampled_from(plains), min_size=1, unique=True)), b"%d" % number)
        )
        index.add(packs[-1])
    names = st.lists(st.sampled_from([pack.name for pack in packs]), max_size=3)
    for _ in range(data.draw(st.integers(0, 4))):
        match data.draw(st.sampled_from(["distrust", "condemn", "lose"])):
            case "distrust":
                index.distrust(some := data.draw(names))
                standings |= {name: max(Standing.DISTRUSTED, standings.get(name, Standing.SOUND)) for name in some}
            case "condemn":
                index.condemn(some := data.draw(names))
                standings |= {name: max(Standing.CONDEMNED, standings.get(name, Standing.SOUND)) for name in some}
            case "lose":
                for name in data.draw(names):
                    standings[name] = Standing.LOST
                    store.objects.pop(pack_key(name), None)
                index.reconcile()
    for pack in packs:
        assert index.standing(pack.name) == standings.get(pack.name, Standing.SOUND)
    for chunk in map(MASTER.chunk_id, plains):
        copies = [pack for pack in packs if any(entry.chunk == chunk for entry in pack.entries())]
        known = [standings.get(pack.name, Standing.SOUND) for pack in copies]
        found = index.locations(chunk)
        assert index.holds(chunk) == (Standing.SOUND in known)
        assert [index.standing(place.pack.name) for place in found] == sorted(s for s in known if s != Standing.LOST)
        assert all(list(place.pack.entries())[place.ordinal] == place.entry for place in found)
        assert index.missing([chunk]) == ([] if found else [chunk])


def test_what_was_said_of_a_pack_before_it_was_known_holds_when_it_is_learned() -> None:
    """Marks and condemnations are read before indexes and packs."""
    store = MemoryStore()
    first, second = stored(store, b"a"), stored(store, b"a", b"b")
    index = Index(store, MASTER)
    index.condemn([first.name])
    index.distrust([second.name])
    assert index.standing(first.name) == Standing.LOST
    assert {pack.name for pack in index.reconcile()} == {first.name, second.name}
    assert [place.pack.name for place in index.locations(MASTER.chunk_id(b"a"))] == [first.name, second.name]
    assert not index.holds(MASTER.chunk_id(b"a"))
    assert not index.missing([MASTER.chunk_id(b"b")])


def test_a_pack_that_comes_back_is_trusted_as_before() -> None:
    """A listing that lacked it, or a replica that gave it back: what was known against it before still counts, its absence does not."""
    store = MemoryStore()
    index, packs = Index(store, MASTER), [stored(store, b"a"), stored(store, b"b")]
    for pack in packs:
        index.add(pack)
    index.condemn([packs[1].name])
    kept = {key: store.objects.pop(key) for key in list(store.objects)}
    index.reconcile()
    assert {index.standing(pack.name) for pack in packs} == {Standing.LOST}
    store.objects |= kept
    index.reconcile()
    assert [index.standing(pack.name) for pack in packs] == [Standing.SOUND, Standing.CONDEMNED]


def test_a_snapshot_does_not_build_on_condemned_packs_and_a_restore_reads_them(tmp_path: object) -> None:
    """The chunks are stored once more, in packs that stay; the old point is read from the old ones."""
    store = MemoryStore()
    vault, _ = make_vault(store)
    tree = store_tree(vault, {"a": noise(5000)})
    old = set(seal(vault, tree).packs)
    later = reopen(store)
    later._index.condemn(old)
    assert later.tree(tree).entries()[0].path == "a"
    again = store_tree(later, {"a": noise(5000)})
    assert again == tree
    assert old.isdisjoint(seal(later, again, number=1).packs)


def test_many_packs_are_listed_folder_by_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """And with the same result."""
    monkeypatch.setattr("muster.vault.index_listing.MANY", 1)
    store = MemoryStore()
    packs = [stored(store, b"%d" % n) for n in range(20)]
    index = Index(store, MASTER)
    index.add(packs[0])
    del store.objects[pack_key(packs[0].name)]
    assert {pack.name for pack in index.reconcile()} == {pack.name for pack in packs[1:]}
    assert index.standing(packs[0].name) == Standing.LOST


# --- bytes ------------------------------------------------------------------------------------------------------------


def test_an_index_names_what_it_replaces_and_is_read_as_format_1() -> None:
    """To a reader that knows nothing of it, the note is a pack that is not there, of chunks that nobody asks for."""
    pack = made_up([bytes([7]) * 32])
    old = [f"indexes/{digest(bytes([n]))}" for n in range(3)]
    data = write_index(MASTER, [pack], old)
    assert open_index(MASTER, f"indexes/{digest(data)}", data) == ([pack], frozenset(old))
    rows = MASTER.index_cipher(data[8:40]).decrypt(bytes(12), data[40:], data[:40])
    assert rows[:76] == bytes(72) + (3).to_bytes(4, "big")
    assert [rows[76 + 45 * n : 76 + 45 * (n + 1)] for n in range(3)] == [
        bytes.fromhex(key.removeprefix("indexes/")) + bytes(13) for key in old
    ]
    assert rows[76 + 45 * 3 :] == bytes.fromhex(pack.name) + pack.salt + (1000).to_bytes(8, "big") + (1).to_bytes(
        4, "big"
    ) + row(bytes([7]) * 32)


def test_a_pack_of_more_chunks_than_any_can_have_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has a key can write an index that would not fit into the table: it is called so, and nothing is mixed up."""
    monkeypatch.setattr("muster.vault.index_objects.MOST_ROWS", 8)
    for rows, refused in ((7, False), (8, True)):
        data = write_index(MASTER, [made_up(os.urandom(32) for _ in range(rows))])
        with pytest.raises(IntegrityError, match="more than any can have") if refused else contextlib.nullcontext():
            open_index(MASTER, f"indexes/{digest(data)}", data)


def test_what_is_much_is_saved_in_several_objects_and_all_of_it_is_read() -> None:
    """No index object is much larger than the limit, so that reading takes little memory whatever the vault."""
    store = MemoryStore()
    packs = [Pack(os.urandom(32).hex(), bytes(32), 1, os.urandom(4_500_000)) for _ in range(5)]
    Index(store, MASTER).save(packs)
    assert len(store.objects) == 2
    assert max(map(len, store.objects.values())) < LARGEST + 100
    index = Index(store, MASTER)
    assert all(index.holds(pack.directory[45 * n : 45 * n + 32]) for pack in packs for n in range(0, 100_000, 999))
    assert index.packs() == {pack.name: pack for pack in packs}


def test_the_index_of_a_vault_is_loaded_once_for_many_threads() -> None:
    """All see the same, and no object is asked for twice."""
    store = MemoryStore()
    vault, _ = make_vault(store)
    store_tree(vault, {"a": noise(5000)})
    index = Index(store, vault_master(vault))
    chunk = next(iter(vault._index.packs().values())).directory[:32]
    found = list[bool]()
    threads = [threading.Thread(target=lambda: found.append(index.holds(chunk))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 8


def vault_master(vault: Vault) -> MasterKey:
    return vault._master


@pytest.mark.parametrize("numpy_pays", [0, 1 << 24])
@pytest.mark.parametrize("copies", [1, 3])
def test_many_chunks_are_found_as_each_one_is(copies: int, numpy_pays: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands at once, those that are there and those that are not, in packs that are sound, condemned, damaged or gone."""
    monkeypatch.setattr("muster.vault.index._NUMPY_PAYS", numpy_pays)
    dice = random.Random(copies)
    packs = [made_up(dice.randbytes(32) for _ in range(500)) for _ in range(8)]
    for _ in range(copies - 1):
        packs += [dice.choice(packs[3:])._replace(name=dice.randbytes(32).hex()) for _ in range(4)]
    index = Index(MemoryStore(), MasterKey.generate())
    index.refresh()
    for pack in packs:
        index.add(pack)
    index.condemn([packs[1].name])
    index.distrust([packs[2].name])
    chunks = [chunk for pack in packs for chunk in pack.chunks()] + [dice.randbytes(32) for _ in range(500)]
    dice.shuffle(chunks)
    names, others = index.sound(chunks)
    best = {chunk: index.best(chunk) for chunk in chunks}
    assert names == {name for name, standing in best.values() if standing == Standing.SOUND}
    assert others == [chunk for chunk in chunks if best[chunk][1] != Standing.SOUND]
    assert {best[chunk][1] for chunk in others} == {Standing.CONDEMNED, Standing.DISTRUSTED, Standing.LOST}
    places = [places[0] if (places := index.locations(chunk)) else None for chunk in chunks]
    assert index.places(chunks) == places
    sizes = [place.entry.size if place else None for place in places]
    assert index.sizes(chunks) == sizes
    assert len(set(sizes)) > 2
    for rest in (list(chunks), [chunk for chunk in chunks if best[chunk][1] == Standing.SOUND]):
        contents = []
        while rest:
            count = dice.randrange(6)
            contents.append(rest[:count])
            del rest[:count]
        each = [index.sizes(content) for content in contents]
        sums = index.sums([chunk for content in contents for chunk in content], list(map(len, contents)))
        assert sums == [None if None in found else sum(size for size in found if size) for found in each]
        assert 0 in sums
    assert index.sound(chunks[:5]) == (
        {best[chunk][0] for chunk in chunks[:5] if best[chunk][1] == Standing.SOUND},
        [chunk for chunk in chunks[:5] if best[chunk][1] != Standing.SOUND],
    )
