"""
Rolls: what was there when the keys were rotated.

A roll is a list of SHA-256 digests, signed with the key of the new generation, of all documents that earlier keys signed and of all packs
and indexes that they sealed. What is on a roll goes on counting; whatever else an earlier key signs or seals does not: it came after
the rotation, from somebody who was left out of it.
"""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Iterable
from datetime import datetime

from muster.codec import to_json
from muster.errors import IntegrityError, NotFound
from muster.ports import BlobStore
from muster.vault.envelope import SigningKey
from muster.vault.generations import Generation
from muster.vault.layout import DIGEST, ROLLS, digest

PAYLOAD_TYPE = "application/vnd.muster.roll.v1+json"
_DIGEST_BYTES = 32


def make_roll(
    signer: SigningKey, vault: str, generation: int, at: datetime, digests: Iterable[str]
) -> tuple[str, bytes]:
    """
    The key and the bytes of a roll.

    :param signer: of the generation that the roll is for
    """
    packed = b"".join(sorted(bytes.fromhex(one) for one in set(digests)))
    payload = {
        "at": to_json(at),
        "digests": base64.b64encode(packed).decode(),
        "generation": generation,
        "vault": vault,
    }
    data = signer.sign(PAYLOAD_TYPE, payload)
    return roll_key(generation, digest(data)), data


def roll_key(generation: int, name: str) -> str:
    """The object that holds a roll."""
    return f"{ROLLS}{generation:04d}-{name}.json"


def read_roll(generation: Generation, key: str, data: bytes) -> frozenset[bytes]:
    """
    The digests on a roll.

    :param generation: that it must be for
    :raises IntegrityError: if it is damaged or forged, or for another generation
    """
    payload = generation.key.open(key, data, PAYLOAD_TYPE)
    if (payload.get("vault"), payload.get("generation")) != (generation.vault, generation.number):
        raise IntegrityError(f"{key} is the roll of another generation", "it was copied there by somebody: remove it")
    try:
        packed = base64.b64decode(str(payload.get("digests")), validate=True)
    except ValueError as error:
        raise IntegrityError(f"{key} has no list of digests: {error}", "restore it from a replica") from error
    if len(packed) % _DIGEST_BYTES:
        raise IntegrityError(f"{key} has no list of digests: {len(packed)} bytes are none", "restore it from a replica")
    return frozenset(packed[start : start + _DIGEST_BYTES] for start in range(0, len(packed), _DIGEST_BYTES))


class Rolls:
    """All rolls of the newest generation, read when first asked. May be used from several threads."""

    def __init__(self, store: BlobStore, generation: Generation) -> None:
        self._store, self._generation = store, generation
        self._lock = threading.Lock()
        self._read: dict[str, frozenset[bytes]] = {}

    def name(self, one: str) -> bool:
        """
        Whether a digest is on a roll; one that is on none that was read so far is looked for anew.

        :raises IntegrityError: if the roll of the rotation itself cannot be read: nothing earlier can be believed without it
        """
        if not re.fullmatch(DIGEST, one):
            return False
        wanted = bytes.fromhex(one)
        with self._lock:
            if any(wanted in roll for roll in self._read.values()):
                return True
            return any(wanted in roll for roll in self._read_new())

    def all(self) -> frozenset[bytes]:
        """Every digest on any of the rolls that there are now. Errors as in `name`."""
        with self._lock:
            self._read_new()
            return frozenset().union(*self._read.values())

    def _read_new(self) -> list[frozenset[bytes]]:
        number, found = self._generation.number, list[frozenset[bytes]]()
        if not number:
            return found
        first = roll_key(number, self._generation.roll)
        for key in {first, *(info.key for info in self._store.list(f"{ROLLS}{number:04d}-"))} - self._read.keys():
            try:
                self._read[key] = read_roll(self._generation, key, self._store.get(key))
                found.append(self._read[key])
            except (IntegrityError, NotFound) as error:
                if key == first:
                    raise IntegrityError(
                        f"what was there when the keys were rotated cannot be told, so that nothing from before it counts: {error.message}",
                        f"put back {key}: `muster heal --from` a replica",
                    ) from error
                self._read[key] = frozenset()  # verification names it
        return found
