"""Recovery times and recovery points over the past drills and restores, against what was promised."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from muster.domain.recovery_point import Mark, PointStatus, RecoveryPoint

Json = Any
RECENT = 7
"""How many of the newest recoveries are compared with those before them."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """
    One drill or restore, as its mark has it.

    :param stages: seconds of each stage of the recovery time
    :param recovery_time: seconds; likewise what was lost (`lost`), as far as the cut, and the canaries that came back, can tell, and the
        two objectives. None where the mark has no such figure
    """

    at: datetime
    kind: str
    point: str
    passed: bool
    stages: Mapping[str, float]
    recovery_time: float | None
    lost: float | None
    rto: float | None
    rpo: float | None
    by_cut: float | None = None
    by_canary: float | None = None

    @property
    def rto_met(self) -> bool | None:
        """None where a figure is missing."""
        return None if self.recovery_time is None or self.rto is None else self.recovery_time <= self.rto

    @property
    def rpo_met(self) -> bool | None:
        return None if self.lost is None or self.rpo is None else self.lost <= self.rpo


@dataclass(frozen=True, slots=True)
class Exposure:
    """
    The most work that would have been lost just before a point was sealed.

    :param seconds: from the cut of the point before to the sealing of this one; None for the first
    """

    point: str
    sealed_at: datetime
    seconds: float | None
    rpo: float | None

    @property
    def met(self) -> bool | None:
        return None if self.seconds is None or self.rpo is None else self.seconds <= self.rpo


@dataclass(frozen=True, slots=True)
class Figures:
    """
    A row of figures.

    :param median: of the newest `RECENT` of those that passed
    :param before: the median of those that passed before them; None if there are none
    :param worst: of all that passed
    """

    count: int
    median: float | None
    before: float | None
    worst: float | None

    @property
    def change(self) -> float | None:
        """By how much the newest are slower (positive) or faster than those before, as a share; None if it cannot be told."""
        return None if self.median is None or not self.before else self.median / self.before - 1


@dataclass(frozen=True, slots=True)
class Trend:
    """
    How well a workload came back so far, oldest first.

    :param missed: how many recoveries failed, or missed an objective
    """

    workload: str
    recoveries: tuple[Recovery, ...]
    exposures: tuple[Exposure, ...]
    time: Figures
    lost: Figures
    exposed: Figures
    missed: int


def trend_of(workload: str, statuses: Sequence[PointStatus]) -> Trend:
    """The trend of a workload, from its points and their marks."""
    marks = [mark for status in statuses for mark in status.marks if mark.kind in ("drilled", "restored")]
    recoveries = tuple(_recovery(mark) for mark in sorted(marks, key=lambda mark: mark.at))
    exposures = _exposures(statuses)
    passed = [each for each in recoveries if each.passed]
    missed = sum(not each.passed or each.rto_met is False or each.rpo_met is False for each in recoveries)
    return Trend(
        workload,
        recoveries,
        exposures,
        _figures([each.recovery_time for each in passed]),
        _figures([each.lost for each in passed]),
        _figures([each.seconds for each in exposures]),
        missed,
    )


def _recovery(mark: Mark) -> Recovery:
    told = mark.summary
    times = told.get("recovery_time_s")
    stages = {str(k): float(v) for k, v in times.items() if _number(v) is not None} if isinstance(times, dict) else {}
    total = stages.pop("total", None)
    objectives = told.get("objectives") if isinstance(told.get("objectives"), dict) else {}
    kind = "drill" if mark.kind == "drilled" else "restore"
    return Recovery(
        mark.at,
        kind,
        mark.point,
        told.get("passed") is True,
        stages,
        total,
        _number(told.get("recovery_point_s")),
        _number((objectives or {}).get("rto_s")),
        _number((objectives or {}).get("rpo_s")),
        _number(told.get("recovery_point_by_cut_s")),
        _number(told.get("recovery_point_by_canary_s")),
    )


def _exposures(statuses: Sequence[PointStatus]) -> tuple[Exposure, ...]:
    """Of good points: a suspect one would not have been restored."""
    good = sorted((s.point for s in statuses if not s.suspect), key=lambda point: point.sealed_at)
    found: list[Exposure] = []
    before: RecoveryPoint | None = None
    for point in good:
        seconds = (point.sealed_at - before.taken_at).total_seconds() if before else None
        found.append(Exposure(point.point, point.sealed_at, seconds, _number(point.objectives.get("rpo_s"))))
        before = point
    return tuple(found)


def _figures(values: Sequence[float | None]) -> Figures:
    known = [value for value in values if value is not None]
    recent, earlier = known[-RECENT:], known[:-RECENT]
    return Figures(
        len(known),
        statistics.median(recent) if recent else None,
        statistics.median(earlier) if earlier else None,
        max(known, default=None),
    )


def _number(value: Json) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
