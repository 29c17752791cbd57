"""Where each object of a vault lies, and how a document is read back: format 1, see docs/format.md."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from muster.codec import canonical
from muster.errors import AlreadyExists, IntegrityError, UsageError
from muster.ports import BlobInfo, BlobStore

FORMAT = 1
ID_BYTES = 32
"""The length of a chunk's id."""

HEADER = "vault.json"
RESTORE = "RESTORE.md"
KEYS = "keys/"
PACKS = "packs/"
INDEXES = "indexes/"
POINTS = "points/"
MARKS = "marks/"
AUDIT = "audit/"
CONDEMNED = "condemned/"
DAMAGED = "damaged/"
GENERATIONS = "generations/"
ROLLS = "rolls/"

DEEPEST = 64
"""How far values of a document may be nested. What Python can just read is too deep to be handed on: that ends in RecursionError."""
NAME = "[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
"""A regular expression: what a workload or a point may be called."""
DIGEST = "[0-9a-f]{64}"
"""A regular expression: a SHA-256 in hex."""
LARGEST_SMALL = 1024 * 1024
"""More bytes than any key slot or generation has: whoever opens a vault reads no more of what somebody put among them."""


def checked_name(what: str, name: str) -> str:
    """
    Return a workload's or a point's name unchanged if it may be part of an object's key.

    :raises UsageError: if it may not
    """
    if not re.fullmatch(NAME, name):
        raise UsageError(
            f"{name!r} cannot be the name of a {what} in a vault",
            "use up to 128 of A-Z a-z 0-9 . _ - and begin with a letter, a digit or _",
        )
    return name


def digest(data: bytes | memoryview) -> str:
    """Hex SHA-256, by which packs, indexes, key slots and audit records are named."""
    return hashlib.sha256(data).hexdigest()


def pack_key(pack: str) -> str:
    """The object that holds a pack."""
    return f"{PACKS}{pack[:2]}/{pack}"


def point_key(workload: str, point: str) -> str:
    """The object that holds a manifest."""
    return f"{POINTS}{checked_name('workload', workload)}/{checked_name('point', point)}.json"


def point_id(manifest: str) -> str:
    """The point that a manifest is of, by the key of its object."""
    return manifest.rpartition("/")[2].removesuffix(".json")


def slot_object(slot: str) -> str:
    """The object that holds a key slot, by the slot's name."""
    return f"{KEYS}{slot}.json"


def mark_key(point: str, kind: str, at: datetime, repetition: int) -> str:
    """The object that holds a mark; `repetition` counts marks of one kind made in one microsecond."""
    suffix = f"-{repetition}" if repetition else ""
    return f"{MARKS}{checked_name('point', point)}/{kind}-{at.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}{suffix}.json"


def put_named(store: BlobStore, key: str, data: bytes | memoryview) -> None:
    """
    Store an object whose name is the digest of its bytes. One that is there already is the same, if it is whole.

    :raises IntegrityError: if an object of another size has the name
    """
    try:
        store.put(key, data)
    except AlreadyExists as error:
        size = store.info(key).size
        if size != len(data):
            raise IntegrityError(
                f"{key} in {store.url} has {size} bytes instead of {len(data)}",
                "it is damaged; verify the vault, remove that object, and run this again",
            ) from error


def get_small(store: BlobStore, info: BlobInfo) -> bytes:
    """
    A key slot or a generation.

    :raises IntegrityError: if the object is larger than any can be; it is not read
    """
    if info.size > LARGEST_SMALL:
        raise IntegrityError(
            f"{info.key} in {store.url} has {info.size} bytes, more than it can have",
            "it was put there by somebody: remove it, and find out who writes to the store",
        )
    return store.get(info.key)


def read_document(key: str, data: bytes) -> dict[str, Any]:
    """
    A JSON object of the vault, which must be exactly as it was written.

    :raises IntegrityError: if it is not canonical JSON, or nested deeper than any document is: then it was damaged or altered
    """
    try:
        document = json.loads(data)
        whole = isinstance(document, dict) and not _deeper(document, DEEPEST) and canonical(document) == data
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{key} is not JSON: {error}", "it is damaged; restore it from a replica") from error
    if not whole:
        raise IntegrityError(f"{key} is not as it was written", "it is damaged; restore it from a replica")
    return dict(document)


def _deeper(document: Any, most: int) -> bool:
    level = [document]
    for _ in range(most):
        level = [inner for value in level for inner in _inside(value) if isinstance(inner, dict | list)]
    return bool(level)


def _inside(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value
