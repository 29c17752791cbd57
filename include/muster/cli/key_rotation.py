"""``muster keys rotate`` and ``muster keys adopt``: new keys, and what came too late with the old ones."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from muster.cli.key_files import at_hand, kind_of, of_holders
from muster.cli.screen import table
from muster.cli.session import Session
from muster.codec import to_json
from muster.errors import NotFound, Refused

if TYPE_CHECKING:
    from rich.table import Table

    from muster.vault.rotation import RotationPlan


@click.command("rotate")
@of_holders
@click.option("--without", multiple=True, metavar="NAME", help="Leave a holder out. May be given several times.")
@click.option("--dry-run", is_flag=True, help="Only say who would hold the new keys, and who would be left out.")
@click.option("--yes", is_flag=True, help="Do not ask before somebody is left out.")
@click.pass_obj
def keys_rotate(session: Session, files: tuple[Path, ...], without: tuple[str, ...], dry_run: bool, yes: bool) -> None:
    """Make new keys; what was stored stays readable with them.

    Recovery keys, shares and KMS keys are taken along. Of passphrases only the one that opens the vault here, and those given by
    --with: whoever else has one is left out, and needs `muster keys add` again.
    """
    vault = session.vault(session.one_vault())
    plan = vault.rotation.plan(at_hand(vault, files), without)
    document = {"vault": vault.url, "generation": plan.generation, "rotated": not dry_run} | _planned(plan)
    if dry_run:
        session.screen.result(document, *_plan_lines(plan, "would "))
        return
    if plan.left_out and not yes:
        _agree(session, plan)
    vault.rotate(plan)
    document["signing_fingerprint"] = vault.signing_fingerprint
    told = f"{vault.url}: generation {plan.generation} of the keys, signing key {vault.signing_fingerprint[:16]}"
    session.screen.result(document, told, *_plan_lines(plan, ""))


def _planned(plan: RotationPlan) -> dict[str, Any]:
    left_out = [to_json(one.slot) | {"why": one.why} for one in plan.left_out]
    return {"holders": [to_json(slot) for slot in plan.holders], "left_out": left_out, "warnings": _warnings(plan)}


def _warnings(plan: RotationPlan) -> list[str]:
    if len(plan.holders) > 1:
        return []
    (only,) = plan.holders
    return [
        f"only {only.name} holds the new keys: if that key is lost, everything stored from then on is lost for ever"
    ]


def _plan_lines(plan: RotationPlan, would: str) -> list[str | Table]:
    rows = [(slot.name, kind_of(slot), f"{would}hold the new keys") for slot in plan.holders]
    rows += [(one.slot.name, kind_of(one.slot), f"{would}be left out: {one.why}") for one in plan.left_out]
    warnings = [f"warning: {warning}" for warning in _warnings(plan)]
    return ["", table(("name", "kind", "what becomes of them"), rows), *warnings]


def _agree(session: Session, plan: RotationPlan) -> None:
    names = "; ".join([", ".join(f"{one.slot.name} ({one.why})" for one in plan.left_out), *_warnings(plan)])
    if not session.screen.interactive:
        raise Refused(
            f"these holders would be left out of the new keys: {names}",
            "give their key files with --with, or --yes to leave them out; they need `muster keys add` again then",
        )
    click.confirm(f"Left out of the new keys: {names}. Rotate all the same?", abort=True, err=True)


@click.command("adopt")
@click.argument("objects", nargs=-1, metavar="[OBJECT]...")
@click.pass_obj
def keys_adopt(session: Session, objects: tuple[str, ...]) -> None:
    """List what an earlier key signed or sealed after it was replaced, or let OBJECTs of it count.

    There is something only if a rotation was killed, if a writer was at work in its very moment, or if somebody has an earlier key:
    adopt nothing that you cannot explain.
    """
    vault = session.vault(session.one_vault())
    late = {verdict.key: verdict for verdict in vault.rotation.late()}
    if unknown := set(objects) - late.keys():
        raise NotFound(
            f"{', '.join(sorted(unknown))} is not among what came late",
            f"there is: {', '.join(sorted(late)) or 'nothing'}",
        )
    vault.rotation.adopt([late[key] for key in objects])
    left = [verdict for key, verdict in sorted(late.items()) if key not in objects]
    document = {"vault": vault.url, "adopted": sorted(objects), "late": [asdict(verdict) for verdict in left]}
    lines: list[str | Table] = [f"{vault.url}: {len(objects)} adopted, {len(left)} do not count"]
    if left:
        lines += ["", table(("object", "key of generation"), [(verdict.key, verdict.generation) for verdict in left])]
    session.screen.result(document, *lines)
