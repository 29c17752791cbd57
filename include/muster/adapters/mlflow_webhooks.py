"""MLflow's webhooks: whether one was really sent by the registry's server, and what it tells."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from muster.errors import Refused, UsageError

TOLERANCE = timedelta(minutes=5)
"""By so much the clocks of sender and receiver may differ; what is older may be a recording that somebody plays again."""
LONGEST_BODY = 256 * 1024
_VERSION = "v1"
_DELIVERY, _TIMESTAMP, _SIGNATURE = "x-mlflow-delivery-id", "x-mlflow-timestamp", "x-mlflow-signature"


@dataclass(frozen=True, slots=True)
class RegistryEvent:
    """
    Something that happened in a registry.

    :param delivery: the same for all attempts to tell of it
    :param entity: such as ``model_version``
    :param action: such as ``created``
    """

    delivery: str
    entity: str
    action: str
    sent_at: datetime


def open_event(secret: str, headers: Mapping[str, str], body: bytes, now: datetime) -> RegistryEvent:
    """
    What a webhook tells, if it was signed with the secret: HMAC-SHA256 over delivery id, time and body, as MLflow 3 does it.

    :param headers: by lower-case names
    :param now: aware
    :raises Refused: if the signature does not match, or the time is not about now
    :raises UsageError: if it is signed and yet no event
    """
    delivery, timestamp = headers.get(_DELIVERY, ""), headers.get(_TIMESTAMP, "")
    signed = f"{delivery}.{timestamp}.".encode() + body
    expected = base64.b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest())
    given = headers.get(_SIGNATURE, "").encode()
    if not secret or not hmac.compare_digest(_VERSION.encode() + b"," + expected, given):
        raise Refused(
            "the webhook is not signed with the secret of this workload's registry",
            "see that MLflow's webhook and the catalog's `registry.webhook` have the same secret",
        )
    try:
        sent_at = datetime.fromtimestamp(int(timestamp), UTC)
        document = json.loads(body)
        event = RegistryEvent(delivery, str(document["entity"]), str(document["action"]), sent_at)
    except (ValueError, OverflowError, OSError, TypeError, KeyError, RecursionError) as error:
        raise UsageError(
            f"the webhook is signed, but is no event of MLflow 3: {error!r}", "see which MLflow sends it"
        ) from None
    if abs(now - sent_at) > TOLERANCE:
        raise Refused(
            f"the webhook was sent at {sent_at:%Y-%m-%d %H:%M:%S} UTC, which is not now",
            "set the clocks of both servers; somebody may be playing an old one again",
        )
    return event
