"""Make a vault and let somebody in: what happens before there is a `Vault`."""

from __future__ import annotations

import importlib.resources
from datetime import datetime
from string import Template

from muster import __version__
from muster.codec import to_json
from muster.errors import AlreadyExists, IntegrityError, NotFound, WrongKey
from muster.ports import BlobStore
from muster.vault.envelope import SigningKey
from muster.vault.header import Actor, make_header, new_id, open_signing_key, read_header
from muster.vault.holders import KINDS, Passphrase, RecoveryKey, Secret, generate_recovery_key
from muster.vault.keys import MasterKey, ScryptCost
from muster.vault.layout import HEADER, KEYS, RESTORE, digest, put_named
from muster.vault.slots import SlotMaker, slot_key, unwrap


def create(
    store: BlobStore, passphrase: Passphrase, now: datetime, actor: Actor, cost: ScryptCost
) -> tuple[bytes, MasterKey, RecoveryKey]:
    """
    Make a vault: instructions and key slots, then ``vault.json``, which is returned with the keys.

    :raises AlreadyExists: if the store holds a vault
    """
    if list(store.list(HEADER)):
        raise _exists(store)
    vault, master, recovery = new_id(), MasterKey.generate(), generate_recovery_key()
    at = to_json(now)
    restore = digest(_put_restore_text(store))
    maker = SlotMaker(master, vault, at)
    slots = [
        maker.passphrase("first", passphrase, cost),
        maker.recovery("recovery", recovery.private().public_key()),
    ]
    names = [digest(slot) for slot in slots]
    header = make_header(master, vault, now, actor, restore_sha256=restore, slots=names)
    for slot in slots:
        put_named(store, slot_key(slot), slot)
    try:
        store.put(HEADER, header)
    except AlreadyExists as error:
        raise _exists(store) from error
    return header, master, recovery


def unlock(store: BlobStore, secret: Secret) -> tuple[bytes, MasterKey]:
    """
    ``vault.json`` and the master key.

    :raises NotFound: if there is no vault in the store
    :raises WrongKey: if no key slot was made for this secret
    :raises IntegrityError: if ``vault.json`` or the key slots were damaged or forged
    """
    try:
        header = store.get(HEADER)
    except NotFound as error:
        raise NotFound(
            f"there is no vault in {store.url}", "check the URL, or create one with `muster init`"
        ) from error
    read_header(header)
    return header, _unlock(store, header, secret)


def _unlock(store: BlobStore, header: bytes, secret: Secret) -> MasterKey:
    """The master key from whichever slot the secret opens; a damaged slot matters only if no other lets us in."""
    damaged: list[IntegrityError] = []
    foreign = False
    for info in store.list(KEYS):
        try:
            master = unwrap(info.key, store.get(info.key), secret)
        except IntegrityError as error:
            damaged.append(error)
            continue
        if master and open_signing_key(header, master):
            return master
        foreign = foreign or master is not None
    if foreign:
        raise _forged_header(store)
    if damaged:
        raise damaged[0]
    raise WrongKey(
        f"this {KINDS[type(secret)]} does not open the vault in {store.url}",
        "check for typing errors and the right vault; the other kind of key opens it as well",
    )


def signing_key(store: BlobStore, header: bytes, master: MasterKey) -> SigningKey:
    if signer := open_signing_key(header, master):
        return signer
    raise _forged_header(store)


def _forged_header(store: BlobStore) -> IntegrityError:
    return IntegrityError(
        f"{HEADER} in {store.url} is not what was written when the vault was created",
        "it was damaged or forged: put back its copy from a replica, and find out who writes to the store",
    )


def _put_restore_text(store: BlobStore) -> bytes:
    """Write ``RESTORE.md``, or find the one that a creation of the same version left which never came to its end."""
    template = importlib.resources.files("muster.vault").joinpath(RESTORE).read_text(encoding="utf-8")
    text = Template(template).substitute(muster=__version__).encode()
    try:
        store.put(RESTORE, text)
    except AlreadyExists as error:
        if store.get(RESTORE) != text:
            raise AlreadyExists(
                f"{store.url} holds another {RESTORE}, and no vault", "create the vault in an empty place"
            ) from error
    return text


def _exists(store: BlobStore) -> AlreadyExists:
    return AlreadyExists(f"there is a vault in {store.url} already", "open it, or create the new one elsewhere")
