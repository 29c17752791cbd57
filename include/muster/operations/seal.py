"""Seal a recovery point: reconcile, sign, write the manifest last."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from muster import __version__
from muster.domain.recovery_point import Component, Mark, PointStatus, RecoveryPoint
from muster.errors import IncompletePoint, ValidationFailed
from muster.operations.snapshot import Handover, Pin, take_over
from muster.ports import Clock
from muster.vault.vault import Vault

NOT_LOCKED = "point %s of %s is not locked, though its retention asks for a lock: %s cannot lock; see muster doctor"

logger = logging.getLogger(__name__)


def seal_point(
    vault: Vault,
    pin: Pin,
    handovers: Sequence[Handover],
    *,
    expected: Sequence[str],
    objectives: Mapping[str, float],
    catalog: Mapping[str, Any],
    clock: Clock,
    lock: timedelta | None = None,
) -> PointStatus:
    """
    Make the captured components a recovery point. Running it again for the same pin returns the point that is there.

    :param expected: labels of all components that the catalog wants in the point
    :param lock: for how long the store is to refuse to remove the point. A store that cannot is no reason to have no point: that is
        logged, recorded, and found by ``muster doctor``
    :raises IncompletePoint: if one of them was not handed over, or the vault lacks a chunk of it; nothing was sealed
    :raises ValidationFailed: if a check failed: the point was sealed, but marked suspect, so the last good point stays the latest
    """
    _reconcile(pin, handovers, expected)
    components = take_over(vault, handovers)
    point = vault.seal(
        RecoveryPoint(
            format=1,
            vault=vault.id,
            workload=pin.workload,
            point=pin.point,
            taken_at=min(component.cut_at for component in components),
            sealed_at=clock.now(),
            previous=pin.previous,
            components=tuple(sorted(components, key=lambda component: component.label)),
            packs=(),
            objectives=dict(objectives),
            catalog=dict(catalog),
            muster=__version__,
        ),
        lock,
    )
    if lock and not point.locked_until:
        logger.warning(NOT_LOCKED, point.point, point.workload, vault.url)
    failures = [handover.failure for handover in handovers if handover.failure] + _keys_not_held(components)
    _mark_suspect(vault, point, failures, clock)
    status = vault.point(point.point, point.workload)
    size = sum(component.tree.size for component in point.components)
    vault.record(
        "snapshot",
        f"{point.workload}/{point.point}",
        "suspect" if failures else "sealed",
        {"size": size, "failures": failures},
    )
    if failures:
        raise ValidationFailed(
            f"point {point.point} of {point.workload} was sealed but marked suspect: {'; '.join(failures)}",
            "the last good point stays the latest; mend the source and take another snapshot",
        )
    return status


def _reconcile(pin: Pin, handovers: Sequence[Handover], expected: Sequence[str]) -> None:
    found = [handover.component for handover in handovers]
    missing = sorted(set(expected) - set(found))
    surplus = sorted(set(found) - set(expected)) + sorted({label for label in found if found.count(label) > 1})
    if missing or surplus:
        raise IncompletePoint(
            f"point {pin.point} of {pin.workload} was not sealed: missing {', '.join(missing) or 'nothing'};"
            f" unexpected {', '.join(surplus) or 'nothing'}",
            "look at the failed component's task or message, mend it, and run it again: what is stored is not read again",
        )


def _keys_not_held(components: Sequence[Component]) -> list[str]:
    """Keys of a registry's server that the point needs and does not hold; a captured variable or secret is known by its name."""
    configured = [c.details for c in components if c.kind == "configuration"]
    names = [
        str(name) for details in configured for part in ("environment", "secrets") for name in details.get(part, ())
    ]
    held = {name.rpartition(":")[2].upper() for name in names}
    return [
        f"{component.label} holds values that no server can read without {key}; name it in registry.server_keys"
        for component in components
        for key in component.details.get("server_keys", ())
        if key.upper() not in held
    ]


def _mark_suspect(vault: Vault, point: RecoveryPoint, failures: Sequence[str], clock: Clock) -> None:
    known = {
        str(mark.summary.get("reason"))
        for mark in vault.point(point.point, point.workload).marks
        if mark.kind == "suspect"
    }
    reason = "; ".join(failures)
    if failures and reason not in known:
        vault.mark(Mark(point.workload, point.point, "suspect", clock.now(), {"reason": reason}))
