"""Restore without Airflow: no second person approves, so two key holders or a written reason stand for it, and are recorded."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from muster.cli.session import Session
from muster.cli.typed_keys import secret_in
from muster.errors import Refused, StoreUnavailable

if TYPE_CHECKING:
    from muster.domain.approval import Approval
    from muster.domain.restore_plan import RestorePlan
    from muster.vault.vault import Vault

Command = TypeVar("Command", bound=Callable[..., Any])
BREAK_GLASS = "break-glass"


def break_glass(function: Command) -> Command:
    """The options that stand for a second person."""
    for option in (
        click.option(
            "--second-key",
            type=click.Path(path_type=Path),
            help="A file with the key of a second holder, who agrees: passphrase, recovery key or shares.",
        ),
        click.option("--reason", metavar="TEXT", help="Why nobody else approves; it is recorded for ever."),
    ):
        function = option(function)
    return function


def break_the_glass(
    session: Session,
    vault: Vault,
    plan: RestorePlan,
    digest: str | None,
    reason: str | None,
    second_key: Path | None,
) -> Approval | None:
    """
    Let a plan pass without Airflow, and record who did it, on which plan, and why.

    In an emergency a key that was replaced still brings old points back, and so does a copy of a vault that is write-protected, or on a
    disk that is full; nothing is recorded then.

    :return: the approval; None if nothing can be recorded
    :raises Refused: if neither a reason nor a second holder stands for it, or the plan is another than the given digest says
    """
    from muster.domain.approval import Approval
    from muster.operations.approve import APPROVED, record_decision
    from muster.operations.recover import let_pass

    let_pass(vault, plan, "restore", digest)
    agreed = agreement(vault, reason, second_key)
    who = session.actor.name
    decision = Approval(
        plan.digest, who, agreed or who, session.platform.clock.now(), (reason or "").strip(), BREAK_GLASS
    )
    try:
        if not vault.silent:
            record_decision(vault, plan, APPROVED, decision, f"{BREAK_GLASS} {secrets.token_hex(8)}")
    except (Refused, StoreUnavailable) as error:
        vault.leave_alone(error.message)
    if vault.silent:
        session.screen.note(f"nothing of this is recorded, the reason neither: {vault.silent}")
        return None
    return decision


def agreement(vault: Vault, reason: str | None, second_key: Path | None) -> str:
    """
    The name of the second holder who agrees; empty if a reason stands for one.

    :raises Refused: if there is neither
    """
    agreed = second_holder(vault, second_key) if second_key else ""
    if not agreed and not (reason or "").strip():
        raise Refused(
            "a restore without Airflow needs a second holder of a key, or a written reason",
            "add --second-key FILE, or --reason 'why nobody else could approve'; it is recorded in the vault's audit trail",
        )
    return agreed


def second_holder(vault: Vault, key: Path) -> str:
    """
    The name of the holder to whom a key belongs.

    :raises WrongKey: if it opens nothing here
    :raises Refused: if it is the holder who opened the vault already
    """
    own, other = vault.holders.own, vault.holders.of(secret_in(key))
    if other.slot == own.slot:
        raise Refused(
            f"{key} is the key of {own.name}, which has opened the vault already", "another holder must agree"
        )
    return other.name
