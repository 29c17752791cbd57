"""How much room there is where a restore would write."""

from __future__ import annotations

import os
from pathlib import Path

from muster.domain.restore_plan import RestorePlan
from muster.domain.restore_policy import Disk
from muster.domain.restore_target import RestoreTarget

TAKES = {"dataset": 2, "environment": 4}
"""How often the bytes of a component lie there: DVC's cache has a copy of the data, and wheels are installed besides."""


def disks(plan: RestorePlan, target: RestoreTarget) -> tuple[Disk, ...]:
    """The file systems of this machine to which the plan would write, each once; a server's own disks are not seen from here."""
    found: dict[int, Disk] = {}
    for action in plan.actions:
        place = _folder(action.component.split("/")[0], action.where, target)
        if place is None or action.effect == "keep":
            continue
        room = os.statvfs(place)
        known = found.get(place.stat().st_dev, Disk(str(place), 0, room.f_bavail * room.f_frsize))
        likely = known.likely + action.size * TAKES.get(action.component.split("/")[0], 1)
        found[place.stat().st_dev] = Disk(known.place, known.needed + action.size, known.free, likely)
    return tuple(found.values())


def _folder(kind: str, where: str, target: RestoreTarget) -> Path | None:
    """The nearest folder that is there; None if the component goes to a server."""
    place = target.artifacts if kind == "registry" else where
    path = (
        None if place is None or ("://" in place and not place.startswith("file://")) else place.removeprefix("file://")
    )
    if path is None:
        return None
    folder = Path(path).absolute()
    while not folder.is_dir():
        folder = folder.parent
    return folder
