"""
Rotate the keys of a vault: a new master key and a new signing key, for those holders who are to stay.

Order of writing: roll, key slots, **generation**, late roll, audit record. Until the generation is there, nothing has happened. Once it
is, everything has, except that what others stored between the two looks at the vault waits for the late roll. If that is never written,
because the rotation was killed, somebody must say by `adopt` that it is to count: nobody else can tell it from what a thief adds later.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from muster.codec import to_json
from muster.errors import AlreadyExists, IntegrityError, KeysRotated, MusterError, NotFound, Refused, StoreUnavailable
from muster.ports import BlobStore
from muster.vault.census import Census, Verdict, counting
from muster.vault.envelope import SigningKey
from muster.vault.generations import Generation, NewGeneration, make_generation, read_chain
from muster.vault.header import Actor
from muster.vault.holders import Secret
from muster.vault.keyholders import Holder, KeyHolders, Record
from muster.vault.keys import MasterKey
from muster.vault.layout import digest, put_named
from muster.vault.opening import Opened, unlock
from muster.vault.rolls import make_roll
from muster.vault.slots import KeySlot, SlotMaker, describe_slot, slot_key, unwrap

_REASONS = {
    "passphrase": "their passphrase was not given",
    "kms": "the right to use their KMS key was not given",
    "revoked": "they were revoked",
    "unknown": "nothing says that this vault made their slot",
}


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A holder who will not hold the new key, and why."""

    slot: KeySlot
    why: str


@dataclass(frozen=True)
class RotationPlan:
    """
    A rotation that can be looked at before it takes place; nothing of it is stored yet.

    :param generation: number of the new keys
    :param holders: who will hold them
    """

    generation: int
    holders: tuple[KeySlot, ...]
    left_out: tuple[LeftOut, ...]
    master: MasterKey = field(repr=False)
    slots: tuple[bytes, ...] = field(repr=False)


