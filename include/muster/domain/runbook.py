"""What a runbook tells: the catalog entry of a workload, the vault that keeps it, and how its points stand."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from muster.domain.recovery_point import Mark, PointStatus, latest_good

Json = Any
_REFERENCE = re.compile(r"(conn|env):[A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Standing:
    """
    How the points of a workload stand at one moment.

    :param latest: the newest good point, or None
    :param verified: the newest point that a verification found whole, and when
    :param drill: the newest drill, of whichever point; likewise `restore`
    """

    at: datetime
    points: int
    latest: PointStatus | None
    verified: tuple[str, datetime] | None
    drill: Mark | None
    restore: Mark | None


@dataclass(frozen=True, slots=True)
class Runbook:
    """
    What one is rendered from. The same gives the same text.

    :param entry: of the catalog, as a point has it; what is left out counts as empty
    :param vault: id of the vault, or None if it was not asked; likewise its `fingerprint`
    :param standing: None for a runbook that is kept with a point, or in a repository: what changes is not in it
    """

    entry: Mapping[str, Json]
    vault: str | None = None
    fingerprint: str | None = None
    standing: Standing | None = None

    @property
    def workload(self) -> str:
        return str(self.entry.get("workload") or "")

    @property
    def references(self) -> list[tuple[str, str]]:
        """Every ``conn:`` and ``env:`` that the entry names, with the field that does; never a value."""
        found: dict[str, list[str]] = {}
        for place, text in _texts(self.entry, ""):
            if _REFERENCE.fullmatch(text):
                found.setdefault(text, []).append(place)
        names = [
            (f"env:{name}", "configuration.env") for name in (self.entry.get("configuration") or {}).get("env", ())
        ]
        return sorted([*((name, ", ".join(places)) for name, places in found.items()), *names])


def standing_of(statuses: Sequence[PointStatus], now: datetime) -> Standing:
    """How points stand, whatever order they are given in."""
    marks = sorted((mark for status in statuses for mark in status.marks), key=lambda mark: mark.at)
    whole = {status.point.point for status in statuses if not status.suspect}
    verified = [(mark.point, mark.at) for mark in marks if mark.kind == "verified" and mark.point in whole]
    drills = [mark for mark in marks if mark.kind == "drilled"]
    restores = [mark for mark in marks if mark.kind == "restored"]
    return Standing(
        now,
        len(statuses),
        latest_good(list(statuses)),
        max(verified, default=None),
        drills[-1] if drills else None,
        restores[-1] if restores else None,
    )


def _texts(value: Json, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(inner, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner, place)
    elif isinstance(value, str):
        yield place, value
