"""Keep the runbook of a workload in its points, and render the one of today."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from muster.codec import canonical, to_json
from muster.domain.content import TreeRef
from muster.domain.recovery_point import Component, RecoveryPoint
from muster.domain.runbook import Runbook, standing_of
from muster.errors import NotFound
from muster.operations.snapshot import Pin
from muster.ports import Clock
from muster.report.runbook import render_runbook
from muster.vault.sources import bytes_file
from muster.vault.vault import Vault

MARKDOWN, PAGE = "RUNBOOK.md", "RUNBOOK.html"


def runbook_component(
    vault: Vault, pin: Pin, captured: Sequence[Component], entry: Mapping[str, Any]
) -> list[Component]:
    """
    The runbook as a component of the point that is made: for the day on which nothing else is left.

    It is rendered from the catalog entry alone, so that an unchanged catalog stores nothing anew. Of a point that is sealed already,
    the one that it has.
    """
    try:
        return list(vault.point(pin.point, pin.workload).point.of_kind("runbook"))
    except NotFound:
        text, page = render_runbook(_of(vault, entry, pin.workload))
    tree = _store(vault, text, page)
    cut_at = min(component.cut_at for component in captured)
    return [Component("runbook", pin.workload, tree, cut_at, "rendered from the catalog")]


def render_again(vault: Vault) -> None:
    """
    Store the runbooks of all points again, as far as this version of Muster renders them as they were: what is there is not stored twice.
    """
    points = [status.point for status in vault.readable_points()]
    entries = {canonical(to_json(point.catalog)): point for point in points if point.of_kind("runbook")}
    for point in entries.values():
        _store(vault, *render_runbook(_of(vault, point.catalog, point.workload)))


def kept_runbook(vault: Vault, point: RecoveryPoint) -> tuple[bytes, bytes]:
    """
    The runbook that a point holds, as Markdown and as a page.

    :raises NotFound: if it has none
    """
    found = point.of_kind("runbook")
    if not found:
        raise NotFound(
            f"point {point.point} of {point.workload} has no runbook",
            "it was taken by an older Muster; RESTORE.md in the vault says how to come back",
        )
    tree = vault.tree(found[0].tree)
    return tree.read(tree.entry(MARKDOWN)), tree.read(tree.entry(PAGE))


def live_runbook(vault: Vault, entry: Mapping[str, Any], workload: str, clock: Clock) -> tuple[bytes, bytes]:
    """
    The runbook of today, with how the points stand.

    :raises IntegrityError: if a manifest or a mark is damaged, so that this cannot be told
    """
    standing = standing_of(vault.points(workload), clock.now())
    book = _of(vault, entry, workload)
    return render_runbook(Runbook(book.entry, book.vault, book.fingerprint, standing))


def _store(vault: Vault, text: bytes, page: bytes) -> TreeRef:
    with vault.writer() as writer:
        return writer.store_tree([bytes_file(MARKDOWN, text), bytes_file(PAGE, page)])


def _of(vault: Vault, entry: Mapping[str, Any], workload: str) -> Runbook:
    return Runbook({**entry, "workload": workload}, vault.id, vault.holders.fingerprint)
