"""
Take up a snapshot where an earlier try of the same run left it.

A scheduler may run a step again, or a whole run: after a crash, or because somebody asked. What the run has sealed stays as it
is, and a step that is repeated afterwards hands over what was sealed, so that a run never makes two good points.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace

from muster.domain.recovery_point import Component, RecoveryPoint
from muster.errors import IntegrityError, NotFound
from muster.operations.at_rest import require_at_rest
from muster.operations.snapshot import Handover, Pin, hand_over, pin_point
from muster.ports import Clock
from muster.vault.vault import Vault

logger = logging.getLogger(__name__)


def pin_for_run(vault: Vault, workload: str, run: str, clock: Clock) -> Pin:
    """
    The pin of a run: that of the good point which it has sealed already, or a new one.

    A point that was sealed as suspect, or is damaged, is not taken up again: whoever repeats that run has mended something and
    wants another.

    :raises SourceChanged: if something is being restored there
    :param run: what tells this run from all others; its digest is the second half of the point's id
    """
    own = hashlib.sha256(run.encode()).hexdigest()[:8]
    sealed = [point for point in vault.point_ids(workload) if point.endswith(f"-{own}")]
    if sealed and (point := _good(vault, workload, sealed[-1])):
        return Pin(workload, point.point, point.taken_at, point.previous)
    require_at_rest(vault, workload, clock.now())
    pin = pin_point(vault, workload, clock)
    return replace(pin, point=f"{pin.point.partition('-')[0]}-{own}")


def sealed_before(vault: Vault, pin: Pin, label: str) -> Handover | None:
    """The component of this label as the pinned point holds it, handed over anew; None while the point is not sealed."""
    try:
        component = vault.point(pin.point, pin.workload).point.component(label)
    except NotFound:
        return None
    if component is None:
        return None
    with vault.writer() as writer:
        return hand_over(writer, component, _failure(component))


def _good(vault: Vault, workload: str, name: str) -> RecoveryPoint | None:
    try:
        status = vault.point(name, workload)
    except IntegrityError as error:
        logger.warning("point %s of this run is not taken up again, since it is damaged: %s", name, error.message)
        return None
    return None if status.suspect else status.point


def _failure(component: Component) -> str | None:
    failures = component.details.get("failures", ()) if component.kind in ("validation", "golden") else ()
    return f"{component.label}: {'; '.join(str(failure) for failure in failures)}" if failures else None
