"""A thief of a passphrase, before it is revoked, between that and a rotation, and after: docs/threat-model.md names each test."""

from __future__ import annotations

import pytest

from faults.attackers import FIRST, SECOND, THEIRS, Site, named, noticed, restored
from muster.errors import AlreadyExists, IntegrityError, WrongKey
from muster.vault.vault import Actor, Vault
from vaults import CHEAP, POINT, store_tree


@pytest.fixture
def site() -> Site:
    """The vault, with the passphrase that is going to be stolen as a holder of its own."""
    made = Site()
    made.open().add_passphrase("stolen", THEIRS, cost=CHEAP)
    return made


def rotate(site: Site) -> None:
    vault = site.open()
    vault.rotate(vault.rotation.plan((), ()))


def test_a_stolen_passphrase_reads_everything_and_signs_whatever_it_likes(site: Site) -> None:
    """Until it is revoked and the keys are rotated; the trail says when, and who the thief claimed to be."""
    thief = Vault.open(site.store, THEIRS, clock=site.clock, actor=Actor("the night shift", "trusted-host", "cli"))
    assert restored(thief, 1) == SECOND
    site.seal(thief, store_tree(thief, {"model.pkl": b"poison"}), number=7)
    assert site.open().point("latest").point.point == f"{POINT}7"
    assert site.open().verify().ok
    record = site.open().audit()[-1]
    assert (record.action, record.actor.name) == ("seal", "the night shift")


def test_a_passphrase_without_its_slot_opens_nothing(site: Site) -> None:
    """Revoked, and no copy of the slot was kept: the words alone are worth nothing."""
    site.open().holders.revoke("stolen")
    with pytest.raises(WrongKey):
        site.open(THEIRS)


def test_a_kept_slot_opens_a_vault_whose_keys_were_not_rotated(site: Site) -> None:
    """Revoking alone shuts out nobody who copied the slot: put back, it opens all, the new points too. A verification tells of it."""
    kept = {key: site.store.objects[key] for key in site.keys("keys/")}
    site.open().holders.revoke("stolen")
    (slot,) = kept.keys() - site.store.objects.keys()
    site.seal(site.open(), store_tree(site.open(), FIRST), number=2)
    site.store.put(slot, kept[slot])
    assert restored(site.open(THEIRS), 2) == FIRST
    assert slot in noticed(site.open().verify())
    assert {holder.slot.name: holder.standing for holder in site.open().holders.all()}["stolen"] == "revoked"
    rotate(site)
    assert "stolen" not in {holder.slot.name for holder in site.open().holders.current()}


def test_after_a_rotation_a_kept_slot_reads_what_was_there_before_and_nothing_later(site: Site) -> None:
    """What could be read before is not unread; nothing that is stored from then on opens, and nothing can be written."""
    kept = {key: site.store.objects[key] for key in site.keys("keys/")}
    site.open().holders.revoke("stolen")
    rotate(site)
    site.seal(site.open(), store_tree(site.open(), {"secret": b"since the rotation " * 99}), number=2)
    for key in kept.keys() - site.store.objects.keys():
        site.store.put(key, kept[key])
    thief = site.open(THEIRS)
    assert thief.outdated
    assert restored(thief, 0) == FIRST
    assert "secret" not in restored(thief, 2)
    with pytest.raises(WrongKey):
        store_tree(thief, {"x": b"x"})
    with pytest.raises(WrongKey):
        thief.holders.add_recovery_key("mine")


def test_a_holder_whom_the_thief_added_stays_in_a_rotation_unless_he_is_left_out(site: Site) -> None:
    """A recovery key of their own, told by the trail like any: ``keys list`` shows it, and ``--without`` or a revocation ends it."""
    _, mine = site.open(THEIRS).holders.add_recovery_key("spare key in the second safe")
    vault = site.open()
    plan = vault.rotation.plan((), ["stolen"])
    assert "spare key in the second safe" in {slot.name for slot in plan.holders}
    vault.rotate(plan)
    assert restored(site.open(mine), 1) == SECOND, "the rotation let the thief in again"
    site.open().holders.revoke("spare key in the second safe")
    rotate(site)
    with pytest.raises(WrongKey):
        site.open(mine)


def test_a_slot_that_the_thief_wrote_past_the_trail_is_noticed_and_gets_no_new_key(site: Site) -> None:
    """With the master key they can make a slot and put it there: a verification tells of it, and a rotation leaves it out."""
    slots = dict(site.store.objects)
    _, mine = site.open(THEIRS).holders.add_recovery_key("quiet")
    site.take(max(site.keys("audit/")))
    (planted,) = set(site.keys("keys/")) - slots.keys()
    assert planted in noticed(site.open().verify())
    rotate(site)
    assert site.open(mine).outdated


def test_a_thief_who_rotates_locks_nobody_out_of_what_was_there(site: Site) -> None:
    """Our keys read what was stored before, are told who rotated and when, and write nothing more: a new vault is needed."""
    thief = site.open(THEIRS)
    thief.rotate(thief.rotation.plan((), ["first", "recovery"]))
    for secret in (None, site.recovery):
        vault = site.open(secret) if secret else site.open()
        assert vault.outdated
        assert [restored(vault, number) for number in (0, 1)] == [FIRST, SECOND]
        with pytest.raises(WrongKey, match=r"were rotated at .* by tester@localhost"):
            store_tree(vault, {"x": b"x"})


def test_a_thief_alters_nothing_that_is_sealed(site: Site) -> None:
    """To seal under the id of a point that is there is refused, and what is written over it without its seal is named."""
    thief = site.open(THEIRS)
    with pytest.raises(AlreadyExists, match="sealed already"):
        site.seal(thief, store_tree(thief, {"x": b"poison"}), number=0)
    key = site.keys("points/")[0]
    site.store.objects[key] = site.store.objects[site.keys("points/")[1]]
    assert key in named(site.open().verify())
    with pytest.raises(IntegrityError):
        site.open().points()
