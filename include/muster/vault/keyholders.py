"""Who can open a vault: list, add, prove and remove its holders."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from muster.codec import to_json
from muster.domain.recovery_point import RecoveryPoint, listed
from muster.errors import AlreadyExists, IntegrityError, MusterError, NotFound, Refused, StoreUnavailable
from muster.ports import BlobStore
from muster.vault.audit import AuditTrail
from muster.vault.foreign import own
from muster.vault.generations import Generation
from muster.vault.holders import KmsKey, Passphrase, RecoveryKey, Secret, generate_recovery_key, require_typeable
from muster.vault.keys import ScryptCost
from muster.vault.layout import KEYS, digest, get_small, point_key, put_named, slot_object
from muster.vault.opening import Opened, unlock
from muster.vault.shares import Share, share_out
from muster.vault.slots import KeySlot, SlotMaker, describe_slot, slot_key, unwrap
from muster.vault.told import REFUSED, TAKEN_BACK

logger = logging.getLogger(__name__)

PROVEN_FOR = timedelta(days=90)
"""How long a proof that a holder can open the vault is taken for one."""
Standing = Literal["holder", "revoked", "earlier", "unknown"]
Record = Callable[[str, str, str, dict[str, Any]], object]


@dataclass(frozen=True, slots=True)
class Holder:
    """
    A key slot, and what is known of it.

    :param standing: ``holder`` of the newest key; ``revoked``, but the slot is still there; of an ``earlier`` key only; or ``unknown``:
        neither vault.json, nor a rotation, nor the audit trail says that we made it
    :param proven_at: when it was last proven to open the vault
    """

    slot: KeySlot
    standing: Standing
    proven_at: datetime | None

    def proven(self, now: datetime) -> bool:
        """Whether a proof is recent enough."""
        return self.proven_at is not None and now - self.proven_at <= PROVEN_FOR


@dataclass(frozen=True, slots=True)
class Proof:
    """
    What came of trying a holder's slot.

    :param why: why it is not proven; empty if it is
    """

    slot: KeySlot
    proven: bool
    why: str = ""


class KeyHolders:
    """
    The holders of one open vault.

    :param record: adds to the audit trail: action, subject, outcome, details
    """

    def __init__(
        self, store: BlobStore, opened: Opened, trail: AuditTrail, now: Callable[[], datetime], record: Record
    ):
        self._store, self._opened, self._trail, self._now, self._record = store, opened, trail, now, record
        self._vault = opened.authority.own.vault

    @property
    def generation(self) -> int:
        """How often the keys were rotated."""
        return self._opened.authority.chain.newest.number

    @property
    def fingerprint(self) -> str:
        """
        Hex SHA-256 of the public key that the vault was created with, by which it is told from any other, after every rotation too.

        Whoever may write over ``vault.json`` can put a vault of their own there that a recovery key opens, for its public part is in
        the slot; what is signed in it does not follow from this key.
        """
        return self._opened.authority.chain.generations[0].key.fingerprint

    @property
    def own(self) -> KeySlot:
        """The slot that let us in."""
        return self._opened.slot

    def of(self, secret: Secret) -> KeySlot:
        """
        The slot that another key opens.

        :raises WrongKey: if it opens none
        """
        return unlock(self._store, secret).slot

    def sealed_with(self, point: RecoveryPoint) -> Generation:
        """
        The generation whose key signed a point: its holders, and those of later ones, can read it.

        :raises IntegrityError: if its manifest is damaged or forged
        """
        key = point_key(point.workload, point.point)
        return self._opened.authority.signed_by(key, self._store.get(key))

    # --- who there is -------------------------------------------------------------------------------------------------

    def slots(self) -> list[tuple[KeySlot, bytes]]:
        """
        All key slots of this vault, with their objects; damaged ones are left out, since verification names them.

        Slots that a creation left behind which never came to its end are not of this vault.
        """
        found = []
        for info in own(self._store.list(KEYS)):
            try:
                data = get_small(self._store, info)
                slot = describe_slot(info.key, data)
            except IntegrityError:
                continue
            if slot.vault == self._vault:
                found.append((slot, data))
        return sorted(found, key=lambda one: (one[0].created_at, one[0].kind, one[0].name))

    def all(self) -> list[Holder]:
        """Every slot of this vault with its standing, oldest first."""
        made = {slot for generation in self._opened.authority.chain.generations for slot in generation.slots}
        removed: set[str] = set()
        proven: dict[str, datetime] = {}
        for record in self._trail.readable():
            if record.action == "keys.add":
                made.add(str(record.details.get("sha256")))
            elif record.action == "keys.remove" and record.outcome == TAKEN_BACK:
                removed.discard(record.subject)
            elif record.action == "keys.remove":
                removed.add(record.subject)
            elif record.action == "keys.test":
                proven |= dict.fromkeys(map(str, listed(record.details, "proven")), record.at)
        return [
            Holder(slot, self._standing(slot, made, slot_object(slot.slot) in removed), proven.get(slot.slot))
            for slot, _ in self.slots()
        ]

    def warnings(self) -> list[str]:
        """What should be done about the holders while it can still be done."""
        return warnings(self.current(), self._opened.authority.chain.generations[0].at, self._now())

    def current(self) -> list[Holder]:
        """Those who hold the newest key."""
        return [holder for holder in self.all() if holder.standing == "holder"]

    def current_objects(self) -> list[str]:
        """The objects by which they come in."""
        return [slot_object(holder.slot.slot) for holder in self.current()]

    def _standing(self, slot: KeySlot, made: set[str], removed: bool) -> Standing:
        newest = self._opened.authority.chain.newest.number
        if removed:
            return "revoked"
        if slot.slot not in made or slot.generation > newest:
            return "unknown"
        return "holder" if slot.generation == newest else "earlier"

    # --- adding -------------------------------------------------------------------------------------------------------

    def add_passphrase(self, name: str, passphrase: Passphrase, cost: ScryptCost) -> KeySlot:
        """
        Let another passphrase open the vault. Errors as in `add_recovery_key`.

        :raises UsageError: also if nobody could type it
        """
        require_typeable(passphrase)
        return self._add(name, lambda maker: maker.passphrase(name, passphrase, cost))

    def add_kms(self, name: str, key: KmsKey) -> KeySlot:
        """
        Let whoever may use a KMS key open the vault; proven by opening what was sealed. Errors as in `add_recovery_key`.

        :raises Refused: also if the service does not let us use the key
        :raises StoreUnavailable: if it does not answer
        """
        slot = self._add(name, lambda maker: self._opened_again(maker.kms(name, key), key))
        self._tell({"proven": [slot.slot], "unproven": []}, "proven")
        return slot

    def add_recovery_key(
        self, name: str, keep: Callable[[RecoveryKey], object] = lambda _: None
    ) -> tuple[KeySlot, RecoveryKey]:
        """
        Make a recovery key that opens the vault. It is nowhere else: show it once.

        :param keep: is given the key before it opens anything, so that no holder is left whom nobody holds
        :raises AlreadyExists: if a holder has that name
        :raises WrongKey: if the vault was opened with a key of an earlier generation
        """
        key = generate_recovery_key()
        keep(key)
        return self._add(name, lambda maker: maker.recovery(name, key.private().public_key())), key

    def add_shares(
        self, name: str, threshold: int, count: int, keep: Callable[[Sequence[Share]], object] = lambda _: None
    ) -> tuple[KeySlot, list[Share]]:
        """
        Make recovery shares, of which `threshold` open the vault together. They are nowhere else. Errors as in `add_recovery_key`.

        :param keep: is given them before they open anything
        :raises UsageError: also if there can be no such shares
        """
        private = X25519PrivateKey.generate()
        shares = share_out(private, threshold, count)
        keep(shares)
        return self._add(name, lambda maker: maker.shares(name, private.public_key(), threshold, count)), shares

    def _add(self, name: str, make: Callable[[SlotMaker], bytes]) -> KeySlot:
        self._opened.authority.signer  # noqa: B018 - raises WrongKey before anything is written
        if any(holder.slot.name == name for holder in self.current()):
            raise AlreadyExists(
                f"a holder named {name} opens this vault already", "choose another name, or revoke that one"
            )
        data = make(SlotMaker(self._opened.master, self._vault, to_json(self._now())))
        key = slot_key(data)
        put_named(self._store, key, data)
        self._record("keys.add", key, "added", {"name": name, "sha256": digest(data)})
        return describe_slot(key, data)

    def _opened_again(self, data: bytes, key: KmsKey) -> bytes:
        if not self._opens(slot_key(data), data, key):
            raise Refused(
                f"what {key.key} sealed could not be opened with it again", "find out what the key service does"
            )
        return data

    # --- proving ------------------------------------------------------------------------------------------------------

    def test(self, secrets: Sequence[Secret]) -> list[Proof]:
        """
        Prove of every holder that the vault opens with what they hold, by opening it; recorded in the audit trail.

        :param secrets: what is at hand besides the one that opened the vault. Whose secret is not among them stays unproven.
        :raises UsageError: if one of the secrets has a typing error
        """
        proofs = self.prove(secrets)
        facts = {
            "proven": [proof.slot.slot for proof in proofs if proof.proven],
            "unproven": [proof.slot.slot for proof in proofs if not proof.proven],
        }
        try:
            self._tell(facts, "incomplete" if facts["unproven"] else "proven")
        except (Refused, StoreUnavailable) as error:
            logger.warning("that it was tried who can open the vault is not recorded: %s", error.message)
        return proofs

    def prove(self, secrets: Sequence[Secret]) -> list[Proof]:
        """What `test` gives, recorded nowhere."""
        holders = {holder.slot.slot for holder in self.current()}
        at_hand = (self._opened.secret, *secrets)
        return [self._proof(slot, data, at_hand) for slot, data in self.slots() if slot.slot in holders]

    def _proof(self, slot: KeySlot, data: bytes, secrets: Iterable[Secret]) -> Proof:
        why = f"no {_WANTED[slot.kind]} that opens it is at hand"
        for secret in secrets:
            try:
                if self._opens(slot_key(data), data, secret):
                    return Proof(slot, True)
            except MusterError as error:
                if not isinstance(secret, KmsKey):
                    raise
                why = error.message
        return Proof(slot, False, why)

    def _opens(self, key: str, data: bytes, secret: Secret) -> bool:
        found = unwrap(key, data, secret)
        return found is not None and found.same(self._opened.master)

    def _tell(self, facts: dict[str, Any], outcome: str) -> None:
        self._record("keys.test", self._vault, outcome, facts)

    # --- removing -----------------------------------------------------------------------------------------------------

    def revoke(self, name: str) -> dict[str, bool]:
        """
        Take away every slot of a holder, as far as the store lets us.

        The record comes before the removal, and before it is looked once more who would be left: of two who take away each other's
        at the same moment, one sees the record of the other. Whoever kept a copy of the slot, or ever opened the vault, is shut out
        by a rotation only.

        :return: each slot, and whether it is gone; one that is locked stays until its lock ends
        :raises NotFound: if there is no holder of that name
        :raises Refused: if of those who would be left none was proven in the last 90 days, nor opened the vault now
        """
        holders = self.all()
        named = [holder for holder in holders if holder.slot.name == name]
        if not named:
            there = ", ".join(sorted({holder.slot.name for holder in holders}))
            raise NotFound(f"no holder named {name} can open this vault", f"its holders are: {there}")
        held = [holder for holder in named if holder.standing == "holder"]
        if held:
            self._keep_one_provable(name, holders)
        for holder in named:
            self._say(holder, "removed")
        try:
            if held:
                self._keep_one_provable(name, self.all())
        except Refused:
            for holder in held:
                self._say(holder, TAKEN_BACK)
            raise
        return {holder.slot.slot: self._remove(holder) for holder in named}

    def _keep_one_provable(self, name: str, holders: Sequence[Holder]) -> None:
        left = [holder for holder in holders if holder.standing == "holder" and holder.slot.name != name]
        if any(holder.slot == self._opened.slot or holder.proven(self._now()) for holder in left):
            return
        names = ", ".join(holder.slot.name for holder in left)
        raise Refused(
            f"without {name} nobody is left of whom it is proven that they can open this vault: "
            + (f"{names} was not tested within {PROVEN_FOR.days} days" if names else "there is no other holder")
            + "; without any key everything in it is lost for ever",
            "prove one with `muster keys test`, or open the vault with their key for this, or add a holder first",
        )

    def _remove(self, holder: Holder) -> bool:
        try:
            self._store.delete(slot_object(holder.slot.slot))
        except NotFound:
            return True
        except Refused:
            self._say(holder, REFUSED)
            return False
        return True

    def _say(self, holder: Holder, outcome: str) -> None:
        slot = holder.slot
        self._record("keys.remove", slot_object(slot.slot), outcome, {"name": slot.name, "sha256": slot.slot})


def warnings(holders: Sequence[Holder], created_at: datetime, now: datetime) -> list[str]:
    """
    What should be done about the holders of a vault while it can still be done.

    :param holders: those who hold the newest key
    :param created_at: of the vault; in its first 90 days nobody needs to have been tested
    """
    found = []
    if len(holders) == 1:
        found.append(
            f"only {holders[0].slot.name} can open this vault: if that key is lost, everything in it is lost for ever; add another holder"
        )
    if not holders:
        found.append("nobody is known to hold its newest key: add a holder now, while it is open")
    last = max((holder.proven_at for holder in holders if holder.proven_at), default=created_at)
    if now - last > PROVEN_FOR:
        found.append(
            f"for {(now - last).days} days nobody has proven that they can open this vault: "
            "run `muster keys test` with the keys that lie in the safe"
        )
    return found


_WANTED = {
    "passphrase": "passphrase",
    "recovery": "recovery key",
    "shares": "set of recovery shares",
    "kms": "right to use its KMS key",
}
