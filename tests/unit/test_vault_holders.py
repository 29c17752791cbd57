"""Holders: who can open a vault, how they are added and proven, and that nobody removes the last one of whom that is known."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from fakes import FrozenClock, MemoryStore
from kms import Kms
from muster.codec import canonical
from muster.errors import AlreadyExists, IntegrityError, NotFound, Refused, StoreUnavailable, UsageError, WrongKey
from muster.loopback import free_port
from muster.vault.holders import KmsKey, RecoveryKey, Shares, generate_recovery_key, kms_key_name, secret_of
from muster.vault.keyholders import PROVEN_FOR, Holder, warnings
from muster.vault.layout import digest
from muster.vault.slots import KeySlot, slot_key, unwrap
from muster.vault.vault import Passphrase, Vault
from vaults import ACTOR, CHEAP, PASSPHRASE, make_vault, reopen, seal, store_tree

SECOND = Passphrase("second of them")


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def store(clock: FrozenClock) -> MemoryStore:
    return MemoryStore(clock)


@pytest.fixture
def made(store: MemoryStore, clock: FrozenClock) -> tuple[Vault, RecoveryKey]:
    return make_vault(store, clock)


@pytest.fixture
def vault(made: tuple[Vault, RecoveryKey]) -> Vault:
    return made[0]


@pytest.fixture
def recovery(made: tuple[Vault, RecoveryKey]) -> RecoveryKey:
    return made[1]


def slots(vault: Vault) -> list[KeySlot]:
    return [holder.slot for holder in vault.holders.current()]


def names(vault: Vault) -> list[str]:
    return [slot.name for slot in slots(vault)]


# --- adding -----------------------------------------------------------------------------------------------------------


def test_every_kind_of_holder_opens_the_vault(store: MemoryStore, vault: Vault, kms: Kms) -> None:
    """Passphrase, recovery key, three of five shares and a KMS key lead to the same content."""
    tree = store_tree(vault, {"a": b"content"})
    kms_key = kms.new_key()
    _, safe = vault.holders.add_recovery_key("safe")
    _, shares = vault.holders.add_shares("board", 3, 5)
    vault.holders.add_kms("cloud", kms_key)
    vault.add_passphrase("night shift", SECOND, cost=CHEAP)
    board = Shares(tuple(share.text for share in shares[2:]))
    for secret in (PASSPHRASE, SECOND, safe, board, kms_key):
        opened = reopen(store, secret)
        assert opened.tree(tree).read(opened.tree(tree).entry("a")) == b"content"
    assert vault.verify().ok


def test_no_secret_of_a_holder_is_in_the_store(store: MemoryStore, vault: Vault) -> None:
    """Of shares and recovery keys the store has the public part: neither letters nor bytes of what is secret."""
    _, safe = vault.holders.add_recovery_key("safe")
    _, shares = vault.holders.add_shares("board", 2, 3)
    everything = b"".join(store.objects.values())
    private = Shares(tuple(share.text for share in shares[:2])).private().private_bytes_raw()
    for secret in (private, safe.private().private_bytes_raw(), *(share.value for share in shares)):
        assert secret not in everything
        assert secret.hex().encode() not in everything


def test_too_few_shares_do_not_open_the_vault(store: MemoryStore, vault: Vault) -> None:
    """Two of three are too few, and it is said how many are needed."""
    _, shares = vault.holders.add_shares("board", 3, 3)
    with pytest.raises(UsageError, match="too few: 3 of its 3 are needed"):
        reopen(store, Shares((shares[0].text, shares[1].text)))


def test_shares_of_another_vault_are_a_wrong_key(store: MemoryStore, vault: Vault) -> None:
    """A whole set that was made for another vault is refused as wrong, by its kind."""
    other, _ = make_vault(MemoryStore())
    _, shares = other.holders.add_shares("board", 2, 2)
    with pytest.raises(WrongKey, match="set of recovery shares does not open"):
        reopen(store, Shares(tuple(share.text for share in shares)))


def test_two_holders_do_not_have_one_name(vault: Vault) -> None:
    """Otherwise nobody could say whom to revoke."""
    with pytest.raises(AlreadyExists, match="a holder named first"):
        vault.add_passphrase("first", SECOND, cost=CHEAP)


@pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 65, "tab\t"])
def test_a_name_is_for_people(vault: Vault, name: str) -> None:
    """A name that cannot be read in a list is refused."""
    with pytest.raises(UsageError, match="name of a holder"):
        vault.holders.add_recovery_key(name)


# --- KMS --------------------------------------------------------------------------------------------------------------


def test_a_kms_slot_is_bound_to_its_vault(store: MemoryStore, vault: Vault, kms: Kms) -> None:
    """The same key opens nothing that was sealed for another vault: KMS checks the context, we check the slot."""
    key = kms.new_key()
    slot = vault.holders.add_kms("cloud", key)
    document = json.loads(store.objects[f"keys/{slot.slot}.json"])
    moved = canonical({**document, "vault": "0" * 32})
    assert unwrap(slot_key(moved), moved, key) is None


def test_another_kms_key_does_not_open_the_vault(store: MemoryStore, vault: Vault, kms: Kms) -> None:
    """A KMS key that holds no slot is a wrong key."""
    vault.holders.add_kms("cloud", kms.new_key())
    with pytest.raises(WrongKey, match="KMS key does not open"):
        reopen(store, kms.new_key())


def test_a_key_is_not_sent_to_kms_in_the_clear(vault: Vault, kms: Kms, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint of the environment without TLS, on another machine: nothing is sent, neither to seal nor to open."""
    key = kms.new_key()
    vault.holders.add_kms("cloud", key)
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", "http://192.0.2.1:8080")
    with pytest.raises(UsageError, match=r"AWS KMS at http://192\.0\.2\.1:8080 in the clear"):
        vault.holders.add_kms("more", key)
    with pytest.raises(UsageError, match="in the clear"):
        key.service.open(key.key, b"sealed", {})