class Rotation:
    """
    Plans rotations of one open vault, and carries them out.

    :param record: adds to its audit trail: action, subject, outcome, details
    """

    def __init__(self, store: BlobStore, opened: Opened, holders: KeyHolders, now: datetime, record: Record) -> None:
        self._store, self._opened, self._holders, self._now, self._record = store, opened, holders, now, record
        self._chain = opened.authority.chain
        self._vault = opened.authority.own.vault

    def plan(self, secrets: Sequence[Secret], without: Collection[str]) -> RotationPlan:
        """
        Make new keys and a slot of them for everybody who can have one. Stores nothing.

        :param secrets: of holders whose public part is not enough (passphrases, KMS keys), besides the one that opened the vault
        :param without: names of holders to leave out
        :raises NotFound: if one of them is no holder
        :raises Refused: if whoever opened the vault would not be among the new holders: then nobody proves that the new keys open it
        :raises WrongKey: if the vault was opened with a key of an earlier generation
        """
        self._opened.authority.signer  # noqa: B018 - raises WrongKey
        standings = {holder.slot.slot: holder for holder in self._holders.all()}
        if unknown := set(without) - {holder.slot.name for holder in standings.values()}:
            raise NotFound(f"no holder is named {', '.join(sorted(unknown))}", "see `muster keys list`")
        master = self._opened.master.successor()
        maker = SlotMaker(master, self._vault, to_json(self._now))
        made: list[bytes] = []
        left_out: list[LeftOut] = []
        for slot, data in self._holders.slots():
            if slot.generation == self._chain.newest.number:
                why = _barred(standings[slot.slot], without)
                again = None
                try:
                    again = None if why else maker.again(slot_key(data), data, (self._opened.secret, *secrets))
                except (IntegrityError, Refused, StoreUnavailable) as error:  # also what a key service says
                    why = error.message
                made += [again] if again else []
                left_out += [] if again else [LeftOut(slot, why or _REASONS[slot.kind])]
        self._check_opener(made, master)
        holders = tuple(describe_slot(slot_key(data), data) for data in made)
        return RotationPlan(master.generation, holders, tuple(left_out), master, tuple(made))

    def carry_out(self, plan: RotationPlan, actor: Actor, audit_head: str) -> Opened:
        """
        Rotate as planned; the vault as it is then, opened anew with the same secret.

        :raises KeysRotated: if somebody else rotated in the meantime; nothing came of this one
        :raises StoreUnavailable: if the store did not answer
        """
        self._opened.authority.confirm()
        signer = SigningKey(Ed25519PrivateKey.generate())
        there = Census(self._store, self._opened.master, self._opened.authority).take()
        key, roll = make_roll(signer, self._vault, plan.generation, self._now, counting(there))
        put_named(self._store, key, roll)
        for slot in plan.slots:
            put_named(self._store, slot_key(slot), slot)
        names = tuple(digest(slot) for slot in plan.slots)
        new = NewGeneration(plan.master, signer, self._now, actor, names, digest(roll), audit_head)
        self._commit(make_generation(self._chain.newest, self._opened.authority.signer, new))
        return unlock(self._store, self._opened.secret)

    def conclude(self, plan: RotationPlan) -> None:
        """Right after a rotation: let count what others were just storing with the key that it replaced, and record the rotation."""
        newest = self._chain.newest
        self.adopt([verdict for verdict in self.late() if verdict.generation == newest.number - 1])
        facts = {"sha256": newest.digest, "left_out": [one.slot.name for one in plan.left_out]}
        self._record("keys.rotate", newest.object, "rotated", facts)

    def late(self) -> list[Verdict]:
        """What an earlier key signed or sealed, and no roll names: stored during a rotation, or by a thief after it."""
        census = Census(self._store, self._opened.master, self._opened.authority).take()
        return [verdict for verdict in census if not verdict.counts]

    def adopt(self, found: Sequence[Verdict]) -> None:
        """Let these objects count from now on, by a roll that names them, and record it."""
        if not found:
            return
        newest, signer = self._chain.newest, self._opened.authority.signer
        digests = [verdict.digest for verdict in found]
        key, data = make_roll(signer, newest.vault, newest.number, self._now, digests)
        put_named(self._store, key, data)
        facts = {"sha256": digest(data), "objects": [verdict.key for verdict in found]}
        self._record("keys.adopt", key, "adopted", facts)

    def _check_opener(self, made: Sequence[bytes], master: MasterKey) -> None:
        for data in made:
            found = unwrap(slot_key(data), data, self._opened.secret)
            if found and found.same(master):
                return
        raise Refused(
            "whoever opened the vault would not hold the new keys, so nobody would have proven that they open it",
            "open the vault with the key of somebody who stays, and rotate then",
        )

    def _commit(self, data: bytes) -> None:
        """Write the object of the new generation in the first free place; an object there that is no generation is passed over."""
        chain = self._chain
        while True:
            failure = _attempt(self._store, chain.free, data)
            chain = read_chain(self._store, chain.generations[0])
            if chain.newest.digest == digest(data):  # also if only the answer was lost
                return
            if chain.newest.number != self._chain.newest.number:
                raise _outrun(chain.newest) from failure
            if not isinstance(failure, AlreadyExists):
                raise failure or IntegrityError(
                    f"{chain.free} was stored in {self._store.url}, and is not there", "find out what the store does"
                )


def _attempt(store: BlobStore, key: str, data: bytes) -> MusterError | None:
    try:
        store.put(key, data)
    except (AlreadyExists, StoreUnavailable) as error:
        return error
    return None


def _outrun(newest: Generation) -> KeysRotated:
    return KeysRotated(
        f"{newest.actor.name}@{newest.actor.host} rotated the keys of this vault at the same time; this rotation did not take place",
        "see `muster keys list` whether another one is needed",
    )


def _barred(holder: Holder, without: Collection[str]) -> str:
    if holder.slot.name in without:
        return "you asked to leave them out"
    return _REASONS.get(holder.standing, "")
