"""Commands that make: init, snapshot, demo."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from muster.cli.key_file import new_private_file
from muster.cli.session import Session
from muster.cli.typed_keys import asked_passphrase
from muster.cli.wording import point_lines
from muster.codec import to_json
from muster.errors import NotFound, UsageError

if TYPE_CHECKING:
    from muster.vault.vault import RecoveryKey, Vault

KEEP_OFFLINE = """\

This is its recovery key. It is shown once and stored nowhere:

    {key}

Write it down or print it, and keep it away from this platform, in a safe that two people can open. With it and the vault,
everything comes back even when every passphrase is lost; so whoever else has it can read everything, too."""
TWO_KEYS = """\

Its fingerprint tells it from any vault that somebody could put in its place. Keep it beside the recovery key, and open with both:

    --fingerprint {fingerprint}

Two keys open this vault: the passphrase and the recovery key. Nobody, by no means, opens it without one of the two: lose both, and
everything in it is lost for ever. Add holders with `muster keys add`, and prove from time to time that they can come in, with
`muster keys test`."""


@click.command()
@click.argument("vault", required=False)
@click.option(
    "--recovery-key-file",
    "key_file",
    type=click.Path(path_type=Path),
    help="Write the recovery key to a new file of mode 600 instead of showing it.",
)
@click.pass_obj
def init(session: Session, vault: str | None, key_file: Path | None) -> None:
    """Create a vault, and give its recovery key, once.

    Creates VAULT of the catalog (its only one, if left out), or the vault of --vault URL.
    """
    if vault and session.vault_url:
        raise UsageError("the vault is named twice", "leave VAULT out where --vault gives a URL")
    name = vault or session.one_vault()
    if key_file is None:
        if session.screen.as_json or not session.screen.interactive:
            raise UsageError(
                "the recovery key is shown once, and nobody is there to read it",
                "give: muster init --recovery-key-file PATH, and take that file offline",
            )
        created, key = _create(session, name)
        shown = KEEP_OFFLINE.format(key=key.text)
    else:
        with new_private_file(key_file) as write:
            created, _ = _create(session, name, lambda key: write(key.text + "\n"))
        shown = f"Its recovery key is in {key_file}: take that file offline now, and remove it here."
    document = {
        "vault": created.id,
        "url": created.url,
        "fingerprint": created.holders.fingerprint,
    }
    document["recovery_key_file"] = str(key_file)
    session.screen.result(
        document,
        f"Created the vault {created.id} at {created.url}",
        shown,
        TWO_KEYS.format(fingerprint=created.holders.fingerprint),
    )


def _create(
    session: Session, name: str, keep: Callable[[RecoveryKey], object] = lambda _: None
) -> tuple[Vault, RecoveryKey]:
    from muster.adapters.system_clock import SystemClock
    from muster.vault.vault import Passphrase, Vault

    secret = session.given_secret() or (asked_passphrase(session.screen) if session.vault_url else None)
    if secret is None:
        return session.platform.create_vault(name, keep=keep)
    if not isinstance(secret, Passphrase):
        raise UsageError(
            "a vault is created with a passphrase; the recovery key comes out of it",
            "give --passphrase-file FILE instead",
        )
    return Vault.create(session.store(name), secret, clock=SystemClock(), actor=session.actor, keep=keep)


@click.command()
@click.argument("workload")
@click.pass_obj
def snapshot(session: Session, workload: str) -> None:
    """Take a recovery point of WORKLOAD.

    It is complete and sealed afterwards, or not there at all.
    """
    from muster.cli.accept import change_lines

    protected = session.catalog.workload(workload)
    with session.screen.progress() as progress:
        status = session.platform.snapshot(protected, progress)
    lines = change_lines(session.platform.vault_of(protected), status)
    session.screen.result(to_json(status), *point_lines(status), *lines)


@click.command(context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def demo(arguments: tuple[str, ...]) -> None:
    """Protect, destroy and bring back a real workload."""
    try:
        program = importlib.import_module("muster.demo.main")
    except ModuleNotFoundError as error:
        raise NotFound(
            f"the demonstration cannot start: {error.name} is not installed", "run `make demo` in the project's folder"
        ) from error
    click.get_current_context().exit(program.main(list(arguments)))
