"""Attacks on a rotated vault, by a thief who has an old passphrase and an old signing key, and may write to the store."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fakes import FrozenClock, MemoryStore
from muster.domain.recovery_point import Mark
from muster.errors import IntegrityError, WrongKey
from muster.vault.anchors import Anchor
from muster.vault.audit import AuditTrail
from muster.vault.envelope import SigningKey
from muster.vault.generations import NewGeneration, make_generation
from muster.vault.header import read_header
from muster.vault.index_objects import write_index
from muster.vault.keys import KEY_ID_BYTES, MasterKey
from muster.vault.layout import INDEXES, digest, pack_key
from muster.vault.packs import Pack, PackBuilder
from muster.vault.points import Points
from muster.vault.rolls import make_roll
from muster.vault.slots import SlotMaker, slot_key
from muster.vault.vault import Passphrase, Vault
from vaults import ACTOR, CHEAP, PASSPHRASE, POINT, extract, make_vault, noise, point_over, reopen, seal, store_tree

LEAKED = Passphrase("it stood in a chat")
OLD = {"old": noise(50_000, 5)}
SECRET = {"new": b"what the thief must not read " * 40}


@dataclass
class Thief:
    """Whoever opened the vault before the rotation, kept every key of that time, and may write to the store."""

    store: MemoryStore
    vault: Vault

    @property
    def master(self) -> MasterKey:
        return self.vault._master

    @property
    def signer(self) -> SigningKey:
        return self.vault._authority._signer

    @property
    def points(self) -> Points:
        return Points(self.store, self.signer, self.vault.id)


class Renamed(MasterKey):
    """An old master key that gives its packs a salt of the thief's choice."""

    def __init__(self, master: MasterKey, salt: bytes) -> None:
        super().__init__(master._keys[-1])
        self._salt = salt

    def new_salt(self) -> bytes:
        return self._salt


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def thief(store: MemoryStore) -> Thief:
    vault, _ = make_vault(store)
    seal(vault, store_tree(vault, OLD), number=0)
    vault.add_passphrase("leaver", LEAKED, cost=CHEAP)
    return Thief(store, reopen(store, LEAKED))


@pytest.fixture
def vault(store: MemoryStore, thief: Thief) -> Vault:
    """After the mend: the leaver revoked, the keys rotated, a new point."""
    vault = reopen(store)
    vault.holders.revoke("leaver")
    vault.rotate(vault.rotation.plan((), ()))
    seal(vault, store_tree(vault, SECRET), number=1)
    return vault


def test_a_stolen_passphrase_opens_nothing_any_more(store: MemoryStore, vault: Vault) -> None:
    """Revoked and rotated: the passphrase has no slot."""
    with pytest.raises(WrongKey):
        reopen(store, LEAKED)


def test_a_kept_slot_brings_nobody_to_what_is_new(
    store: MemoryStore, thief: Thief, vault: Vault, tmp_path: Path
) -> None:
    """The thief puts the old slot back: the vault opens, is read as far as the old key goes, and not written to."""
    slot = SlotMaker(thief.master, vault.id, "2026-11-23T02:00:00Z").passphrase("leaver", LEAKED, CHEAP)
    store.put(slot_key(slot), slot)
    back = reopen(store, LEAKED)
    assert back.outdated
    (component,) = back.point(f"{POINT}1").point.components
    with pytest.raises(IntegrityError):
        extract(back, component.tree, tmp_path)
    with pytest.raises(WrongKey):
        store_tree(back, {"a": b"x"})
    assert [holder.slot.name for holder in vault.holders.current()] == ["first", "recovery"]


def test_no_old_key_opens_what_was_stored_after_the_rotation(store: MemoryStore, thief: Thief, vault: Vault) -> None:
    """Neither packs nor indexes nor the box of the new generation: by trying every cipher that follows from the old key."""
    new = [key for key, data in store.objects.items() if data[8:16] == vault._master.key_id]
    assert any(key.startswith("packs/") for key in new)
    everything = b"".join(store.objects.values())
    assert vault._master._keys[-1] not in everything
    assert vault._master._keys[-1].hex().encode() not in everything
    assert thief.master._keys[-1].hex().encode() not in everything
    for key in new:
        data = store.objects[key]
        for cipher in (thief.master.pack_cipher(data[8:40]), thief.master.index_cipher(data[8:40])):
            for nonce, sealed in ((bytes(12), data[40:]), (b"\xff" * 12, data[40:-16])):
                with pytest.raises(InvalidTag):
                    cipher.decrypt(nonce, sealed, data[:40])


