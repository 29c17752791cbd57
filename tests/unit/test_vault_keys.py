"""Keys: who can open a vault, and what a forger cannot do."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import FrozenClock, MemoryStore
from muster.codec import canonical
from muster.errors import AlreadyExists, IntegrityError, NotFound, UsageError, WrongKey
from muster.vault.header import make_header
from muster.vault.holders import generate_recovery_key
from muster.vault.keys import MasterKey, ScryptCost
from muster.vault.layout import digest
from muster.vault.slots import SlotMaker, slot_key, unwrap
from muster.vault.vault import Passphrase, RecoveryKey, Vault
from vaults import ACTOR, CHEAP, PASSPHRASE, flip, make_vault, reopen, seal, store_tree


def test_either_key_opens_the_vault() -> None:
    """The passphrase and the recovery key lead to the same vault and the same content."""
    store = MemoryStore()
    vault, recovery = make_vault(store)
    tree = store_tree(vault, {"a": b"content"})
    for secret in (PASSPHRASE, recovery):
        opened = reopen(store, secret)
        assert (opened.id, opened.signing_fingerprint) == (vault.id, vault.signing_fingerprint)
        assert opened.tree(tree).read(opened.tree(tree).entry("a")) == b"content"


def test_a_wrong_passphrase_or_recovery_key_opens_nothing() -> None:
    """A key that was not made for this vault is refused as wrong, not as damage."""
    store = MemoryStore()
    make_vault(store)
    for secret in (Passphrase("wrong"), generate_recovery_key()):
        with pytest.raises(WrongKey, match="does not open the vault"):
            reopen(store, secret)


def test_no_vault_is_told_from_a_wrong_key() -> None:
    """An empty place says that there is no vault."""
    with pytest.raises(NotFound, match="no vault"):
        reopen(MemoryStore())


def test_a_vault_is_never_created_over_another() -> None:
    """A second creation is refused, and changes nothing."""
    store = MemoryStore()
    make_vault(store)
    before = dict(store.objects)
    with pytest.raises(AlreadyExists, match="there is a vault"):
        make_vault(store)
    assert store.objects == before


def test_the_recovery_key_is_in_no_object() -> None:
    """Neither the recovery key nor the passphrase nor the master key can be read from the store."""
    store = MemoryStore()
    _, recovery = make_vault(store)
    everything = b"".join(store.objects.values())
    letters = recovery.text.removeprefix("MUSTER-RECOVERY-1").replace("-", "")
    assert letters.encode() not in everything
    assert PASSPHRASE.text.encode() not in everything


def test_secrets_do_not_show() -> None:
    """A secret's repr, which may land in a log, does not have it."""
    recovery = generate_recovery_key()
    assert recovery.text not in repr(recovery)
    assert "horse" not in repr(PASSPHRASE)


def test_a_recovery_key_may_be_typed_in_small_letters_and_with_spaces() -> None:
    """What a person copies from paper at night is understood."""
    store = MemoryStore()
    vault, recovery = make_vault(store)
    typed = RecoveryKey(" " + recovery.text.lower().replace("-", " - ") + "\n")
    assert reopen(store, typed).id == vault.id


@pytest.mark.parametrize("change", ["letter", "missing", "prefix", "sign"])
def test_a_mistyped_recovery_key_is_told_from_a_wrong_one(change: str) -> None:
    """A typing error is called one."""
    store = MemoryStore()
    _, recovery = make_vault(store)
    text = recovery.text
    typed = {
        "letter": text[:-1] + ("A" if text[-1] != "A" else "B"),
        "missing": text[:-1],
        "prefix": text.removeprefix("MUSTER-"),
        "sign": text[:-1] + "1",
    }[change]
    with pytest.raises(UsageError, match="not a recovery key"):
        reopen(store, RecoveryKey(typed))


def test_another_passphrase_can_be_added() -> None:
    """Each holder has a slot of their own, and the trail says that it was made."""
    store = MemoryStore()
    vault, _ = make_vault(store)
    vault.add_passphrase("night shift", Passphrase("second"), cost=CHEAP)
    assert reopen(store, Passphrase("second")).id == vault.id
    assert reopen(store).id == vault.id
    slots = [holder.slot for holder in vault.holders.current()]
    assert [slot.name for slot in slots] == ["first", "night shift", "recovery"]
    assert vault.audit()[-1].action == "keys.add"


