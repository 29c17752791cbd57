"""The client of Google Cloud Storage: who we are there, how a request is sent, and what its refusal means."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from http import HTTPStatus
from typing import Any, BinaryIO

from muster.adapters.bulk import REQUESTS_AT_ONCE
from muster.adapters.gcs_location import GcsLocation
from muster.errors import MusterError, NotFound, Refused, StoreUnavailable, UsageError

ONCE: dict[str, Any] = {"retry": None, "timeout": (20, 120)}
"""What every call of Google's client is told: to try once, and how many seconds to wait for a connection and for an answer."""

_SCOPE = "https://www.googleapis.com/auth/devstorage.full_control"
_DETAIL = 300
_CREDENTIALS_HINT = "look at the credentials and at the policy of the bucket"
_TRANSIENT = {
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.CONFLICT,
    HTTPStatus.PRECONDITION_FAILED,  # of a create it is an answer, and is taken as one before it comes here
    HTTPStatus.TOO_MANY_REQUESTS,
}


class GcsClient:
    """
    Google's client for one bucket, made when it is first needed. Many threads use it at once.

    What it throws inside of `translated` comes out as an error of `muster.errors`.
    """

    def __init__(self, location: GcsLocation) -> None:
        self.location = location

    @cached_property
    def session(self) -> Any:
        """An HTTP session that signs."""
        from google.auth.transport.requests import AuthorizedSession
        from requests.adapters import HTTPAdapter

        session = AuthorizedSession(_credentials(self.location))
        session.mount(self.location.endpoint, HTTPAdapter(pool_maxsize=2 * REQUESTS_AT_ONCE))
        return session

    @cached_property
    def bucket(self) -> Any:
        """The bucket, of whose metadata nothing was loaded yet."""
        from google.cloud.storage import Client

        client = Client(
            project=None,
            credentials=self.session.credentials,
            client_options={"api_endpoint": self.location.endpoint},
            _http=self.session,
        )
        # It would ask for the bucket's metadata behind our back, for traces that nobody records.
        client._bucket_metadata_cache = None
        return client.bucket(self.location.bucket)

    def loaded(self) -> Any:
        """The bucket with its metadata as they are now."""
        with self.translated("the bucket"):
            bucket = self.bucket.client.bucket(self.location.bucket)
            bucket.reload(**ONCE)
            return bucket

    def upload(self, params: dict[str, str], body: bytes | BinaryIO, content_type: str) -> None:
        """Send an object in one request. What Google's own methods would throw is thrown here."""
        from google.api_core.exceptions import from_http_response

        answer = self.session.post(
            f"{self.location.endpoint}/upload/storage/v1/b/{self.location.bucket}/o",
            params=params,
            data=body,
            headers={"Content-Type": content_type},
            timeout=ONCE["timeout"],
        )
        if answer.status_code != HTTPStatus.OK:
            raise from_http_response(answer)

    @contextmanager
    def translated(self, key: str, *, hint: str = _CREDENTIALS_HINT) -> Iterator[None]:
        """
        :param key: what the messages speak of
        :param hint: of a refusal
        """
        from google.api_core.exceptions import GoogleAPIError
        from google.auth.exceptions import GoogleAuthError
        from google.cloud.storage.exceptions import DataCorruption
        from urllib3.exceptions import HTTPError

        try:
            yield
        except (GoogleAPIError, GoogleAuthError, DataCorruption, HTTPError, OSError) as error:
            # From None: the causes repeat the answer of the server, which may quote credentials.
            raise self._error(error, key, hint) from None

    def _error(self, error: Exception, key: str, hint: str) -> MusterError:
        url = self.location.url
        status = getattr(error, "code", None)
        detail = str(getattr(error, "message", None) or error).partition("\n")[0][:_DETAIL]
        if status == HTTPStatus.NOT_FOUND and "bucket does not exist" in detail:
            return NotFound(f"there is no bucket {self.location.bucket} at {url}", "make it, or mend the address")
        if status == HTTPStatus.NOT_FOUND:
            return NotFound(f"there is no {key} in {url}", "look at the address of the vault, then list what it holds")
        if _refuses(error, status):
            return Refused(f"{url} refuses {key}: {detail}", hint)
        return StoreUnavailable(
            f"{url} did not answer for {key}: {detail}", "look at server and network, then try again"
        )


def _refuses(error: Exception, status: int | None) -> bool:
    """Whether trying again cannot help."""
    from google.auth.exceptions import GoogleAuthError, TransportError

    if isinstance(error, GoogleAuthError):
        return not (isinstance(error, TransportError) or error.retryable)
    return status is not None and 400 <= status < 500 and status not in _TRANSIENT


def _credentials(location: GcsLocation) -> Any:
    """Whom the location names; else Google's own default chain."""
    import google.auth
    from google.auth.credentials import AnonymousCredentials
    from google.oauth2.service_account import Credentials

    if location.anonymous:
        return AnonymousCredentials()
    if location.key is None:
        return google.auth.default(scopes=[_SCOPE])[0]
    try:
        return Credentials.from_service_account_info(json.loads(location.key), scopes=[_SCOPE])
    except ValueError:
        raise UsageError(
            f"the key in the address of {location.url} is no service account's",
            "take the JSON text of the key, percent-encoded, or leave it out to use the credentials of the environment",
        ) from None
