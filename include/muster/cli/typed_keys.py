"""The key that a command line names, or that a person types."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from muster.errors import UsageError

if TYPE_CHECKING:
    from muster.cli.screen import Screen
    from muster.vault.holders import Passphrase, Secret


def asked_secret(screen: Screen) -> Secret:
    """
    Any key of a vault from the person at the terminal; recovery shares one after the other.

    :raises UsageError: if nobody is there, or a share is mistyped
    """
    from muster.vault.holders import Shares
    from muster.vault.shares import Share

    secret = typed(_ask(screen, "Passphrase or recovery key"))
    while isinstance(secret, Shares) and len(secret.texts) < Share.read(secret.texts[0]).threshold:
        secret = Shares((*secret.texts, _ask(screen, "Next recovery share")))
    return secret


def asked_passphrase(screen: Screen) -> Passphrase:
    """
    A new passphrase from the person at the terminal, who is asked twice.

    :raises UsageError: if nobody is there
    """
    from muster.vault.holders import Passphrase

    return Passphrase(_ask(screen, "New passphrase", twice=True))


def typed(text: str) -> Secret:
    """The secret that a text is: passphrase, recovery key, shares, or the name of a KMS key."""
    from muster.adapters.kms_keys import AwsKeys
    from muster.vault.holders import secret_of

    return secret_of(text, AwsKeys())


def secret_in(path: Path) -> Secret:
    """
    The secret in a file: its first line, or all the recovery shares in it.

    :raises UsageError: if there is no such file, or nothing in it
    """
    first = read_secret(path)
    return typed("\n".join(read_lines(path)) if first.upper().startswith("MUSTER-SHARE") else first)


def read_lines(path: Path) -> list[str]:
    """
    The lines of a file that are not empty.

    :raises UsageError: if there is no such file, or nothing in it
    """
    read_secret(path)
    return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]


def read_secret(path: Path) -> str:
    """
    The first line of a file, without its end.

    :raises UsageError: if there is no such file, or nothing in it
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UsageError(
            f"the key file {path} cannot be read: {reason}", "check the name and the mode of the file"
        ) from None
    if not lines or not lines[0].strip():
        raise UsageError(
            f"the key file {path} is empty", "it holds the passphrase or the recovery key in its first line"
        )
    return lines[0].strip() if lines[0].lstrip().upper().startswith("MUSTER-") else lines[0]


def _ask(screen: Screen, what: str, *, twice: bool = False) -> str:
    if not screen.interactive:
        raise UsageError(
            "no key was given, and nobody is there to be asked",
            "give --passphrase-file FILE, --recovery-key-file FILE, --share-file FILE, --kms-key kms:ARN or MUSTER_PASSPHRASE "
            "before the command",
        )
    return str(click.prompt(what, hide_input=True, confirmation_prompt=twice, err=True))
