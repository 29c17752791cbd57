"""``muster keys add``: let somebody else open a vault."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from muster.cli.key_file import new_private_file
from muster.cli.session import Session
from muster.cli.typed_keys import asked_passphrase, secret_in
from muster.errors import UsageError

if TYPE_CHECKING:
    from muster.vault.holders import Passphrase
    from muster.vault.shares import Share
    from muster.vault.vault import Vault

KEPT = """\

It is shown once and stored nowhere:

    {letters}

Write it down or print it, and keep it away from this platform. Prove from time to time that it opens the vault: muster keys test"""


@click.group("add")
def keys_add() -> None:
    """Let somebody else open the vault, under a NAME for people. Open it with a key that it has."""


@keys_add.command("passphrase")
@click.argument("name")
@click.option(
    "--new-passphrase-file",
    type=click.Path(path_type=Path),
    help="Take the new passphrase from the first line of a file.",
)
@click.pass_obj
def add_passphrase(session: Session, name: str, new_passphrase_file: Path | None) -> None:
    """A passphrase, for a person or a secret store."""
    vault = session.vault(session.one_vault())
    vault.add_passphrase(name, _new_passphrase(session, new_passphrase_file))
    _added(session, vault, name, f"{vault.url}: the passphrase {name} opens it from now on")


def _new_passphrase(session: Session, file: Path | None) -> Passphrase:
    from muster.vault.holders import Passphrase

    secret = secret_in(file) if file else asked_passphrase(session.screen)
    if not isinstance(secret, Passphrase):
        raise UsageError("that is a key of another kind, and no passphrase", "see: muster keys add --help")
    return secret


@keys_add.command("kms")
@click.argument("name")
@click.argument("key")
@click.pass_obj
def add_kms(session: Session, name: str, key: str) -> None:
    """A KEY of AWS KMS (kms:arn:aws:kms:…): whoever may use it, opens the vault with --kms-key."""
    from muster.adapters.kms_keys import AwsKeys
    from muster.vault.holders import KmsKey, kms_key_name

    vault = session.vault(session.one_vault())
    vault.holders.add_kms(name, KmsKey(kms_key_name(key), AwsKeys()))
    _added(session, vault, name, f"{vault.url}: whoever may use {key} opens it from now on, proven just now")


@keys_add.command("recovery")
@click.argument("name")
@click.option(
    "--to", "file", type=click.Path(path_type=Path), help="Write it to a new file of mode 600 instead of showing it."
)
@click.pass_obj
def add_recovery(session: Session, name: str, file: Path | None) -> None:
    """A new recovery key, to be kept offline."""
    vault = session.vault(session.one_vault())
    if file is None:
        _need_a_reader(session, "the recovery key is", "--to FILE")
        _, key = vault.holders.add_recovery_key(name)
        shown = KEPT.format(letters=key.text)
    else:
        with new_private_file(file) as write:
            vault.holders.add_recovery_key(name, lambda key: write(key.text + "\n"))
        shown = f"It is in {file}: take that file offline now, and remove it here."
    _added(session, vault, name, f"{vault.url}: the recovery key {name} opens it from now on", shown)


@keys_add.command("shares")
@click.argument("name")
@click.option("--threshold", type=int, required=True, help="How many shares open the vault together.")
@click.option("--shares", "count", type=int, required=True, help="How many are made.")
@click.option(
    "--to", "folder", type=click.Path(path_type=Path), help="Write each to a new file of mode 600 in this folder."
)
@click.pass_obj
def add_shares(session: Session, name: str, threshold: int, count: int, folder: Path | None) -> None:
    """Recovery shares, for people who open the vault only together."""
    vault = session.vault(session.one_vault())
    if folder is None:
        _need_a_reader(session, "recovery shares are", "--to FOLDER")
        _, shares = vault.holders.add_shares(name, threshold, count)
        shown = KEPT.format(letters="\n    ".join(share.text for share in shares))
    else:
        with ExitStack() as files:
            names = [folder / f"share-{number}-of-{count}.txt" for number in range(1, count + 1)]
            writes = [files.enter_context(new_private_file(path)) for path in names]

            def keep(shares: Sequence[Share]) -> None:
                for write, share in zip(writes, shares, strict=True):
                    write(share.text + "\n")

            vault.holders.add_shares(name, threshold, count, keep)
        shown = f"They are in {folder}: give each to its keeper now, and remove it here."
    _added(
        session, vault, name, f"{vault.url}: any {threshold} of the {count} shares {name} open it from now on", shown
    )


def _need_a_reader(session: Session, what: str, option: str) -> None:
    if session.screen.as_json or not session.screen.interactive:
        raise UsageError(f"{what} shown once, and nobody is there to read it", f"give {option}, and take it offline")


def _added(session: Session, vault: Vault, name: str, *lines: str) -> None:
    session.screen.result({"vault": vault.url, "added": name}, *lines)
