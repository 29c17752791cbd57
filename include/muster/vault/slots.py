"""
Key slots: the master key of one generation, wrapped for one holder.

Primitives: scrypt (RFC 7914), X25519 (RFC 7748), HKDF-SHA256 (RFC 5869), AES-256-GCM (NIST SP 800-38D).
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from muster.codec import canonical, from_json
from muster.errors import IntegrityError, UsageError
from muster.vault.holders import KmsKey, Passphrase, RecoveryKey, Secret, Shares
from muster.vault.keys import KEY_BYTES, NONCE_BYTES, MasterKey, ScryptCost, derive
from muster.vault.layout import FORMAT, digest, read_document, slot_object

_SCRYPT_MOST_MEMORY = 1 << 30
_LONGEST_NAME = 64
SlotKind = Literal["passphrase", "recovery", "shares", "kms"]
_KIND_OF: dict[type[Secret], SlotKind] = {
    Passphrase: "passphrase",
    RecoveryKey: "recovery",
    Shares: "shares",
    KmsKey: "kms",
}


@dataclass(frozen=True, slots=True)
class KeySlot:
    """
    One way to open a vault. `slot` is the digest that names its object.

    :param generation: of the master key in it; a rotation makes new slots
    :param public: X25519 public key of a recovery key or of a set of shares
    :param key: name of a KMS key
    :param threshold: how many of the `shares` are needed
    """

    slot: str
    kind: SlotKind
    name: str
    created_at: datetime
    vault: str
    generation: int = 0
    public: str | None = None
    key: str | None = None
    threshold: int | None = None
    shares: int | None = None


_MALFORMED = (KeyError, TypeError, ValueError, OverflowError)
_PUBLIC = ("kind", "name", "created_at", "vault", "generation", "public", "key", "threshold", "shares")


class SlotMaker:
    """
    Makes the slots of one master key.

    :param at: time of making, as JSON has it
    """

    def __init__(self, master: MasterKey, vault: str, at: str) -> None:
        self._master = master
        self._common: dict[str, Any] = {"created_at": at, "format": FORMAT, "vault": vault}
        if master.generation:
            self._common["generation"] = master.generation

    def passphrase(self, name: str, passphrase: Passphrase, cost: ScryptCost) -> bytes:
        """The object that lets the holder of a passphrase in."""
        if not passphrase.text:
            raise UsageError("an empty passphrase protects nothing", "choose one of at least four random words")
        scrypt = asdict(cost) | {"salt": os.urandom(KEY_BYTES).hex()}
        return self._slot("passphrase", name, _passphrase_key(passphrase, scrypt), {"scrypt": scrypt})

    def recovery(self, name: str, public: X25519PublicKey) -> bytes:
        """The object that lets the holder of a recovery key in; of that key it has the public part only."""
        return self._agreed("recovery", name, public, {})

    def shares(self, name: str, public: X25519PublicKey, threshold: int, count: int) -> bytes:
        """The object that lets in whoever brings together as many shares as are needed; of them it has nothing."""
        return self._agreed("shares", name, public, {"shares": count, "threshold": threshold})

    def kms(self, name: str, key: KmsKey) -> bytes:
        """
        The object that lets in whoever may use a KMS key. Errors as in `KeyService.seal`.
        """
        wrapping = os.urandom(KEY_BYTES)
        sealed = key.service.seal(key.key, wrapping, kms_context(self._common["vault"]))
        return self._slot("kms", name, wrapping, {"key": key.key, "sealed_key": sealed.hex()})

    def again(self, key: str, data: bytes, secrets: Iterable[Secret]) -> bytes | None:
        """
        A slot for the holder of an earlier one, under the same name.

        Recovery keys and shares need no secret for it: their public part is enough. The others need theirs among `secrets`.

        :return: None if a secret is needed that is not there
        :raises IntegrityError: if the earlier slot is damaged
        """
        try:
            return self._again(describe_slot(key, data), key, data, secrets)
        except _MALFORMED as error:
            raise _no_slot(key, error) from error

    def _again(self, slot: KeySlot, key: str, data: bytes, secrets: Iterable[Secret]) -> bytes | None:
        if slot.public and slot.kind == "recovery":
            return self.recovery(slot.name, _public_key(slot.public))
        if slot.public and slot.kind == "shares" and slot.threshold and slot.shares:
            return self.shares(slot.name, _public_key(slot.public), slot.threshold, slot.shares)
        for secret in secrets:
            if isinstance(secret, KmsKey) and secret.key == slot.key:
                return self.kms(slot.name, secret)
            if isinstance(secret, Passphrase) and unwrap(key, data, secret):
                scrypt = _checked_slot(key, data)["scrypt"]
                cost = {name: int(scrypt[name]) for name in ("n", "r", "p")}
                return self.passphrase(slot.name, secret, ScryptCost(**cost))
        return None

    def _agreed(self, kind: SlotKind, name: str, public: X25519PublicKey, more: dict[str, Any]) -> bytes:
        ephemeral = X25519PrivateKey.generate()
        fields = {
            "ephemeral": ephemeral.public_key().public_bytes_raw().hex(),
            "public": public.public_bytes_raw().hex(),
        }
        return self._slot(kind, name, _agreed_key(kind, ephemeral.exchange(public), fields), fields | more)

    def _slot(self, kind: SlotKind, name: str, wrapping: bytes, more: dict[str, Any]) -> bytes:
        if not (0 < len(name) <= _LONGEST_NAME and name.isprintable() and name == name.strip()):
            raise UsageError(
                f"{name!r} cannot be the name of a holder", f"use 1 to {_LONGEST_NAME} printable letters, for people"
            )
        slot = self._common | {"kind": kind, "name": name, "nonce": os.urandom(NONCE_BYTES).hex()} | more
        wrapped = self._master.wrapped(wrapping, bytes.fromhex(slot["nonce"]), canonical(slot))
        return canonical({**slot, "wrapped": wrapped.hex()})


def slot_key(data: bytes) -> str:
    """The object in which a slot lies: named by its bytes, so that damage is not mistaken for a wrong passphrase."""
    return slot_object(digest(data))


def describe_slot(key: str, data: bytes) -> KeySlot:
    """
    What a slot says of itself.

    :raises IntegrityError: if it is damaged
    """
    document = _checked_slot(key, data)
    fields = {name: document[name] for name in _PUBLIC if name in document}
    return from_json(KeySlot, {"slot": digest(data), **fields})


def generation_of(key: str, data: bytes) -> int:
    """
    The generation that a slot says it is of.

    :raises IntegrityError: if it is damaged
    """
    said = _checked_slot(key, data).get("generation", 0)
    return said if isinstance(said, int) else 0


def unwrap(key: str, data: bytes, secret: Secret) -> MasterKey | None:
    """
    The master key, if this slot was made for the secret; None if it was not.

    It is given as one of generation 0; what the generation of the slot adds to it is told by the generation's own document.

    :raises IntegrityError: if the slot is damaged
    :raises UsageError: if the recovery key or a share has a typing error
    """
    slot = _checked_slot(key, data)
    if slot.get("kind") != _KIND_OF[type(secret)]:
        return None
    try:
        wrapped, nonce = bytes.fromhex(slot.pop("wrapped")), bytes.fromhex(slot["nonce"])
        unlocking = _unlocking_key(secret, slot)
        return MasterKey(AESGCM(unlocking).decrypt(nonce, wrapped, canonical(slot))) if unlocking else None
    except InvalidTag:
        return None
    except _MALFORMED as error:
        raise _no_slot(key, error) from error


def _no_slot(key: str, error: Exception) -> IntegrityError:
    return IntegrityError(f"{key} is not a key slot of format {FORMAT}: {error!r}", "restore it from a replica")


def kms_context(vault: str) -> dict[str, str]:
    """What a KMS key is asked to bind to what it seals, so that its log tells for which vault it was used."""
    return {"muster-vault": vault}


def _unlocking_key(secret: Secret, slot: dict[str, Any]) -> bytes | None:
    if isinstance(secret, Passphrase):
        return _passphrase_key(secret, slot["scrypt"])
    if isinstance(secret, KmsKey):
        if secret.key != slot["key"]:
            return None
        return secret.service.open(secret.key, bytes.fromhex(slot["sealed_key"]), kms_context(slot["vault"]))
    private = secret.private()
    if private.public_key().public_bytes_raw().hex() != slot["public"]:
        return None
    return _agreed_key(slot["kind"], private.exchange(_public_key(slot["ephemeral"])), slot)


def _checked_slot(key: str, data: bytes) -> dict[str, Any]:
    if slot_key(data) != key:
        raise IntegrityError(f"{key} is damaged: its bytes do not match its name", "restore it from a replica")
    return read_document(key, data)


def _passphrase_key(passphrase: Passphrase, scrypt: dict[str, Any]) -> bytes:
    n, r, p = (int(scrypt[name]) for name in ("n", "r", "p"))
    if 128 * n * r > _SCRYPT_MOST_MEMORY or p > 16:
        raise ValueError(f"scrypt with n={n} r={r} p={p} would take too much memory")
    words = unicodedata.normalize("NFKC", _encodable(passphrase.text)).encode()
    try:
        return Scrypt(salt=bytes.fromhex(scrypt["salt"]), length=KEY_BYTES, n=n, r=r, p=p).derive(words)
    except MemoryError as error:
        raise ValueError(f"scrypt with n={n} r={r} p={p} takes more memory than this machine has") from error


def _encodable(words: str) -> str:
    if any("\ud800" <= sign <= "\udfff" for sign in words):
        raise UsageError("the passphrase is not text in UTF-8", "type it in a terminal, or save its file, in UTF-8")
    return words


def _agreed_key(kind: SlotKind, shared: bytes, slot: Mapping[str, Any]) -> bytes:
    return derive(shared, f"muster {kind} slot v1", bytes.fromhex(slot["ephemeral"] + slot["public"]))


def _public_key(raw: str) -> X25519PublicKey:
    return X25519PublicKey.from_public_bytes(bytes.fromhex(raw))
