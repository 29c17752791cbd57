"""Make a vault and let somebody in: what happens before there is a `Vault`."""

from __future__ import annotations

import importlib.resources
import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from string import Template

from muster import __version__
from muster.codec import to_json
from muster.errors import AlreadyExists, IntegrityError, NotFound, WrongKey
from muster.ports import BlobStore
from muster.vault.authority import Authority
from muster.vault.buffers import keep_freed_memory
from muster.vault.foreign import own
from muster.vault.generations import Chain, first_generation, open_generation, read_chain
from muster.vault.header import Actor, make_header, new_id, open_signing_key
from muster.vault.holders import KINDS, Passphrase, RecoveryKey, Secret, generate_recovery_key, require_typeable
from muster.vault.keys import MasterKey, ScryptCost
from muster.vault.layout import AUDIT, GENERATIONS, HEADER, KEYS, PACKS, POINTS, RESTORE, digest, get_small, put_named
from muster.vault.slots import KeySlot, SlotMaker, describe_slot, generation_of, slot_key, unwrap

Way = tuple[KeySlot, MasterKey]
"""A slot that a secret opens, and the key in it."""


@dataclass(frozen=True)
class Opened:
    """
    A vault and a way into it.

    :param header: the bytes of ``vault.json``
    :param slot: the key slot that let us in
    :param secret: what it was opened with
    """

    header: bytes
    master: MasterKey
    authority: Authority
    slot: KeySlot
    secret: Secret


def create(
    store: BlobStore,
    passphrase: Passphrase,
    now: datetime,
    actor: Actor,
    cost: ScryptCost,
    keep: Callable[[RecoveryKey], object],
) -> tuple[Opened, RecoveryKey]:
    """
    Make a vault: instructions and key slots, then ``vault.json``.

    :param keep: is given the recovery key before it opens anything
    :raises UsageError: if nobody could type the passphrase
    :raises AlreadyExists: if the store holds a vault, or what is left of one
    """
    keep_freed_memory()
    if list(store.list(HEADER)):
        raise _exists(store)
    if left := _left_in(store):
        raise AlreadyExists(*_beheaded(store, left).args)
    require_typeable(passphrase)
    vault, master, recovery = new_id(), MasterKey.generate(), generate_recovery_key()
    keep(recovery)
    restore = digest(_put_restore_text(store))
    maker = SlotMaker(master, vault, to_json(now))
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
    chain, first = read_chain(store, first_generation(header)), describe_slot(slot_key(slots[0]), slots[0])
    opened = _opened(store, header, chain, master, first, passphrase)
    if opened is None:
        raise _forged(store, first)
    return opened, recovery


def unlock(store: BlobStore, secret: Secret) -> Opened:
    """
    Open a vault with any of its keys. With one that was left out of a rotation, what was stored before it can be read.

    :raises NotFound: if there is no vault in the store
    :raises WrongKey: if no key slot was made for this secret
    :raises IntegrityError: if ``vault.json``, the key slots or the generations of the keys were damaged, forged or removed
    """
    keep_freed_memory()
    try:
        header = store.get(HEADER)
    except NotFound as error:
        if left := _left_in(store):
            raise _beheaded(store, left) from error
        raise NotFound(
            f"there is no vault in {store.url}", "check the URL, or create one with `muster init`"
        ) from error
    damaged: list[IntegrityError] = []
    ways = _ways(store, secret, damaged)
    with ThreadPoolExecutor(1, "muster-unlock") as aside:  # scrypt takes half a second, and leaves the interpreter free
        first = aside.submit(next, ways, None)
        chain = read_chain(store, first_generation(header))
    return _unlock(store, header, chain, secret, itertools.chain(filter(None, [first.result()]), ways), damaged)


def _left_in(store: BlobStore) -> str | None:
    """An object by which it shows that there is, or was, a vault."""
    return next((info.key for prefix in (POINTS, PACKS, AUDIT) for info in own(store.list(prefix))), None)


