"""Remove what no point needs, in two phases: condemn now, remove in a run after the grace. The argument is in docs/adr/0014."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from muster.domain.recovery_point import PointStatus, listed
from muster.errors import IntegrityError, NotFound
from muster.ports import BlobInfo, BlobStore
from muster.vault.condemned import Condemnation, Condemnations
from muster.vault.foreign import own
from muster.vault.index import Index
from muster.vault.layout import INDEXES, MARKS, PACKS, pack_key, point_id, point_key
from muster.vault.needs import look_anew, needed_packs
from muster.vault.points import Points
from muster.vault.reader import ChunkReader
from muster.vault.removal import Remover
from muster.vault.survey import Survey
from muster.vault.told import marks_of


@dataclass(frozen=True, slots=True)
class Present:
    """
    Now, by two clocks.

    :param ours: by the clock of this machine
    :param stored: by the store's: when it says that an object was written which was written just now
    """

    ours: datetime
    stored: datetime

    @property
    def behind(self) -> datetime:
        """By the clock that is behind."""
        return min(self.ours, self.stored)


@dataclass(frozen=True, slots=True)
class Decision:
    """
    What becomes of the packs that no point needs; every such pack is in one of the four.

    :param remove: condemned long enough ago
    :param waiting: condemned, and the grace is not over
    :param condemn: to be named now
    :param young: written so lately that a snapshot which is under way may need it
    """

    remove: frozenset[str]
    waiting: frozenset[str]
    condemn: frozenset[str]
    young: frozenset[str]


@dataclass(slots=True)
class Swept:
    """
    What a sweep did, or would do.

    :param indexes: index objects that were removed, since others say the same
    :param marks: marks of expired points that were removed
    :param locked: by key of an object that could have gone, what protects it in the store
    :param refused: by key, why the store did not remove it
    """

    condemned: int = 0
    condemned_bytes: int = 0
    removed: int = 0
    removed_bytes: int = 0
    waiting: int = 0
    young: int = 0
    indexes: int = 0
    marks: int = 0
    locked: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


class Sweep:
    """
    One look at the packs of a vault.

    :param superseded: gives the keys of the index objects that nobody needs, among those written before a moment
    """

    def __init__(
        self,
        store: BlobStore,
        index: Index,
        reader: ChunkReader,
        points: Points,
        condemnations: Condemnations,
        superseded: Callable[[datetime], list[str]],
    ) -> None:
        self._store, self._index, self._reader = store, index, reader
        self._points, self._condemnations, self._superseded = points, condemnations, superseded
        self._there: dict[str, BlobInfo] = {}
        self._known: list[Condemnation] = []
        self._needed: set[str] = set()

    def decide(
        self, seen: Survey, present: Present, grace: timedelta, leaving: Collection[str] = frozenset()
    ) -> Decision:
        """
        Which packs are to go. Changes nothing.

        :param seen: the points that stay
        :param leaving: keys of manifests that are still there and count for nothing
        :raises IntegrityError: if it cannot be told what a point needs; nothing may be removed then
        """
        self._there = {info.key.rpartition("/")[2]: info for info in own(self._store.list(PACKS))}
        self._known = self._condemnations.all()
        look_anew(self._index, self._points)
        self._needed = self._needs(seen.statuses) | self._needs(self._others(seen, leaving))
        unneeded = self._there.keys() - self._needed
        old = [one for one in self._known if one.age(present.ours, present.stored) >= grace]
        named = {pack for one in self._known for pack in one.packs}
        ripe = {pack for one in old for pack in one.packs} & unneeded
        young = {name for name in unneeded - named if present.behind - self._there[name].modified < grace}
        return Decision(
            remove=frozenset(ripe),
            waiting=frozenset(named & unneeded - ripe),
            condemn=frozenset(unneeded - named - young),
            young=frozenset(young),
        )

    def foretell(self, decided: Decision) -> Swept:
        """What `carry_out` would do, as far as the store allows it."""
        return Swept(
            len(decided.condemn),
            self._bytes(decided.condemn),
            len(decided.remove),
            self._bytes(decided.remove),
            len(decided.waiting),
            len(decided.young),
        )

    def carry_out(self, decided: Decision, seen: Survey, present: Present, grace: timedelta) -> Swept:
        """
        Condemn, then remove: packs, index objects, marks of points expired long ago, condemnations that are carried out.

        What a manifest needs that was sealed since the decision stays.
        """
        swept = self.foretell(decided)
        if decided.condemn:
            self._condemnations.write(decided.condemn, present.ours)
        late = self._needs(self._others(seen))
        remover = Remover(self._store, present.behind)
        removed = self._take(remover, swept, [pack_key(name) for name in sorted(decided.remove - late)])
        swept.removed, swept.removed_bytes = len(removed), self._bytes(key.rpartition("/")[2] for key in removed)
        swept.indexes = len(self._take(remover, swept, self._superseded(present.behind - grace)))
        swept.marks = len(self._take(remover, swept, self._orphans(seen, present.behind - grace)))
        self._take(remover, swept, self._fulfilled())
        return swept

    def grounds(self, decided: Decision) -> dict[str, Any]:
        """Why packs may be removed, for the audit trail."""
        keys = [one.key for one in self._known if not one.packs.isdisjoint(decided.remove)]
        return {"packs": len(decided.remove), "bytes": self._bytes(decided.remove), "condemned_in": sorted(keys)}

    # --- inside -------------------------------------------------------------------------------------------------------

    def _others(self, seen: Survey, leaving: Collection[str] = frozenset()) -> list[PointStatus]:
        """Points that are there and are not among those of the survey: listed anew."""
        known = {point_key(status.point.workload, status.point.point) for status in seen.statuses} | set(leaving)
        found = []
        for key in set(self._points.keys()) - known:
            try:
                found.append(PointStatus(self._points.read(key)[0], ()))
            except NotFound:
                continue  # expired meanwhile, by somebody else
        return found

    def _needs(self, statuses: Iterable[PointStatus]) -> set[str]:
        return needed_packs(statuses, self._index, self._reader)

    def _take(self, remover: Remover, swept: Swept, keys: list[str]) -> list[str]:
        done = remover.remove(keys)
        swept.locked |= done.locked
        swept.refused |= done.refused
        return done.removed

    def _orphans(self, seen: Survey, before: datetime) -> list[str]:
        """
        Marks of points that were expired before a moment, except what tells of damage to packs that are still there.

        A point that has the name in another workload keeps them.
        """
        manifests = self._points.keys()
        alive = {point_id(key) for key in manifests}
        old = {marks_of(key) for key, record in seen.expired.items() if record.at < before}
        keys = [key for key in self._points.mark_keys() if f"{key.rpartition('/')[0]}/" in old]
        return [key for key in keys if key.removeprefix(MARKS).partition("/")[0] not in alive and not self._tells(key)]

    def _tells(self, key: str) -> bool:
        """Whether a mark names damaged packs that are still there."""
        try:
            damaged = listed(self._points.read_mark(key).summary, "damaged_packs")
        except (IntegrityError, NotFound):
            return False
        return not self._there.keys().isdisjoint(str(pack) for pack in damaged)

    def _fulfilled(self) -> list[str]:
        """
        Condemnations of which no pack was there when the sweep began, nor is now, and none is named by an index any more.

        While one is, whoever writes to the store could put something of the right size under the name that became free: an index
        would vouch for it, and only the condemnation says that nothing builds on it.
        """
        now = self._there.keys() | {info.key.rpartition("/")[2] for info in self._store.list(PACKS)}
        now |= self._index.named_by(info.key for info in self._store.list(INDEXES))
        return [one.key for one in self._known if one.packs.isdisjoint(now)]

    def _bytes(self, packs: Iterable[str]) -> int:
        return sum(self._there[name].size for name in packs)
