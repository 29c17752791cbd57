"""Each document's reader by itself: many more shapes than a whole vault is tried with, signed with the real key where one signs."""

from __future__ import annotations

import functools
import json
from base64 import b64decode
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import FrozenClock, MemoryStore
from faults.fuzzing import ANYTHING, altered, bounded, documents, ours, raw_json, signed
from faults.snapshots import grown_vault
from muster.codec import canonical, from_json
from muster.domain.recovery_point import PointStatus, listed
from muster.errors import MusterError
from muster.ports import BlobInfo
from muster.vault.audit import check_chain
from muster.vault.census import Census, counting
from muster.vault.condemned import Condemnations
from muster.vault.damage import Damages
from muster.vault.envelope import SigningKey
from muster.vault.generations import first_generation, open_generation, read_chain
from muster.vault.header import open_signing_key, read_header, root_key
from muster.vault.holders import KmsKey, RecoveryKey, Secret, Shares
from muster.vault.keys import MasterKey
from muster.vault.layout import digest, slot_object
from muster.vault.points import Points
from muster.vault.rolls import make_roll, read_roll
from muster.vault.slots import SlotMaker, describe_slot, unwrap
from muster.vault.told import expired, told
from muster.vault.vault import Vault
from muster.vault.verify_history import point_of
from vaults import PASSPHRASE, reopen

KMS = "arn:aws:kms:eu-central-1:111122223333:key/1"


@functools.cache
def store_of() -> MemoryStore:
    """A vault with an object of every kind; no test changes it."""
    store = grown_vault()
    vault = reopen(store)
    vault.holders.add_shares("three", 2, 3)
    vault.holders.add_kms("cloud", KmsKey(KMS, Service()))
    return store


class Service:
    """A key service for whoever may use it, as its port describes it."""

    def seal(self, key: str, secret: bytes, context: dict[str, str]) -> bytes:
        return bytes(byte ^ 1 for byte in secret)

    def open(self, key: str, sealed: bytes, context: dict[str, str]) -> bytes | None:
        return bytes(byte ^ 1 for byte in sealed)


@functools.cache
def vault_of() -> Vault:
    return reopen(store_of())


def objects(kind: str) -> list[tuple[str, bytes]]:
    return [(key, data) for key, data in store_of().objects.items() if key.startswith(kind)]


def payload_of(data: bytes) -> tuple[str, Any]:
    envelope = json.loads(data)
    return envelope["payloadType"], json.loads(b64decode(envelope["payload"]))


# --- what nobody signs ------------------------------------------------------------------------------------------------


@given(documents(json.loads(store_of().objects["vault.json"])))
@bounded(250)
def test_any_bytes_are_a_header_or_none(data: bytes) -> None:
    """Each function that reads it ends by itself, whichever is asked first."""
    for read in (read_header, root_key, first_generation, lambda data: open_signing_key(data, vault_of()._master)):
        ours(lambda read=read: read(data))  # type: ignore[misc]


SECRETS: list[Secret] = [PASSPHRASE, KmsKey(KMS, Service())]
SLOTS = [json.loads(data) for _, data in objects("keys/")]


@given(st.data())
@bounded(250)
def test_any_bytes_are_a_slot_that_does_not_open_or_none(data: st.DataObject) -> None:
    """A recovery key and shares are tried that are genuine, so that what they would open is looked at."""
    raw = data.draw(st.sampled_from(SLOTS).flatmap(documents))
    if b'"n":1048576' in raw or b'"p":16' in raw:
        return  # what a reader may try costs a minute
    key = slot_object(digest(raw))
    described = ours(lambda: describe_slot(key, raw))
    for secret in SECRETS:
        assert isinstance(ours(lambda secret=secret: unwrap(key, raw, secret)), MasterKey | MusterError | None)  # type: ignore[misc]
    maker = SlotMaker(vault_of()._master, "0" * 32, "2026-11-23T02:00:00Z")
    assert isinstance(ours(lambda: maker.again(key, raw, SECRETS)), bytes | MusterError | None)
    if not isinstance(described, MusterError):
        assert str(described.created_at) < "9999"  # type: ignore[attr-defined]


@given(st.text() | st.text(alphabet="MUSTER-COVYHA1234567 \n", max_size=90), st.text(max_size=9))
@bounded(100)
def test_any_secret_opens_or_is_mistyped(typed: str, more: str) -> None:
    """Tried on good slots of every kind."""
    for key, data in objects("keys/"):
        for secret in (RecoveryKey(typed), Shares((typed, more)), Shares(()), RecoveryKey(more)):
            ours(lambda secret=secret, key=key, data=data: unwrap(key, data, secret))  # type: ignore[misc]


# --- what is signed ---------------------------------------------------------------------------------------------------


