"""``muster keys``: who can open a vault, whether they still can, and new keys when somebody leaves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from muster.cli.key_adding import keys_add
from muster.cli.key_files import at_hand, kind_of, of_holders
from muster.cli.key_rotation import keys_adopt, keys_rotate
from muster.cli.screen import table
from muster.cli.session import Session
from muster.cli.typed_keys import typed
from muster.cli.wording import moment
from muster.codec import to_json

if TYPE_CHECKING:
    from muster.vault.holders import Secret
    from muster.vault.keyholders import Holder, Proof

STILL_SHUTS = (
    "Whoever kept a copy of the slot, or ever opened the vault, is shut out by a rotation only: muster keys rotate"
)


@click.group()
def keys() -> None:
    """Who can open a vault."""


for each in (keys_add, keys_rotate, keys_adopt):
    keys.add_command(each)


# --- list -------------------------------------------------------------------------------------------------------------


@keys.command("list")
@click.option("--all", "everything", is_flag=True, help="Also slots that open nothing new: earlier, revoked, unknown.")
@click.pass_obj
def keys_list(session: Session, everything: bool) -> None:
    """List the holders of a key, and no key."""
    vault = session.vault(session.one_vault())
    holders = vault.holders.all() if everything else vault.holders.current()
    warnings = vault.holders.warnings()
    document = {
        "vault": vault.url,
        "fingerprint": vault.holders.fingerprint,
        "generation": vault.holders.generation,
        "signing_fingerprint": vault.signing_fingerprint,
        "keys": [to_json(holder.slot) | _known(holder) for holder in holders],
        "warnings": warnings,
    }
    headings = ("name", "kind", "since", "proven", "standing", "slot")
    rows = [
        (h.slot.name, kind_of(h.slot), moment(h.slot.created_at), _proven(h), _standing(h), h.slot.slot[:16])
        for h in holders
    ]
    lines = (
        f"vault {vault.holders.fingerprint}",
        f"generation {vault.holders.generation}, signing key {vault.signing_fingerprint[:16]}",
        "",
        table(headings, rows),
    )
    session.screen.result(document, *lines, *(f"warning: {warning}" for warning in warnings))


def _known(holder: Holder) -> dict[str, Any]:
    return {"standing": holder.standing, "proven_at": to_json(holder.proven_at) if holder.proven_at else None}


def _proven(holder: Holder) -> str:
    return moment(holder.proven_at) if holder.proven_at else "never"


def _standing(holder: Holder) -> str:
    return f"of generation {holder.slot.generation} only" if holder.standing == "earlier" else holder.standing


# --- revoke, test -----------------------------------------------------------------------------------------------------


@keys.command("revoke")
@click.argument("name")
@click.pass_obj
def keys_revoke(session: Session, name: str) -> None:
    """Take NAME's key slots away. Rotate afterwards to shut out who kept a copy."""
    vault = session.vault(session.one_vault())
    slots = vault.holders.revoke(name)
    stay = [slot for slot, gone in slots.items() if not gone]
    lines = [f"{vault.url}: {len(slots) - len(stay)} of {len(slots)} slots of {name} are gone"]
    if stay:
        lines.append(
            f"{len(stay)} are locked by the store and stay until their locks end: until the keys are rotated, {name} opens everything"
        )
    warnings = vault.holders.warnings()
    lines += [STILL_SHUTS, *(f"warning: {warning}" for warning in warnings)]
    session.screen.result({"vault": vault.url, "revoked": name, "slots": slots, "warnings": warnings}, *lines)


@keys.command("test")
@of_holders
@click.pass_obj
def keys_test(session: Session, files: tuple[Path, ...]) -> None:
    """Prove of every holder that they can open the vault, by opening it with what they hold.

    Tries the key that opens it here, every KMS key, the files given and, on a terminal, what is typed. Exit code 1 if anybody is
    not proven. The audit trail records it.
    """
    vault = session.vault(session.one_vault())
    secrets = at_hand(vault, files)
    if session.screen.interactive:
        secrets += _asked(vault.holders.prove(secrets))
    proofs = vault.holders.test(secrets)
    rows = [(p.slot.name, kind_of(p.slot), "proven" if p.proven else "NOT PROVEN", p.why) for p in proofs]
    unproven = [proof for proof in proofs if not proof.proven]
    verdict = f"{len(proofs) - len(unproven)} of {len(proofs)} holders are proven to open {vault.url}"
    document = {"vault": vault.url, "holders": [to_json(p.slot) | {"proven": p.proven, "why": p.why} for p in proofs]}
    warnings = document["warnings"] = vault.holders.warnings()
    lines = ("", verdict, *(f"warning: {warning}" for warning in warnings))
    session.screen.result(document, table(("name", "kind", "proof", "why not"), rows), *lines)
    if unproven:
        click.get_current_context().exit(1)


def _asked(proofs: list[Proof]) -> list[Secret]:
    """What the person at the terminal types for holders who are not proven yet."""
    found: list[Secret] = []
    for proof in proofs:
        if not proof.proven and proof.slot.kind in ("passphrase", "recovery"):
            what = f"Secret of {proof.slot.name} ({proof.slot.kind}; Enter to leave it out)"
            if text := click.prompt(what, hide_input=True, default="", show_default=False, err=True):
                found.append(typed(text))
    return found
