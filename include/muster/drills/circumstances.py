"""Under which circumstances a workload is drilled: what it has that faults can strike, and how its vault is reached."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from muster.adapters.stores import open_store
from muster.bootstrap import Platform
from muster.domain.faults import Need
from muster.domain.recovery_point import Component, ComponentKind, PointStatus
from muster.errors import MusterError
from muster.ports import BlobStore
from muster.vault.layout import point_key
from muster.vault.vault import Vault
from muster.vault.views import store_of

BY_PREFERENCE: tuple[ComponentKind, ...] = ("dataset", "configuration", "registry", "environment")


@dataclass(frozen=True, slots=True)
class Reach:
    """
    How a drill comes to the vault that it reads.

    :param address: of the vault, with what it takes to reach it
    :param narrow: whether that are credentials of its own, which may only read
    """

    address: str
    insecure: bool = False
    narrow: bool = False

    def store(self) -> BlobStore:
        """The store at that address."""
        return open_store(self.address, insecure=self.insecure)


def what_it_has(
    vault: Vault, status: PointStatus, replicas: Iterable[BlobStore], *, small_disk: bool
) -> frozenset[Need]:
    """What of all that faults need a workload has, at this point."""
    point = status.point
    have: set[Need] = set()
    parts: dict[Need, ComponentKind]
    parts = {"registry": "registry", "environment": "environment", "expectations": "validation"}
    have.update(need for need, kind in parts.items() if point.of_kind(kind))
    if {"registry", "environment"} <= have and any(c.details["models"] for c in point.of_kind("golden")):
        have.add("model")
    if any(stands_in(vault, replica, status) for replica in replicas):
        have.add("replica")
    if older(vault, point.workload, point.point) is not None:
        have.add("older_point")
    if small_disk:
        have.add("small_disk")
    if filled(status):
        have.add("files")
    return frozenset(have)


def reach_of(platform: Platform, vault: str) -> Reach:
    """How a drill reads a vault of the catalog."""
    narrow = platform.catalog.vaults[vault].read_url is not None
    return Reach(platform.reading_address(vault), platform.insecure, narrow)


def filled(status: PointStatus) -> list[Component]:
    """Components with bytes in them, those first that are restored soonest."""
    return [c for kind in BY_PREFERENCE for c in status.point.of_kind(kind) if c.tree.size]


def older(vault: Vault, workload: str, point: str) -> str | None:
    """The newest good point before one."""
    good = [s.point.point for s in vault.points(workload) if s.point.point < point and not s.suspect]
    return good[-1] if good else None


def is_copy(vault: Vault, replica: BlobStore) -> bool:
    with suppress(MusterError):
        return vault.healing.is_copy(replica)
    return False


def stands_in(vault: Vault, replica: BlobStore, status: PointStatus) -> bool:
    """Whether a replica holds a copy of the vault, and the manifest of the point in it."""
    if not is_copy(vault, replica) or replica.url == store_of(vault).url:
        return False
    with suppress(MusterError):
        replica.info(point_key(status.point.workload, status.point.point))
        return True
    return False
