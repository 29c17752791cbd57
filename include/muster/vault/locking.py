"""Locks of a point: its packs before it is sealed, so that no manifest promises what does not hold; its documents after."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import ceil

from muster.domain.recovery_point import RecoveryPoint
from muster.errors import IntegrityError, MusterError
from muster.ports import BlobStore
from muster.vault.index import Index
from muster.vault.layout import GENERATIONS, HEADER, KEYS, RESTORE, ROLLS, pack_key, point_key
from muster.vault.points import Points

STEPS = 8
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OF_THE_VAULT = (HEADER, RESTORE, KEYS, GENERATIONS, ROLLS)


def lock_end(now: datetime, lock: timedelta) -> datetime:
    """
    The end of a lock that is asked for now: not before ``now + lock``, and at most an eighth of `lock` later.

    It is a multiple of that eighth, counted from 1970. So all points that are sealed within one eighth end alike, and packs
    that they share need be extended once in that time only, not with every point.
    """
    step = timedelta(seconds=ceil(lock.total_seconds() / STEPS))
    return _EPOCH - (_EPOCH - now - lock) // step * step


class PointLocks:
    """Locks what belongs to a point, in a store that can."""

    def __init__(self, store: BlobStore, points: Points, index: Index) -> None:
        self._store, self._points, self._index = store, points, index

    def end(self, now: datetime, lock: timedelta | None) -> datetime | None:
        """
        Until when a point can be locked; None if nobody asks for it, or the store cannot lock.

        :raises Refused: if our rights do not let us see whether it can
        """
        return lock_end(now, lock) if lock and self._store.locks() else None

    def packs(self, point: RecoveryPoint) -> int:
        """
        Retain all packs of a point, new ones and reused ones, until its `locked_until`; return how many had no such lock yet.

        Packs of the point before are not asked about if its signed manifest says that they are locked as long.

        :raises MusterError: of the first pack that could not be retained; nothing may be sealed then
        """
        locks = self._store.locks()
        if point.locked_until is None or locks is None:
            return 0
        known = self._packs_locked_by(point.workload, point.previous, point.locked_until)
        return locks.extend([pack_key(pack) for pack in point.packs if pack not in known], point.locked_until)

    def documents(self, point: RecoveryPoint, *records: str) -> int:
        """
        Retain as long what else a way back needs: manifest, records, key slots, ``vault.json``, ``RESTORE.md``, the indexes.

        :param records: keys of the audit records that speak of the point
        :raises MusterError: of the first that could not be retained; the point is sealed all the same
        """
        locks = self._store.locks()
        if point.locked_until is None or locks is None:
            return 0
        self._index.refresh()
        keys = [point_key(point.workload, point.point), *records, *self._index.objects()]
        keys += [info.key for prefix in _OF_THE_VAULT for info in self._store.list(prefix)]
        try:
            return locks.extend(keys, point.locked_until)
        except MusterError as error:
            raise type(error)(
                f"point {point.point} of {point.workload} was sealed, but not everything of it is locked: {error.message}",
                f"{error.hint}; then seal it again, or take another snapshot",
            ) from error

    def _packs_locked_by(self, workload: str, point: str | None, until: datetime) -> set[str]:
        try:
            sealed = self._points.sealed(workload, point) if point else None
        except IntegrityError:  # verification names it; its packs are asked about
            return set()
        long_enough = sealed and sealed.locked_until and sealed.locked_until >= until
        return set(sealed.packs) if sealed and long_enough else set()
