"""Snapshots of small made-up workloads, and what a restore of them gives, with nothing but the vault's public methods."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from fakes import FrozenClock, MemoryStore
from muster.domain.recovery_point import Component, Mark, RecoveryPoint
from muster.domain.retention import RetentionPolicy
from muster.errors import MusterError
from muster.operations.expire import expire_points
from muster.ports import BlobStore, Clock
from muster.vault.vault import Vault
from vaults import make_vault, memory_file, noise, reopen

Files = Mapping[str, bytes]
FILES = {"empty": b"", "folder/text": b"to and fro " * 40, "noise": noise(300, 5)}


def point_id(number: int) -> str:
    """The name of the point of this number; they sort by number."""
    return f"20261123T{number // 3600:02}{number // 60 % 60:02}{number % 60:02}Z-{number:08x}"


def take(
    vault: Vault,
    files: Files,
    number: int = 0,
    workload: str = "flights",
    clock: Clock | None = None,
    lock: timedelta | None = None,
) -> RecoveryPoint:
    """Store files as the one dataset of a point, and seal it."""
    return seal_dataset(vault, store_dataset(vault, files, clock), number, workload, lock)


def store_dataset(vault: Vault, files: Files, clock: Clock | None = None) -> Component:
    """Store files as a dataset that was cut now; no point has it yet."""
    with vault.writer() as writer:
        tree = writer.store_tree([memory_file(path, content) for path, content in files.items()])
    return Component("dataset", "files", tree, (clock or FrozenClock()).now(), "test")


def seal_dataset(
    vault: Vault, dataset: Component, number: int, workload: str, lock: timedelta | None = None
) -> RecoveryPoint:
    """Seal a point of which this is all, as of when it was cut."""
    at = dataset.cut_at
    point = RecoveryPoint(
        1, vault.id, workload, point_id(number), at, at, None, (dataset,), (), {"rpo_s": 60.0}, {}, "0"
    )
    return vault.seal(point, lock)


def contents(vault: Vault, point: RecoveryPoint) -> dict[str, bytes]:
    """Every file of a point's dataset, read back through all checks."""
    tree = vault.tree(point.components[0].tree)
    return {entry.path: tree.read(entry) for entry in tree.entries()}


def contents_or_error(store: BlobStore, number: int, workload: str = "flights") -> dict[str, bytes] | MusterError:
    """What a restore by somebody who comes anew gives: the files, or an error of ours. Any other error is a fault of the program."""
    return examined(store, number, workload)[1]


def complaints(store: BlobStore) -> list[str]:
    """What a full verification by somebody who comes anew finds; one line too if the vault cannot even be opened."""
    try:
        return [str(finding) for finding in reopen(store).verify().findings]
    except MusterError as error:
        return [error.message]


def examined(
    store: BlobStore, number: int, workload: str = "flights"
) -> tuple[list[str], dict[str, bytes] | MusterError]:
    """Somebody comes anew: what a full verification finds, and what a restore of a point gives."""
    try:
        vault = reopen(store)
        found = [str(finding) for finding in vault.verify().findings]
    except MusterError as error:
        return [error.message], error
    try:
        return found, contents(vault, vault.point(point_id(number), workload).point)
    except MusterError as error:
        return found, error


def plain_vault() -> MemoryStore:
    """A vault of a few kilobytes with an object of every kind that a snapshot and a verification write."""
    store = MemoryStore()
    vault, _ = make_vault(store)
    point = take(vault, FILES)
    vault.mark(Mark(point.workload, point.point, "verified", FrozenClock().now()))
    assert examined(store, 0) == ([], FILES)
    return store


def grown_vault() -> MemoryStore:
    """A vault with what comes later: a condemnation, a note of damage, a second generation of keys and its roll."""
    clock = FrozenClock()
    store = MemoryStore(clock)
    vault, _ = make_vault(store, clock)
    take(vault, {"old": b"old"}, 1, clock=clock)
    clock.advance(5 * 24 * 3600)
    take(vault, FILES, 0, clock=clock)
    expire_points(vault, {"flights": RetentionPolicy(last=1)}, clock, apply=True)
    vault.healing.note(["ab" * 32])
    vault.rotate(vault.rotation.plan((), ()))
    assert examined(store, 0) == ([], FILES)
    return store
