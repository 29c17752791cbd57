"""
Generations of keys: each rotation gives the vault a new master key and a new signing key, in one write-once object.

The objects form a chain: ``generations/0001.json`` is signed with the key of ``vault.json``, every later one with the key of the one
before. Their names are numbers, and an object is created only once, so of two rotations at the same time only one takes place. An
object that does not continue the chain (somebody wrote it there) is passed over.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from muster.codec import canonical, from_json, to_json
from muster.errors import IntegrityError
from muster.ports import BlobStore
from muster.vault.anchors import Anchor, anchor_of
from muster.vault.envelope import SigningKey, VerifyingKey
from muster.vault.foreign import own
from muster.vault.header import Actor, read_header, root_key
from muster.vault.keys import NONCE_BYTES, MasterKey
from muster.vault.layout import GENERATIONS, HEADER, digest, get_small, read_document

PAYLOAD_TYPE = "application/vnd.muster.generation.v1+json"
_SEALED = "sealed"


@dataclass(frozen=True, slots=True)
class Generation:
    """
    What anybody can read of one generation of keys.

    :param number: 0 for the keys that the vault was created with
    :param actor: who rotated
    :param key: the public half of the key that signs in this generation
    :param key_id: tells which packs and indexes its master key sealed; empty for generation 0
    :param slots: names of the key slots that were made with it
    :param roll: digest of the roll that was taken before; empty for generation 0
    :param object: where it lies
    :param digest: SHA-256 of that object
    """

    number: int
    vault: str
    at: datetime
    actor: Actor
    key: VerifyingKey
    key_id: bytes
    slots: tuple[str, ...]
    roll: str
    object: str
    digest: str
    payload: dict[str, Any] = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Chain:
    """
    All generations of a vault, the first first.

    :param free: the name under which the next one would be written
    :param foreign: objects that lie among them and do not belong to the chain
    """

    generations: tuple[Generation, ...]
    free: str
    foreign: tuple[str, ...]

    @property
    def newest(self) -> Generation:
        """The one whose keys count now."""
        return self.generations[-1]

    @property
    def anchors(self) -> dict[str, Anchor]:
        """What each rotation says of the audit trail before it, by the object of its generation."""
        found = {generation.object: anchor_of(generation.payload) for generation in self.generations}
        return {key: anchor for key, anchor in found.items() if anchor}


@dataclass(frozen=True, slots=True)
class NewGeneration:
    """What a rotation decides; the rest follows from it."""

    master: MasterKey
    signer: SigningKey
    at: datetime
    actor: Actor
    slots: tuple[str, ...]
    roll: str
    audit_head: str


def first_generation(header: bytes) -> Generation:
    """The keys that a vault was created with, from its ``vault.json``."""
    read = read_header(header)
    return Generation(
        0, read.id, read.created_at, read.created_by, root_key(header), b"", read.slots, "", HEADER, digest(header), {}
    )


def read_chain(store: BlobStore, first: Generation) -> Chain:
    """All generations that there are in a store."""
    there = {info.key: info for info in own(store.list(GENERATIONS))}
    chain, foreign = [first], set(there)
    for place in count(1):
        key = f"{GENERATIONS}{place:04d}.json"
        if key not in there:
            return Chain(tuple(chain), key, tuple(sorted(foreign)))
        try:
            chain.append(_parse(key, get_small(store, there[key]), chain[-1]))
            foreign.discard(key)
        except IntegrityError:
            continue  # verification names it
    raise AssertionError


def make_generation(before: Generation, signer: SigningKey, new: NewGeneration) -> bytes:
    """
    The object of the next generation.

    :param signer: of the generation before
    """
    payload: dict[str, Any] = {
        "actor": to_json(new.actor),
        "at": to_json(new.at),
        "audit_head": new.audit_head,
        "fingerprint": new.signer.fingerprint,
        "generation": before.number + 1,
        "key_id": new.master.key_id.hex(),
        "previous": before.digest,
        "roll": new.roll,
        "signing_key": {"algorithm": "ed25519", "public": new.signer.public.public_bytes_raw().hex()},
        "slots": list(new.slots),
        "vault": before.vault,
    }
    keys = {
        "master_keys": [key.hex() for key in new.master.earlier()],
        "signing_key": new.signer.private.private_bytes_raw().hex(),
    }
    nonce = os.urandom(NONCE_BYTES)
    sealed = new.master.generation_cipher(before.vault).encrypt(nonce, canonical(keys), canonical(payload))
    return signer.sign(PAYLOAD_TYPE, {**payload, _SEALED: {"nonce": nonce.hex(), "sealed": sealed.hex()}})


def open_generation(generation: Generation, master: MasterKey) -> tuple[MasterKey, SigningKey] | None:
    """
    The master key with those of all earlier generations, and the signing key; None if the master key is not this generation's.

    Whoever gets them knows that nothing in the object was altered since it was made.

    :raises IntegrityError: if what is sealed in it is not what it must be
    """
    payload = dict(generation.payload)
    try:
        sealed = payload.pop(_SEALED)
        nonce, box = bytes.fromhex(sealed["nonce"]), bytes.fromhex(sealed["sealed"])
        plain = master.generation_cipher(generation.vault).decrypt(nonce, box, canonical(payload))
        keys = from_json(_Keys, read_document(generation.object, plain))
        signer = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(keys.signing_key)))
        earlier = [bytes.fromhex(key) for key in keys.master_keys]
    except InvalidTag:
        return None
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(generation.object, repr(error)) from error
    opened = master.of_generations(earlier)
    told = (signer.fingerprint, opened.generation, opened.key_id)
    if told != (generation.key.fingerprint, generation.number, generation.key_id):
        raise _damaged(generation.object, "the keys in it are not those that it speaks of")
    return opened, signer


@dataclass(frozen=True, slots=True)
class _Keys:
    """What is sealed in a generation, in hex."""

    master_keys: tuple[str, ...]
    signing_key: str


@dataclass(frozen=True, slots=True)
class _Document:
    """What is not."""

    vault: str
    generation: int
    at: datetime
    actor: Actor
    key_id: str
    slots: tuple[str, ...]
    roll: str
    previous: str
    signing_key: dict[str, str]


def _parse(key: str, data: bytes, before: Generation) -> Generation:
    payload = before.key.open(key, data, PAYLOAD_TYPE)
    said = from_json(_Document, payload)
    if (said.vault, said.generation, said.previous) != (before.vault, before.number + 1, before.digest):
        raise _damaged(key, "it does not follow the generation before it")
    try:
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(said.signing_key["public"]))
        key_id = bytes.fromhex(said.key_id)
    except (KeyError, ValueError) as error:
        raise _damaged(key, repr(error)) from error
    signing = VerifyingKey(public)
    return Generation(
        said.generation,
        said.vault,
        said.at,
        said.actor,
        signing,
        key_id,
        said.slots,
        said.roll,
        key,
        digest(data),
        payload,
    )


def _damaged(key: str, why: str) -> IntegrityError:
    return IntegrityError(f"{key} is no generation of this vault's keys: {why}", "restore it from a replica")
