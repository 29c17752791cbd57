"""An attacker who may also write over and delete objects, in a store that locks none: docs/threat-model.md names each test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fakes import MemoryStore
from faults.attackers import FIRST, SECOND, Site, assert_content_safe, named, restored
from muster.adapters.local_store import LocalStore
from muster.adapters.system_clock import SystemClock
from muster.cli import main as cli
from muster.codec import canonical
from muster.domain.retention import RetentionPolicy
from muster.errors import AlreadyExists, IntegrityError, WrongKey
from muster.operations.expire import expire_points
from muster.operations.seen import SeenHeads
from muster.operations.verify import Thoroughness
from muster.vault.header import make_header
from muster.vault.holders import RecoveryKey
from muster.vault.keys import MasterKey
from muster.vault.layout import digest
from muster.vault.slots import SlotMaker, slot_key
from muster.vault.vault import Passphrase, Vault
from vaults import ACTOR, CHEAP, PASSPHRASE, POINT, seal, store_tree, verify_points


@pytest.fixture
def site() -> Site:
    return Site()


def forged_vault(recovery: RecoveryKey) -> dict[str, bytes]:
    """
    A whole vault of the attacker's own making which the victim's recovery key opens: its slot tells the public part of that key, and
    that is enough to wrap another master key for it.
    """
    place, words = MemoryStore(), Passphrase("the attacker's own")
    Vault.create(place, words, clock=SystemClock(), actor=ACTOR, cost=CHEAP)
    opened = Vault.open(place, words, clock=SystemClock(), actor=ACTOR)
    seal(opened, store_tree(opened, {"model.pkl": b"poison"}), number=7)
    slot = SlotMaker(opened._master, opened.id, "2026-11-23T02:00:00Z").recovery(
        "recovery", recovery.private().public_key()
    )
    return {**place.objects, slot_key(slot): slot}


# --- vault.json -------------------------------------------------------------------------------------------------------


def test_another_vault_json_opens_nothing(site: Site) -> None:
    """Neither that of another vault nor one with the id and the fingerprint of this: whoever has a key is told that it was forged."""
    header = site.store.objects["vault.json"]
    master = MasterKey.generate()
    own = make_header(master, site.open().id, site.clock.now(), ACTOR, restore_sha256=digest(b""), slots=[])
    altered = header.replace(b"pytest", b"pyt3st")
    for forged in (own, altered):
        site.store.objects["vault.json"] = forged
        for secret in (PASSPHRASE, site.recovery):
            with pytest.raises(IntegrityError, match=r"vault\.json"):
                site.open(secret)
    site.store.objects["vault.json"] = header
    assert_content_safe(site)


def test_a_vault_put_in_the_place_of_ours_does_not_open_with_the_passphrase(site: Site) -> None:
    """Nobody can wrap a key for a passphrase that they do not know: the next nightly run fails and says so."""
    site.store.objects = forged_vault(site.recovery)
    with pytest.raises(WrongKey):
        site.open()


def test_a_vault_put_in_the_place_of_ours_opens_with_the_recovery_key_and_has_another_fingerprint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The one substitution that succeeds; whoever kept the fingerprint beside the recovery key, and gives it, is told."""
    folder = tmp_path / "vault"
    vault, recovery = Vault.create(LocalStore(folder), PASSPHRASE, clock=SystemClock(), actor=ACTOR, cost=CHEAP)
    (tmp_path / "key").write_text(recovery.text)
    opening = ["--vault", str(folder), "--recovery-key-file", str(tmp_path / "key"), "--fingerprint"]
    kept = vault.holders.fingerprint
    for right in (kept, kept[:32], " ".join(kept[i : i + 8] for i in range(0, 64, 8)).upper()):
        assert cli.run([*opening, right, "keys", "list"]) == 0
    folder.rename(tmp_path / "ours")
    for key, data in forged_vault(recovery).items():
        LocalStore(folder).put(key, data)
    assert cli.run([*opening[:-1], "show", f"{POINT}7"]) == 0, "without the fingerprint it is taken for ours"
    assert cli.run([*opening, kept, "show", f"{POINT}7"]) == 3
    assert "put another vault in its place" in capsys.readouterr().err
    for wrong in (kept[:31], "g" * 64, ""):
        assert cli.run([*opening, wrong, "points"]) == 2


