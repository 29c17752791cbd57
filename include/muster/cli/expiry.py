"""Points that are no longer needed, and points that must stay: expire, hold, release."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import click

from muster.cli.points import of_workload
from muster.cli.screen import table
from muster.cli.session import Session
from muster.codec import to_json
from muster.report import size_in_words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from muster.operations.expire import ExpiryReport
    from muster.vault.sweep import Swept


@click.command()
@click.option("--apply", is_flag=True, help="Remove what is listed. Without it, nothing is changed.")
@click.option(
    "--grace-hours",
    type=click.IntRange(24),
    help="For how long packs that no point needs are condemned before they are removed.  [72]",
)
@click.pass_obj
def expire(session: Session, apply: bool, grace_hours: int | None) -> None:
    """Remove points that their workload's retention no longer keeps, and packs that no point needs.

    Says for each point why it stays or goes. A workload without a retention loses nothing. Points on hold, the newest good one and what
    the store has locked always stay. Packs are condemned first, and removed by an expiry after the grace.
    """
    from muster.operations.expire import expire_points
    from muster.vault.condemned import GRACE

    grace = GRACE if grace_hours is None else timedelta(hours=grace_hours)
    platform = session.platform
    reports = [
        expire_points(session.vault(name), platform.policies(name), platform.clock, apply=apply, grace=grace)
        for name in session.vault_names()
    ]
    lines = [line for report in reports for line in _lines(report)]
    if not apply and any(report.leaving for report in reports):
        lines += ["", "nothing was changed; --apply does it"]
    session.screen.result({"expiry": [report.as_dict() for report in reports]}, *lines)
    for report in reports:
        report.check()


@click.command()
@click.argument("point")
@of_workload
@click.option("--reason", required=True, help="Why it must stay, for whoever reads it later.")
@click.pass_obj
def hold(session: Session, point: str, workload: str | None, reason: str) -> None:
    """Keep POINT until it is released, whatever the retention says. A store with legal holds refuses to remove it as well."""
    from muster.operations.hold import hold_point

    vault, status = session.find(point, workload)
    held = hold_point(vault, status, reason, session.platform.clock)
    session.screen.result(to_json(held), f"held {held.point.point} of {held.point.workload}: {reason.strip()}")


@click.command()
@click.argument("point")
@of_workload
@click.option("--reason", required=True, help="Why it need not stay any longer.")
@click.pass_obj
def release(session: Session, point: str, workload: str | None, reason: str) -> None:
    """Lift all holds of POINT: from the next expiry on, its workload's retention decides."""
    from muster.operations.hold import release_point

    vault, status = session.find(point, workload)
    free = release_point(vault, status, reason, session.platform.clock)
    name = f"{free.point.point} of {free.point.workload}"
    lines = [f"released {name}: {reason.strip()}"]
    lines += [f"it was held anew meanwhile: {hold.summary['reason']}" for hold in free.holds]
    session.screen.result(to_json(free), *lines)


def _lines(report: ExpiryReport) -> Iterator[str | Table]:
    found = report.as_dict()
    gone = "expired" if report.applied else "would expire"
    yield f"{report.vault}: {len(report.leaving)} of {len(report.verdicts)} points {gone}"
    rows = [
        (line["workload"], line["point"], "stays" if line["keep"] else "goes", "; ".join(line["reasons"]))
        for line in found["points"]
    ]
    yield table(("workload", "point", "", "because"), rows)
    yield from _swept(report.swept, applied=report.applied)


def _swept(swept: Swept, *, applied: bool) -> Iterator[str]:
    will = "" if applied else "would be "
    yield (
        f"packs that no point needs: {swept.removed} {will}removed ({size_in_words(swept.removed_bytes)}), "
        f"{swept.condemned} {will}condemned ({size_in_words(swept.condemned_bytes)}), "
        f"{swept.waiting} wait for the end of the grace, {swept.young} are too young to judge"
    )
    for key, reason in swept.locked.items():
        yield f"  {key} stays: {reason}"
