"""Where a vault in a bucket is, and who we are there: the address, and the credentials that go with it."""

from __future__ import annotations

import os
import re
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple, get_args
from urllib.parse import unquote, urlsplit

from muster.adapters.addresses import Form, checked_transport
from muster.adapters.blob_keys import checked_prefix, key_below, path_below
from muster.errors import Refused, UsageError
from muster.ports import LockMode

Encryption = Literal["AES256", "aws:kms"]

S3_FORM = (
    "s3://bucket/prefix?endpoint=https://host:port&region=name; credentials, if they are not the environment's or a "
    "profile's, as s3://ACCESS:SECRET@bucket, percent-encoded (docs/stores.md has every option)"
)
_ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_KEY_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_TOKEN_VARIABLES = ("AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN")
_LEFT_TO_BOTO3 = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_CREDENTIAL_EXPIRATION")
_FORM = Form(
    kind="S3",
    place="bucket",
    name=re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]"),
    hint=S3_FORM,
    options={"endpoint", "region", "profile", "lock", "sse", "kms_key", "insecure"},
)
# botocore renews what expires within ten minutes, so whatever it gives is good for this long.
_CREDENTIALS_GOOD_FOR = timedelta(minutes=5)


class Keys(NamedTuple):
    """Whole credentials, under the names that botocore gives them."""

    access_key: str
    secret_key: str
    token: str | None


@dataclass(frozen=True, slots=True)
class S3Location:
    """
    A bucket, how it is reached, and how objects are written to it.

    :param prefix: what all keys begin with in the bucket, without a slash at either end; may be empty
    :param endpoint: address of a server that is not Amazon's
    :param access_key: with `secret_key`: the credentials. Without: those that boto3 finds: a profile, the environment, a web
        identity, the container or the machine
    :param retries: how often a request without an answer is tried again
    :param profile: of ``~/.aws/config`` and ``~/.aws/credentials``
    :param lock: mode of the retentions that we set; None takes that of the bucket's default retention, or else ``governance``
    :param sse: encryption by the store that every put asks for; None leaves it to the bucket
    :param kms_key: id or ARN of the key, with ``aws:kms``; None takes the account's own
    :param insecure: consent to send in the clear to another machine
    :raises UsageError: if these do not go together
    """

    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    retries: int = 5
    profile: str | None = None
    lock: LockMode | None = None
    sse: Encryption | None = None
    kms_key: str | None = None
    insecure: bool = False

    def __post_init__(self) -> None:
        checked_prefix(self.prefix)
        checked_transport(self.endpoint, insecure=self.insecure)
        if self.kms_key and self.sse != "aws:kms":
            raise UsageError(
                f"the address of bucket {self.bucket} has a kms_key without sse=aws:kms", "give both, or neither"
            )
        if self.profile and self.access_key:
            raise UsageError(
                f"the address of bucket {self.bucket} has a profile and credentials", "give one of the two"
            )

    @property
    def url(self) -> str:
        """The location without credentials."""
        options = {"endpoint": self.endpoint, "region": self.region}
        query = "&".join(f"{name}={value}" for name, value in options.items() if value)
        path = f"/{self.prefix}" if self.prefix else ""
        return f"s3://{self.bucket}{path}" + (f"?{query}" if query else "")

    @property
    def encrypted(self) -> bool:
        """Whether requests travel over TLS."""
        return not (self.endpoint or "").startswith("http://")

    @property
    def foreign(self) -> bool:
        """Whether the server is not Amazon's, so that it may know less of the protocol."""
        return self.endpoint is not None and not (urlsplit(self.endpoint).hostname or "").endswith(".amazonaws.com")

    def path(self, key: str) -> str:
        """The name of an object in the bucket, or the beginning of several."""
        return path_below(self.prefix, key)

    def key(self, path: str) -> str:
        """What `path` was made of."""
        return key_below(self.prefix, path)

    def without_secrets(self, text: str) -> str:
        """Foreign words, fit to be shown."""
        for secret in (self.secret_key, self.access_key):
            text = text.replace(secret, "…") if secret else text
        return text

    def keys_at_hand(self) -> Keys | None:
        """
        The credentials of the address, else those of the environment if that has whole ones which never expire; None to ask boto3.

        Loading boto3 takes 0.2 s. The environment goes before all but a profile that somebody names, as it does there.
        """
        if self.access_key and self.secret_key:
            return Keys(self.access_key, self.secret_key, None)
        said = {name: os.environ.get(name, "") for name in (*_KEY_VARIABLES, *_TOKEN_VARIABLES, *_LEFT_TO_BOTO3)}
        if self.profile or not all(said[name] for name in _KEY_VARIABLES) or any(said[name] for name in _LEFT_TO_BOTO3):
            return None
        token = next((said[name] for name in _TOKEN_VARIABLES if said[name]), None)
        access, secret = (said[name] for name in _KEY_VARIABLES)
        return Keys(access, secret, token)

    def session(self) -> Any:
        """
        A boto3 session with the location's credentials.

        :raises UsageError: if there is no such profile
        """
        import boto3
        from botocore.exceptions import ProfileNotFound

        try:
            return boto3.Session(
                aws_access_key_id=self.access_key,
                aws_secret_access_key=self.secret_key,
                profile_name=self.profile,
                region_name=self.region or os.environ.get("AWS_REGION"),
            )
        except ProfileNotFound:
            raise UsageError(
                f"there is no profile {self.profile} for the bucket {self.bucket}",
                "look into ~/.aws/config, or at AWS_CONFIG_FILE",
            ) from None


class Credentials:
    """Gives obstore the credentials of a location, and new ones before they expire; nothing is looked for before the first call."""

    def __init__(self, location: S3Location) -> None:
        self._location = location
        self._lock = threading.Lock()
        self._found: Any = None

    def __call__(self) -> dict[str, Any]:
        """
        Whole credentials: parts of others, such as a session token of the environment, are never mixed into them.

        :raises Refused: if there are none
        """
        frozen = self._frozen()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + _CREDENTIALS_GOOD_FOR,
        }

    def _frozen(self) -> Any:
        with self._lock:
            self._found = self._found or self._location.keys_at_hand() or self._location.session().get_credentials()
        if isinstance(self._found, Keys):
            return self._found
        if self._found is None:
            raise Refused(
                f"there are no credentials for {self._location.url}", "set AWS_ACCESS_KEY_ID …, or name a profile"
            )
        return self._found.get_frozen_credentials()


def s3_location(url: str) -> S3Location:
    """
    The location of an address ``s3://[ACCESS:SECRET@]bucket[/prefix][?option=value&…]``.

    :raises UsageError: if it is wrong; the message shows no credentials
    """
    address = _FORM.taken_apart(url)
    access, colon, secret = (address.credentials or "").partition(":")
    if address.credentials is not None and not (access and colon and secret):
        raise _FORM.broken()
    options = address.options
    return S3Location(
        address.place,
        address.path,
        endpoint=options.get("endpoint") or _endpoint_of_environment(),
        region=options.get("region"),
        access_key=unquote(access) or None,
        secret_key=unquote(secret) or None,
        profile=options.get("profile"),
        lock=address.one_of("lock", get_args(LockMode)),
        sse=address.one_of("sse", get_args(Encryption)),
        kms_key=options.get("kms_key"),
        insecure=address.one_of("insecure", ("true", "false")) == "true",
    )


def _endpoint_of_environment() -> str | None:
    """The endpoint that Amazon's own tools would take, so that both of our clients take the same."""
    return next((os.environ[name] for name in _ENDPOINT_VARIABLES if os.environ.get(name)), None)
