"""Legal holds of the store on what a point consists of, where the store has such holds."""

from __future__ import annotations

from collections.abc import Iterable

from muster.domain.recovery_point import PointStatus
from muster.errors import IntegrityError
from muster.ports import BlobStore
from muster.vault.index import Index
from muster.vault.layout import PACKS, POINTS, pack_key, point_key
from muster.vault.needs import look_anew, needed_packs
from muster.vault.points import Points
from muster.vault.reader import ChunkReader


class PointHolds:
    """
    Holds what a point consists of: its manifest, the packs that this names, and those in which chunks were stored again that were lost.

    :param index: of the vault; it is reconciled with the store first
    """

    def __init__(self, store: BlobStore, points: Points, index: Index, reader: ChunkReader) -> None:
        self._store, self._points, self._index, self._reader = store, points, index, reader

    def hold(self, status: PointStatus) -> int:
        """
        Put all that is there of it under a legal hold; return how many objects, 0 where the store has no holds.

        :raises Refused: if our rights in the store do not allow it
        :raises IntegrityError: if something of it is nowhere; what is there is held
        """
        if (locks := self._store.locks()) is None:
            return 0
        look_anew(self._index, self._points)
        missing: list[IntegrityError] = []
        held = sorted(self._objects(status, missing) & self._there())
        locks.hold(held, held=True)
        if missing:
            name = f"point {status.point.point} of {status.point.workload}"
            raise IntegrityError(f"{name} is held, but not all of it is there: {missing[0].message}", missing[0].hint)
        return len(held)

    def release(self, status: PointStatus, others: Iterable[PointStatus]) -> int:
        """
        Lift that hold, except from what another held point needs; return how many objects.

        Every pack is asked that has a copy of anything of it: which of them were held depends on what was lost then.

        :param others: all points of the vault; this one is passed over
        :raises IntegrityError: if it cannot be told what another held point needs; nothing was lifted then
        """
        if (locks := self._store.locks()) is None:
            return 0
        look_anew(self._index, self._points)
        keys = self._objects(status, [], copies=True)
        for other in others:
            if other.holds and _manifest(other) != _manifest(status):
                keys -= self._objects(other)
        lifted = sorted(keys & self._there())
        locks.hold(lifted, held=False)
        return len(lifted)

    def _objects(
        self, status: PointStatus, unknown: list[IntegrityError] | None = None, *, copies: bool = False
    ) -> set[str]:
        """The manifest and the packs; what cannot be told goes to `unknown`, or is raised."""
        packs = needed_packs([status], self._index, self._reader, unknown, copies=copies)
        return {_manifest(status), *map(pack_key, packs)}

    def _there(self) -> set[str]:
        return {info.key for prefix in (PACKS, POINTS) for info in self._store.list(prefix)}


def _manifest(status: PointStatus) -> str:
    return point_key(status.point.workload, status.point.point)
