"""What a registry has no more since the point before, and what of its artifacts is missing: compared by name."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace

from muster.codec import from_json
from muster.domain.holdings import ABOUT, Holdings, deleted
from muster.domain.recovery_point import Component
from muster.domain.selection import means
from muster.errors import IntegrityError
from muster.vault.vault import Vault

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Losses:
    """
    :param deleted: what the point before has by name and this one has not
    :param missing: artifacts that are named and missing, and were not missing at the point before
    """

    deleted: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def losses(vault: Vault, before: Component | None, now: Component) -> Losses:
    """
    What was lost of a registry. Rows are not read for it: names stand in the manifests, and in a small file of either tree.

    Of points of chosen models, those are compared that both points were meant to have. Experiments and what else has a name are compared
    between whole stores alone: one that no chosen row needs any more leaves the point, and lives on.

    :param before: the same component of the point before, or None
    """
    here = _holdings(vault, now)
    there = _tolerant(vault, before) if before else None
    missed = {missing.path for missing in there.missing} if there else set()
    missing = tuple(str(one) for one in here.missing if one.path not in missed) if here else ()
    if before is None:
        return Losses(missing=missing)
    parts = [component.details.get("selective") for component in (before, now)]
    earlier, models = (component.details.get("models", {}) for component in (before, now))
    meant = {label: model for label, model in earlier.items() if all(means(part, label) for part in parts)}
    if there and any(parts):
        there = replace(there, experiments={}, others={})
    return Losses(tuple(deleted(there, meant, here, models)), missing)


def _tolerant(vault: Vault, before: Component) -> Holdings | None:
    """Damage to the past does not stop a snapshot; what is missing then counts as if it were missing for the first time."""
    try:
        return _holdings(vault, before)
    except IntegrityError as error:
        logger.warning(
            "experiments of %s are not compared, since the point before is damaged: %s", before.label, error.message
        )
        return None


def _holdings(vault: Vault, component: Component) -> Holdings | None:
    """None if the component does not tell: it was captured by an earlier Muster."""
    tree = vault.tree(component.tree)
    for entry in tree.stream():
        if entry.path == ABOUT:
            try:
                return from_json(Holdings, json.loads(tree.read(entry)))
            except ValueError as error:
                raise IntegrityError(f"{ABOUT} of {component.label} is not JSON: {error}", "verify the vault") from None
        if entry.path > ABOUT:
            break
    return None
