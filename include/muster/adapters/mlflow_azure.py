"""Artifacts in Azure Blob Storage."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

from muster.adapters.addresses import for_artifacts
from muster.adapters.azure_client import AzureClient
from muster.adapters.azure_location import AZURE_FORM, AzureLocation, azure_location
from muster.adapters.mlflow_artifacts import Artifact
from muster.adapters.mlflow_buckets import PART_BYTES, RETRIES, Body, changed, source_errors
from muster.adapters.mlflow_locations import AZURE_CLOUD, WASBS, Place
from muster.errors import UsageError

CONNECTION, KEY = "AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_ACCESS_KEY"
"""The variables that MLflow reads, in this order."""


def azure_access(artifact_root: str) -> AzureLocation:
    """
    How the container of ``azure://[KEY@]account/container[/prefix][?endpoint=URL]`` is reached, or of a root as MLflow writes it; what
    the address does not say is found as MLflow finds it.

    :raises UsageError: if the address, or a connection string in the environment, is wrong
    """
    if artifact_root.startswith("wasbs://"):
        if "?" in artifact_root:
            raise UsageError("an artifact root that begins with wasbs:// has no options", f"use {AZURE_FORM}")
        return azure_found(artifact_root.removeprefix("wasbs://"))
    location = azure_location(for_artifacts(artifact_root, AZURE_FORM, segments=1))
    if location.key is not None:
        return location
    found = azure_found(f"{location.container}@{location.account}.{AZURE_CLOUD}")
    endpoint = location.endpoint or found.endpoint
    return AzureLocation(
        found.account, location.container, endpoint=endpoint, key=found.key, insecure=location.insecure
    )


def azure_found(path: str) -> AzureLocation:
    """
    How MLflow would reach a container from here.

    :param path: of a place: ``container@account.blob.core.windows.net/prefix``
    :raises UsageError: if the connection string of the environment has no key of an account
    """
    container, account, domain = WASBS.match(path).group("container", "account", "domain")  # type: ignore[union-attr]
    if said := os.environ.get(CONNECTION):
        named = {k.upper(): v for k, _, v in (part.partition("=") for part in said.split(";"))}
        if not (named.get("ACCOUNTNAME") and named.get("ACCOUNTKEY")):
            raise UsageError(
                f"{CONNECTION} has no AccountName and AccountKey",
                f"give a connection string with them, {KEY}, or an artifact root azure://KEY@account/container",
            )
        account, suffix = named["ACCOUNTNAME"], named.get("ENDPOINTSUFFIX", "core.windows.net")
        made = f"{named.get('DEFAULTENDPOINTSPROTOCOL', 'https')}://{account}.blob.{suffix}"
        endpoint = named.get("BLOBENDPOINT", made).rstrip("/")
        return AzureLocation(account, container, endpoint=endpoint, key=named["ACCOUNTKEY"])
    elsewhere = None if domain == AZURE_CLOUD else f"https://{account}.{domain}"
    return AzureLocation(account, container, endpoint=elsewhere, key=os.environ.get(KEY))


def azure_environment(location: AzureLocation) -> dict[str, str]:
    """
    The same, as environment variables for a server of ours.

    :raises UsageError: if MLflow cannot be told: without a key it reaches Azure itself alone
    """
    if location.key is not None:
        parts = {
            "AccountName": location.account,
            "AccountKey": location.key,
            "BlobEndpoint": location.server,
        }
        return {CONNECTION: ";".join(f"{name}={value}" for name, value in parts.items())}
    if re.fullmatch(rf"https://{location.account}\.blob\.core\.[a-z.]+", location.server):
        return {}
    raise UsageError(
        f"MLflow reaches {location.url} only with the key of its account",
        "use azure://KEY@account/container?endpoint=…",
    )


class AzureObjects:
    """The blobs below a root. The version of a blob is its ETag."""

    def __init__(self, place: Place, access: AzureLocation) -> None:
        self.location = place.location
        _, self._prefix = place.in_bucket
        self._client = AzureClient(access, one_request=PART_BYTES, retries=RETRIES)

    def list(self) -> Iterator[Artifact]:
        """Without the blobs that stand for folders, where a container has a hierarchy of them."""
        for blob in self._client.container.list_blobs(name_starts_with=self._prefix or None, include=["metadata"]):
            if (blob.metadata or {}).get("hdi_isfolder", "").lower() != "true":
                written = int(blob.last_modified.timestamp() * 1_000_000_000)
                yield Artifact(blob.name[len(self._prefix) :], int(blob.size), written, version=str(blob.etag))

    def open(self, artifact: Artifact) -> Body:
        from azure.core import MatchConditions

        blob = self._client.container.get_blob_client(self._prefix + artifact.path)
        return _Download(
            blob.download_blob(etag=artifact.version, match_condition=MatchConditions.IfNotModified, max_concurrency=1)
        )

    def put(self, path: str, file: Path, *, create: bool) -> None:
        from azure.core import MatchConditions

        condition = {"match_condition": MatchConditions.IfMissing} if create else {}
        with file.open("rb") as data:
            self._client.container.get_blob_client(self._prefix + path).upload_blob(
                data, length=file.stat().st_size, overwrite=True, max_concurrency=1, **condition
            )

    def remove(self, path: str) -> None:
        from azure.core.exceptions import ResourceNotFoundError

        try:
            self._client.container.delete_blob(self._prefix + path)
        except ResourceNotFoundError:
            return

    @contextmanager
    def errors(self, path: str = "") -> Iterator[None]:
        from azure.core.exceptions import HttpResponseError

        with source_errors(self.location, path), self._client.translated(path or "the listing"):
            try:
                yield
            except HttpResponseError as error:
                if error.status_code == HTTPStatus.PRECONDITION_FAILED or error.error_code == "BlobAlreadyExists":
                    raise changed(f"{self.location}/{path}") from None
                raise


class _Download:
    """A blob being read: Azure's own stream has no `close`."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def read(self, size: int, /) -> bytes:
        return bytes(self._stream.read(size))

    def close(self) -> None:
        self._stream = None
