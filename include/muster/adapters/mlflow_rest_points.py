"""Which point of a metric a server over SQL takes for its latest one."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

Json = Any
_STORED = {"NaN": 0.0, "Infinity": sys.float_info.max, "-Infinity": -sys.float_info.max}
"""What SQL has in the place of numbers that it lacks; a column beside it says which zero is none."""


def point(metric: Mapping[str, Json]) -> list[Json]:
    """A latest metric of a run in the form of its history: ``[timestamp in ms, step, value]``."""
    return [int(metric.get("timestamp", 0)), int(metric.get("step", 0)), metric.get("value", 0.0)]


def latest_first(points: Sequence[Json], latest: Json) -> list[Json]:
    """The points in an order in which a server takes `latest` for the latest one, if it can: of equal ones the first."""
    return sorted(points, key=lambda p: p != latest)


def latest_of(points: Sequence[Json]) -> Json:
    """What a server takes for the latest of points that it is given in this order."""
    return max(points, key=lambda p: (p[1], p[0], _STORED.get(p[2], p[2])))
