"""Commands that rehearse: drill."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from muster.cli.session import Session
from muster.cli.wording import report_lines
from muster.codec import to_json
from muster.domain.drill import CHOICES, NONE
from muster.errors import UsageError

if TYPE_CHECKING:
    from muster.drills.circumstances import Reach
    from muster.vault.vault import Vault


def reach(session: Session, vault: Vault, workload: str) -> Reach:
    """How a drill reads a vault that is open."""
    from muster.drills.circumstances import Reach, reach_of

    if session.vault_url:
        return Reach(session.secrets(session.vault_url), insecure=session.options.insecure)
    return reach_of(session.platform, next(n for n in session.vault_names(workload) if session.vault(n) is vault))


@click.command()
@click.argument("workload", required=False)
@click.option("--point", default="latest", show_default=True, help="The point that is rehearsed.")
@click.option(
    "--fault",
    type=click.Choice(CHOICES),
    default=NONE,
    show_default=True,
    metavar="NAME",
    help=f"What is broken on purpose: {', '.join(CHOICES)}.",
)
@click.option("--seed", type=int, help="Makes the same random choice again.")
@click.option("--clean", "only_clean", is_flag=True, help="Only remove what killed drills left behind.")
@click.pass_obj
def drill(session: Session, workload: str | None, point: str, fault: str, seed: int | None, only_clean: bool) -> None:
    """Rehearse the restore of WORKLOAD, and measure it.

    Everything happens in a sandbox that is removed afterwards, whatever happened; the vault is only read. With a fault, the drill
    fails if anything else happens than what must.
    """
    from muster.drills.rehearsal import Wanted, clean, rehearse

    if only_clean:
        left = [str(folder) for folder in clean(session.platform)]
        session.screen.result(
            {"removed": left}, *(f"removed {folder}" for folder in left or ["nothing: there is none"])
        )
        return
    if workload is None:
        raise UsageError("no workload is named", "give: muster drill WORKLOAD")
    vault, status = session.find(point, workload)
    session.screen.note(
        f"restoring {status.point.point} of {status.point.workload} into a sandbox below {session.state}"
    )
    report = rehearse(session.platform, vault, status, Wanted(fault, seed), reach(session, vault, workload))
    session.screen.result(to_json(report) | {"summary": report.summary()}, *report_lines(report))
