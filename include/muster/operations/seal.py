"""Seal a recovery point: reconcile, sign, write the manifest last."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from muster import __version__
from muster.domain.anomaly import Limits
from muster.domain.recovery_point import CHANGES, Component, Mark, PointStatus, RecoveryPoint
from muster.errors import IncompletePoint, ValidationFailed
from muster.operations.anomaly import (
    changes_since,
    deletions_of,
    failures_of,
    hold_for_deletions,
    hold_last_good,
)
from muster.operations.at_rest import require_at_rest
from muster.operations.runbook import runbook_component
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
    limits: Limits | None = None,
) -> PointStatus:
    """
    Make the captured components a recovery point. Running it again for the same pin returns the point that is there.

    :param expected: labels of all components that the catalog wants in the point
    :param lock: for how long the store is to refuse to remove the point. A store that cannot is no reason to have no point: that is
        logged, recorded, and found by ``muster doctor``
    :param limits: from which changes on against the point before it is suspect; None does not look
    :raises SourceChanged: if something was restored there meanwhile; nothing was sealed
    :raises IncompletePoint: if one of them was not handed over, or the vault lacks a chunk of it; nothing was sealed
    :raises ValidationFailed: if a check failed, it changed as if by ransomware, or artifacts are newly missing: the point was sealed, but
        marked suspect, so the last good point stays the latest; in the last two cases that one is held. It is held as well if the
        registry has no more what it had then, and that alone raises nothing
    """
    _reconcile(pin, handovers, expected)
    _require_undisturbed(vault, pin, clock)
    components = take_over(vault, handovers)
    changes = changes_since(vault, pin, components, limits)
    runbook = runbook_component(vault, pin, components, catalog)
    point = vault.seal(
        RecoveryPoint(
            format=1,
            vault=vault.id,
            workload=pin.workload,
            point=pin.point,
            taken_at=min(component.cut_at for component in components),
            sealed_at=clock.now(),
            previous=pin.previous,
            components=tuple(sorted([*components, *changes, *runbook], key=lambda component: component.label)),
            packs=(),
            objectives=dict(objectives),
            catalog=dict(catalog),
            muster=__version__,
        ),
        lock,
    )
    if lock and not point.locked_until:
        logger.warning(NOT_LOCKED, point.point, point.workload, vault.url)
    return _conclude(vault, pin, point, handovers, changes, clock)


def _require_undisturbed(vault: Vault, pin: Pin, clock: Clock) -> None:
    """What is sealed already was so at its time."""
    if pin.point not in vault.point_ids(pin.workload):
        require_at_rest(vault, pin.workload, clock.now(), pin.started_at)


def _conclude(
    vault: Vault,
    pin: Pin,
    point: RecoveryPoint,
    handovers: Sequence[Handover],
    changes: Sequence[Component],
    clock: Clock,
) -> PointStatus:
    """Mark and record what speaks against a point that is sealed."""
    failures = [handover.failure for handover in handovers if handover.failure]
    failures += keys_not_held({component.label: component.details for component in point.components})
    alarms = failures_of(changes)
    _mark_suspect(vault, point, failures, clock)
    _mark_suspect(vault, point, alarms, clock, CHANGES)
    status = vault.point(point.point, point.workload)
    if status.accepted:
        alarms = []
    held = hold_last_good(vault, pin, alarms, clock) if alarms else None
    deleted = deletions_of(changes)
    if deleted:
        kept = hold_for_deletions(vault, pin, deleted, clock)
        logger.warning("%s was deleted since the point before: %s; %s", point.workload, "; ".join(deleted), kept)
    size = sum(component.tree.size for component in point.components)
    vault.record(
        "snapshot",
        f"{point.workload}/{point.point}",
        "suspect" if failures or alarms else "sealed",
        {"size": size, "failures": failures + alarms, **({"deleted": deleted} if deleted else {})},
    )
    if failures or alarms:
        raise _suspect(point, failures + alarms, held)
    return status


def _suspect(point: RecoveryPoint, failures: Sequence[str], held: str | None) -> ValidationFailed:
    """
    :param held: what came of holding the point before, if this one looks like ransomware
    """
    message = f"point {point.point} of {point.workload} was sealed but marked suspect: {'; '.join(failures)}"
    if held is None:
        return ValidationFailed(
            message, "the last good point stays the latest; mend the source and take another snapshot"
        )
    return ValidationFailed(
        message,
        f"{held}. See which files with `muster show {point.point}`. If this was meant: `muster accept {point.point} --reason …`. "
        f"If not: stop whatever writes there, and restore the last good point, which stays the latest",
    )


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


def keys_not_held(facts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """
    Keys of a registry's server that are needed and not kept, in words; a captured variable or secret is known by its name.

    :param facts: the details of all components, by label
    """
    names = [
        str(name)
        for label, details in facts.items()
        if label.startswith("configuration/")
        for part in ("environment", "secrets")
        for name in details.get(part, ())
    ]
    held = {name.rpartition(":")[2].upper() for name in names}
    return [
        f"{label} holds values that no server can read without {key}; name it in registry.server_keys"
        for label, details in facts.items()
        for key in details.get("server_keys", ())
        if key.upper() not in held
    ]


def _mark_suspect(
    vault: Vault, point: RecoveryPoint, failures: Sequence[str], clock: Clock, cause: str | None = None
) -> None:
    if not failures:
        return
    marks = vault.point(point.point, point.workload).marks
    reason = "; ".join(failures)
    if reason not in {str(mark.summary.get("reason")) for mark in marks if mark.kind == "suspect"}:
        summary = {"reason": reason, **({"cause": cause} if cause else {})}
        vault.mark(Mark(point.workload, point.point, "suspect", clock.now(), summary))