def reader_of(kind: str) -> Callable[[str, bytes], object]:
    """What reads an object of a kind, and makes of it what is made of it elsewhere."""
    store, vault = store_of(), vault_of()
    points, now = Points(store, vault._authority, vault.id), FrozenClock().now()

    def point(key: str, data: bytes) -> object:
        read, _ = points.parse(key, data)
        status = PointStatus(read, ())
        return status.suspect, status.doubts, read.taken_at + timedelta(days=1) > now, point_of(key)

    def mark(key: str, data: bytes) -> object:
        read = points.parse_mark(key, data)
        status = PointStatus(vault.readable_points()[0].point, (read, read))
        return (
            status.suspect,
            status.doubts,
            status.holds,
            status.damage,
            listed(read.summary, "damaged_packs"),
            read.at > now,
        )

    def record(key: str, data: bytes) -> object:
        read = vault._trail.parse(key, data)
        alone = MemoryStore()
        alone.objects = {key: data}
        make_roll(
            vault._authority.signer, vault.id, 1, now, counting(Census(alone, vault._master, vault._authority).take())
        )
        return told([read]), expired([read]), ours(lambda: check_chain([read])), read.at > now

    def condemnation(key: str, data: bytes) -> object:
        info = BlobInfo(key, len(data), now)
        return Condemnations(store, vault._authority, vault.id).parse(info, data).age(now, now)

    readers: dict[str, Callable[[str, bytes], object]] = {
        "points/": point,
        "marks/": mark,
        "audit/": record,
        "condemned/": condemnation,
        "damaged/": lambda key, data: Damages(store, vault._authority, vault.id).parse(key, data),
        "rolls/": lambda key, data: read_roll(vault._authority.chain.newest, key, data),
        "generations/": generation,
    }
    return readers[kind]


def generation(key: str, data: bytes) -> object:
    """Follow the chain with this object in its place, and open whatever is found."""
    store = MemoryStore()
    store.objects = {"vault.json": store_of().objects["vault.json"], key: data}
    chain = read_chain(store, first_generation(store.objects["vault.json"]))
    return [open_generation(one, vault_of()._master) for one in chain.generations[1:]]


def signer_of(kind: str) -> SigningKey:
    first = open_signing_key(store_of().objects["vault.json"], vault_of()._master.first())
    assert first
    return first if kind == "generations/" else vault_of()._authority.signer


def marks() -> list[tuple[str, bytes]]:
    """Marks with something to say."""
    written = []
    for kind, name in (
        ("suspect", "damaged_packs"),
        ("released", "holds"),
        ("verified", "answers"),
        ("held", "reason"),
    ):
        mark = {
            "at": "2026-11-28T02:00:00Z",
            "kind": kind,
            "point": "20261123T020000Z-00000000",
            "report": None,
            "summary": {"cause": "verification", name: ["ab" * 32]},
            "workload": "flights",
        }
        key = f"marks/20261123T020000Z-00000000/{kind}-20261128T020000.000000Z.json"
        written.append(
            (
                key,
                signer_of("marks/").sign("application/vnd.muster.mark.v1+json", {"mark": mark, "vault": vault_of().id}),
            )
        )
    return written


KINDS = ("points/", "marks/", "audit/", "condemned/", "damaged/", "rolls/", "generations/")


@pytest.mark.parametrize("kind", KINDS)
def test_any_signed_words_are_a_document_or_none(kind: str) -> None:
    """Under the name of a good one and under that of their own digest, so that no check of names is in the way."""
    good, read, signer = marks() if kind == "marks/" else objects(kind), reader_of(kind), signer_of(kind)
    for key, data in good[-1:]:
        assert not isinstance(ours(lambda key=key, data=data: read(key, data)), MusterError)  # type: ignore[misc]

    @given(st.data())
    @bounded(100)
    def run(data: st.DataObject) -> None:
        key, whole = data.draw(st.sampled_from(good))
        payload_type, payload = payload_of(whole)
        words = data.draw(documents(payload) | altered(payload).filter(encodable).map(canonical))
        found = signed(signer, payload_type, words)
        begin = key[: -len(digest(whole) + ".json")]
        renamed = f"{begin}{digest(found)}.json" if digest(whole) in key else key
        for name in {key, renamed}:
            ours(lambda name=name: read(name, found))  # type: ignore[misc]

    run()


@pytest.mark.parametrize("kind", KINDS)
def test_any_bytes_are_no_document(kind: str) -> None:
    """An envelope with anything in it: whatever is not signed is refused."""
    good, read = marks() if kind == "marks/" else objects(kind), reader_of(kind)

    @given(st.data())
    @bounded(60)
    def run(data: st.DataObject) -> None:
        key, whole = data.draw(st.sampled_from(good))
        found = data.draw(documents(json.loads(whole)))
        if found != whole and kind != "generations/":
            assert isinstance(ours(lambda: read(key, found)), MusterError)
        else:
            ours(lambda: read(key, found))

    run()


def encodable(data: Any) -> bool:
    try:
        return bool(canonical(data))
    except (ValueError, RecursionError):
        return False


@given(ANYTHING.map(raw_json) | documents({"master_keys": ["00" * 32], "signing_key": "00" * 32}))
@bounded(100)
def test_any_keys_in_a_generation_are_its_keys_or_damage(words: bytes) -> None:
    """What is sealed in it may be anything: somebody sealed it who has the master key."""
    vault = vault_of()
    ((key, data), *_) = objects("generations/")
    payload_type, payload = payload_of(data)
    payload.pop("sealed")
    sealed = vault._master.generation_cipher(vault.id).encrypt(bytes(12), words, canonical(payload))
    document = {**payload, "sealed": {"nonce": "00" * 12, "sealed": sealed.hex()}}
    ours(lambda: generation(key, signer_of("generations/").sign(payload_type, document)))


@given(ANYTHING)
@bounded(100)
def test_any_values_are_of_a_kind_or_not(data: Any) -> None:
    """For the kinds that tasks hand to each other, and that components are recorded as."""
    from muster.domain.anomaly import Profile
    from muster.domain.content import TreeRef
    from muster.domain.recovery_point import Component, RecoveryPoint
    from muster.operations.snapshot import Handover, Pin

    for kind in (Profile, TreeRef, Component, RecoveryPoint, Handover, Pin, dict[str, list[tuple[str, int, str]]]):
        ours(lambda kind=kind: from_json(kind, data))  # type: ignore[misc]
