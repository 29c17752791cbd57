"""The same vault through another store: what a drill works with, and where in it something lies that a drill may spoil."""

from __future__ import annotations

from collections.abc import Callable

from muster.domain.content import ContentRef
from muster.errors import IncompletePoint
from muster.ports import BlobStore, Clock
from muster.vault.holders import KmsKey, Passphrase, RecoveryKey
from muster.vault.layout import pack_key, slot_object
from muster.vault.vault import Vault


def view(vault: Vault, around: Callable[[BlobStore], BlobStore], clock: Clock) -> Vault:
    """
    A vault, opened anew with the key that opened it, by the same actor.

    :param around: gives the store to open it in, for the one that it lies in
    :raises WrongKey: and whatever else opening raises
    """
    return Vault.open(around(vault._store), vault._opened.secret, clock=clock, actor=vault._actor)


def store_of(vault: Vault) -> BlobStore:
    """Where a vault lies."""
    return vault._store


def key_text(vault: Vault) -> str:
    """What opened it, as a text that `secret_of` understands: a secret, for a pipe to a process of our own."""
    secret = vault._opened.secret
    if isinstance(secret, Passphrase | RecoveryKey):
        return secret.text
    return f"kms:{secret.key}" if isinstance(secret, KmsKey) else "\n".join(secret.texts)


def key_object(vault: Vault) -> str:
    """The object that holds the key slot which let us in."""
    return slot_object(vault._opened.slot.slot)


def place_of(vault: Vault, content: ContentRef) -> tuple[str, int]:
    """
    Where the first chunk of a content lies: the pack's object, and the offset of the chunk's middle.

    :raises IncompletePoint: if it is nowhere
    """
    found = vault._index.locations(bytes.fromhex(content.chunks[0]))
    if not found:
        raise IncompletePoint(f"chunk {content.chunks[0]} is in no pack of {vault.url}", "verify the vault")
    entry = found[0].entry
    return pack_key(found[0].pack.name), entry.offset + entry.length // 2
