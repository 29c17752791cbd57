"""What a vault must hold, as a plain picture that knows nothing of how it is held; the model-based test compares the two."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from faults.snapshots import Files, point_id
from muster.domain.recovery_point import Mark, PointStatus, RecoveryPoint
from muster.domain.retention import RetentionPolicy, judge
from vaults import noise

POLICIES = {"flights": RetentionPolicy(last=1), "trips": RetentionPolicy(daily=2)}
"""What the retention keeps of two workloads; a third has none, so all of its points stay."""
LOCKS = {"trips": timedelta(days=2)}
"""For how long the store is to keep the points of a workload; of others it is not asked to."""
WORKLOADS = ("flights", "flights", "trips", "trips", "archive")
CONTENTS = [b"", b"to and fro " * 40, *(noise(200 + 50 * number, number) for number in range(3))]


def files_of(numbers: frozenset[int]) -> Files:
    """A few small files; those of one number are the same in all snapshots, and share their chunk."""
    return {f"folder-{number % 2}/file-{number}": CONTENTS[number] for number in sorted(numbers)}


def payload(document: bytes) -> dict[str, Any]:
    """What a signed document says, read by the text of the format and not by the program."""
    said: dict[str, Any] = json.loads(base64.b64decode(json.loads(document)["payload"]))
    return said


def pack_keys(names: Iterable[str]) -> frozenset[str]:
    """The objects of packs."""
    return frozenset(f"packs/{name[:2]}/{name}" for name in names)


@dataclass(frozen=True)
class Taken:
    """A snapshot that somebody takes: what it is to hold. Tried again, it is the same."""

    number: int
    workload: str
    files: Files
    at: datetime

    @property
    def point(self) -> str:
        return point_id(self.number)

    @property
    def key(self) -> str:
        """The object of its manifest, which is there when it is sealed, and only then."""
        return f"points/{self.workload}/{self.point}.json"


@dataclass
class Sealed:
    """
    A point that must be there.

    :param packs: keys of the packs that its manifest names
    :param locked_until: until when the store keeps them, as its manifest says
    :param held: whether somebody holds it
    :param suspect: whether a verification has said something against it that none has answered
    """

    taken: Taken
    packs: frozenset[str]
    locked_until: datetime | None = None
    held: bool = False
    suspect: bool = False

    def touched_by(self, damaged: set[str]) -> bool:
        """Whether anything that a restore of it reads may be damaged; of indexes it needs none."""
        own = {self.taken.key, *self.packs}
        return any(key in own or key.startswith(f"marks/{self.taken.point}/") for key in damaged)

    def status(self) -> PointStatus:
        """What the retention is asked about."""
        taken = self.taken
        marks = [Mark(taken.workload, taken.point, "held", taken.at)] if self.held else []
        if self.suspect:
            marks.append(Mark(taken.workload, taken.point, "suspect", taken.at, {"cause": "verification"}))
        packs = tuple(sorted(self.packs))
        point = RecoveryPoint(1, "", taken.workload, taken.point, taken.at, taken.at, None, (), packs, {}, {}, "0")
        return PointStatus(replace(point, locked_until=self.locked_until), tuple(marks))


@dataclass
class Picture:
    """
    All points that must be there, by number, and since when nobody needs which pack.

    :param needed: when a point last needed a pack
    """

    points: dict[int, Sealed] = field(default_factory=dict)
    needed: dict[str, datetime] = field(default_factory=dict)

    def add(self, taken: Taken, manifest: bytes) -> Sealed:
        """A point was sealed."""
        said = payload(manifest)["predicate"]
        until = said.get("locked_until")
        assert bool(until) == (taken.workload in LOCKS)
        sealed = Sealed(taken, pack_keys(said["packs"]), datetime.fromisoformat(until) if until else None)
        self.points[taken.number] = sealed
        return sealed

    def packs(self) -> set[str]:
        """Keys of all packs that must be there."""
        return {pack for sealed in self.points.values() for pack in sealed.packs}

    def leaving(self, now: datetime) -> set[int]:
        """The points that nothing keeps, by the pure function of the retention."""
        by_name = {sealed.taken.point: number for number, sealed in self.points.items()}
        found = set()
        for workload in {*WORKLOADS}:
            statuses = [each.status() for each in self.points.values() if each.taken.workload == workload]
            verdicts = judge(statuses, POLICIES.get(workload), now)
            found |= {by_name[verdict.status.point.point] for verdict in verdicts if not verdict.keep}
        return found

    def listing(self) -> dict[tuple[str, str], tuple[bool, bool]]:
        """Every point, with what is said of it: held, suspect."""
        return {(p.taken.workload, p.taken.point): (p.held, p.suspect) for p in self.points.values()}

    def names(self) -> set[str]:
        """The objects of all manifests."""
        return {sealed.taken.key for sealed in self.points.values()}


def untouched(points: Mapping[int, Sealed], damaged: set[str]) -> list[Sealed]:
    """The points that no damage reaches."""
    return [sealed for sealed in points.values() if not sealed.touched_by(damaged)]
