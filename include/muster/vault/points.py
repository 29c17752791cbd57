"""Manifests and marks: signed, written once, checked whenever they are read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from muster.codec import from_json, to_json
from muster.domain.recovery_point import AHEAD, Mark, PointStatus, RecoveryPoint, listed
from muster.errors import AlreadyExists, IntegrityError, NotFound, UsageError
from muster.ports import BlobStore
from muster.vault.anchors import TRAIL, Anchor, anchor_of, anchored
from muster.vault.damage import Damages
from muster.vault.envelope import Signatures
from muster.vault.foreign import own
from muster.vault.layout import MARKS, POINTS, digest, mark_key, point_id, point_key

STATEMENT_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "urn:muster:recovery-point:1"
MARK_TYPE = "application/vnd.muster.mark.v1+json"
_READERS = 8
_LATEST = "latest"


class Points:
    """The recovery points of one vault."""

    def __init__(self, store: BlobStore, signer: Signatures, vault: str) -> None:
        self._store, self._signer, self._vault = store, signer, vault

    # --- manifests ----------------------------------------------------------------------------------------------------

    def write(self, point: RecoveryPoint, anchor: Anchor) -> str:
        """
        Sign and store a manifest; return the digest of its object.

        :param anchor: the audit trail as it is now
        :raises AlreadyExists: if the point has one
        """
        subject = [{"name": c.label, "digest": {"sha256": c.tree.root.sha256}} for c in point.components]
        statement = {
            "_type": STATEMENT,
            "subject": subject,
            "predicateType": PREDICATE,
            "predicate": to_json(point),
            **anchored(anchor),
        }
        data = self._signer.sign(STATEMENT_TYPE, statement)
        self._store.put(point_key(point.workload, point.point), data)
        return digest(data)

    def read(self, key: str) -> tuple[RecoveryPoint, Anchor]:
        """
        A point, and the audit trail as it was when it was sealed.

        :raises IntegrityError: if its manifest is damaged or forged
        """
        return self.parse(key, self._store.get(key))

    def parse(self, key: str, data: bytes) -> tuple[RecoveryPoint, Anchor]:
        """What `read` gives, from the bytes of the object."""
        statement = self._signer.open(key, data, STATEMENT_TYPE)
        if statement.get("predicateType") != PREDICATE:
            raise _misplaced(key, f"a {statement.get('predicateType')}")
        point = from_json(RecoveryPoint, statement.get("predicate"))
        if point.vault != self._vault or _named_or_none(point_key, point.workload, point.point) != key:
            raise _misplaced(key, f"point {point.workload}/{point.point} of vault {point.vault}")
        return point, anchor_of(statement) or Anchor(("",))

    def sealed(self, workload: str, point: str) -> RecoveryPoint | None:
        """The point, or None if it was not sealed."""
        try:
            return self.read(point_key(workload, point))[0]
        except NotFound:
            return None

    def keys(self, workload: str | None = None) -> list[str]:
        """The objects of all manifests, oldest point first. What no manifest can be called is somebody else's, and speaks for nothing."""
        prefix = f"{POINTS}{workload}/" if workload else POINTS
        return sorted((info.key for info in own(self._store.list(prefix))), key=lambda key: key.rpartition("/")[2])

    def statuses(self, workload: str | None = None) -> list[PointStatus]:
        """All points with their marks, oldest first."""
        keys = self.keys(workload)
        try:
            with ThreadPoolExecutor(_READERS) as readers:
                points = [point for point, _ in readers.map(self.read, keys)]
        except IntegrityError as error:
            raise IntegrityError(error.message, f"{error.hint}; other points can be named: {_names(keys)}") from error
        marks = self._marks_of(self._mark_keys_of(keys))
        return [_status(point, marks[point.workload, point.point]) for point in points]

    def readable(
        self, workload: str | None = None, name: str | None = None, now: datetime | None = None
    ) -> list[PointStatus]:
        """
        All points whose manifests can be read, with those marks that can, oldest first.

        :param name: of the one that is meant, as in `find`; then there is none if its manifest is damaged
        :param now: as of `find`
        :raises NotFound: if no point has that name, or several
        """
        if name == _LATEST:
            good = [status for status in self.readable(workload) if not status.suspect]
            return [status for status in good if not now or status.point.taken_at <= now + AHEAD][-1:]
        keys = [self._named(name, workload)] if name else self.keys(workload)
        with ThreadPoolExecutor(_READERS) as readers:
            points = [point for point in readers.map(self._readable, keys) if point]
        marks = self._marks_of(self._mark_keys_of(keys), self._readable_mark)
        return [_status(point, marks[point.workload, point.point]) for point in points]

    def find(self, name: str, workload: str | None, now: datetime | None = None) -> PointStatus:
        """
        A point by its id, by a beginning of it that no other has, or the ``latest`` good one.

        :param now: what was taken later, by a clock that ran ahead, is not the latest
        :raises NotFound: if there is none, or several
        """
        if name == _LATEST:
            return self._latest(workload, now)
        return self._status_of(self._named(name, workload))

    def _named(self, name: str, workload: str | None) -> str:
        """The object of the one point that has this name, or a name that begins so."""
        found = [key for key in self.keys(workload) if point_id(key).startswith(name)]
        exact = [key for key in found if point_id(key) == name]
        if len(exact or found) != 1 or not name:
            raise self._not_found(name, workload, found)
        return (exact or found)[0]

    def _latest(self, workload: str | None, now: datetime | None) -> PointStatus:
        """The newest that is not suspect. Damage in an older point does not stand in its way; in a newer one it must be looked at."""
        keys = self.keys(workload)
        workloads = {key.split("/")[1] for key in keys}
        if len(workloads) > 1:
            raise UsageError(
                f"the vault holds points of {', '.join(sorted(workloads))}",
                "say which workload's latest point you mean",
            )
        ahead: list[str] = []
        for key in sorted(keys, reverse=True):
            status = self._status_of(key)
            if now and status.point.taken_at > now + AHEAD:
                ahead.append(status.point.point)
            elif not status.suspect:
                return status
        if not workloads:
            raise self._not_found(_LATEST, workload, [])
        if ahead:
            raise NotFound(
                f"{', '.join(ahead[:3])} in {self._store.url} lie in the future of this machine's clock, and there is no other good one",
                "set the clock of this machine, or name a point by its id",
            )
        raise NotFound(
            f"every point in {self._store.url} is marked suspect, so none is the latest good one",
            "see what speaks against them with `muster points`; name one by its id to use it all the same",
        )

    def _status_of(self, key: str) -> PointStatus:
        point, _ = self.read(key)
        return _status(point, self._marks_of(self.mark_keys(point.point))[point.workload, point.point])

    def _not_found(self, name: str, workload: str | None, found: list[str]) -> NotFound:
        of = f" of {workload}" if workload else ""
        there = _names(found or self.keys(workload))
        many = "no one" if found else "no"
        return NotFound(f"there is {many} point {name!r}{of} in {self._store.url}", f"it has: {there or 'no points'}")

    # --- marks --------------------------------------------------------------------------------------------------------

    def write_mark(self, mark: Mark, anchor: Anchor | None = None) -> tuple[str, str]:
        """
        Sign and store a mark; return its object's key and digest. The same mark again is not written twice.

        :param anchor: the audit trail as it is now, or was not long ago
        :raises NotFound: if there is no such point
        """
        if self.sealed(mark.workload, mark.point) is None:
            raise self._not_found(mark.point, mark.workload, [])
        trail = {TRAIL: to_json(anchor)} if anchor else {}
        data = self._signer.sign(MARK_TYPE, {"vault": self._vault, "mark": to_json(mark), **trail})
        repetition = 0
        while True:
            key = mark_key(mark.point, mark.kind, mark.at, repetition)
            try:
                self._store.put(key, data)
            except AlreadyExists:
                there = self._store.get(key)
                if there != data and not self._says(key, there, mark):
                    repetition += 1
                    continue
                return key, digest(there)
            return key, digest(data)

    def read_mark(self, key: str) -> Mark:
        """
        A mark.

        :raises IntegrityError: if it is damaged or forged
        """
        return self.parse_mark(key, self._store.get(key))

    def parse_mark(self, key: str, data: bytes) -> Mark:
        """What `read_mark` gives, from the bytes of the object."""
        return self.parse_anchored_mark(key, data)[0]

    def parse_anchored_mark(self, key: str, data: bytes) -> tuple[Mark, Anchor | None]:
        """A mark from its object, and the audit trail as it was when it was written, if it says so."""
        payload = self._signer.open(key, data, MARK_TYPE)
        mark = from_json(Mark, payload.get("mark"))
        here = key.removesuffix(".json")
        first = str(_named_or_none(mark_key, mark.point, mark.kind, mark.at, 0)).removesuffix(".json")
        if payload.get("vault") != self._vault or first not in (here, here.rpartition("-")[0]):
            raise _misplaced(key, f"a mark of point {mark.point} of vault {payload.get('vault')}")
        return mark, anchor_of(payload)

    def mark_keys(self, point: str | None = None) -> list[str]:
        """The objects of all marks, or of those of one point."""
        return [info.key for info in own(self._store.list(f"{MARKS}{point}/" if point else MARKS))]

    def doubts(self, points: Iterable[str]) -> int:
        """How often points, by their ids, were marked suspect until now."""
        wanted = set(points)
        return sum(key.split("/")[1] in wanted for key in self._suspect())

    def _suspect(self) -> list[str]:
        """The objects of all marks that say so."""
        return [key for key in self.mark_keys() if key.rpartition("/")[2].startswith("suspect-")]

    def _mark_keys_of(self, points: Iterable[str]) -> list[str]:
        """The objects of the marks of the points that these manifests are of."""
        wanted = {point_id(key) for key in points}
        return [key for key in self.mark_keys() if key.split("/")[1] in wanted]

    def damaged_packs(self) -> set[str]:
        """
        Names of packs that were found damaged: what suspect marks say, and what is noted of packs that no mark speaks of.

        A mark or a note that cannot be read says nothing here: verification names it.
        """
        with ThreadPoolExecutor(_READERS) as readers:
            marks = [mark for mark in readers.map(self._readable_mark, self._suspect()) if mark]
        marked = {str(pack) for mark in marks for pack in listed(mark.summary, "damaged_packs")}
        return marked | Damages(self._store, self._signer, self._vault).packs()

    def anchors(self) -> dict[str, Anchor | IntegrityError]:
        """What every manifest and mark says of the audit trail, by its key; of one that cannot be read, why."""
        keys = [*self.mark_keys(), *self.keys()]
        with ThreadPoolExecutor(_READERS) as readers:
            found = dict(zip(keys, readers.map(self._anchor_or_why, keys), strict=True))
        return {key: anchor for key, anchor in found.items() if anchor is not None}

    def _anchor_or_why(self, key: str) -> Anchor | IntegrityError | None:
        try:
            data = self._store.get(key)
            return self.parse(key, data)[1] if key.startswith(POINTS) else self.parse_anchored_mark(key, data)[1]
        except NotFound:
            return None  # removed meanwhile
        except IntegrityError as error:
            return error

    def _says(self, key: str, data: bytes, mark: Mark) -> bool:
        try:
            return self.parse_mark(key, data) == mark
        except IntegrityError:
            return False

    def _readable(self, key: str) -> RecoveryPoint | None:
        try:
            return self.read(key)[0]
        except (IntegrityError, NotFound):
            return None

    def _readable_mark(self, key: str) -> Mark | None:
        try:
            return self.read_mark(key)
        except (IntegrityError, NotFound):
            return None

    def _marks_of(
        self, keys: Iterable[str], read: Callable[[str], Mark | None] | None = None
    ) -> dict[tuple[str, str], list[Mark]]:
        found: dict[tuple[str, str], list[Mark]] = defaultdict(list)
        with ThreadPoolExecutor(_READERS) as readers:
            for mark in readers.map(read or self.read_mark, keys):
                if mark:
                    found[mark.workload, mark.point].append(mark)
        return found


def _status(point: RecoveryPoint, marks: list[Mark]) -> PointStatus:
    return PointStatus(point, tuple(sorted(marks, key=lambda mark: mark.at)))


def _names(keys: list[str]) -> str:
    """The newest of these points, for a message."""
    return ", ".join(key.removeprefix(POINTS).removesuffix(".json") for key in keys[-10:])


def _named_or_none(key: Callable[..., str], *said: object) -> str | None:
    """Where a document would lie that says this of itself; None if it can lie nowhere."""
    try:
        return key(*said)
    except UsageError:
        return None


def _misplaced(key: str, what: str) -> IntegrityError:
    return IntegrityError(
        f"{key} holds {what}", "it was copied there by somebody: remove it, and find out who writes to the store"
    )
