"""
The master key, what is derived from it, and the slots that wrap it for each of its holders.

Primitives and parameters: AES-256-GCM (NIST SP 800-38D), HKDF-SHA256 (RFC 5869), scrypt (RFC 7914) with N = 2^17, r = 8, p = 1
(OWASP's Password Storage Cheat Sheet), X25519 (RFC 7748), BLAKE3 in keyed mode.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from muster.codec import canonical, from_json
from muster.errors import IntegrityError, UsageError
from muster.vault.layout import FORMAT, KEYS, digest, read_document

KEY_BYTES = 32
NONCE_BYTES = 12
RECOVERY_PREFIX = "MUSTER-RECOVERY-1"
_CHECKSUM_BYTES = 3
_SCRYPT_MOST_MEMORY = 1 << 30
SlotKind = Literal["passphrase", "recovery"]


@dataclass(frozen=True)
class Passphrase:
    """Words that a person or a secret store keeps."""

    text: str = field(repr=False)


@dataclass(frozen=True)
class RecoveryKey:
    """A private key in letters, ``MUSTER-RECOVERY-1-XXXX-…``, shown once and kept offline."""

    text: str = field(repr=False)


Secret = Passphrase | RecoveryKey


@dataclass(frozen=True, slots=True)
class KeySlot:
    """One way to open a vault. `slot` is the digest that names its object."""

    slot: str
    kind: SlotKind
    name: str
    created_at: datetime
    vault: str


@dataclass(frozen=True, slots=True)
class ScryptCost:
    """Work factor (a power of two), block size and parallelism of scrypt; memory is 128 · n · r bytes."""

    n: int = 1 << 17
    r: int = 8
    p: int = 1


def derive(key: bytes, info: str, salt: bytes | None = None) -> bytes:
    """A key of 32 bytes for one purpose, by HKDF-SHA256."""
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=info.encode()).derive(key)


class MasterKey:
    """The 32 random bytes behind everything in a vault, and the keys that follow from them."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._chunk_key = derive(key, "muster chunk id v1")

    @classmethod
    def generate(cls) -> MasterKey:
        """A new one."""
        return cls(secrets.token_bytes(KEY_BYTES))

    def chunk_id(self, plain: bytes | memoryview) -> bytes:
        """Keyed BLAKE3: without the key nobody can tell whether a vault holds a given content."""
        return blake3(plain, key=self._chunk_key).digest()

    def new_salt(self) -> bytes:
        """A salt for a new pack or index: 32 bytes, by which its key is found again."""
        return os.urandom(KEY_BYTES)

    def pack_cipher(self, salt: bytes) -> AESGCM:
        """Seals chunks and directory of the one pack that has this salt."""
        return AESGCM(derive(self._key, "muster pack v1", salt))

    def index_cipher(self, salt: bytes) -> AESGCM:
        """Seals the one index that has this salt."""
        return AESGCM(derive(self._key, "muster index v1", salt))

    def signing_cipher(self, vault: str) -> AESGCM:
        """Seals the private signing key of a vault."""
        return AESGCM(derive(self._key, "muster signing key v1", bytes.fromhex(vault)))

    # --- slots --------------------------------------------------------------------------------------------------------

    def passphrase_slot(self, passphrase: Passphrase, name: str, vault: str, at: str, cost: ScryptCost) -> bytes:
        """The object that lets the holder of a passphrase in."""
        if not passphrase.text:
            raise UsageError("an empty passphrase protects nothing", "choose one of at least four random words")
        scrypt = {"n": cost.n, "p": cost.p, "r": cost.r, "salt": os.urandom(KEY_BYTES).hex()}
        slot = {
            "created_at": at,
            "format": FORMAT,
            "kind": "passphrase",
            "name": name,
            "scrypt": scrypt,
            "vault": vault,
        }
        return self._wrap(slot, _passphrase_key(passphrase, scrypt))

    def recovery_slot(self, recovery: RecoveryKey, name: str, vault: str, at: str) -> bytes:
        """The object that lets the holder of a recovery key in; of that key it has the public part only."""
        public = _private_key(recovery).public_key()
        ephemeral = X25519PrivateKey.generate()
        slot = {
            "created_at": at,
            "ephemeral": ephemeral.public_key().public_bytes_raw().hex(),
            "format": FORMAT,
            "kind": "recovery",
            "name": name,
            "public": public.public_bytes_raw().hex(),
            "vault": vault,
        }
        return self._wrap(slot, _agreed_key(ephemeral.exchange(public), slot))

    def _wrap(self, slot: dict[str, Any], key: bytes) -> bytes:
        slot["nonce"] = os.urandom(NONCE_BYTES).hex()
        wrapped = AESGCM(key).encrypt(bytes.fromhex(slot["nonce"]), self._key, canonical(slot))
        return canonical({**slot, "wrapped": wrapped.hex()})


