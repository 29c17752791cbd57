"""Envelopes of ours are DSSE: the reference library opens them, and we open its own."""

from __future__ import annotations

import json
from base64 import b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner, SSlibKey

from muster.codec import canonical
from muster.errors import IntegrityError
from muster.vault.envelope import SigningKey

KIND = "application/vnd.in-toto+json"
PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OURS = SigningKey(PRIVATE)


def library_key() -> SSlibKey:
    """Our public key as the library has it."""
    return SSlibKey.from_crypto(PRIVATE.public_key(), keyid=OURS.fingerprint)


def test_the_reference_library_verifies_what_we_sign() -> None:
    """Payload, type and signature, to the byte."""
    signed = OURS.sign(KIND, {"a": "ü", "b": [1, 2]})
    envelope = Envelope.from_dict(json.loads(signed))
    envelope.verify([library_key()], 1)
    assert (envelope.payload_type, envelope.payload) == (KIND, canonical({"a": "ü", "b": [1, 2]}))


def test_we_open_what_the_reference_library_signs() -> None:
    """The same document gives the same bytes from both."""
    envelope = Envelope(canonical({"a": 1}), KIND, {})
    envelope.sign(CryptoSigner(PRIVATE, library_key()))
    data = canonical(envelope.to_dict())
    assert OURS.open("points/x", data, KIND) == {"a": 1}
    assert data == OURS.sign(KIND, {"a": 1})


@pytest.mark.parametrize("part", ["payload", "payloadType", "sig", "keyid", "second signature", "space", "field"])
def test_an_envelope_with_anything_else_in_it_is_refused(part: str) -> None:
    """Another payload, type, signature or key; a signature, a space or a field more."""
    envelope = json.loads(OURS.sign(KIND, {"a": 1}))
    if part == "payload":
        envelope["payload"] = b64encode(b'{"a":2}').decode()
    elif part == "payloadType":
        envelope["payloadType"] = "application/json"
    elif part == "second signature":
        envelope["signatures"] *= 2
    elif part == "field":
        envelope["more"] = 1
    elif part != "space":
        envelope["signatures"][0][part] = b64encode(bytes(64)).decode()
    data = canonical(envelope) + (b" " if part == "space" else b"")
    with pytest.raises(IntegrityError, match=r"does not carry a valid signature|is not as it was written"):
        OURS.open("points/x", data, None)


def test_another_type_is_refused() -> None:
    """A mark is not a manifest."""
    with pytest.raises(IntegrityError, match=r"it is a application/vnd.in-toto.json, not a text/plain"):
        OURS.open("points/x", OURS.sign(KIND, {}), "text/plain")
