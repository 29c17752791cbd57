"""What is asked of a bucket beside its objects: locks, versions, settings. By boto3, since obstore knows nothing of them."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from muster.adapters.bulk import REQUESTS_AT_ONCE
from muster.adapters.s3_location import S3Location
from muster.errors import AlreadyExists, MusterError, NotFound, Refused, StoreUnavailable
from muster.ports import LockMode

NO_LOCK = frozenset({"ObjectLockConfigurationNotFoundError", "NoSuchObjectLockConfiguration"})
"""Codes by which servers say that a bucket or an object has no lock."""
UNKNOWN = frozenset({"NotImplemented", "MethodNotAllowed"})
"""Codes by which servers say that they do not know what they were asked for."""

_HTTP_MISSING, _HTTP_TAKEN, _HTTP_TOO_MANY, _HTTP_SERVER = 404, 412, 429, 500
_DETAIL = 300


@dataclass(frozen=True, slots=True)
class BucketFacts:
    """
    How a bucket is set up.

    :param versioning: whether it keeps what is replaced or deleted (``Enabled``), or did so once (``Suspended``), or never
    :param lockable: it has Object Lock
    :param default_lock: mode of its default retention, or None
    """

    versioning: Literal["Enabled", "Suspended"] | None
    lockable: bool
    default_lock: LockMode | None


class S3Admin:
    """
    One bucket's administration. May be used from several threads; nothing is sent before the first question.

    Requests are tried again by botocore, and nowhere else.
    """

    def __init__(self, location: S3Location) -> None:
        self.location = location
        self._lock = threading.RLock()
        self._client: Any = None
        self._facts: BucketFacts | None = None

    def facts(self) -> BucketFacts:
        """
        How the bucket is set up; asked once.

        :raises Refused: if our rights do not let us see it
        """
        with self._lock:
            if self._facts is None:
                self._facts = self._asked_facts()
            return self._facts

    def ask(self, operation: str, about: str, *, none: Collection[str] = (), **parameters: Any) -> Any:
        """
        Send a request about the bucket, of an operation as boto3 spells it, and return its answer.

        :param about: what it is about, for messages: a key or a setting
        :param none: codes of refusals that are an answer: None is returned then
        :raises NotFound: if the bucket, the object or the version is not there
        :raises AlreadyExists: if a condition was not met
        :raises Refused: if the server refuses it for any other reason
        :raises StoreUnavailable: if the server did not answer
        """
        from botocore.exceptions import ClientError

        with self._translated(about):
            try:
                return getattr(self._connected(), operation)(Bucket=self.location.bucket, **parameters)
            except ClientError as error:
                if error.response["Error"].get("Code") in none:
                    return None
                raise

    def body(self, about: str, answer: Any) -> bytes:
        """The bytes of the object that an answer brings. Errors as in `ask`."""
        with self._translated(about):
            return bytes(answer["Body"].read())

    def pages(self, operation: str, about: str, **parameters: Any) -> Iterator[Any]:
        """All answers to a question that is answered in pages. Errors as in `ask`."""
        with self._translated(about):
            yield from self._connected().get_paginator(operation).paginate(Bucket=self.location.bucket, **parameters)

    def unsigned(self) -> S3Admin:
        """The same bucket, asked by nobody."""
        from botocore import UNSIGNED

        stranger = S3Admin(self.location)
        stranger._client = _client(self.location, signature_version=UNSIGNED)
        return stranger

    def encryption(self) -> dict[str, str]:
        """What a request that writes an object says of encryption."""
        asked = {"ServerSideEncryption": self.location.sse, "SSEKMSKeyId": self.location.kms_key}
        return {name: value for name, value in asked.items() if value}

    def _asked_facts(self) -> BucketFacts:
        versioning = self.ask("get_bucket_versioning", "the versioning of the bucket", none=UNKNOWN) or {}
        nothing = NO_LOCK | UNKNOWN
        lock = self.ask("get_object_lock_configuration", "the Object Lock of the bucket", none=nothing) or {}
        settings = lock.get("ObjectLockConfiguration", {})
        mode = settings.get("Rule", {}).get("DefaultRetention", {}).get("Mode", "").lower()
        return BucketFacts(
            versioning=versioning.get("Status"),
            lockable=settings.get("ObjectLockEnabled") == "Enabled",
            default_lock=mode or None,
        )

    def _connected(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = _client(self.location)
            return self._client

    @contextmanager
    def _translated(self, about: str) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        url = self.location.url
        try:
            yield
        except ClientError as error:
            # From None: the causes repeat the answer of the server, which may quote credentials.
            raise self._refusal(error.response, about) from None
        except NoCredentialsError:
            raise Refused(f"there are no credentials for {url}", "set AWS_ACCESS_KEY_ID …, or name a profile") from None
        except (BotoCoreError, OSError) as error:
            detail = self._shown(str(error))
            raise StoreUnavailable(
                f"{url} did not answer for {about}: {detail}", "look at server and network, then try again"
            ) from None

    def _refusal(self, response: dict[str, Any], about: str) -> MusterError:
        url, code = self.location.url, str(response["Error"].get("Code"))
        status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        answer = self._shown(f"{code} {response['Error'].get('Message') or ''}".strip())
        if code == "NoSuchBucket":
            return NotFound(
                f"there is no bucket {self.location.bucket} at {url}", "make it, or mend the address of the vault"
            )
        hidden = response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("x-amz-delete-marker") == "true"
        if status == _HTTP_MISSING or hidden:
            return NotFound(
                f"there is no {about} in {url}", "look at the address of the vault, then list what it holds"
            )
        if status == _HTTP_TAKEN:
            return AlreadyExists(f"{about} is already in {url}", "nothing is ever overwritten")
        busy = status == _HTTP_TOO_MANY or code == "OperationAborted"
        if busy or (status >= _HTTP_SERVER and code not in UNKNOWN):
            return StoreUnavailable(f"{url} did not answer for {about}: {answer}", "try again later")
        return Refused(f"{url} refuses {about}: {answer}", "look at the credentials and at the policy of the bucket")

    def _shown(self, text: str) -> str:
        return self.location.without_secrets(text.partition("\n")[0][:_DETAIL])


def _client(location: S3Location, **config: Any) -> Any:
    from botocore.config import Config

    return location.session().client(
        "s3",
        endpoint_url=location.endpoint,
        region_name=location.region or ("us-east-1" if location.endpoint else None),
        config=Config(
            retries={"total_max_attempts": location.retries + 1, "mode": "standard"},
            connect_timeout=10,
            read_timeout=60,
            max_pool_connections=REQUESTS_AT_ONCE,
            s3={"addressing_style": "path" if location.endpoint else "auto"},
            # Older servers do not know the checksums that newer clients send with everything.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            ignore_configured_endpoint_urls=True,
            **config,
        ),
    )
