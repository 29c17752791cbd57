"""Commands about what a restore moved aside: undo, discard."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from muster.cli.session import Session
from muster.cli.wording import moment
from muster.codec import to_json

if TYPE_CHECKING:
    from muster.domain.undo_plan import UndoVerb
    from muster.operations.restore_job import RestoreJob
    from muster.operations.undo import Replaced
    from muster.vault.vault import Vault


@click.command()
@click.argument("workload")
@click.argument("stamp", required=False)
@click.option("--reason", required=True, metavar="TEXT", help="Why; it is recorded for ever.")
@click.pass_obj
def undo(session: Session, workload: str, stamp: str | None, reason: str) -> None:
    """Put back what a restore of WORKLOAD replaced.

    The newest restore that moved something aside, or the one of STAMP. What it had restored is moved aside in turn.
    """
    _end(session, workload, stamp, "undo", reason)


@click.command()
@click.argument("workload")
@click.argument("stamp", required=False)
@click.option("--list", "only_list", is_flag=True, help="Only say what there is.")
@click.option("--reason", metavar="TEXT", help="Why it is not needed any more; it is recorded for ever.")
@click.option("--yes", is_flag=True, help="It is deleted for ever, and that is meant.")
@click.pass_obj
def discard(session: Session, workload: str, stamp: str | None, only_list: bool, reason: str | None, yes: bool) -> None:
    """Delete what a restore of WORKLOAD moved aside, for ever."""
    if only_list:
        found = [what for _, what in _found(session, workload, "discard")]
        lines = [f"{what.stamp}  {what.point} to {what.to}, {moment(what.at)}: {_parts(what)}" for what in found]
        session.screen.result([to_json(what) for what in found], *(lines or ["nothing is kept aside"]))
        return
    if not yes or not reason:
        raise click.UsageError("what was moved aside is deleted for ever: give --yes and --reason TEXT")
    _end(session, workload, stamp, "discard", reason)


def _end(session: Session, workload: str, stamp: str | None, verb: UndoVerb, reason: str) -> None:
    from muster.operations.undo import choose, let_pass, plan_undo, undo

    found = _found(session, workload, verb)
    vaults = {what.stamp: vault for vault, what in found}

    def job_for(what: Replaced) -> RestoreJob:
        return session.platform.undo_job(vaults[what.stamp], what)

    plan = choose([what for _, what in found], stamp, lambda what: plan_undo(what, verb, reason, job_for))
    let_pass(vaults[plan.stamp], plan)
    for warning in plan.warnings:
        session.screen.note(warning)
    places = undo(vaults[plan.stamp], plan, job_for)
    told = "is back" if verb == "undo" else "is deleted"
    session.screen.result({"stamp": plan.stamp, "places": places}, *(f"{place} {told}" for place in places))


def _found(session: Session, workload: str, verb: UndoVerb) -> list[tuple[Vault, Replaced]]:
    """Restores that moved something aside, oldest first, each with its vault."""
    from muster.operations.undo import replaced

    vaults = [session.vault(name) for name in session.vault_names(workload)]
    found = [(vault, what) for vault in vaults for what in replaced(vault, workload, verb)]
    return sorted(found, key=lambda pair: pair[1].stamp)


def _parts(what: Replaced) -> str:
    return ", ".join(f"{part.component} {part.path}".rstrip() for part in what.parts)
