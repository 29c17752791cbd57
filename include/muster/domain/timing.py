"""Recovery time actual and recovery point actual: what was measured, against what was promised."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Stage = Literal["detect", "decide", "restore", "validate", "cut_over"]
STAGES: tuple[Stage, ...] = ("detect", "decide", "restore", "validate", "cut_over")


@dataclass(frozen=True, slots=True)
class Span:
    """
    One piece of work in a recovery.

    :param stage: to which part of the recovery time it counts
    :param name: what was done, ``dataset/flights``
    """

    stage: Stage
    name: str
    started_at: datetime
    finished_at: datetime

    @property
    def seconds(self) -> float:
        return (self.finished_at - self.started_at).total_seconds()


@dataclass(frozen=True, slots=True)
class RecoveryTime:
    """
    Recovery time actual, in seconds of wall clock, split so that the stages add up to the total.

    :param detect: from the incident to the first sign that anybody acted on
    :param decide: from there to the first byte restored: plan, approval
    :param restore: to the last component restored
    :param validate: to the last check passed
    :param cut_over: to the moment from which what came back may be used; 0 where nothing was cut over
    """

    detect: float
    decide: float
    restore: float
    validate: float
    cut_over: float = 0.0

    @property
    def total(self) -> float:
        return self.detect + self.decide + self.restore + self.validate + self.cut_over


def recovery_time(spans: list[Span], *, incident_at: datetime, detected_at: datetime) -> RecoveryTime:
    """
    Split the wall clock from the incident to the last piece of work. Pieces that overlapped are not counted twice.

    A stage ends where the last of its spans does; the next begins there. Without spans a stage lasts 0 s.
    """
    edges = [incident_at, max(incident_at, detected_at)]
    for stage in STAGES[1:]:
        ends = [s.finished_at for s in spans if s.stage == stage]
        edges.append(max([edges[-1], *ends]))
    return RecoveryTime(*((b - a).total_seconds() for a, b in itertools.pairwise(edges)))


def recovery_point_actual(incident_at: datetime, taken_at: datetime) -> float:
    """Seconds of work lost: from the cut of the restored point to the incident; never negative."""
    return max(0.0, (incident_at - taken_at).total_seconds())


def stamp_of(at: datetime) -> str:
    """A moment of UTC as part of a name, of a restore, a report, a sandbox: ``20261126T031500123456Z``."""
    return f"{at:%Y%m%dT%H%M%S%fZ}"
