"""What the holders of a vault hold: a passphrase, a recovery key, shares of one, or the right to use a key of a service."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from muster.errors import UsageError
from muster.ports import KeyService
from muster.vault.letters import Spelling
from muster.vault.shares import SPELLING as SHARE_SPELLING
from muster.vault.shares import joined

RECOVERY_SPELLING = Spelling("recovery key", "MUSTER-RECOVERY-1", 32, 3, b"muster recovery key v1")
KMS_PREFIX = "kms:"
_KMS_KEY = re.compile(r"arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:key/[A-Za-z0-9-]+")


@dataclass(frozen=True)
class Passphrase:
    """Words that a person or a secret store keeps."""

    text: str = field(repr=False)


@dataclass(frozen=True)
class RecoveryKey:
    """A private key in letters, ``MUSTER-RECOVERY-1-XXXX-…``, shown once and kept offline."""

    text: str = field(repr=False)

    def private(self) -> X25519PrivateKey:
        """
        The key itself.

        :raises UsageError: if it has a typing error
        """
        return X25519PrivateKey.from_private_bytes(RECOVERY_SPELLING.read(self.text))


@dataclass(frozen=True)
class Shares:
    """As many recovery shares, ``MUSTER-SHARE-1-XXXX-…``, as their set needs, from people who open the vault together."""

    texts: tuple[str, ...] = field(repr=False)

    def private(self) -> X25519PrivateKey:
        """
        The key that they make.

        :raises UsageError: if they make none
        """
        return joined(self.texts)


@dataclass(frozen=True)
class KmsKey:
    """
    A key of a key service that we may use.

    :param key: its name there; for AWS its ARN
    """

    key: str
    service: KeyService = field(repr=False)


Secret = Passphrase | RecoveryKey | Shares | KmsKey
KINDS: dict[type[Secret], str] = {
    Passphrase: "passphrase",
    RecoveryKey: "recovery key",
    Shares: "set of recovery shares",
    KmsKey: "KMS key",
}
"""What people call each kind."""


def require_typeable(passphrase: Passphrase) -> None:
    """
    :raises UsageError: if nobody could type a new passphrase at a terminal, nor keep it in the first line of a file
    """
    if any(unicodedata.category(letter) == "Cc" for letter in passphrase.text):
        raise UsageError(
            "the passphrase holds the end of a line, or another character that nobody can type: by hand it would open nothing",
            "write it without; in YAML that is |- instead of |",
        )


def generate_recovery_key() -> RecoveryKey:
    """A new recovery key: 32 random bytes and 3 bytes of checksum, in 14 groups of four letters."""
    return RecoveryKey(RECOVERY_SPELLING.write(X25519PrivateKey.generate().private_bytes_raw()))


def kms_key_name(reference: str) -> str:
    """
    The ARN in ``kms:arn:aws:kms:…``.

    :raises UsageError: if it names no key of AWS KMS
    """
    name = reference.removeprefix(KMS_PREFIX)
    if not _KMS_KEY.fullmatch(name):
        raise UsageError(
            f"{reference!r} names no KMS key",
            "write kms:arn:aws:kms:REGION:ACCOUNT:key/ID; not an alias, which may be another key tomorrow",
        )
    return name


def secret_of(text: str, service: KeyService) -> Secret:
    """
    The secret that a text is, by its first letters: what stands in a key file or a connection may be of any kind.

    :raises UsageError: if it begins as a reference to a KMS key, and is none
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    first = lines[0].upper() if lines else ""
    if first.startswith(SHARE_SPELLING.prefix):
        return Shares(tuple(lines))
    if first.startswith(RECOVERY_SPELLING.prefix):
        return RecoveryKey(lines[0])
    if first.startswith("KMS:ARN:"):
        return KmsKey(kms_key_name(lines[0]), service)
    return Passphrase(text)
