"""The client of Azure Blob Storage: who we are there, how a request is sent, and what its refusal means."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from http import HTTPStatus
from typing import Any

from muster.adapters.azure_location import AzureLocation
from muster.adapters.bulk import REQUESTS_AT_ONCE
from muster.errors import AlreadyExists, MusterError, NotFound, Refused, StoreUnavailable

_DETAIL = 300
_CONNECT_S, _ANSWER_S = 20, 120
_CREDENTIALS_HINT = "look at the credentials, at the roles of the account, and at its network rules"
# The service stores up to 5,000 MiB by one Put Blob, and gives back any length by one Get Blob.
_ONE_REQUEST = 5000 * 1024 * 1024
_TAKEN = {"BlobAlreadyExists", "ConditionNotMet", "BlobImmutableDueToPolicy"}
_TRANSIENT = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}


class AzureClient:
    """
    Azure's client for one container, made when it is first needed. Many threads use it at once.

    What it throws inside of `translated` comes out as an error of `muster.errors`.

    :param one_request: bytes that go or come in one request, all of them in memory; a vault's object does as a whole
    :param retries: how often a request without an answer is sent again
    """

    def __init__(self, location: AzureLocation, *, one_request: int = _ONE_REQUEST, retries: int = 0) -> None:
        self.location = location
        self._one_request, self._retries = one_request, retries

    @cached_property
    def container(self) -> Any:
        """The container."""
        import requests
        from azure.core.pipeline.transport import RequestsTransport
        from azure.storage.blob import ContainerClient, ExponentialRetry
        from requests.adapters import HTTPAdapter

        session = requests.Session()
        session.mount(self.location.server, HTTPAdapter(pool_maxsize=2 * REQUESTS_AT_ONCE))
        return ContainerClient(
            self.location.server,
            self.location.container,
            credential=_credential(self.location),
            transport=RequestsTransport(session=session, session_owner=False),
            retry_policy=ExponentialRetry(
                initial_backoff=1, increment_base=2, random_jitter_range=1, retry_total=self._retries
            ),
            connection_timeout=_CONNECT_S,
            read_timeout=_ANSWER_S,
            max_single_put_size=self._one_request,
            max_block_size=self._one_request,
            max_single_get_size=self._one_request,
            max_chunk_get_size=self._one_request,
        )

    @contextmanager
    def translated(self, key: str, *, hint: str = _CREDENTIALS_HINT) -> Iterator[None]:
        """
        :param key: what the messages speak of
        :param hint: of a refusal
        """
        from azure.core.exceptions import AzureError

        try:
            yield
        except (AzureError, OSError) as error:
            # From None: the causes repeat the answer of the server, which may quote credentials.
            raise self._error(error, key, hint) from None

    @contextmanager
    def creating(self, key: str) -> Iterator[None]:
        """
        Around a request that demands that there is no such blob.

        :raises AlreadyExists: if the server says that there is one
        """
        from azure.core.exceptions import HttpResponseError

        with self.translated(key):
            try:
                yield
            except HttpResponseError as error:
                if _code(error) in _TAKEN:
                    raise AlreadyExists(
                        f"{key} is already in {self.location.url}", "nothing is ever overwritten"
                    ) from None
                raise

    def _error(self, error: Exception, key: str, hint: str) -> MusterError:
        url, code = self.location.url, _code(error)
        status = getattr(error, "status_code", None)
        detail = ": ".join(filter(None, [code, str(getattr(error, "message", error)).partition("\n")[0]]))[:_DETAIL]
        if code == "ContainerNotFound":
            return NotFound(f"there is no container {self.location.container} at {url}", "make it, or mend the address")
        if status == HTTPStatus.NOT_FOUND:
            return NotFound(f"there is no {key} in {url}", "look at the address of the vault, then list what it holds")
        if _refuses(error, status):
            return Refused(f"{url} refuses {key}: {detail}", hint)
        return StoreUnavailable(
            f"{url} did not answer for {key}: {detail}", "look at server and network, then try again"
        )


def _code(error: Exception) -> str:
    """What the service calls this error; empty if it gave no name."""
    code = getattr(error, "error_code", None)
    return str(getattr(code, "value", code) or "")


def _refuses(error: Exception, status: int | None) -> bool:
    """Whether trying again cannot help. Without a status no request was sent, since no credentials were found."""
    from azure.core.exceptions import ClientAuthenticationError

    if status is None:
        return isinstance(error, ClientAuthenticationError)
    return 400 <= status < 500 and status not in _TRANSIENT


def _credential(location: AzureLocation) -> Any:
    """Whom the location names; else Azure's own default chain."""
    from azure.core.credentials import AzureNamedKeyCredential
    from azure.identity import DefaultAzureCredential

    if location.key is None:
        return DefaultAzureCredential()
    return AzureNamedKeyCredential(location.account, location.key)