def test_a_forged_manifest_does_not_count(store: MemoryStore, thief: Thief, vault: Vault) -> None:
    """Signed with the old key, after the rotation: it is named, and never the latest good point."""
    forged = replace(point_over(thief.vault, number=9), packs=())
    thief.points.write(forged, Anchor(("0" * 64,)))
    with pytest.raises(
        IntegrityError, match=f"{POINT}9.json was signed with the key of generation 0, which was replaced"
    ):
        vault.point("latest")
    with pytest.raises(IntegrityError, match=f"{POINT}9.json"):
        reopen(store).points()
    assert [status.point.point for status in vault.readable_points()] == [f"{POINT}0", f"{POINT}1"]
    assert not vault.verify().ok


@pytest.mark.parametrize("kind", ["suspect", "verified", "held", "expired"])
def test_a_forged_mark_does_not_count(store: MemoryStore, thief: Thief, vault: Vault, kind: str) -> None:
    """Neither against a good point nor for a bad one."""
    thief.points.write_mark(Mark("flights", f"{POINT}0", kind, FrozenClock().now(), {"reason": "forged"}))  # type: ignore[arg-type]
    with pytest.raises(IntegrityError, match=f"marks/{POINT}0/{kind}.* was signed with the key of generation 0"):
        vault.points()
    for status in vault.readable_points():
        assert status.marks == ()
    assert not vault.verify().ok


def test_a_forged_audit_record_does_not_count(store: MemoryStore, thief: Thief, vault: Vault) -> None:
    """Not even one that tells of the thief as of a holder: the trail names it and goes on beside it."""
    header = read_header(store.objects["vault.json"])
    planted = SlotMaker(thief.master, vault.id, "2026-11-23T02:00:00Z").passphrase("admin", LEAKED, CHEAP)
    store.put(slot_key(planted), planted)
    forged = AuditTrail(store, thief.signer, header).append(
        FrozenClock().now(), ACTOR, "keys.add", slot_key(planted), "added", {"name": "admin", "sha256": digest(planted)}
    )
    with pytest.raises(IntegrityError, match=f"{forged.digest}.json was signed with the key of generation 0"):
        vault.audit()
    assert forged.digest not in {record.digest for record in vault._trail.readable()}
    assert [holder.slot.name for holder in reopen(store).holders.current()] == ["first", "recovery"]
    vault.record("a", "b", "c")
    assert any(record.action == "a" for record in reopen(store)._trail.readable())


def test_a_forged_rotation_does_not_count(store: MemoryStore, thief: Thief, vault: Vault) -> None:
    """A generation that the old key signs does not follow the new one; the thief's keys get nobody in."""
    for before in (vault._authority.chain.generations[0], vault._authority.chain.newest):
        master, signer = thief.master.successor(), SigningKey(Ed25519PrivateKey.generate())
        slot = SlotMaker(master, vault.id, "2026-11-23T02:00:00Z").passphrase("admin", LEAKED, CHEAP)
        roll_key, roll = make_roll(signer, vault.id, before.number + 1, FrozenClock().now(), [])
        new = NewGeneration(master, signer, FrozenClock().now(), ACTOR, (digest(slot),), digest(roll), "0" * 64)
        free = reopen(store)._authority.chain.free
        for key, data in (
            (slot_key(slot), slot),
            (roll_key, roll),
            (free, make_generation(before, thief.signer, new)),
        ):
            store.put(key, data)
    opened = reopen(store)
    assert opened._authority.chain.newest.digest == vault._authority.chain.newest.digest
    assert len(opened._authority.chain.foreign) == 2
    assert len(opened.points()) == 2
    with pytest.raises(IntegrityError):
        reopen(store, LEAKED)
    opened.rotate(opened.rotation.plan((), ()))
    assert not reopen(store).outdated


