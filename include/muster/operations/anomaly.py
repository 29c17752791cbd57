"""Compare a snapshot with the point before, judge what changed, and hold the last good point if something was lost."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from muster.codec import canonical, from_json, to_json
from muster.domain.anomaly import Limits, Profile, judge
from muster.domain.holdings import bounded, counted
from muster.domain.recovery_point import CHANGES, DELETIONS, Component, PointStatus, RecoveryPoint, listed
from muster.domain.selection import same_part
from muster.errors import IntegrityError, MusterError, NotFound, PermanentError
from muster.operations.hold import hold_point
from muster.operations.losses import Losses, losses
from muster.operations.snapshot import Pin, json_of
from muster.ports import Clock
from muster.vault.changes import Changes, compare
from muster.vault.sources import bytes_file
from muster.vault.vault import Vault

LOOKED_AT = "changes.json"
DELETED = "deleted.json"
MOST_SAID = 5
JUDGED = {"dataset": "data/", "registry": "artifacts/"}
"""
Which components are judged, and what the paths begin with that count: data and model files, which nothing rewrites by itself. Dumps of
tables, validation results and golden predictions differ every night.
"""

logger = logging.getLogger(__name__)


def changes_since(vault: Vault, pin: Pin, components: Sequence[Component], limits: Limits | None) -> list[Component]:
    """
    A component ``changes/<kind>.<name>`` for each one that can be compared with the point before: its profile, what speaks against it,
    and the first of what was deleted in the clear; the names of the files that were looked at, and of all that was deleted, sealed.
    Of a point that is sealed already, those that it has.

    Damage to the past does not stop a snapshot: what cannot be compared is left out, and a warning says so.

    :param limits: None compares nothing; artifacts that are missing speak against the point all the same
    """
    try:
        return list(vault.point(pin.point, pin.workload).point.of_kind("changes"))
    except NotFound:
        judged = [component for component in components if component.kind in JUDGED]
    wanted = judged if limits else [component for component in judged if component.details.get("missing")]
    if not wanted:
        return []
    before = _before(vault, pin)
    found = (_judged(vault, component, before, limits) for component in wanted)
    return [changes for changes in found if changes]


def _before(vault: Vault, pin: Pin) -> RecoveryPoint | None:
    try:
        return vault.point(pin.previous, pin.workload).point if pin.previous else None
    except (IntegrityError, NotFound) as error:
        logger.warning(
            "nothing of %s is compared, since %s cannot be read: %s", pin.workload, pin.previous, error.message
        )
        return None


def failures_of(changes: Sequence[Component]) -> list[str]:
    """What speaks against a point for what changed or is missing, a line for each component and kind."""
    found = []
    for component in changes:
        label, lacking = component.name.replace(".", "/", 1), listed(component.details, "incomplete")
        alarms = [failure for failure in component.details["failures"] if failure not in lacking]
        found += [f"{label} changed as if by ransomware: {'; '.join(alarms)}"] if alarms else []
        found += [f"{label} is incomplete: {'; '.join(lacking)}"] if lacking else []
    return found


def deletions_of(changes: Sequence[Component]) -> list[str]:
    """What a registry has no more that it had at the point before: the first by name, the rest as a number."""
    return [phrase for component in changes for phrase in listed(component.details.get("deleted") or {}, "named")]


def hold_last_good(vault: Vault, pin: Pin, failures: Sequence[str], clock: Clock) -> str:
    """
    Keep the point before a suspect one from expiry, unless it is held for that already; return what came of it, for people.

    :raises StoreUnavailable: if the store did not answer; trying again goes on
    """

    def hold(status: PointStatus) -> PointStatus:
        if any(hold.summary.get("cause") == CHANGES for hold in status.holds):
            return status
        reason = f"the last one before {pin.point}: {'; '.join(failures)}"
        return hold_point(vault, status, reason, clock, cause=CHANGES)

    return _held(vault, pin, hold)


def hold_for_deletions(vault: Vault, pin: Pin, deleted: Sequence[str], clock: Clock) -> str:
    """
    Keep the point that still has what was deleted from expiry, unless it is or was held for just that: a person who has released it
    need not do so again. Return what came of it, for people.

    :raises StoreUnavailable: if the store did not answer; trying again goes on
    """
    reason = f"it still has what was deleted since: {'; '.join(deleted)}"

    def hold(status: PointStatus) -> PointStatus:
        if any(mark.kind == "held" and mark.summary.get("reason") == reason for mark in status.marks):
            return status
        return hold_point(vault, status, reason, clock, cause=DELETIONS)

    return _held(vault, pin, hold)


def _held(vault: Vault, pin: Pin, hold: Callable[[PointStatus], PointStatus]) -> str:
    if pin.previous is None:
        return "there is no point before it"
    try:
        status = hold(vault.point(pin.previous, pin.workload))
    except PermanentError as error:  # the alarm must be heard all the same
        logger.warning("point %s of %s could not be held: %s", pin.previous, pin.workload, error.message)
        with suppress(MusterError):
            if vault.point(pin.previous, pin.workload).holds:
                return f"the point before it, {pin.previous}, is held, but not by the store in all its parts: {error.message}"
        return f"the point before it, {pin.previous}, could NOT be held: {error.message}"
    if not status.holds:
        return f"the point before it, {pin.previous}, was held for it, and somebody has released it"
    return f"the point before it, {pin.previous}, is held until somebody releases it"


def looked_at(vault: Vault, component: Component) -> dict[str, list[tuple[str, int, str]]]:
    """Path, size and format of the contents that were looked at: those that were ``lost``, and the ``new`` ones."""
    tree = vault.tree(component.tree)
    if LOOKED_AT not in {entry.path for entry in tree.entries()}:
        return {"lost": [], "new": []}
    return from_json(dict[str, list[tuple[str, int, str]]], json_of(tree, LOOKED_AT))


def all_deleted(vault: Vault, component: Component) -> list[str]:
    """All that was deleted, by name."""
    if not component.details.get("deleted"):
        return []
    return from_json(list[str], json_of(vault.tree(component.tree), DELETED))


def _judged(
    vault: Vault, component: Component, before: RecoveryPoint | None, limits: Limits | None
) -> Component | None:
    name = f"{component.kind}.{component.name}"
    earlier = before.component(component.label) if before else None
    changes = _compared(vault, earlier, component) if earlier and limits else None
    lost = losses(vault, earlier, component) if component.kind == "registry" else Losses()
    deleted = lost.deleted if limits else ()
    if not (changes or deleted or lost.missing):
        return None
    failures: list[str] = []
    if changes and before and limits:
        profile = changes.profile
        history = _history(vault, before.workload, f"changes/{name}") if profile.lost or profile.removed else []
        failures = judge(profile, history, _sparing(limits, component, lost))
    details: dict[str, Any] = {"profile": to_json(changes.profile) if changes else None}
    details["failures"] = failures + bounded(lost.missing, MOST_SAID)
    details |= {"incomplete": bounded(lost.missing, MOST_SAID)} if lost.missing else {}
    details |= counted("deleted", deleted)
    files = [bytes_file(LOOKED_AT, _names(changes))] if changes and (changes.lost or changes.new) else []
    files += [bytes_file(DELETED, canonical(list(deleted)))] if deleted else []
    with vault.writer() as writer:
        tree = writer.store_tree(files)
    method = f"compared with {before.point}" if before else "compared with nothing"
    return Component("changes", name, tree, component.cut_at, method, details)


def _sparing(limits: Limits, component: Component, lost: Losses) -> Limits:
    """What a deleted version alone had in its run leaves a point of chosen models with it, so that what is gone is no sign of harm."""
    return replace(limits, shrunk=math.inf) if lost.deleted and component.details.get("selective") else limits


def _compared(vault: Vault, earlier: Component, component: Component) -> Changes | None:
    """None if they cannot be compared; of other models than before, all files are others."""
    if not same_part(earlier.details.get("selective"), component.details.get("selective")):
        logger.info("the files of %s are not compared: the catalog names other models than before", component.label)
        return None
    try:
        return compare(vault.tree(earlier.tree), vault.tree(component.tree), JUDGED[component.kind])
    except IntegrityError as error:
        logger.warning("%s is not compared, since the point before is damaged: %s", component.label, error.message)
        return None


def _history(vault: Vault, workload: str, label: str) -> list[Profile]:
    """The profiles of the good points since the last one that a person accepted, oldest first; none if they cannot be read."""
    try:
        statuses = vault.points(workload)
    except IntegrityError as error:
        logger.warning("%s of %s is judged without history: %s", label, workload, error.message)
        return []
    profiles: list[Profile] = []
    for status in statuses:
        changes = status.point.component(label)
        if status.accepted:
            profiles.clear()
        elif changes and changes.details.get("profile") and not status.suspect:
            profiles.append(from_json(Profile, changes.details.get("profile")))
    return profiles


def _names(changes: Changes) -> bytes:
    return canonical({"lost": to_json(changes.lost), "new": to_json(changes.new)})
