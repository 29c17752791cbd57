"""
Signed documents: DSSE envelopes under an Ed25519 key of the vault.

Written out here, over `cryptography`: the library that has them loads the clients of two clouds, which costs each process
of ours a second (docs/adr/0010). The tests hold these to that library.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any, Protocol

from cryptography.exceptions import InvalidSignature
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
        self.public = public
        self.fingerprint = digest(public.public_bytes_raw())

    def open(self, key: str, data: bytes, payload_type: str | None) -> dict[str, Any]:
        """See `Signatures.open`."""
        try:
            payload = self._payload(read_document(key, data), data, payload_type)
            return read_document(f"the payload of {key}", payload)
        except (InvalidSignature, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise IntegrityError(
                f"{key} does not carry a valid signature of this vault: {error or 'the signature is not of these bytes'}",
                "it was damaged or forged; restore it from a replica and find out who writes to the store",
            ) from error

    def _payload(self, envelope: dict[str, Any], data: bytes, payload_type: str | None) -> bytes:
        """What was signed: of that type, with this key, and nothing beside it that was not."""
        (signature,) = envelope["signatures"]
        if signature["keyid"] != self.fingerprint:
            raise ValueError("it is signed with another key")
        found, payload = envelope["payloadType"], b64decode(envelope["payload"], validate=True)
        signed = b64decode(signature["sig"], validate=True)
        self.public.verify(signed, _encoded(found, payload))
        if payload_type not in (None, found):
            raise ValueError(f"it is a {found}, not a {payload_type}")
        if _envelope(found, payload, self.fingerprint, signed) != data:
            raise ValueError("it has more in it than was signed")
        return payload


class SigningKey(VerifyingKey):
    """A key pair that is a vault's own."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        super().__init__(private.public_key())
        self.private = private

    def sign(self, payload_type: str, payload: dict[str, Any]) -> bytes:
        """See `Signatures.sign`."""
        body = canonical(payload)
        return _envelope(payload_type, body, self.fingerprint, self.private.sign(_encoded(payload_type, body)))


def _encoded(payload_type: str, payload: bytes) -> bytes:
    """What is signed: DSSE's pre-authentication encoding, https://github.com/secure-systems-lab/dsse/blob/master/protocol.md."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _envelope(payload_type: str, payload: bytes, key_id: str, signature: bytes) -> bytes:
    signatures = [{"keyid": key_id, "sig": b64encode(signature).decode()}]
    document = {"payload": b64encode(payload).decode(), "payloadType": payload_type, "signatures": signatures}
    return canonical(document)