def test_the_fingerprint_stays_when_the_keys_are_rotated(site: Site) -> None:
    """It is that of the first key, from which all others follow; the one that signs now is another."""
    vault = site.open()
    kept = vault.holders.fingerprint
    vault.rotate(vault.rotation.plan((), ()))
    assert site.open().holders.fingerprint == kept != site.open().signing_fingerprint


def test_a_fingerprint_cannot_be_borrowed(site: Site) -> None:
    """A forged vault that names our public key as its own, with another private one sealed in it, opens for nobody."""
    ours = json.loads(site.store.objects["vault.json"])
    place, words = MemoryStore(), Passphrase("the attacker's own")
    forger, _ = Vault.create(place, words, clock=site.clock, actor=ACTOR, cost=CHEAP)
    header = json.loads(place.objects["vault.json"])
    del header["sealed_signing_key"]
    header |= {name: ours[name] for name in ("signing_key", "fingerprint")}
    private = Ed25519PrivateKey.generate().private_bytes_raw()
    sealed = forger._master.signing_cipher(forger.id).encrypt(bytes(12), private, canonical(header))
    box = {"nonce": bytes(12).hex(), "sealed": sealed.hex()}
    place.objects["vault.json"] = canonical(header | {"sealed_signing_key": box})
    with pytest.raises(IntegrityError, match=r"vault\.json"):
        Vault.open(place, words, clock=site.clock, actor=ACTOR)


# --- what can be read wrong -------------------------------------------------------------------------------------------


def test_rubbish_of_the_right_size_is_built_upon_until_it_is_read(site: Site) -> None:
    """
    A snapshot compares names and sizes of packs, and reads none of the files in them: points that reuse a pack which was written over
    are lost with it. The first verification that reads it says so, and from then on what it held is stored anew.
    """
    (pack,) = (key for key in site.keys("packs/") if len(site.store.objects[key]) > 4000)
    whole = site.store.objects[pack]
    site.store.objects[pack] = whole[:100] + bytes(2000) + whole[2100:]
    site.seal(site.open(), store_tree(site.open(), FIRST), number=2)
    assert not isinstance(restored(site.open(), 2), dict)
    assert site.open().verify(share=0.0).ok
    with pytest.raises(IntegrityError, match=pack):
        verify_points(site.open(), site.open().points(), Thoroughness(whole=True), site.clock)
    site.seal(site.open(), store_tree(site.open(), FIRST), number=3)
    assert restored(site.open(), 3) == FIRST


# --- what is taken away -----------------------------------------------------------------------------------------------


def test_the_newest_point_and_all_that_speaks_of_it_can_be_cut_off_unless_somebody_saw_it(
    site: Site, tmp_path: Path
) -> None:
    """
    With the records after the point before it the vault looks like that of yesterday. Whoever verified it since has noted a record
    outside of it, and misses it.
    """
    yesterday = dict(site.store.objects)
    site.seal(site.open(), site.trees[0], number=2)
    seen = SeenHeads(tmp_path)
    seen.note(site.open(), site.open().verify())
    site.store.objects = yesterday
    assert site.open().verify().ok
    assert len(site.open().points()) == 2
    asked = seen.asked_for(Thoroughness(), site.open())
    assert named(site.open().verify(heads=asked.heads)) == {"audit/"}


def test_a_point_alone_cannot_be_taken_away_unnoticed(site: Site) -> None:
    """The trail says that it was sealed. Put back from a copy, by its name alone, it is what it was."""
    newest = site.keys("points/")[-1]
    kept = site.take(newest)
    assert newest in named(site.open().verify(share=0.0))
    assert restored(site.open(), 0) == FIRST
    site.store.put(newest, kept[newest])
    assert site.open().verify().ok
    assert restored(site.open(), 1) == SECOND


def test_without_its_suspect_mark_a_point_is_the_latest_until_a_verification_misses_the_mark(site: Site) -> None:
    """``latest`` asks the marks and not the trail; what a snapshot itself found stays, for it stands in the manifest."""
    assert site.open().point("latest").point.point == f"{POINT}0"
    (mark,) = (key for key in site.keys(f"marks/{POINT}1/") if "/suspect-" in key)
    site.take(mark)
    assert site.open().point("latest").point.point == f"{POINT}1"
    assert named(site.open().verify(share=0.0)) == {mark}


