"""
The master key, and what is derived from it.

Primitives: HKDF-SHA256 (RFC 5869), AES-256-GCM (NIST SP 800-38D), BLAKE3 in keyed mode.

A rotation makes a new master key: the next *generation*. Its holders get those of all earlier generations with it, so that what they
sealed stays readable; which of them sealed a pack or an index is told by the first bytes of its salt.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from muster.errors import IntegrityError

KEY_BYTES = 32
NONCE_BYTES = 12
KEY_ID_BYTES = 8


@dataclass(frozen=True, slots=True)
class ScryptCost:
    """
    Work factor (a power of two), block size and parallelism of scrypt (RFC 7914); memory is 128 · n · r bytes.

    What new passphrases cost to try is from OWASP's Password Storage Cheat Sheet.
    """

    n: int = 1 << 17
    r: int = 8
    p: int = 1


def derive(key: bytes, info: str, salt: bytes | None = None) -> bytes:
    """A key of 32 bytes for one purpose, by HKDF-SHA256."""
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=info.encode()).derive(key)


class MasterKey:
    """
    The 32 random bytes behind everything in a vault, and the keys that follow from them.

    :param key: of the newest generation that its holder knows
    :param earlier: of the generations before that, the first first
    """

    def __init__(self, key: bytes, earlier: Sequence[bytes] = ()) -> None:
        self._keys = (*earlier, key)
        self._chunk_key = derive(self._keys[0], "muster chunk id v1")
        self._by_id = {_key_id(later): number for number, later in enumerate(self._keys) if number}
        self._unknown: dict[bytes, int] = {}
        self._counts: Callable[[str], bool] = lambda _: True

    @classmethod
    def generate(cls) -> MasterKey:
        """A new one, of generation 0."""
        return cls(secrets.token_bytes(KEY_BYTES))

    def successor(self) -> MasterKey:
        """A new one, of the next generation."""
        return MasterKey(secrets.token_bytes(KEY_BYTES), self._keys)

    def of_generations(self, earlier: Sequence[bytes]) -> MasterKey:
        """The same key, together with those of the generations before it."""
        return MasterKey(self._keys[-1], earlier)

    def first(self) -> MasterKey:
        """The key of generation 0 alone."""
        return MasterKey(self._keys[0])

    @property
    def generation(self) -> int:
        """How many rotations came before this key."""
        return len(self._keys) - 1

    @property
    def key_id(self) -> bytes:
        """Eight bytes by which this key is told from others; they say nothing about it."""
        return _key_id(self._keys[-1])

    def earlier(self) -> tuple[bytes, ...]:
        """The keys of all generations before this one, the first first."""
        return self._keys[:-1]

    def generations(self) -> tuple[bytes, ...]:
        """The keys of all generations, the first first, this one last."""
        return self._keys

    def same(self, other: MasterKey) -> bool:
        """Whether both are the same key, whatever they know of earlier ones."""
        return secrets.compare_digest(self._keys[-1], other._keys[-1])

    def wrapped(self, under: bytes, nonce: bytes, bound: bytes) -> bytes:
        """This key, sealed with AES-GCM under a wrapping key and bound to other bytes."""
        return AESGCM(under).encrypt(nonce, self._keys[-1], bound)

    # --- what follows from it -----------------------------------------------------------------------------------------

    def chunk_id(self, plain: bytes | memoryview) -> bytes:
        """
        Keyed BLAKE3: without the key nobody can tell whether a vault holds a given content.

        The key for it is that of generation 0 for ever, so that what is stored is found again after a rotation.
        """
        return blake3(plain, key=self._chunk_key).digest()

    def new_salt(self) -> bytes:
        """A salt for a new pack or index: 32 bytes, by which its key is found again."""
        if not self.generation:
            return os.urandom(KEY_BYTES)
        return self.key_id + os.urandom(KEY_BYTES - KEY_ID_BYTES)

    def pack_cipher(self, salt: bytes) -> AESGCM:
        """Seals chunks and directory of the one pack that has this salt."""
        return AESGCM(derive(self._key_of(salt), "muster pack v1", salt))

    def index_cipher(self, salt: bytes) -> AESGCM:
        """Seals the one index that has this salt."""
        return AESGCM(derive(self._key_of(salt), "muster index v1", salt))

    def signing_cipher(self, vault: str) -> AESGCM:
        """Seals the first private signing key of a vault."""
        return AESGCM(derive(self._keys[0], "muster signing key v1", bytes.fromhex(vault)))

    def generation_cipher(self, vault: str) -> AESGCM:
        """Seals what the holders of this generation get: earlier keys and their signing key."""
        return AESGCM(derive(self._keys[-1], "muster generation v1", bytes.fromhex(vault)))

    def _key_of(self, salt: bytes) -> bytes:
        return self._keys[self.sealed_in(salt)]

    # --- what may be believed -----------------------------------------------------------------------------------------

    def guard(self, counts: Callable[[str], bool], unknown: dict[bytes, int]) -> None:
        """
        Set what `admit` asks.

        :param counts: whether a pack or index of this name, sealed by an earlier generation, was there before the rotation
        :param unknown: ids of the keys of later generations, which this holder does not have, and their numbers
        """
        self._counts, self._unknown = counts, unknown

    def sealed_in(self, salt: bytes) -> int:
        """The generation whose key a pack or an index of this salt was sealed with: only its holders can have made it."""
        return self._by_id.get(salt[:KEY_ID_BYTES], 0)

    def admit(self, name: str, salt: bytes) -> None:
        """
        Let a pack or an index be believed: made by this generation, or by an earlier one before it was replaced.

        Whoever has only an earlier key could otherwise make a writer believe that chunks are stored which are not.

        :param name: the digest that names it
        :raises IntegrityError: if it may not be, or was sealed by a generation whose key we do not have
        """
        if later := self._unknown.get(salt[:KEY_ID_BYTES]):
            raise IntegrityError(
                f"{name} was stored after the keys were rotated, for holders of generation {later} alone",
                "open the vault with a key that was added after the rotation",
            )
        newest = self.sealed_in(salt) == self.generation and not self._unknown
        if not newest and not self._counts(name):
            raise IntegrityError(
                f"{name} was sealed with a key of an earlier generation after that was replaced, so nothing builds on it",
                "nothing needs it, unless it was written during the rotation: see `muster keys adopt`",
            )


def _key_id(key: bytes) -> bytes:
    return derive(key, "muster key id v1")[:KEY_ID_BYTES]
