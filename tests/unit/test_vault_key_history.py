"""Any history of holders, rotations and points: everybody reads what they may read, and nothing is lost."""

from __future__ import annotations

import contextlib
import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import FrozenClock, MemoryStore
from muster.codec import canonical
from muster.errors import IntegrityError, WrongKey
from muster.vault.envelope import SigningKey
from muster.vault.generations import PAYLOAD_TYPE, first_generation, read_chain
from muster.vault.holders import Secret, Shares
from muster.vault.rolls import PAYLOAD_TYPE as ROLL_TYPE
from muster.vault.rolls import read_roll
from muster.vault.slots import describe_slot, slot_key, unwrap
from muster.vault.vault import Passphrase
from vaults import CHEAP, PASSPHRASE, POINT, extract, make_vault, reopen, seal, store_tree

KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.binary(max_size=8).map(bytes.hex),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@dataclass
class History:
    """
    A vault whose keys change, and what must hold of it.

    :param points: which generation sealed each point
    :param secrets: of everybody who was ever a holder, and the newest generation whose key they have; less than 0 when they have none
    """

    store: MemoryStore
    chance: random.Random
    points: list[int] = field(default_factory=list)
    secrets: dict[str, tuple[Secret, int]] = field(default_factory=dict)
    generation: int = 0

    def holders(self) -> list[str]:
        return [name for name, (_, newest) in self.secrets.items() if newest == self.generation]

    def step(self, number: int) -> None:
        who = self.chance.choice(self.holders())
        vault = reopen(self.store, self.secrets[who][0])  # type: ignore[arg-type]
        do = self.chance.choice(["seal", "seal", "add", "rotate", "revoke"])
        if do == "seal":
            tree = store_tree(vault, {"of point": b"%d" % len(self.points), "same": b"same " * 300})
            seal(vault, tree, number=len(self.points))
            self.points.append(self.generation)
        elif do == "add":
            self.secrets[f"holder {number}"] = (self._add(vault.holders, f"holder {number}"), self.generation)
        elif do == "rotate":
            given = [self.secrets[name][0] for name in self.holders() if self.chance.random() < 0.5]
            plan = vault.rotation.plan(given, ())
            vault.rotate(plan)
            self.generation += 1
            for slot in plan.holders:
                self.secrets[slot.name] = (self.secrets[slot.name][0], self.generation)
        elif len(self.holders()) > 1:
            name = self.chance.choice([name for name in self.holders() if name != who])
            vault.holders.revoke(name)
            self.secrets[name] = (self.secrets[name][0], -1)

    def _add(self, holders: object, name: str) -> Secret:
        from muster.vault.keyholders import KeyHolders

        assert isinstance(holders, KeyHolders)
        kind = self.chance.choice(["passphrase", "recovery", "shares"])
        if kind == "passphrase":
            holders.add_passphrase(name, Passphrase(name), CHEAP)
            return Passphrase(name)
        if kind == "recovery":
            return holders.add_recovery_key(name)[1]
        return Shares(tuple(share.text for share in holders.add_shares(name, 2, 3)[1][1:]))


@pytest.mark.parametrize("seed", range(6))
def test_after_any_history_everybody_reads_what_their_keys_reach(seed: int, tmp_path: Path) -> None:
    """Points up to the generation of the key, and none after it; whoever was revoked from all comes in no more."""
    store = MemoryStore()
    _, recovery = make_vault(store)
    history = History(store, random.Random(seed))
    history.secrets |= {"first": (PASSPHRASE, 0), "recovery": (recovery, 0)}
    for number in range(25):
        history.step(number)
    for name, (secret, newest) in history.secrets.items():
        if newest < 0:
            with pytest.raises(WrongKey):
                reopen(store, secret)  # type: ignore[arg-type]
            continue
        vault = reopen(store, secret)  # type: ignore[arg-type]
        assert (vault._authority.own.number, vault.outdated) == (newest, newest < history.generation)
        assert len(vault.points()) == len(history.points)
        for number, generation in enumerate(history.points):
            (component,) = vault.point(f"{POINT}{number}").point.components
            folder = tmp_path / f"{name}-{number}"
            if generation <= newest:
                assert extract(vault, component.tree, folder)["of point"] == b"%d" % number
            else:
                with pytest.raises(IntegrityError):
                    extract(vault, component.tree, folder)
    whole = reopen(store, history.secrets[history.holders()[0]][0])  # type: ignore[arg-type]
    report = whole.verify()
    assert report.ok, [str(finding) for finding in report.findings]
    assert whole.rotation.late() == []