def test_a_forged_roll_lets_nothing_count(store: MemoryStore, thief: Thief, vault: Vault) -> None:
    """A roll of the new generation that the old key signs is none."""
    forged = replace(point_over(thief.vault, number=9), packs=())
    name = thief.points.write(forged, Anchor(("0" * 64,)))
    store.put(*make_roll(thief.signer, vault.id, 1, FrozenClock().now(), [name]))
    with pytest.raises(IntegrityError, match="was signed with the key of generation 0"):
        reopen(store).points()


def test_a_forged_pack_is_not_built_on(store: MemoryStore, thief: Thief, vault: Vault, tmp_path: Path) -> None:
    """
    The thief seals, with the old key, a pack that claims to hold a chunk of tomorrow's file and holds rubbish. A snapshot must store that
    chunk all the same.
    """
    tomorrow = b"tomorrow's numbers " * 500
    builder = PackBuilder(thief.master)
    builder.add(thief.master.chunk_id(tomorrow), b"rubbish", len(tomorrow), 0)
    pack, data = builder.finish()
    store.put(pack_key(pack.name), data)
    writer = reopen(store)
    tree = store_tree(writer, {"tomorrow": tomorrow})
    seal(writer, tree, number=2)
    assert pack.name not in writer.point(f"{POINT}2").point.packs
    assert extract(reopen(store), tree, tmp_path) == {"tomorrow": tomorrow}


def test_a_forged_index_is_not_believed(store: MemoryStore, thief: Thief, vault: Vault, tmp_path: Path) -> None:
    """
    The thief writes, with the old key, an index that claims of a pack that is there that it holds a chunk of tomorrow's file. A snapshot
    must store that chunk all the same.
    """
    tomorrow = b"tomorrow's numbers " * 500
    there = next(pack for pack in thief.vault._index.packs().values()) if thief.vault._index.packs() else None
    if there is None:
        thief.vault._index.refresh()
        there = next(iter(thief.vault._index.packs().values()))
    row = thief.master.chunk_id(tomorrow) + there.directory[32:45]
    data = write_index(thief.master, [Pack(there.name, there.salt, there.size, row)])
    store.put(f"{INDEXES}{digest(data)}", data)
    writer = reopen(store)
    tree = store_tree(writer, {"tomorrow": tomorrow})
    seal(writer, tree, number=2)
    assert extract(reopen(store), tree, tmp_path) == {"tomorrow": tomorrow}


def test_the_name_of_the_new_key_makes_no_pack_of_the_old_one_new(
    store: MemoryStore, thief: Thief, vault: Vault
) -> None:
    """The first bytes of a salt are no secret; a pack that has them and was sealed with the old key does not open."""
    tomorrow = b"tomorrow's numbers " * 500
    builder = PackBuilder(Renamed(thief.master, vault._master.key_id + bytes(32 - KEY_ID_BYTES)))
    builder.add(thief.master.chunk_id(tomorrow), b"rubbish", len(tomorrow), 0)
    pack, data = builder.finish()
    store.put(pack_key(pack.name), data)
    opened = reopen(store)
    assert opened._index.missing([thief.master.chunk_id(tomorrow)])


def test_what_a_thief_did_between_two_rotations_does_not_count_after_the_second(
    store: MemoryStore, thief: Thief, vault: Vault
) -> None:
    """Settling the second takes in what the key before it signed, not what older ones did."""
    forged = replace(point_over(thief.vault, number=9), packs=())
    thief.points.write(forged, Anchor(("0" * 64,)))
    vault.rotate(vault.rotation.plan((), ()))
    with pytest.raises(IntegrityError, match=f"{POINT}9.json was signed with the key of generation 0"):
        reopen(store).points()


def test_all_that_a_thief_left_is_listed_before_it_is_adopted(store: MemoryStore, thief: Thief, vault: Vault) -> None:
    """Whoever cleans up sees every object that only the old key vouches for, and none of the others."""
    forged = replace(point_over(thief.vault, number=9), packs=())
    thief.points.write(forged, Anchor(("0" * 64,)))
    builder = PackBuilder(thief.master)
    builder.add(bytes(32), b"rubbish", 7, 0)
    pack, data = builder.finish()
    store.put(pack_key(pack.name), data)
    found = {verdict.key for verdict in reopen(store, PASSPHRASE).rotation.late()}
    assert found == {f"points/flights/{POINT}9.json", pack_key(pack.name)}
