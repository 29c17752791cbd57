"""Which point a restore takes."""

from __future__ import annotations

from datetime import datetime

from muster.domain.recovery_point import PointStatus
from muster.domain.restore_policy import newest_verified
from muster.errors import NotFound
from muster.vault.vault import Vault

VERIFIED = "verified"


def choose_point(
    vault: Vault, workload: str | None, point: str, before: datetime | None = None, lost_at: datetime | None = None
) -> PointStatus:
    """
    A point by its id, or the beginning of it; ``latest``, the newest that is not suspect; ``verified``, the newest that is verified.

    :param before: the newest verified point that was taken not later than this time, whatever `point` says
    :param lost_at: when the platform was lost: ``verified`` passes by what was taken later, since it may show the damage
    :raises NotFound: if there is none; the hint lists what there is
    :raises UsageError: if it could be of several workloads
    """
    if before is None and point != VERIFIED:
        return vault.point(point, workload)
    latest = min((at for at in (before, lost_at) if at), default=None)
    known = vault.readable_points(workload)
    found = newest_verified(known, latest)
    if found is None:
        when = f" that was taken before {latest:%Y-%m-%dT%H:%M:%SZ}" if latest else ""
        have = ", ".join(status.point.point for status in known[-5:]) or "no point at all"
        raise NotFound(
            f"there is no verified point{when}", f"the newest there are: {have}; `muster verify` verifies one"
        )
    return vault.point(found.point.point, workload)  # read once more: here a mark that cannot be read is an error
