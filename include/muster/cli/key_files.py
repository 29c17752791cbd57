"""Secrets of holders, as files bring them to ``muster keys``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from muster.cli.typed_keys import secret_in

if TYPE_CHECKING:
    from muster.vault.holders import Secret
    from muster.vault.slots import KeySlot
    from muster.vault.vault import Vault

of_holders = click.option(
    "--with",
    "files",
    type=click.Path(path_type=Path),
    multiple=True,
    help="File with a holder's passphrase, recovery key or recovery shares. May be given several times.",
)


def at_hand(vault: Vault, files: tuple[Path, ...]) -> list[Secret]:
    """The secrets in files, the shares of one set brought together, and every KMS key that the vault names."""
    from muster.adapters.kms_keys import AwsKeys
    from muster.vault.holders import KmsKey, Shares
    from muster.vault.shares import Share

    secrets = [secret_in(file) for file in files]
    texts = [text for secret in secrets if isinstance(secret, Shares) for text in secret.texts]
    sets = {
        Share.read(text).set: [other for other in texts if Share.read(other).set == Share.read(text).set]
        for text in texts
    }
    named = {holder.slot.key for holder in vault.holders.current() if holder.slot.key}
    return [
        *(secret for secret in secrets if not isinstance(secret, Shares)),
        *(Shares(tuple(belonging)) for belonging in sets.values()),
        *(KmsKey(key, AwsKeys()) for key in sorted(named)),
    ]


def kind_of(slot: KeySlot) -> str:
    """The kind of a slot for people."""
    return f"{slot.threshold} of {slot.shares} shares" if slot.kind == "shares" else slot.kind