def test_composed_and_decomposed_letters_are_the_same_passphrase() -> None:
    """The same words typed on another system open the vault."""
    store = MemoryStore()
    vault, _ = Vault.create(store, Passphrase("Gr\u00fcn"), clock=FrozenClock(), actor=ACTOR, cost=CHEAP)
    assert reopen(store, Passphrase("Gru\u0308n")).id == vault.id


def test_an_empty_passphrase_is_refused() -> None:
    """A vault that everybody can open is not made."""
    with pytest.raises(UsageError, match="protects nothing"):
        Vault.create(MemoryStore(), Passphrase(""), clock=FrozenClock(), actor=ACTOR)


def test_the_stated_cost_of_trying_a_passphrase_is_the_default() -> None:
    """Unless a test says otherwise, scrypt takes 2^17 rounds and 128 MiB (OWASP)."""
    assert ScryptCost() == ScryptCost(n=2**17, r=8, p=1)


def test_a_slot_that_asks_for_too_much_memory_is_damaged_not_tried() -> None:
    """A forged slot cannot exhaust the memory of whoever opens the vault."""
    slot = json.loads(SlotMaker(MasterKey.generate(), "0" * 32, "").passphrase("x", PASSPHRASE, CHEAP))
    slot["scrypt"]["n"] = 2**30
    data = canonical(slot)
    with pytest.raises(IntegrityError, match="too much memory"):
        unwrap(slot_key(data), data, PASSPHRASE)


def test_a_damaged_slot_does_not_keep_the_others_from_opening() -> None:
    """One damaged slot is named when it is the only way in, and passed over when it is not."""
    store = MemoryStore()
    vault, recovery = make_vault(store)
    slots = [holder.slot for holder in vault.holders.current()]
    key = next(f"keys/{slot.slot}.json" for slot in slots if slot.kind == "passphrase")
    store.objects[key] = flip(store.objects[key], 200)
    assert reopen(store, recovery).id == vault.id
    with pytest.raises(IntegrityError, match=key):
        reopen(store)


def test_a_forged_header_is_noticed_by_whoever_has_a_key() -> None:
    """A vault.json with a forger's signing key, or with other words, does not open."""
    store = MemoryStore()
    vault, _ = make_vault(store)
    forged = make_header(
        MasterKey.generate(), vault.id, FrozenClock().now(), ACTOR, restore_sha256=digest(b""), slots=[]
    )
    document = json.loads(store.objects["vault.json"])
    altered = canonical({**document, "restore_sha256": digest(b"pay here")})
    for header in (forged, altered):
        store.objects["vault.json"] = header
        with pytest.raises(IntegrityError, match=r"vault\.json .* is not what was written"):
            reopen(store)


def test_a_newer_format_is_refused_by_name() -> None:
    """A vault of another format says which, before any key is tried."""
    store = MemoryStore()
    make_vault(store)
    document = json.loads(store.objects["vault.json"])
    store.objects["vault.json"] = canonical({**document, "format": 2})
    with pytest.raises(UsageError, match="format 2"):
        reopen(store)


def test_two_vaults_of_one_passphrase_share_no_chunk_id() -> None:
    """Chunk ids say nothing of the content to anybody without the key."""
    one, two = MasterKey.generate(), MasterKey.generate()
    assert one.chunk_id(b"same") != two.chunk_id(b"same")


@given(data=st.binary(max_size=300))
def test_no_bytes_make_a_slot_reader_fail_otherwise(data: bytes) -> None:
    """Whatever lies under keys/ is a slot or is called damaged."""
    with pytest.raises(IntegrityError):
        unwrap(slot_key(data), data, PASSPHRASE)


def test_a_creation_cut_short_can_be_begun_again() -> None:
    """Keys and instructions that a killed creation left behind are in nobody's way, and open nothing."""
    store = MemoryStore()
    make_vault(store)
    store.objects = {key: data for key, data in store.objects.items() if key.startswith(("keys/", "RESTORE"))}
    vault, recovery = make_vault(store)
    seal(vault, store_tree(vault, {"a": b"x"}))
    assert reopen(store).id == reopen(store, recovery).id == vault.id
    assert len(vault.holders.all()) == 2
    assert vault.verify().ok
