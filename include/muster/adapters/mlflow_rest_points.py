"""What a server over SQL makes of the points of a metric: which it keeps, and which it takes for the latest one."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from muster.codec import canonical

Json = Any
_LARGEST = {"Infinity": sys.float_info.max, "-Infinity": -sys.float_info.max}
_STORED = {"NaN": 0.0, **_LARGEST}
"""What SQL has in the place of numbers that it lacks; of runs a column beside it says which zero is none."""


def point(metric: Mapping[str, Json]) -> list[Json]:
    """A latest metric of a run in the form of its history: ``[timestamp in ms, step, value]``."""
    return [int(metric.get("timestamp", 0)), int(metric.get("step", 0)), metric.get("value", 0.0)]


def as_kept(points: Sequence[Json], latest: Json = None) -> list[Json]:
    """
    The points as a server keeps them: infinities as the largest floats, and equal ones once, which only servers over files have twice.

    :param latest: comes first, since a server takes the first of equal ones for the latest; without it they are in their order
    """
    kept = {(t, s, _LARGEST.get(v, v)): None for t, s, v in points}
    first = latest and (latest[0], latest[1], _LARGEST.get(latest[2], latest[2]))
    return [list(p) for p in sorted(kept, key=lambda p: (p != first, canonical(p)))]


def latest_of(points: Sequence[Json]) -> Json:
    """What a server takes for the latest of points that it is given in this order."""
    return max(points, key=lambda p: (p[1], p[0], _STORED.get(p[2], p[2])))


def stored(value: Json) -> Json:
    """A metric of a logged model as SQL has it, where nothing says which zero is none."""
    return _STORED.get(value, value)
