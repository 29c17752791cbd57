"""Locks of a point: its packs before it is sealed, so that no manifest promises what does not hold; its documents after."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from math import ceil
from random import SystemRandom

from muster.domain.recovery_point import RecoveryPoint
from muster.errors import IntegrityError, MusterError
from muster.ports import BlobStore, Locks
from muster.vault.index import Index
from muster.vault.layout import GENERATIONS, HEADER, KEYS, RESTORE, ROLLS, pack_key, point_key
from muster.vault.points import Points

STEPS = 8
LOOKED_AT = 25
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OF_THE_VAULT = (HEADER, RESTORE, GENERATIONS, ROLLS)


def lock_end(now: datetime, lock: timedelta) -> datetime:
    """
    The end of a lock that is asked for now: not before ``now + lock``, and at most an eighth of `lock` later.

    It is a multiple of that eighth, counted from 1970. So all points that are sealed within one eighth end alike, and packs
    that they share need be extended once in that time only, not with every point.
    """
    step = timedelta(seconds=ceil(lock.total_seconds() / STEPS))
    return _EPOCH - (_EPOCH - now - lock) // step * step


class PointLocks:
    """
    Locks what belongs to a point, in a store that can.

    :param slots: gives the objects of the key slots of all current holders
    """

    def __init__(self, store: BlobStore, points: Points, index: Index, slots: Callable[[], list[str]]) -> None:
        self._store, self._points, self._index, self._slots = store, points, index, slots

    def end(self, now: datetime, lock: timedelta | None) -> datetime | None:
        """
        Until when a point can be locked; None if nobody asks for it, or the store cannot lock.

        :raises Refused: if our rights do not let us see whether it can
        """
        return lock_end(now, lock) if lock and self._store.locks() else None

    def packs(self, point: RecoveryPoint) -> None:
        """
        Retain all packs of a point, new ones and reused ones, until its `locked_until`.

        Packs of the point before are not asked about if its signed manifest says that they are locked as long; except for `LOOKED_AT`
        of them, chosen anew each time. If any of these is not, somebody has lifted locks, and all are asked about.

        :raises MusterError: of the first pack that could not be retained; nothing may be sealed then
        """
        if point.locked_until is None or (locks := self._store.locks()) is None:
            return
        wanted = set(point.packs) - self._still_locked(point, point.locked_until, locks)
        locks.extend(map(pack_key, sorted(wanted)), point.locked_until)

    def documents(self, point: RecoveryPoint, *records: str) -> None:
        """
        Retain as long what else a way back needs: manifest, records, key slots, ``vault.json``, ``RESTORE.md``, the indexes.

        :param records: keys of the audit records that speak of the point
        :raises MusterError: of the first that could not be retained; the point is sealed all the same
        """
        if point.locked_until is None or (locks := self._store.locks()) is None:
            return
        self._index.refresh()
        keys = [point_key(point.workload, point.point), *records, *self._index.objects()]
        keys += [info.key for prefix in _OF_THE_VAULT for info in self._store.list(prefix)]
        try:
            keys += self._slots_to_lock(locks, point.locked_until)
            locks.extend(keys, point.locked_until)
        except MusterError as error:
            raise type(error)(
                f"point {point.point} of {point.workload} was sealed, but not everything of it is locked: {error.message}",
                f"{error.hint}; then seal it again, or take another snapshot",
            ) from error

    def _still_locked(self, point: RecoveryPoint, until: datetime, locks: Locks) -> set[str]:
        """Packs of the point before that are locked as long, by its signed manifest and by a look at some of them."""
        before = self._sealed(point.workload, point.previous)
        if before is None or before.locked_until is None or before.locked_until < until:
            return set()
        reused = sorted(set(before.packs) & set(point.packs))
        some = SystemRandom().sample(reused, min(LOOKED_AT, len(reused)))
        lifted = some and locks.extend(map(pack_key, some), until)
        return set() if lifted else set(reused)

    def _slots_to_lock(self, locks: Locks, until: datetime) -> list[str]:
        """
        Key slots of current holders that are not locked as long.

        Those of whom was revoked, or of earlier generations, are left to the end of their locks. Who is current takes the whole audit
        trail to tell, so that is asked only if there is anything to do.
        """
        ends = {info.key: locks.of(info.key).until for info in self._store.list(KEYS)}
        short = {key for key, end in ends.items() if end is None or end < until}
        return sorted(short.intersection(self._slots())) if short else []

    def _sealed(self, workload: str, point: str | None) -> RecoveryPoint | None:
        try:
            return self._points.sealed(workload, point) if point else None
        except IntegrityError:  # verification names it
            return None
