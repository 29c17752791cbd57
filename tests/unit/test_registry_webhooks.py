"""A webhook counts if the registry's server has signed it a moment ago; anything else is turned away."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from muster.adapters.mlflow_webhooks import RegistryEvent, open_event
from muster.errors import Refused, UsageError

SECRET = "between the two servers"
NOW = datetime(2026, 11, 26, 3, 0, 0, tzinfo=UTC)
BODY = json.dumps(
    {"entity": "model_version", "action": "created", "timestamp": "t", "data": {"name": "ümläut"}}
).encode()


def signed(body: bytes = BODY, *, secret: str = SECRET, at: datetime = NOW, delivery: str = "d1") -> dict[str, str]:
    """The headers that MLflow itself makes, by lower-case names."""
    from mlflow.webhooks.delivery import _generate_hmac_signature

    timestamp = str(int(at.timestamp()))
    signature = _generate_hmac_signature(secret, delivery, timestamp, body.decode())
    return {"x-mlflow-delivery-id": delivery, "x-mlflow-timestamp": timestamp, "x-mlflow-signature": signature}


def test_what_mlflow_signs_is_let_in() -> None:
    """By MLflow's own code, with clocks that differ by minutes."""
    for minutes in (-4, 0, 4):
        at = NOW + timedelta(minutes=minutes)
        assert open_event(SECRET, signed(at=at), BODY, NOW) == RegistryEvent("d1", "model_version", "created", at)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (signed(secret="another"), BODY),
        (signed(), BODY + b" "),
        (signed() | {"x-mlflow-delivery-id": "d2"}, BODY),
        (signed() | {"x-mlflow-timestamp": "1"}, BODY),
        (signed() | {"x-mlflow-signature": "v1,"}, BODY),
        (signed() | {"x-mlflow-signature": "ü"}, BODY),
        (signed() | {"x-mlflow-signature": signed()["x-mlflow-signature"].replace("v1,", "v2,")}, BODY),
        ({}, BODY),
    ],
)
def test_what_was_altered_or_signed_by_others_is_refused(headers: dict[str, str], body: bytes) -> None:
    """Body, delivery, time and signature hang together."""
    with pytest.raises(Refused, match="not signed with the secret"):
        open_event(SECRET, headers, body, NOW)


def test_an_empty_secret_lets_nobody_in() -> None:
    """Everybody could sign with it."""
    with pytest.raises(Refused, match="not signed"):
        open_event("", signed(secret=""), BODY, NOW)


@pytest.mark.parametrize("minutes", [-6, 6, -60 * 24 * 365])
def test_what_was_recorded_cannot_be_played_again_later(minutes: int) -> None:
    """Nor what is of the future."""
    with pytest.raises(Refused, match="which is not now"):
        open_event(SECRET, signed(at=NOW + timedelta(minutes=minutes)), BODY, NOW)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"null", b'{"entity": "run"}', b"[" * 100_000])
def test_what_is_signed_and_no_event_is_told_as_such(body: bytes) -> None:
    """An error of ours, whatever it is."""
    with pytest.raises(UsageError, match="is no event of MLflow 3"):
        open_event(SECRET, signed(body), body, NOW)
