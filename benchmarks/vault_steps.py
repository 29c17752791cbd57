"""
The steps of Muster's vault that the benchmarks time, over a plain folder, each a process of its own.

    vault_steps.py create VAULT
    vault_steps.py snapshot VAULT FOLDER
    vault_steps.py restore VAULT FOLDER
    vault_steps.py verify VAULT

A step prints one line of JSON: the requests that it sent to the store and the bytes that they carried.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from muster import __version__
from muster.adapters.stores import open_store
from muster.adapters.system_clock import SystemClock
from muster.domain.recovery_point import Component, RecoveryPoint
from muster.errors import NotFound
from muster.ports import BlobInfo, BlobStore
from muster.vault.sources import changed_files
from muster.vault.vault import Actor, Passphrase, Vault

WORKLOAD = "benchmark"
_PASSPHRASE = Passphrase("of a vault that lives for a minute")
_CLOCK = SystemClock()
_ACTOR = Actor("benchmark", socket.gethostname(), "benchmarks/vault_steps.py")


class Counting:
    """A store that counts what is asked of it, and the bytes on the way."""

    def __init__(self, inner: BlobStore) -> None:
        self.inner = inner
        self.requests: Counter[str] = Counter()
        self.sent = self.received = 0
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        """What concerns no single object is the inner store's."""
        return getattr(self.inner, name)

    def put(self, key: str, data: bytes) -> None:
        self._count("put", sent=len(data))
        self.inner.put(key, data)

    def get(self, key: str) -> bytes:
        data = self.inner.get(key)
        self._count("get", received=len(data))
        return data

    def get_range(self, key: str, start: int, length: int) -> bytes:
        self._count("get", received=length)
        return self.inner.get_range(key, start, length)

    def info(self, key: str) -> BlobInfo:
        self._count("info")
        return self.inner.info(key)

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        self._count("list")
        return self.inner.list(prefix)

    def delete(self, key: str) -> None:
        self._count("delete")
        self.inner.delete(key)

    def _count(self, what: str, sent: int = 0, received: int = 0) -> None:
        with self._lock:
            self.requests[what] += 1
            self.sent += sent
            self.received += received


def create(store: BlobStore) -> None:
    Vault.create(store, _PASSPHRASE, clock=_CLOCK, actor=_ACTOR)


def snapshot(store: BlobStore, folder: str) -> None:
    """A recovery point of one component: the folder. What the point before knows of a file is not read again."""
    vault = _open(store)
    now = datetime.now(UTC)
    try:
        before = vault.point("latest", WORKLOAD).point
    except NotFound:
        before = None
    rows = vault.tree(before.components[0].tree).rows() if before else ()
    with vault.writer() as writer:
        tree = writer.store_tree(changed_files(Path(folder), rows))
    vault.seal(
        RecoveryPoint(
            format=1,
            vault=vault.id,
            workload=WORKLOAD,
            point=f"{now:%Y%m%dT%H%M%SZ}-{now.microsecond:08x}",
            taken_at=now,
            sealed_at=_CLOCK.now(),
            previous=before.point if before else None,
            components=(Component("dataset", "folder", tree, now, "a folder that nobody writes to"),),
            packs=(),
            objectives={},
            catalog={},
            muster=__version__,
        )
    )


def restore(store: BlobStore, folder: str) -> None:
    """The folder of the latest point, at a new place."""
    vault = _open(store)
    (component,) = vault.point("latest", WORKLOAD).point.components
    tree, place = vault.tree(component.tree), Path(folder)
    tree.extract((entry, f"{place}/{entry.path}") for entry in tree.stream())


def verify(store: BlobStore) -> None:
    """Every stored byte of every point."""
    report = _open(store).verify(share=1.0)
    if not report.ok:
        sys.exit("\n".join(map(str, report.findings)))


def _open(store: BlobStore) -> Vault:
    return Vault.open(store, _PASSPHRASE, clock=_CLOCK, actor=_ACTOR)


if __name__ == "__main__":
    STEPS: dict[str, Callable[..., None]] = {
        "create": create,
        "snapshot": snapshot,
        "restore": restore,
        "verify": verify,
    }
    counting = Counting(open_store(sys.argv[2]))
    STEPS[sys.argv[1]](counting, *sys.argv[3:])
    print(json.dumps({"requests": counting.requests, "sent": counting.sent, "received": counting.received}))