def generate_recovery_key() -> RecoveryKey:
    """A new recovery key: 32 random bytes and 3 bytes of checksum, in 14 groups of four letters."""
    raw = X25519PrivateKey.generate().private_bytes_raw()
    letters = base64.b32encode(raw + _checksum(raw)).decode()
    groups = [letters[start : start + 4] for start in range(0, len(letters), 4)]
    return RecoveryKey("-".join([RECOVERY_PREFIX, *groups]))


def slot_key(data: bytes) -> str:
    """The object in which a slot lies: named by its bytes, so that damage is not mistaken for a wrong passphrase."""
    return f"{KEYS}{digest(data)}.json"


def describe_slot(key: str, data: bytes) -> KeySlot:
    """
    What a slot says of itself.

    :raises IntegrityError: if it is damaged
    """
    document = _checked_slot(key, data)
    fields = {name: document.get(name) for name in ("kind", "name", "created_at", "vault")}
    return from_json(KeySlot, {"slot": digest(data), **fields})


def unwrap(key: str, data: bytes, secret: Secret) -> MasterKey | None:
    """
    The master key, if this slot was made for the secret; None if it was not.

    :raises IntegrityError: if the slot is damaged
    :raises UsageError: if the recovery key has a typing error
    """
    slot = _checked_slot(key, data)
    wanted = "passphrase" if isinstance(secret, Passphrase) else "recovery"
    if slot.get("kind") != wanted:
        return None
    try:
        wrapped, nonce = bytes.fromhex(slot.pop("wrapped")), bytes.fromhex(slot["nonce"])
        unlocking = _unlocking_key(secret, slot)
        return MasterKey(AESGCM(unlocking).decrypt(nonce, wrapped, canonical(slot))) if unlocking else None
    except InvalidTag:
        return None
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError(
            f"{key} is not a key slot of format {FORMAT}: {error!r}", "restore it from a replica"
        ) from error


def _unlocking_key(secret: Secret, slot: dict[str, Any]) -> bytes | None:
    if isinstance(secret, Passphrase):
        return _passphrase_key(secret, slot["scrypt"])
    private = _private_key(secret)
    if private.public_key().public_bytes_raw().hex() != slot["public"]:
        return None
    return _agreed_key(private.exchange(X25519PublicKey.from_public_bytes(bytes.fromhex(slot["ephemeral"]))), slot)


def _checked_slot(key: str, data: bytes) -> dict[str, Any]:
    if slot_key(data) != key:
        raise IntegrityError(f"{key} is damaged: its bytes do not match its name", "restore it from a replica")
    return read_document(key, data)


def _passphrase_key(passphrase: Passphrase, scrypt: dict[str, Any]) -> bytes:
    n, r, p = (int(scrypt[name]) for name in ("n", "r", "p"))
    if 128 * n * r > _SCRYPT_MOST_MEMORY or p > 16:
        raise ValueError(f"scrypt with n={n} r={r} p={p} would take too much memory")
    words = unicodedata.normalize("NFKC", passphrase.text).encode()
    return Scrypt(salt=bytes.fromhex(scrypt["salt"]), length=KEY_BYTES, n=n, r=r, p=p).derive(words)


def _agreed_key(shared: bytes, slot: dict[str, Any]) -> bytes:
    return derive(shared, "muster recovery slot v1", bytes.fromhex(slot["ephemeral"] + slot["public"]))


def _private_key(recovery: RecoveryKey) -> X25519PrivateKey:
    letters = "".join(_letters(recovery.text))
    if len(letters) != (KEY_BYTES + _CHECKSUM_BYTES) * 8 // 5:
        raise _mistyped(f"it has {len(letters)} letters after {RECOVERY_PREFIX} instead of 56")
    try:
        raw = base64.b32decode(letters)
    except ValueError:
        raise _mistyped("it has signs other than A-Z and 2-7") from None
    if _checksum(raw[:KEY_BYTES]) != raw[KEY_BYTES:]:
        raise _mistyped("its checksum is wrong")
    return X25519PrivateKey.from_private_bytes(raw[:KEY_BYTES])


def _letters(text: str) -> Iterator[str]:
    joined = "".join(text.upper().split())
    if not joined.startswith(RECOVERY_PREFIX):
        raise _mistyped(f"it does not begin with {RECOVERY_PREFIX}")
    return (letter for letter in joined.removeprefix(RECOVERY_PREFIX) if letter != "-")


def _checksum(raw: bytes) -> bytes:
    return hashlib.sha256(b"muster recovery key v1" + raw).digest()[:_CHECKSUM_BYTES]


def _mistyped(why: str) -> UsageError:
    return UsageError(f"this is not a recovery key: {why}", "type all of its groups as they were shown")
