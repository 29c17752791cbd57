"""Where a vault in Google Cloud Storage is, and who we are there."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import get_args
from urllib.parse import unquote

from muster.adapters.addresses import Form, checked_transport
from muster.adapters.blob_keys import checked_prefix
from muster.ports import LockMode

GOOGLE = "https://storage.googleapis.com"
GCS_FORM = (
    "gs://bucket/prefix; a service account's key, if it is not the environment's, as gs://KEY@bucket, its JSON text "
    "percent-encoded (docs/stores.md has every option)"
)
_ANONYMOUS = "anonymous"
_FORM = Form(
    kind="Google Cloud Storage",
    place="bucket",
    name=re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]"),
    hint=GCS_FORM,
    options={"endpoint", "lock", "kms_key", "insecure"},
)


@dataclass(frozen=True, slots=True)
class GcsLocation:
    """
    A bucket, how it is reached, and how objects are written to it.

    :param prefix: what all keys begin with in the bucket, without a slash at either end; may be empty
    :param endpoint: address of a server that is not Google's
    :param key: a service account's key, the JSON text; without: what the environment, the machine or ``gcloud`` give, as
        google.auth finds them
    :param anonymous: send no credentials at all, as to an emulator
    :param lock: mode of the retentions that we set: Google's ``Locked`` for compliance, ``Unlocked`` for governance
    :param kms_key: the Cloud KMS key with which Google encrypts new objects; None leaves it to the bucket
    :param insecure: consent to send in the clear to another machine
    :raises UsageError: if these do not go together
    """

    bucket: str
    prefix: str = ""
    endpoint: str = GOOGLE
    key: str | None = field(default=None, repr=False)
    anonymous: bool = False
    lock: LockMode = "governance"
    kms_key: str | None = None
    insecure: bool = False

    def __post_init__(self) -> None:
        checked_prefix(self.prefix)
        checked_transport(self.endpoint, insecure=self.insecure)

    @property
    def url(self) -> str:
        """The location without credentials."""
        path = f"/{self.prefix}" if self.prefix else ""
        return f"gs://{self.bucket}{path}" + (f"?endpoint={self.endpoint}" if self.endpoint != GOOGLE else "")


def gcs_location(url: str) -> GcsLocation:
    """
    The location of an address ``gs://[KEY@]bucket[/prefix][?option=value&…]``; ``anonymous`` as KEY sends no credentials.

    :raises UsageError: if it is wrong; the message shows no credentials
    """
    address = _FORM.taken_apart(url)
    key = None if address.credentials is None else unquote(address.credentials)
    return GcsLocation(
        address.place,
        address.path,
        endpoint=address.options.get("endpoint", GOOGLE).rstrip("/"),
        key=None if key == _ANONYMOUS else key,
        anonymous=key == _ANONYMOUS,
        lock=address.one_of("lock", get_args(LockMode)) or "governance",
        kms_key=address.options.get("kms_key"),
        insecure=address.one_of("insecure", ("true", "false")) == "true",
    )
