"""Cut every component of a workload into the vault; nothing is a recovery point before it is sealed."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from muster.codec import canonical, from_json, to_json
from muster.domain.content import TreeRef
from muster.domain.recovery_point import Component, PointStatus
from muster.errors import IntegrityError, NotFound
from muster.ports import Clock, ComponentSource, Progress, TreeReader
from muster.vault.sources import bytes_file
from muster.vault.vault import Vault, VaultWriter

RECORD = "component.json"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pin:
    """The name of the point that is being made, fixed before anything is read, so that every retry works on the same point."""

    workload: str
    point: str
    started_at: datetime
    previous: str | None


@dataclass(frozen=True, slots=True)
class Handover:
    """
    A captured component, as one task hands it to the next: the record itself lies in the vault, sealed.

    :param failure: why the point must be marked suspect, or None
    """

    component: str
    record: TreeRef
    files: int
    size: int
    failure: str | None = None


def pin_point(vault: Vault, workload: str, clock: Clock) -> Pin:
    """
    Name a new point and find the newest good one before it, whose content need not be read again.

    If it cannot be told which that is, since a manifest or a mark is damaged, everything is read.
    """
    now = clock.now()
    try:
        previous: PointStatus | None = vault.point("latest", workload)
    except NotFound:
        previous = None
    except IntegrityError as error:
        logger.warning("everything of %s is read, since a point before is damaged: %s", workload, error.message)
        previous = None
    name = f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
    return Pin(workload, name, now, previous.point.point if previous else None)


def capture(vault: Vault, pin: Pin, source: ComponentSource, progress: Progress | None = None) -> Handover:
    """
    Store one component of a workload.

    :raises SourceChanged: if it moved meanwhile; what was stored stays in the vault and is not read again by a retry
    """
    with source.capture(previous_tree(vault, pin, f"{source.kind}/{source.name}")) as cut, vault.writer() as writer:
        tree = writer.store_tree(cut.files(), _named(f"{source.kind}/{source.name}", progress))
        cut.confirm()
        component = Component(source.kind, source.name, tree, cut.cut_at, cut.method, cut.details())
        return hand_over(writer, component)


def _named(label: str, progress: Progress | None) -> Progress | None:
    return (lambda _, done, total: progress(label, done, total)) if progress else None


def previous_tree(vault: Vault, pin: Pin, label: str) -> TreeReader | None:
    """The same component in the point before, or None: then everything is read. Damage to the past does not stop a snapshot."""
    if pin.previous is None:
        return None
    try:
        component = vault.point(pin.previous, pin.workload).point.component(label)
        tree = vault.tree(component.tree) if component else None
        for _ in tree.stream() if tree else ():
            """Only the end of its list tells that it is whole."""
    except IntegrityError as error:
        logger.warning("%s is read whole, since the point before is damaged: %s", label, error.message)
        return None
    return tree


def hand_over(writer: VaultWriter, component: Component, failure: str | None = None) -> Handover:
    """Store the record of a component beside its content, so that only its reference need travel."""
    record = writer.store_tree([bytes_file(RECORD, canonical(to_json(component)))])
    return Handover(component.label, record, component.tree.files, component.tree.size, failure)


def take_over(vault: Vault, handovers: Iterable[Handover]) -> list[Component]:
    """
    The components that were handed over, read back from the vault.

    :raises IntegrityError: if a record is not of the component that it was handed over as
    """
    components = []
    for handover in handovers:
        tree = vault.tree(handover.record)
        component = from_json(Component, json_of(tree, RECORD))
        if component.label != handover.component:
            raise IntegrityError(
                f"the record handed over as {handover.component} is that of {component.label}",
                "run the snapshot again; if it happens again, look into who writes to Airflow's XCom",
            )
        components.append(component)
    return components


def json_of(tree: TreeReader, path: str) -> object:
    """
    A small JSON file of a stored tree.

    :raises IntegrityError: if it is none
    """
    try:
        found: object = json.loads(tree.read(tree.entry(path)))
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{path} is not JSON: {error}", "verify the vault; use another point") from error
    return found
