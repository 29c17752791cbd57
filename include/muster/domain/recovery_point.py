"""A recovery point: what was cut, when, how, and what has been learned of it since."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from muster.domain.content import TreeRef

ComponentKind = Literal[
    "dataset", "registry", "environment", "configuration", "validation", "golden", "changes", "runbook"
]
MarkKind = Literal["verified", "drilled", "restored", "suspect", "accepted", "replicated", "held", "released"]
Json = Any

AHEAD = timedelta(minutes=10)
"""How far the clock of the machine that took a point may be ahead of ours."""
CHANGES = "changes"
"""What made a point suspect because it differs too much from those before: the cause that its marks name."""
DELETIONS = "deletions"
"""Why the point before was put on hold: a registry has no more what it had then. The cause that its marks name."""
VERIFICATION = "verification"
"""What made a point suspect because something of it was found damaged: the cause that its marks name."""


@dataclass(frozen=True, slots=True)
class Component:
    """
    One part of a recovery point, stored and reconciled.

    :param kind: which part of an AI system this is
    :param name: its name in the catalog (``flights``), or the kind where a workload has only one
    :param tree: its files in the vault
    :param cut_at: the moment, in UTC, whose state it shows
    :param method: how the cut was obtained, in a phrase for people
    :param details: JSON facts for reconciling a restore: counts, revisions, ids. In the clear: no secrets, no row data
    """

    kind: ComponentKind
    name: str
    tree: TreeRef
    cut_at: datetime
    method: str
    details: dict[str, Json] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """``dataset/flights``: unique within a point."""
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True, slots=True)
class RecoveryPoint:
    """
    The manifest: a consistent cut over all components of a workload. Sealed whole, or not there at all.

    :param point: its id, ``<UTC time as 20261123T020000Z>-<8 hex digits>``; sorts by time
    :param taken_at: the earliest cut of its components: whatever was written before is in it
    :param sealed_at: when the manifest was signed
    :param previous: the point before it in this workload, or None
    :param packs: names of all packs that hold its chunks, so that a lost pack is noticed without a key
    :param objectives: ``{"rpo_s": …, "rto_s": …}``, as the catalog had them
    :param catalog: the workload's catalog entry, for restoring where no catalog is left
    :param muster: version of the program that sealed it
    :param locked_until: the store itself refuses to remove anything of this point before; None where it makes no such promise
    """

    format: int
    vault: str
    workload: str
    point: str
    taken_at: datetime
    sealed_at: datetime
    previous: str | None
    components: tuple[Component, ...]
    packs: tuple[str, ...]
    objectives: dict[str, float]
    catalog: dict[str, Json]
    muster: str
    locked_until: datetime | None = None

    def component(self, label: str) -> Component | None:
        """The component of this label (``kind/name``), or None."""
        return next((c for c in self.components if c.label == label), None)

    def of_kind(self, kind: ComponentKind) -> tuple[Component, ...]:
        """All components of a kind, in the order of the manifest."""
        return tuple(c for c in self.components if c.kind == kind)


@dataclass(frozen=True, slots=True)
class Mark:
    """
    What was learned of a point after it was sealed: a small write-once, signed object.

    :param summary: JSON facts for people and pages; no secrets
    :param report: a tree with ``report.json`` and ``report.html``, or None
    """

    workload: str
    point: str
    kind: MarkKind
    at: datetime
    summary: dict[str, Json] = field(default_factory=dict)
    report: TreeRef | None = None


@dataclass(frozen=True, slots=True)
class PointStatus:
    """A point with its marks, newest last. A suspect point is kept, but is never the latest good one."""

    point: RecoveryPoint
    marks: tuple[Mark, ...]

    @property
    def suspect(self) -> bool:
        """Whether anything speaks against restoring this point."""
        return bool(self.doubts)

    @property
    def doubts(self) -> tuple[str, ...]:
        """
        What speaks against restoring this point: checks that failed when it was taken, as the manifest itself has them, and
        what was found later. A mark that was lost, or never written, does not make a failed point a good one.
        """
        lifted = CHANGES if self.accepted else None
        mended = self._mended()
        kinds: tuple[ComponentKind, ...] = ("validation", "golden", "changes")
        checks = [check for kind in kinds if kind != lifted for check in self.point.of_kind(kind)]
        taken = [f"{check.label}: {failure}" for check in checks for failure in listed(check.details, "failures")]
        suspect = [mark for mark in self.marks if mark.kind == "suspect" and mark not in mended]
        marks = [mark for mark in suspect if lifted is None or mark.summary.get("cause") != lifted]
        return (*taken, *(str(m.summary.get("reason", "no reason given")) for m in marks))

    @property
    def incomplete(self) -> tuple[str, ...]:
        """Artifacts that a registry named and that were missing when this point was taken, the first of them; none if it has all."""
        missing = [(c.label, c.details["missing"]) for c in self.point.components if c.details.get("missing")]
        return tuple(f"{label}: {phrase}" for label, found in missing for phrase in listed(found, "named"))

    @property
    def accepted(self) -> bool:
        """Whether a person said that it differs so much from the points before for a good reason. Lifts that doubt and no other."""
        return any(mark.kind == "accepted" for mark in self.marks)

    @property
    def damage(self) -> tuple[Mark, ...]:
        """The marks by which a verification made it suspect, and which none has answered since."""
        mended = self._mended()
        return tuple(mark for mark in self.marks if _tells_of_damage(mark) and mark not in mended)

    def _mended(self) -> list[Mark]:
        """
        Marks that told of damage which is gone: a ``verified`` mark says of which, by their times, as a release does of holds.

        A doubt of any other cause is never answered so.
        """
        answered = {str(at) for mark in self.marks if mark.kind == "verified" for at in listed(mark.summary, "answers")}
        return [mark for mark in self.marks if _tells_of_damage(mark) and mark.at.isoformat() in answered]

    @property
    def holds(self) -> tuple[Mark, ...]:
        """
        The holds that nobody has released: as long as there is one, the point is never expired.

        A release names the holds that it lifts by their times, so that it is the same in whichever order clocks that differ have
        put the marks, and so that a hold which its writer did not know is not lifted.
        """
        lifted = {str(at) for mark in self.marks if mark.kind == "released" for at in listed(mark.summary, "holds")}
        return tuple(mark for mark in self.marks if mark.kind == "held" and mark.at.isoformat() not in lifted)


def listed(facts: Mapping[str, Json], name: str) -> tuple[Json, ...]:
    """What facts list under a name; what stands there and is no list counts as one thing: it is not passed over."""
    found = facts.get(name)
    return tuple(found) if isinstance(found, list | tuple) else () if found is None else (found,)


def _tells_of_damage(mark: Mark) -> bool:
    return mark.kind == "suspect" and mark.summary.get("cause") == VERIFICATION


def latest_good(statuses: list[PointStatus]) -> PointStatus | None:
    """The newest point that nothing speaks against, or None."""
    good = [s for s in statuses if not s.suspect]
    return max(good, key=lambda s: s.point.point, default=None)
