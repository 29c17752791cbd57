"""Signed documents: DSSE envelopes under an Ed25519 key of the vault."""

from __future__ import annotations

from typing import Any, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from muster.codec import canonical
from muster.errors import IntegrityError
from muster.vault.layout import digest, read_document


class Signatures(Protocol):
    """Signs what a vault says, and checks that it was this vault that said it."""

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of the public key that signs now."""

    def sign(self, payload_type: str, payload: dict[str, Any]) -> bytes:
        """A document in its envelope. The same document gives the same bytes."""

    def open(self, key: str, data: bytes, payload_type: str | None) -> dict[str, Any]:
        """
        The document in an envelope, if this vault signed it as of this type.

        :param key: the object's name, for the message
        :param payload_type: None for any
        :raises IntegrityError: if one bit of it is not as it was signed
        """


class VerifyingKey:
    """The public half of a signing key: checks, and cannot sign."""

    def __init__(self, public: Ed25519PublicKey) -> None:
        from securesystemslib.signer import SSlibKey

        self.public = public
        self.fingerprint = digest(public.public_bytes_raw())
        self._key = SSlibKey.from_crypto(public, keyid=self.fingerprint)

    def open(self, key: str, data: bytes, payload_type: str | None) -> dict[str, Any]:
        """See `Signatures.open`."""
        from securesystemslib.dsse import Envelope
        from securesystemslib.exceptions import Error

        try:
            envelope = Envelope.from_dict(read_document(key, data))
            envelope.verify([self._key], 1)
            _check_whole(envelope, payload_type, data)
            return read_document(f"the payload of {key}", envelope.payload)
        except (Error, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise IntegrityError(
                f"{key} does not carry a valid signature of this vault: {error}",
                "it was damaged or forged; restore it from a replica and find out who writes to the store",
            ) from error


class SigningKey(VerifyingKey):
    """A key pair that is a vault's own."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        from securesystemslib.signer import CryptoSigner

        super().__init__(private.public_key())
        self.private = private
        self._signer = CryptoSigner(private, self._key)

    def sign(self, payload_type: str, payload: dict[str, Any]) -> bytes:
        """See `Signatures.sign`."""
        from securesystemslib.dsse import Envelope

        envelope = Envelope(canonical(payload), payload_type, {})
        envelope.sign(self._signer)
        return canonical(envelope.to_dict())


def _check_whole(envelope: Any, payload_type: str | None, data: bytes) -> None:
    if payload_type not in (None, envelope.payload_type):
        raise ValueError(f"it is a {envelope.payload_type}, not a {payload_type}")
    whole = envelope.to_dict()
    if canonical(whole) != data or [set(one) for one in whole["signatures"]] != [{"keyid", "sig"}]:
        raise ValueError("it has more in it than was signed")