def _beheaded(store: BlobStore, left: str) -> IntegrityError:
    return IntegrityError(
        f"{store.url} holds {left}, and no {HEADER}: that of the vault that lies there is gone",
        f"put {HEADER} back, from a replica or from beneath what hides it (`muster doctor --uncover`); a new vault in its place "
        "would bar the way to it: create that elsewhere",
    )


def _unlock(
    store: BlobStore, header: bytes, chain: Chain, secret: Secret, ways: Iterable[Way], damaged: list[IntegrityError]
) -> Opened:
    """Through whichever slot the secret opens; a damaged one matters only if no other lets us in."""
    foreign: KeySlot | None = None
    for slot, master in ways:
        if opened := _opened(store, header, chain, master, slot, secret):
            if foreign and foreign.generation > chain.newest.number and _written_to_since(store, opened.authority):
                opened.authority.lost(foreign.generation)
            return opened
        foreign = foreign or slot
    if foreign:
        raise _forged(store, foreign)
    if damaged:
        raise damaged[0]
    if not list(own(store.list(KEYS))):
        raise IntegrityError(
            f"the vault in {store.url} has no key slots any more: no key opens it without them",
            f"put back {KEYS} from a replica or any copy of the vault, and find out who writes to the store",
        )
    raise WrongKey(
        f"this {KINDS[type(secret)]} does not open the vault in {store.url}",
        "check for typing errors and the right vault; any other of its keys opens it as well",
    )


def _written_to_since(store: BlobStore, authority: Authority) -> bool:
    """Whether there is a record that no key signed which we know: not after a rotation that was cut short before it counted."""
    return any(not authority.signed(info.key, get_small(store, info)) for info in own(store.list(AUDIT)))


def _ways(store: BlobStore, secret: Secret, damaged: list[IntegrityError]) -> Iterator[Way]:
    """The slots that a secret opens, the newest first, each with the key in it; what is wrong with others is added to `damaged`."""
    for data in _read_slots(store, damaged):
        try:  # described last: the first time, that costs as long as all else before scrypt
            master, slot = unwrap(slot_key(data), data, secret), describe_slot(slot_key(data), data)
        except IntegrityError as error:
            damaged.append(error)
            continue
        if master:
            yield slot, master


def _read_slots(store: BlobStore, damaged: list[IntegrityError]) -> list[bytes]:
    """All key slots, those of the newest generation first; what is wrong with others is added to `damaged`."""
    slots: list[tuple[int, bytes]] = []
    for info in own(store.list(KEYS)):
        try:
            data = get_small(store, info)
            slots.append((generation_of(info.key, data), data))
        except IntegrityError as error:
            damaged.append(error)
    return [data for _, data in sorted(slots, key=lambda slot: slot[0], reverse=True)]


def _opened(
    store: BlobStore, header: bytes, chain: Chain, master: MasterKey, slot: KeySlot, secret: Secret
) -> Opened | None:
    """The vault, if the master key is that of the slot's generation, and ``vault.json`` is what it was."""
    if not 0 <= slot.generation <= chain.newest.number:
        return None
    own = chain.generations[slot.generation]
    keys = open_generation(own, master) if own.number else (master, open_signing_key(header, master))
    if keys is None or keys[1] is None or open_signing_key(header, keys[0]) is None:
        return None
    authority = Authority(store, chain, keys[1], own)
    keys[0].guard(authority.counts, authority.unknown_keys())
    return Opened(header, keys[0], authority, slot, secret)


def _forged(store: BlobStore, slot: KeySlot) -> IntegrityError:
    if slot.generation:
        return IntegrityError(
            f"{slot.name} has a key of generation {slot.generation} of the vault in {store.url}, and the object that tells of that "
            "generation is gone, damaged or another",
            f"put back {GENERATIONS} and {HEADER} from a replica, and find out who writes to the store",
        )
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
