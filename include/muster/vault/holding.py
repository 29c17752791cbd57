"""Legal holds of the store on what a point consists of, where the store has such holds."""

from __future__ import annotations

from collections.abc import Iterable

from muster.domain.recovery_point import PointStatus, RecoveryPoint
from muster.ports import BlobStore
from muster.vault.layout import PACKS, POINTS, pack_key, point_key


def hold_objects(store: BlobStore, point: RecoveryPoint) -> int:
    """
    Put manifest and packs of a point under a legal hold; return how many objects, 0 where the store has no holds.

    :raises NotFound: if one of them is not there
    :raises Refused: if our rights in the store do not allow it
    """
    locks = store.locks()
    keys = _objects(point)
    if locks is None:
        return 0
    locks.hold(sorted(keys), held=True)
    return len(keys)


def release_objects(store: BlobStore, point: RecoveryPoint, others: Iterable[PointStatus]) -> int:
    """
    Lift the legal hold of what a point consists of, except what another held point needs; return how many objects.

    :param others: all points of the vault; this one is passed over
    """
    locks = store.locks()
    if locks is None:
        return 0
    keys = _objects(point)
    for status in others:
        if status.holds and (status.point.workload, status.point.point) != (point.workload, point.point):
            keys -= _objects(status.point)
    there = {info.key for prefix in (PACKS, POINTS) for info in store.list(prefix)}
    locks.hold(sorted(keys & there), held=False)
    return len(keys & there)


def _objects(point: RecoveryPoint) -> set[str]:
    return {point_key(point.workload, point.point), *map(pack_key, point.packs)}
