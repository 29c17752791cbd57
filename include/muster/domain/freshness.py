"""Up to when what came back holds what was written: by the time of its cut, and by the newest thing with a time that is in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from muster.domain.timing import recovery_point_actual

SLACK = timedelta(seconds=90)
"""
By how much a canary may be newer than its component's cut. The cut is noted before the store is looked at, which may have to wait for a
lock for a minute, and the canary bears the time of another machine.
"""


@dataclass(frozen=True, slots=True)
class Newest:
    """
    The newest thing with a time in a component that came back, read out of the place that it came back to.

    :param what: a ``canary``, which Muster wrote at that time; or a ``commit``, which people made when they had something to commit
    :param at: when it was written, as it says itself; None if there is none
    :param id: of the canary, or of the commit
    :param failure: why there is none
    """

    what: Literal["canary", "commit"]
    at: datetime | None
    id: str = ""
    failure: str = ""


@dataclass(frozen=True, slots=True)
class ComponentPoint:
    """
    Up to when one component came back.

    :param cut_at: when it was captured
    :param by_cut_s: seconds of work lost, from its cut to the loss
    :param newest: what was found in it; None if nothing is looked for in such a component
    :param by_newest_s: seconds from there to the loss; None if nothing was found
    """

    component: str
    cut_at: datetime
    by_cut_s: float
    newest: Newest | None = None
    by_newest_s: float | None = None

    @property
    def by_canary_s(self) -> float | None:
        """Seconds of work lost by the canary; None if none was found. A commit is as old as people left it, and loses nothing."""
        return self.by_newest_s if self.newest and self.newest.what == "canary" else None


def component_points(
    lost_at: datetime, cuts: Mapping[str, datetime], found: Mapping[str, Newest | None]
) -> tuple[ComponentPoint, ...]:
    """
    Up to when each component came back.

    :param cuts: label to time of the cut, of all components of the point
    :param found: label of each component that came back to what was found in it
    """
    return tuple(
        ComponentPoint(
            label,
            cuts[label],
            recovery_point_actual(lost_at, cuts[label]),
            newest,
            recovery_point_actual(lost_at, newest.at) if newest and newest.at else None,
        )
        for label, newest in sorted(found.items())
        if label in cuts
    )


def by_canary(points: Iterable[ComponentPoint]) -> float | None:
    """Seconds of work lost by the oldest canary that came back; None if none did."""
    return max((point.by_canary_s for point in points if point.by_canary_s is not None), default=None)


def asked_every(catalog: Mapping[str, Any]) -> str | None:
    """How often the catalog that a point carries wants a canary, ``5m``; None if it wants none."""
    canary = catalog.get("canary")
    return str(canary.get("every")) if isinstance(canary, Mapping) else None


def canary_finding(every: str, newest: Newest | None, cut_at: datetime) -> str | None:
    """
    What is wrong with the canary of a component that came back, in a sentence; None if nothing is.

    :param every: how often the catalog wanted one
    """
    if newest is None or newest.at is None:
        why = newest.failure if newest and newest.failure else "nobody looked for one"
        return f"it came back without a canary, and the catalog wants one every {every}: {why}"
    if newest.at > cut_at + SLACK:
        return f"its canary of {newest.at:%Y-%m-%d %H:%M:%S} UTC is newer than its cut, {cut_at:%Y-%m-%d %H:%M:%S} UTC"
    return None
