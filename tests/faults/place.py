"""Where a vault really is, for the model-based test: a store that fails on command, several programs that have it open, a clock."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import TypeVar

import pytest

from fakes import Fault, FaultyStore, FrozenClock, MemoryLocks, MemoryStore
from faults.picture import Sealed, pack_keys, payload
from faults.snapshots import contents
from faults.stores import StoreAround
from muster.errors import MusterError
from muster.ports import BlobStore, Lock
from muster.vault.index import read_index
from muster.vault.vault import Vault
from vaults import flip, make_vault, reopen

T = TypeVar("T")
NEW = 2
"""Not one of the programs that have the vault open for long, but one that is started for this."""


@functools.cache
def _empty_vault() -> MemoryStore:
    store = MemoryStore(FrozenClock())
    make_vault(store)
    return store


class OneAtATime(ThreadPoolExecutor):
    """A pool of a single thread: what is asked of a store comes in the same order in every run."""

    def __init__(self, _: int | None = None, name: str = "") -> None:
        super().__init__(1, name)


def ask_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every pool of the vault be one of a single thread."""
    for name, module in list(sys.modules.items()):
        if name.startswith("muster.vault.") and hasattr(module, "ThreadPoolExecutor"):
            monkeypatch.setattr(module, "ThreadPoolExecutor", OneAtATime)


class Witness(StoreAround):
    """
    Remembers what every object was meant to be, whatever a fault makes of it on its way.

    :param memory: where all of it ends up
    """

    def __init__(self, inner: BlobStore, memory: MemoryStore) -> None:
        super().__init__(inner)
        self._memory = memory
        self.meant = dict(memory.objects)

    def put(self, key: str, data: bytes) -> None:
        if key not in self._memory.objects:
            self.meant[key] = bytes(data)
        self.inner.put(key, data)