def test_without_its_hold_a_point_does_not_expire(site: Site) -> None:
    """Before anything is removed the trail is read, and it tells of the hold: everything stays."""
    (mark,) = (key for key in site.keys(f"marks/{POINT}1/") if "/held-" in key)
    site.take(mark)
    there = set(site.store.objects)
    with pytest.raises(IntegrityError, match=mark):
        expire_points(site.open(), {"flights": RetentionPolicy(last=1)}, site.clock, apply=True)
    assert there <= set(site.store.objects)


@pytest.mark.parametrize("kind", ["condemned/", "damaged/"])
def test_without_a_note_of_damage_or_a_condemnation_only_time_is_lost(site: Site, kind: str) -> None:
    """Nothing tells that it was there. Damage is found again by the next reading; packs that nobody needs wait for another grace."""
    vault = site.open()
    (pack,) = (key.rpartition("/")[2] for key in site.keys("packs/")[:1])
    if kind == "damaged/":
        vault.healing.note([pack])
    else:
        vault._condemned.write([pack], site.clock.now())
    site.take(site.key(kind))
    assert site.open().verify().ok
    assert_content_safe(site)


@pytest.mark.parametrize("every", [False, True])
def test_without_indexes_everything_is_found_all_the_same(site: Site, every: bool) -> None:
    """Packs say themselves what is in them; the next writer makes another index, and a verification is content again."""
    site.take(*site.keys("indexes/")[: None if every else 1])
    assert named(site.open().verify()) == {"indexes/"}
    assert_content_safe(site)
    assert site.open().verify().ok


def test_without_a_pack_all_that_need_it_are_named_and_the_next_snapshot_mends_them(site: Site) -> None:
    """What is still at its source is stored anew, for the old points too; what is not, a replica has (test_vault_heal.py)."""
    site.take(*site.keys("packs/")[:1])
    report = site.open().verify(share=0.0)
    assert {point for finding in report.findings for point in finding.points}
    for files in (FIRST, SECOND):
        store_tree(site.open(), files)
    assert [restored(site.open(), number) for number in (0, 1)] == [FIRST, SECOND]


def test_a_pack_that_was_moved_to_another_folder_is_missing(site: Site) -> None:
    """By its name alone it would still be there, and a snapshot would build on what no restore finds."""
    (pack,) = (key for key in site.keys("packs/") if len(site.store.objects[key]) > 4000)
    site.store.put(f"packs/zz/{pack.rpartition('/')[2]}", site.take(pack)[pack])
    assert pack in named(site.open().verify(share=0.0))
    site.seal(site.open(), store_tree(site.open(), FIRST), number=2)
    assert restored(site.open(), 2) == FIRST


def test_without_any_slot_nobody_comes_in_and_any_copy_of_one_lets_its_holder_in_again(site: Site) -> None:
    """A slot is 700 bytes, useless without its secret: a copy in another place, or in a replica, is enough."""
    slots = site.take(*site.keys("keys/"))
    for secret in (PASSPHRASE, site.recovery):
        with pytest.raises(IntegrityError, match="has no key slots any more"):
            site.open(secret)
    assert all(len(slot) < 1000 for slot in slots.values())
    recovery = max(slots, key=lambda key: b'"recovery"' in slots[key])
    site.store.put(recovery, slots[recovery])
    assert restored(site.open(site.recovery), 1) == SECOND
    assert named(site.open(site.recovery).verify()) == slots.keys() - {recovery}


def test_without_vault_json_there_is_no_vault_until_its_copy_is_back_and_none_is_made_over_it(site: Site) -> None:
    """``muster init`` in its place is refused: with a new ``vault.json`` there the old one could not come back."""
    kept = site.take("vault.json")
    with pytest.raises(IntegrityError, match=r"no vault\.json: that of the vault that lies there is gone"):
        site.open()
    with pytest.raises(AlreadyExists, match="that of the vault that lies there is gone"):
        Vault.create(site.store, PASSPHRASE, clock=site.clock, actor=ACTOR, cost=CHEAP)
    site.store.objects |= kept
    assert_content_safe(site)


def test_without_the_first_record_or_one_in_between_the_trail_is_broken_and_nothing_expires(site: Site) -> None:
    """The content is untouched; records that others name come back from a replica under their names."""
    for key in site.keys("audit/")[:-1]:
        kept = site.take(key)
        assert not site.open().verify(share=0.0).ok
        assert restored(site.open(), 0) == FIRST
        with pytest.raises(IntegrityError, match="nothing was removed"):
            site.open().expiry.survey()
        site.store.objects |= kept
    assert site.open().verify().ok
