"""``vault.json``: what a vault is, and the key that it signs with, sealed so that a forged one is noticed."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from muster.codec import canonical, from_json, to_json
from muster.errors import IntegrityError, UsageError
from muster.vault.chunking import Cutting
from muster.vault.envelope import SigningKey, VerifyingKey
from muster.vault.keys import NONCE_BYTES, MasterKey
from muster.vault.layout import FORMAT, HEADER, digest, read_document

_SEALED = "sealed_signing_key"


@dataclass(frozen=True)
class Actor:
    """Who acts, from which host, by what: ``airflow dag run …``, ``cli``."""

    name: str
    host: str
    via: str


@dataclass(frozen=True, slots=True)
class Header:
    """
    The public part of a vault.

    :param restore_sha256: digest of RESTORE.md, so that false instructions are noticed
    :param fingerprint: hex SHA-256 of the public signing key
    :param slots: names of the first key slots, so that a removed one is noticed
    """

    format: int
    id: str
    created_at: datetime
    created_by: Actor
    chunker: Cutting
    restore_sha256: str
    fingerprint: str
    slots: tuple[str, ...]


def new_id() -> str:
    """A name that no other vault has: 32 hex digits."""
    return uuid.uuid4().hex


def make_header(
    master: MasterKey, vault: str, at: datetime, actor: Actor, *, restore_sha256: str, slots: Sequence[str]
) -> bytes:
    """The bytes of ``vault.json``, with a new signing key."""
    private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes_raw()
    document: dict[str, Any] = {
        "chunk_id": "blake3-keyed-256",
        "chunker": to_json(Cutting()),
        "cipher": "aes-256-gcm",
        "compression": "zstd",
        "created_at": to_json(at),
        "created_by": to_json(actor),
        "fingerprint": digest(public),
        "format": FORMAT,
        "id": vault,
        "key_derivation": "hkdf-sha256",
        "restore_sha256": restore_sha256,
        "slots": list(slots),
        "signing_key": {"algorithm": "ed25519", "public": public.hex()},
    }
    nonce = os.urandom(NONCE_BYTES)
    sealed = master.signing_cipher(vault).encrypt(nonce, private.private_bytes_raw(), canonical(document))
    return canonical({**document, _SEALED: {"nonce": nonce.hex(), "sealed": sealed.hex()}})


def read_header(data: bytes) -> Header:
    """
    What ``vault.json`` says; nothing of it is proved before `open_signing_key`.

    :raises UsageError: if the vault has a format that this program cannot read
    :raises IntegrityError: if it is damaged
    """
    document = read_document(HEADER, data)
    if document.get("format") != FORMAT and isinstance(document.get("format"), int):
        raise UsageError(
            f"the vault has format {document['format']}; this Muster reads format {FORMAT}",
            "install the Muster that RESTORE.md in the vault names",
        )
    try:
        return from_json(Header, document)
    except IntegrityError as error:
        raise _no_header(error.message) from error


def root_key(data: bytes) -> VerifyingKey:
    """
    The public half of the key that ``vault.json`` names.

    :raises IntegrityError: if it names none
    """
    document = read_document(HEADER, data)
    try:
        key = VerifyingKey(Ed25519PublicKey.from_public_bytes(_unhex(document["signing_key"]["public"])))
    except (KeyError, TypeError, ValueError) as error:
        raise _no_header(repr(error)) from error
    if key.fingerprint != document.get("fingerprint"):
        raise _no_header("its key does not have its fingerprint")
    return key


def open_signing_key(data: bytes, master: MasterKey) -> SigningKey | None:
    """The vault's signing key; None if ``vault.json`` is not what was written with this master key."""
    document = read_document(HEADER, data)
    try:
        sealed = document.pop(_SEALED)
        nonce, box = _unhex(sealed["nonce"]), _unhex(sealed["sealed"])
        raw = master.signing_cipher(document["id"]).decrypt(nonce, box, canonical(document))
        signer = SigningKey(Ed25519PrivateKey.from_private_bytes(raw))
        return signer if signer.fingerprint == document.get("fingerprint") else None
    except InvalidTag:
        return None
    except (KeyError, TypeError, ValueError) as error:
        raise _no_header(repr(error)) from error


def _unhex(text: str) -> bytes:
    """What hex stands for, which the seal does not cover: only as it was written, so that no bit of it can be wrong."""
    raw = bytes.fromhex(text)
    if raw.hex() != text:
        raise ValueError(f"{text!r} is not how these bytes are written")
    return raw


def _no_header(why: str) -> IntegrityError:
    return IntegrityError(f"{HEADER} is not that of a vault: {why}", "it is damaged; restore it from a replica")
