"""Points that differ from those before: what was looked at and what was deleted, and `accept` for those that were meant to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from muster.cli.points import of_workload
from muster.cli.screen import table
from muster.cli.session import Session
from muster.codec import to_json
from muster.domain.recovery_point import listed

if TYPE_CHECKING:
    from rich.table import Table

    from muster.domain.recovery_point import PointStatus
    from muster.vault.vault import Vault

SHOWN = 10


@click.command()
@click.argument("point")
@of_workload
@click.option("--reason", required=True, help="Why it changed so much, for whoever reads it later.")
@click.pass_obj
def accept(session: Session, point: str, workload: str | None, reason: str) -> None:
    """Say that POINT changed so much, or lacks artifacts, for a good reason.

    It counts as a good point then, unless other checks failed as well, and from it on it is learned anew what is usual. Look at it first:
    `muster show` names files. The point before stays held until somebody releases it.
    """
    from muster.operations.hold import accept_point

    vault, status = session.find(point, workload)
    accepted = accept_point(vault, status, reason, session.platform.clock)
    name = f"{accepted.point.point} of {accepted.point.workload}"
    lines = [f"accepted {name}: {reason.strip()}"]
    lines += [f"it stays suspect: {doubt}" for doubt in accepted.doubts]
    session.screen.result(to_json(accepted), *lines)


def change_lines(vault: Vault, status: PointStatus) -> Iterator[str | Table]:
    """What was deleted since the point before; what speaks against a point for what changed, with some files that were looked at."""
    from muster.operations.anomaly import all_deleted, looked_at

    for component in status.point.of_kind("changes"):
        failures = listed(component.details, "failures")
        if gone := all_deleted(vault, component):
            yield ""
            yield f"deleted since {status.point.previous}, which still has it and was put on hold:"
            yield from (f"  {phrase}" for phrase in gone)
        if not failures:
            continue
        yield ""
        yield f"{component.label}: {'; '.join(map(str, failures))}"
        seen = looked_at(vault, component)
        if not any(seen.values()):
            continue
        rows = [(what, path, size, form) for what in ("lost", "new") for path, size, form in seen[what][:SHOWN]]
        yield table(("looked at", "file", "bytes", "looks like"), rows, right=("bytes",))
