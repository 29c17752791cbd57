"""Compare a snapshot with the point before, judge what changed, and hold the last good point if it looks like ransomware."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from muster.codec import canonical, from_json, to_json
from muster.domain.anomaly import Limits, Profile, judge
from muster.domain.recovery_point import CHANGES, Component, RecoveryPoint
from muster.errors import IntegrityError, NotFound, PermanentError
from muster.operations.hold import hold_point
from muster.operations.snapshot import Pin, json_of
from muster.ports import Clock
from muster.vault.changes import Changes, compare
from muster.vault.sources import bytes_file
from muster.vault.vault import Vault

LOOKED_AT = "changes.json"
JUDGED = {"dataset": "data/", "registry": "artifacts/"}
"""
Which components are judged, and what the paths begin with that count: data and model files, which nothing rewrites by itself. Dumps of
tables, validation results and golden predictions differ every night.
"""

logger = logging.getLogger(__name__)


def changes_since(vault: Vault, pin: Pin, components: Sequence[Component], limits: Limits | None) -> list[Component]:
    """
    A component ``changes/<kind>.<name>`` for each one that can be compared with the point before: its profile and what speaks against it
    in the clear, the names of the files that were looked at sealed. Of a point that is sealed already, those that it has.

    Damage to the past does not stop a snapshot: what cannot be compared is left out, and a warning says so.

    :param limits: None compares nothing
    """
    try:
        return list(vault.point(pin.point, pin.workload).point.of_kind("changes"))
    except NotFound:
        judged = [component for component in components if component.kind in JUDGED]
    if limits is None or pin.previous is None or not judged:
        return []
    try:
        before = vault.point(pin.previous, pin.workload).point
    except (IntegrityError, NotFound) as error:
        logger.warning(
            "nothing of %s is compared, since %s cannot be read: %s", pin.workload, pin.previous, error.message
        )
        return []
    found = (_judged(vault, component, before, limits) for component in judged)
    return [changes for changes in found if changes]


def failures_of(changes: Sequence[Component]) -> list[str]:
    """What speaks against a point for what changed, in a line for each component."""
    return [
        f"{component.name.replace('.', '/', 1)} changed as if by ransomware: {'; '.join(component.details['failures'])}"
        for component in changes
        if component.details["failures"]
    ]


def hold_last_good(vault: Vault, pin: Pin, failures: Sequence[str], clock: Clock) -> str:
    """
    Keep the point before a suspect one from expiry, unless it is held for that already; return what came of it, for people.

    :raises StoreUnavailable: if the store did not answer; trying again goes on
    """
    if pin.previous is None:
        return "there is no point before it"
    try:
        status = vault.point(pin.previous, pin.workload)
        if not any(hold.summary.get("cause") == CHANGES for hold in status.holds):
            hold_point(vault, status, f"the last one before {pin.point}: {'; '.join(failures)}", clock, cause=CHANGES)
    except PermanentError as error:  # the alarm must be heard all the same
        logger.warning("point %s of %s could not be held: %s", pin.previous, pin.workload, error.message)
        return f"the point before it, {pin.previous}, could NOT be held: {error.message}"
    return f"the point before it, {pin.previous}, is held until somebody releases it"


def looked_at(vault: Vault, component: Component) -> dict[str, list[tuple[str, int, str]]]:
    """Path, size and format of the contents that were looked at: those that were ``lost``, and the ``new`` ones."""
    if not component.tree.files:
        return {"lost": [], "new": []}
    tree = vault.tree(component.tree)
    return from_json(dict[str, list[tuple[str, int, str]]], json_of(tree, LOOKED_AT))


def _judged(vault: Vault, component: Component, before: RecoveryPoint, limits: Limits) -> Component | None:
    name = f"{component.kind}.{component.name}"
    earlier = before.component(component.label)
    if earlier is None:
        return None
    try:
        changes = compare(vault.tree(earlier.tree), vault.tree(component.tree), JUDGED[component.kind])
    except IntegrityError as error:
        logger.warning("%s is not compared, since the point before is damaged: %s", component.label, error.message)
        return None
    profile = changes.profile
    history = _history(vault, before.workload, f"changes/{name}") if profile.lost or profile.removed else []
    failures = judge(profile, history, limits)
    details = {"profile": to_json(profile), "failures": failures}
    method = f"compared with {before.point}"
    with vault.writer() as writer:
        tree = writer.store_tree([bytes_file(LOOKED_AT, _names(changes))] if changes.lost or changes.new else [])
    return Component("changes", name, tree, component.cut_at, method, details)


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
        elif changes and not status.suspect:
            profiles.append(from_json(Profile, changes.details.get("profile")))
    return profiles


def _names(changes: Changes) -> bytes:
    return canonical({"lost": to_json(changes.lost), "new": to_json(changes.new)})
