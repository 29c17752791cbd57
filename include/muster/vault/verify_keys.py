"""Verify what the keys of a vault are kept in: slots, generations and rolls."""

from __future__ import annotations

from muster.errors import IntegrityError, NotFound
from muster.ports import BlobInfo, BlobStore
from muster.vault.anchors import Anchor
from muster.vault.authority import Authority
from muster.vault.findings import Examination, Finding
from muster.vault.foreign import own
from muster.vault.generations import Generation
from muster.vault.layout import KEYS, LARGEST_SMALL, ROLLS, digest, slot_object
from muster.vault.rolls import read_roll, roll_key
from muster.vault.slots import describe_slot


class KeyCheck:
    """One pass over all of them."""

    def __init__(self, store: BlobStore, authority: Authority, found: Examination) -> None:
        self._store, self._found = store, found
        self._chain = authority.chain
        self.slots: dict[str, str] = {}
        """The whole slots of this vault and its generations that were found, each with its digest."""

    def run(self) -> None:
        """Damage is found; what a rotation left behind that did not take place is noticed, for it opens and proves nothing."""
        for info in own(self._store.list(KEYS)):
            self._check_slot(info)
        for generation in self._chain.generations[1:]:
            self._read(generation.object)
            self._read(roll_key(generation.number, generation.roll))
        for key in self._chain.foreign:
            self._found.report(
                Finding(key, "it does not continue the chain of keys: it was damaged, or is not of this vault")
            )
        for info in own(self._store.list(ROLLS)):
            self._check_roll(info.key)

    def made(self) -> dict[str, str | None]:
        """The key slots that ``vault.json`` and the rotations say they made."""
        slots = [slot for generation in self._chain.generations for slot in generation.slots]
        return {slot_object(slot): None for slot in slots}

    def anchors(self) -> dict[str, Anchor]:
        """What the generations say of the audit trail."""
        return self._chain.anchors

    def _check_slot(self, info: BlobInfo) -> None:
        key = info.key
        if info.size > LARGEST_SMALL:
            self._found.report(Finding(key, f"it has {info.size} bytes, more than a key slot can have"))
            return
        data = self._read(key)
        try:
            slot = describe_slot(key, data) if data is not None else None
        except IntegrityError as error:
            self._found.report(Finding(key, error.message))
            return
        if slot and slot.vault != self._chain.newest.vault:
            what = "it is of another vault: a creation did not come to its end, or somebody put it there"
            self._found.notice(Finding(key, what))
        elif slot and slot.generation > self._chain.newest.number:
            what = f"it is of generation {slot.generation} of the keys, which is not there: a rotation did not come to its end"
            self._found.notice(Finding(key, what))
        elif slot:
            self.slots[key] = slot.slot

    def _check_roll(self, key: str) -> None:
        data = self._read(key)
        if data is None:
            return
        number, _, name = key.removeprefix(ROLLS).removesuffix(".json").partition("-")
        if digest(data) != name:
            self._found.report(Finding(key, "its bytes do not match its name"))
        elif not any(_reads(generation, number, key, data) for generation in self._chain.generations):
            what = "no generation of the keys signed it, so it counts for nothing: a rotation did not come to its end"
            self._found.notice(Finding(key, what))

    def _read(self, key: str) -> bytes | None:
        try:
            return self._found.read(key)
        except NotFound as error:
            self._found.report(Finding(key, error.message))
            return None


def _reads(generation: Generation, number: str, key: str, data: bytes) -> bool:
    try:
        return f"{generation.number:04d}" == number and bool(read_roll(generation, key, data))
    except IntegrityError:
        return False
