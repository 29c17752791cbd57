"""A store as a drill sees it: to be read, with a fault on the way; what is written goes to a folder of the sandbox."""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterator
from pathlib import Path

from muster.adapters.local_store import LocalStore
from muster.domain.drill import Harm
from muster.errors import AlreadyExists, NotFound, Refused, StoreUnavailable
from muster.ports import BlobInfo, BlobStore, Guarantees, Proof


class SandboxedStore:
    """
    Reads from a store and from a folder over it; writes into the folder only. Nothing that is done here reaches the store, whatever
    its credentials would allow.

    :param base: the true store; of it only `get`, `get_range`, `info`, `list` and `url` are ever called
    :param folder: what takes the place of the store for everything that is written
    :param harm: what stands between the reader and the true store
    """

    def __init__(self, base: BlobStore, folder: Path, harm: Harm | None = None) -> None:
        self._base, self._over, self._harm = base, LocalStore(folder), harm or Harm()

    @property
    def url(self) -> str:
        return self._base.url

    def guarantees(self) -> Guarantees:
        return Guarantees(immutable=False, conditional_put=True, versioned=False)

    def locks(self) -> None:
        """Nothing is locked on behalf of a drill."""

    def versions(self) -> None:
        """What lies below the newest version is nothing that a drill needs."""

    def prove(self) -> Iterator[Proof]:
        """A drill tries nothing on the true store."""
        return iter(())

    def put(self, key: str, data: bytes | memoryview) -> None:
        if self._is_there(key):
            raise AlreadyExists(f"{key} is already in {self.url}", "nothing is ever overwritten")
        self._over.put(key, data)

    def get(self, key: str) -> bytes:
        try:
            return self._over.get(key)
        except NotFound:
            self._reach(key)
        return self._spoiled(key, 0, self._base.get(key))

    def get_range(self, key: str, start: int, length: int) -> bytes:
        try:
            return self._over.get_range(key, start, length)
        except NotFound:
            self._reach(key)
        return self._spoiled(key, start, self._base.get_range(key, start, length))

    def info(self, key: str) -> BlobInfo:
        try:
            return self._over.info(key)
        except NotFound:
            self._reach(key)
        return self._base.info(key)

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        self._reach("")
        there = (info for info in self._base.list(prefix) if info.key not in self._harm.hidden)
        return heapq.merge(there, self._over.list(prefix), key=lambda info: info.key)

    def delete(self, key: str) -> None:
        raise Refused(f"a drill removes nothing: {key} stays in {self.url}", "only expiry removes objects")

    def _is_there(self, key: str) -> bool:
        try:
            self.info(key)
        except NotFound:
            return False
        return True

    def _reach(self, key: str) -> None:
        """What it takes to call the true store for an object."""
        if self._harm.silent:
            raise StoreUnavailable(
                f"{self.url} does not answer", "look at the network and at the provider's status page"
            )
        if self._harm.delay:
            time.sleep(self._harm.delay)
        if key in self._harm.hidden:
            raise NotFound(f"there is no {key} in {self.url}", "list the store to see what it holds")

    def _spoiled(self, key: str, start: int, data: bytes) -> bytes:
        at = (self._harm.rotten or {}).get(key, -1) - start
        if not 0 <= at < len(data):
            return data
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