def test_a_kms_key_that_is_nowhere_is_refused(vault: Vault, kms: Kms) -> None:
    """What KMS says is told, with what to ask for; no holder is added."""
    key = kms.new_key()
    wrong = KmsKey(key.key[:-4] + "0000", key.service)
    with pytest.raises(Refused, match=f"did not let us use the key {wrong.key}: NotFound"):
        vault.holders.add_kms("cloud", wrong)
    assert names(vault) == ["first", "recovery"]


def test_a_key_service_that_does_not_answer_is_told_from_one_that_refuses(
    vault: Vault, kms: Kms, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trying again may help, and nothing was added."""
    key = kms.new_key()
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(StoreUnavailable, match="AWS KMS did not answer for the key"):
        vault.holders.add_kms("cloud", key)
    assert names(vault) == ["first", "recovery"]


def test_a_reference_to_a_kms_key_is_checked() -> None:
    """An alias may be another key tomorrow; letters that are no ARN are a typing error."""
    arn = "arn:aws:kms:eu-central-1:123456789012:key/2cec2aea-c075-42dc-b49e-1068e3ca6366"
    assert kms_key_name(f"kms:{arn}") == kms_key_name(arn) == arn
    for wrong in ("kms:arn:aws:kms:eu-central-1:123456789012:alias/muster", "kms:2cec2aea", ""):
        with pytest.raises(UsageError, match="names no KMS key"):
            kms_key_name(wrong)


def test_a_text_tells_what_kind_of_secret_it_is(vault: Vault, kms: Kms) -> None:
    """Key files and connections may hold any kind; what is none of the others is a passphrase, to the last letter."""
    key = kms.new_key()
    recovery = generate_recovery_key()
    _, shares = vault.holders.add_shares("board", 2, 2)
    board = "\n".join(f"  {share.text.lower()} " for share in shares)
    assert secret_of(f"kms:{key.key}\n", key.service) == key
    assert secret_of(f"{recovery.text}\n", key.service) == recovery
    assert isinstance(secret_of(board, key.service), Shares)
    assert secret_of(" horse ", key.service) == Passphrase(" horse ")


# --- proving ----------------------------------------------------------------------------------------------------------


def test_each_holder_is_proven_by_opening_the_vault(vault: Vault, recovery: RecoveryKey, kms: Kms) -> None:
    """Whose secret is at hand is proven, the others are named; the trail says both, and nothing secret."""
    key = kms.new_key()
    vault.holders.add_kms("cloud", key)
    vault.add_passphrase("night shift", SECOND, cost=CHEAP)
    proofs = vault.holders.test([PASSPHRASE, recovery, key, Passphrase("of nobody")])
    assert {proof.slot.name: proof.proven for proof in proofs} == {
        "first": True,
        "recovery": True,
        "cloud": True,
        "night shift": False,
    }
    (unproven,) = [proof for proof in proofs if not proof.proven]
    assert unproven.why == "no passphrase that opens it is at hand"
    record = vault.audit()[-1]
    assert (record.action, record.outcome) == ("keys.test", "incomplete")
    assert PASSPHRASE.text not in str(record)
    assert recovery.text not in str(record)


def test_when_a_holder_was_proven_is_remembered(store: MemoryStore, vault: Vault, clock: FrozenClock) -> None:
    """By the audit trail, so by whoever opens the vault."""
    clock.advance(60)
    vault.holders.test([PASSPHRASE])
    known = {holder.slot.name: holder.proven_at for holder in reopen(store, clock=clock).holders.current()}
    assert known == {"first": clock.now(), "recovery": None}


def test_a_kms_key_that_fails_keeps_nobody_else_from_being_proven(vault: Vault, kms: Kms) -> None:
    """What KMS said stands beside the holder."""
    key = kms.new_key()
    vault.holders.add_kms("cloud", key)
    kms.destroy(key)
    proofs = {proof.slot.name: proof for proof in vault.holders.test([key, PASSPHRASE])}
    assert proofs["first"].proven
    assert not proofs["cloud"].proven
    assert "NotFound" in proofs["cloud"].why


def test_a_mistyped_recovery_key_is_no_proof_of_anything(vault: Vault, recovery: RecoveryKey) -> None:
    """It is called a typing error, and nothing is recorded."""
    with pytest.raises(UsageError, match="not a recovery key"):
        vault.holders.test([RecoveryKey(recovery.text[:-1])])
    assert "keys.test" not in [record.action for record in vault.audit()]


# --- revoking ---------------------------------------------------------------------------------------------------------


def test_whoever_is_revoked_does_not_open_the_vault_any_more(store: MemoryStore, vault: Vault) -> None:
    """The slot is gone, the trail says so, and verification does not miss it."""
    vault.add_passphrase("night shift", SECOND, cost=CHEAP)
    (gone,) = vault.holders.revoke("night shift").values()
    assert gone
    assert names(vault) == ["first", "recovery"]
    with pytest.raises(WrongKey):
        reopen(store, SECOND)
    assert vault.audit()[-1].action == "keys.remove"
    assert vault.verify().ok


def test_a_slot_that_a_lock_holds_stays_and_that_is_said(clock: FrozenClock) -> None:
    """The trail says that it was to go; it opens the vault until it is removed; revoking again removes it then."""
    store = MemoryStore(clock, locking=True)
    vault, _ = make_vault(store, clock)
    vault.add_passphrase("night shift", SECOND, cost=CHEAP)
    key = next(f"keys/{slot.slot}.json" for slot in slots(vault) if slot.name == "night shift")
    locks = store.locks()
    assert locks
    locks.extend([key], clock.now() + timedelta(days=1))
    assert list(vault.holders.revoke("night shift").values()) == [False]
    assert [holder.slot.name for holder in vault.holders.all() if holder.standing == "revoked"] == ["night shift"]
    assert reopen(store, SECOND).id == vault.id
    assert vault.verify().ok
    clock.advance(2 * 86_400)
    assert list(vault.holders.revoke("night shift").values()) == [True]
    assert vault.verify().ok


def test_the_last_holder_cannot_be_revoked(vault: Vault, recovery: RecoveryKey, store: MemoryStore) -> None:
    """There must be somebody left."""
    reopen(store, recovery).holders.revoke("first")
    with pytest.raises(Refused, match="there is no other holder"):
        reopen(store, recovery).holders.revoke("recovery")


def test_the_last_holder_who_is_known_to_open_the_vault_cannot_be_revoked(
    vault: Vault, recovery: RecoveryKey, clock: FrozenClock
) -> None:
    """A recovery key that nobody has tried for 90 days may be lost: it must be proven first."""
    vault.holders.test([recovery])
    clock.advance(PROVEN_FOR.total_seconds() + 1)
    with pytest.raises(Refused, match="recovery was not tested within 90 days"):
        vault.holders.revoke("first")
    vault.holders.test([recovery])
    assert vault.holders.revoke("first")


def test_whoever_opened_the_vault_is_proven_by_that(store: MemoryStore, vault: Vault) -> None:
    """Others can be revoked without a test."""
    assert reopen(store).holders.revoke("recovery")


def test_two_who_revoke_each_other_leave_somebody(
    vault: Vault, recovery: RecoveryKey, store: MemoryStore, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has looked who would be left, and found the other; who looks once more after the other's record gives up, and records that."""
    vault.add_passphrase("second", SECOND, cost=CHEAP)
    vault.holders.revoke("recovery")
    first, second = reopen(store, clock=clock), reopen(store, SECOND, clock)
    record, asked = first.record, list[str]()

    def beside(action: str, *rest: Any, **more: Any) -> Any:
        if not asked:
            asked.append(action)
            assert list(second.holders.revoke("first").values()) == [True]
        return record(action, *rest, **more)

    monkeypatch.setattr(first, "record", beside)
    with pytest.raises(Refused, match="without second nobody is left"):
        first.holders.revoke("second")
    assert names(reopen(store, SECOND)) == ["second"]
    said = [(r.details["name"], r.outcome) for r in reopen(store, SECOND).audit() if r.action == "keys.remove"]
    assert said[1:] == [("first", "removed"), ("second", "removed"), ("second", "taken back")]
    assert reopen(store, SECOND).verify(share=1.0).ok


def test_nobody_is_revoked_by_a_name_that_is_not_there(vault: Vault) -> None:
    """The names that there are, are listed."""
    with pytest.raises(NotFound) as failure:
        vault.holders.revoke("nobody")
    assert "first, recovery" in failure.value.hint


def test_a_revocation_that_is_killed_goes_on_when_repeated(store: MemoryStore, vault: Vault) -> None:
    """The record comes before the removal: a slot that is still there is removed by the next call, and missed by nobody."""
    vault.add_passphrase("night shift", SECOND, cost=CHEAP)
    slot = next(slot for slot in slots(vault) if slot.name == "night shift")
    data = store.objects[f"keys/{slot.slot}.json"]
    vault.holders.revoke("night shift")
    store.objects[f"keys/{slot.slot}.json"] = data
    assert vault.holders.revoke("night shift") == {slot.slot: True}
    assert vault.verify().ok


# --- what is told while it can be mended ------------------------------------------------------------------------------


def test_one_holder_is_too_few(store: MemoryStore, vault: Vault, recovery: RecoveryKey, clock: FrozenClock) -> None:
    """A vault that one key opens is told to be one that is lost with it."""
    assert warnings(vault.holders.current(), clock.now(), clock.now()) == []
    vault.holders.revoke("recovery")
    (told,) = warnings(vault.holders.current(), clock.now(), clock.now())
    assert "only first can open this vault" in told


def test_a_vault_that_nobody_has_proven_for_90_days_is_told(vault: Vault, clock: FrozenClock) -> None:
    """Counted from the newest proof, or from the creation."""
    created = clock.now()
    clock.advance(PROVEN_FOR.total_seconds() + 1)
    (told,) = warnings(vault.holders.current(), created, clock.now())
    assert "for 90 days nobody has proven" in told
    vault.holders.test([PASSPHRASE])
    assert warnings(vault.holders.current(), created, clock.now()) == []


def test_a_slot_that_we_did_not_make_is_nobody(store: MemoryStore, vault: Vault) -> None:
    """Whoever writes to the store can put a slot there; it is not listed among the holders."""
    data = canonical({**json.loads(store.objects[f"keys/{slots(vault)[1].slot}.json"]), "name": "mallory"})
    store.put(slot_key(data), data)
    assert names(vault) == ["first", "recovery"]
    (unknown,) = [holder for holder in vault.holders.all() if holder.standing == "unknown"]
    assert unknown == Holder(unknown.slot, "unknown", None)
    assert unknown.slot.slot == digest(data)


def test_a_damaged_slot_hides_no_other(store: MemoryStore, vault: Vault) -> None:
    """Listing goes on; opening names the damage if it stands in the way."""
    first = slots(vault)[0].slot
    store.objects[f"keys/{first}.json"] = b"{}"
    assert names(vault) == ["recovery"]
    with pytest.raises(IntegrityError, match=first):
        reopen(store)


def test_points_sealed_by_any_holder_are_of_one_vault(store: MemoryStore, vault: Vault) -> None:
    """All holders of a generation sign with the same key."""
    vault.add_passphrase("night shift", SECOND, cost=CHEAP)
    other = reopen(store, SECOND)
    seal(other, store_tree(other, {"a": b"x"}))
    assert len(vault.points()) == 1
    assert vault.verify().ok


def test_a_vault_without_any_slot_says_so(vault: Vault, recovery: RecoveryKey, store: MemoryStore) -> None:
    """No key is mistyped then; and one whose head is gone is no empty place."""
    kept = {key: store.objects.pop(key) for key in list(store.objects) if key.startswith("keys/")}
    for secret in (PASSPHRASE, recovery):
        with pytest.raises(IntegrityError, match="has no key slots any more"):
            reopen(store, secret)
    store.objects |= kept
    del store.objects["vault.json"]
    with pytest.raises(IntegrityError, match=r"no vault\.json: that of the vault that lies there is gone"):
        reopen(store)


@pytest.mark.parametrize("text", ["words\n", "wo\trds", "words\r\n", "\x00words"])
def test_no_holder_gets_a_passphrase_that_nobody_can_type(vault: Vault, text: str) -> None:
    """As YAML's ``|`` makes one: by night it would open the vault, and by hand nothing would. One that is in use goes on."""
    with pytest.raises(UsageError, match="nobody can type"):
        vault.add_passphrase("second", Passphrase(text), cost=CHEAP)
    with pytest.raises(UsageError, match="nobody can type"):
        Vault.create(MemoryStore(), Passphrase(text), clock=FrozenClock(), actor=ACTOR, cost=CHEAP)
    assert names(vault) == ["first", "recovery"]


def test_a_key_is_kept_before_it_opens_anything(vault: Vault, store: MemoryStore, clock: FrozenClock) -> None:
    """Whoever is killed between the two has a key too many, not a holder whom nobody holds."""

    def full(_: object) -> None:
        raise StoreUnavailable("no space left for the key")

    before = dict(store.objects)
    for add in (
        lambda: vault.holders.add_recovery_key("safe", full),
        lambda: vault.holders.add_shares("board", 2, 3, full),
    ):
        with pytest.raises(StoreUnavailable, match="no space left"):
            add()
    assert store.objects == before
    empty = MemoryStore(clock)
    with pytest.raises(StoreUnavailable, match="no space left"):
        Vault.create(empty, PASSPHRASE, clock=clock, actor=ACTOR, cost=CHEAP, keep=full)
    assert empty.objects == {}


def test_a_vault_whose_creation_could_not_be_recorded_is_whole(clock: FrozenClock) -> None:
    """Its key is handed out all the same, and the next record comes after the first."""

    class Full(MemoryStore):
        full = True

        def put(self, key: str, data: bytes) -> None:
            if self.full and key.startswith("audit/"):
                raise StoreUnavailable("no space left")
            super().put(key, data)

    store = Full(clock)
    created, key = make_vault(store, clock)
    store.full = False
    reopen(store, key, clock).record("a", "b", "c")
    assert [record.action for record in created.audit()] == ["create", "a"]
    assert created.verify().ok