# --- whatever lies there ----------------------------------------------------------------------------------------------


@given(data=st.binary(max_size=200), payload=st.dictionaries(st.text(max_size=8), JSON, max_size=5))
@settings(max_examples=100, deadline=None)
def test_no_bytes_and_no_signed_words_make_a_generation_reader_fail_otherwise(
    data: bytes, payload: dict[str, object]
) -> None:
    """An object among the generations continues the chain or is passed over."""
    store = MemoryStore()
    make_vault(store)
    store.put("generations/0001.json", data)
    store.put("generations/0002.json", KEY.sign(PAYLOAD_TYPE, payload))
    assert len(read_chain(store, first_generation(store.objects["vault.json"])).generations) == 1


FIELDS = ("vault", "generation", "at", "actor", "key_id", "slots", "roll", "previous", "signing_key", "sealed")


@given(changed=st.dictionaries(st.sampled_from(FIELDS), JSON, min_size=1, max_size=3))
@settings(max_examples=100, deadline=None)
def test_a_generation_that_its_signer_made_up_opens_nothing(changed: dict[str, object]) -> None:
    """Even with the right signature: any field may be anything, and only our own errors come out."""
    store = MemoryStore()
    vault, _ = make_vault(store)
    before = vault._authority._signer
    vault.rotate(vault.rotation.plan((), ()))
    payload = {**vault._authority.chain.newest.payload, **changed}
    if payload == vault._authority.chain.newest.payload:
        return
    _, safe = vault.holders.add_recovery_key("safe")
    store.objects["generations/0001.json"] = before.sign(PAYLOAD_TYPE, payload)
    with pytest.raises(IntegrityError):
        reopen(store, safe)


@given(payload=st.dictionaries(st.sampled_from(("vault", "generation", "digests", "at")), JSON, max_size=4))
@settings(max_examples=100, deadline=None)
def test_a_roll_that_its_signer_made_up_is_a_list_or_none(payload: dict[str, object]) -> None:
    """Only our own errors come out."""
    store = MemoryStore()
    vault, _ = make_vault(store)
    first = vault._authority.chain.generations[0]
    payload = {"vault": first.vault, "generation": 0} | payload
    data = vault._authority.sign(ROLL_TYPE, payload)
    with contextlib.suppress(IntegrityError):
        assert isinstance(read_roll(first, "rolls/x", data), frozenset)


@given(
    slot=st.fixed_dictionaries({"kind": st.sampled_from(["passphrase", "recovery", "shares", "kms"])}), more=st.data()
)
@settings(max_examples=150, deadline=None)
def test_a_slot_that_somebody_made_up_opens_nothing(slot: dict[str, object], more: st.DataObject) -> None:
    """Any field of any kind may be anything: it is no slot, or one that does not open."""
    names = (
        "name",
        "created_at",
        "vault",
        "nonce",
        "wrapped",
        "scrypt",
        "public",
        "ephemeral",
        "key",
        "sealed_key",
        "shares",
        "threshold",
    )
    slot |= more.draw(st.dictionaries(st.sampled_from(names), JSON, max_size=8))
    cost = st.integers(-(2**70), 2**20)
    if more.draw(st.booleans()):
        slot["scrypt"] = more.draw(st.fixed_dictionaries({"n": cost, "r": cost, "p": cost, "salt": st.just("00")}))
    data = canonical(slot)
    for read in (lambda: unwrap(slot_key(data), data, PASSPHRASE), lambda: describe_slot(slot_key(data), data)):
        with contextlib.suppress(IntegrityError):
            read()


def test_the_clock_decides_nothing() -> None:
    """A rotation by a machine whose clock is a year behind counts as any other."""
    store = MemoryStore()
    vault, _ = make_vault(store)
    behind = FrozenClock(FrozenClock().now().replace(year=2025))
    other = reopen(store, clock=behind)
    other.rotate(other.rotation.plan((), ()))
    seal(other, store_tree(other, {"a": b"x"}))
    assert not reopen(store).outdated
    assert vault.holders.generation == 0
    assert reopen(store).verify().ok