class Place:
    """A vault in a store that fails on command, and the programs that have it open."""

    def __init__(self) -> None:
        self.clock = FrozenClock()
        self.memory = MemoryStore(self.clock, locking=True)
        origin = _empty_vault()
        self.memory.objects, self.memory._written = dict(origin.objects), dict(origin._written)
        self.faulty = FaultyStore(self.memory)
        self.witness = Witness(self.faulty, self.memory)
        self._open: list[Vault | None] = [None, None]
        self._lost: set[str] = set()
        self.hit: Fault | None = None
        """The fault of the last call of `do`, if it was met."""
        self.shunned: set[str] = set()
        """Packs that were named as damaged or condemned before the last call of `do`."""

    # --- programs -----------------------------------------------------------------------------------------------------

    def do(
        self, who: int, work: Callable[[Vault], T], fault: Fault | None = None
    ) -> tuple[T | None, MusterError | None]:
        """
        Let a program do something; what came of it, or the error of ours that ended it. Any other is a fault of the program.

        :param who: which of the two that have the vault open, or `NEW`
        """
        self.faulty.faults, self.hit = [fault] if fault else [], None
        self.shunned = self._shunned()
        try:
            return work(self._opened(who)), None
        except MusterError as error:
            return None, error
        finally:
            if fault and self.faulty._counts.pop(fault, 0) >= fault.at:
                self.hit = fault
            self.faulty.faults = []
            self.faulty.calls.clear()

    def close(self, who: int) -> None:
        """A program ends; the next time it begins anew."""
        if who != NEW:
            self._open[who] = None

    def anew(self) -> Vault:
        """The vault as somebody sees it who comes now, and whose store does not fail."""
        return reopen(self.memory, clock=self.clock)

    def _opened(self, who: int) -> Vault:
        if who == NEW:
            return reopen(self.witness, clock=self.clock)
        vault = self._open[who] = self._open[who] or reopen(self.witness, clock=self.clock)
        return vault

    # --- objects ------------------------------------------------------------------------------------------------------

    @property
    def locks(self) -> MemoryLocks:
        """The locks as the store has them, asked without a fault."""
        assert self.memory._locks
        return self.memory._locks

    def is_locked(self, key: str) -> bool:
        """Whether the store refuses to remove an object now; a heal locks what it brings back for as long as anything is locked."""
        end = self.locks.by_key.get(key, Lock()).until
        return end is not None and end > self.clock.now()

    def unlocked(self, keys: Iterable[str], until: datetime) -> set[str]:
        """Those of the objects that are there and could be removed before a moment."""
        ends = {key: self.locks.of(key).until for key in set(keys) & self.memory.objects.keys()}
        return {key for key, end in ends.items() if end is None or end < until}

    def keys(self, prefix: str) -> set[str]:
        """The objects whose names begin so."""
        return {key for key in self.memory.objects if key.startswith(prefix)}

    def damaged(self, needed: set[str]) -> set[str]:
        """
        Objects that are not what they were meant to be.

        :param needed: of those that somebody took away, only these are missed
        """
        wrong = {key for key, data in self.memory.objects.items() if data != self.witness.meant[key]}
        return wrong | self.lost(needed)

    def lost(self, among: set[str] | None = None) -> set[str]:
        """Objects that somebody took away and nobody brought back."""
        self._lost.difference_update(self.memory.objects)
        return self._lost if among is None else self._lost & among

    def damage(self, key: str, how: str) -> None:
        """Somebody who may write to the store harms an object."""
        data = self.memory.objects[key]
        if how == "delete":
            del self.memory.objects[key]
            self.locks.by_key.pop(key, None)
            self._lost.add(key)
        else:
            self.memory.objects[key] = data[: len(data) // 3] if how == "cut" else flip(data, len(data) // 3)

    def take_away(self, keys: set[str]) -> None:
        """Damaged objects are removed by whoever may, so that their names are free."""
        for key in keys & self.memory.objects.keys():
            self.damage(key, "delete")

    def replica(self, lost: set[str]) -> MemoryStore:
        """A copy of the vault in which everything is as it was meant."""
        copy = MemoryStore(self.clock, "replica")
        copy.objects = {key: self.witness.meant[key] for key in self.memory.objects.keys() | lost}
        return copy

    def copy_back(self, keys: set[str]) -> None:
        """What nothing in the vault tells of is copied from the replica by hand."""
        for key in keys - self.memory.objects.keys():
            self.memory.objects[key] = self.witness.meant[key]

    def ever_stored(self, packs: Iterable[str]) -> bool:
        """Whether all of these packs were stored once."""
        return self.memory._written.keys() >= set(packs)

    def packs_in_index(self, key: str) -> frozenset[str]:
        """The packs that an index names."""
        return pack_keys(pack.name for pack in read_index(self.anew()._master, key, self.memory.objects[key]))

    def named_in(self, key: str) -> frozenset[str]:
        """The packs that a condemnation, or a note of damage, names."""
        return pack_keys(payload(self.memory.objects[key])["packs"])

    def _shunned(self) -> set[str]:
        notes = self.keys("condemned/") | self.keys("damaged/")
        readable = {key for key in notes if self.memory.objects[key] == self.witness.meant[key]}
        return {pack for key in readable for pack in self.named_in(key)}

    def is_held(self, sealed: Sealed) -> bool:
        """Whether a hold was written of a point that no release names, by what their writers meant to write."""
        marks = [payload(self.witness.meant[key])["mark"] for key in self.keys(f"marks/{sealed.taken.point}/")]
        released = {at for mark in marks if mark["kind"] == "released" for at in mark["summary"]["holds"]}
        held = {mark["at"].replace("Z", "+00:00") for mark in marks if mark["kind"] == "held"}
        return bool(held - released)

    def age_of(self, pack: str) -> timedelta:
        """How long ago a pack was written, whether it is there still or not."""
        return self.clock.now() - self.memory._written[pack]


def restored(vault: Vault, sealed: Sealed) -> dict[str, bytes]:
    """Every file of a point, through all checks."""
    return contents(vault, vault.point(sealed.taken.point, sealed.taken.workload).point)


def restored_or_error(vault: Vault, sealed: Sealed) -> dict[str, bytes] | MusterError:
    """The same, or the error of ours that says why not."""
    try:
        return restored(vault, sealed)
    except MusterError as error:
        return error
