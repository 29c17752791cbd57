"""Artifacts in Google Cloud Storage."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from muster.adapters.addresses import for_artifacts
from muster.adapters.gcs_client import ONCE, GcsClient
from muster.adapters.gcs_location import GCS_FORM, GOOGLE, GcsLocation, gcs_location
from muster.adapters.mlflow_artifacts import Artifact
from muster.adapters.mlflow_buckets import PART_BYTES, Body, changed, source_errors
from muster.adapters.mlflow_locations import Place

EMULATOR = "STORAGE_EMULATOR_HOST"
"""The variable by which Google's own client, which MLflow uses, is sent elsewhere, without credentials."""
_TRY_AGAIN_FOR_S = 15.0
_IN_ONE_REQUEST = 8 << 20
"""Up to so many bytes the client itself sends in one."""
_TYPE = "application/octet-stream"


def gcs_access(artifact_root: str) -> GcsLocation:
    """
    How the bucket of ``gs://[KEY@]bucket[/prefix][?endpoint=URL]`` is reached; what the address does not say is found as MLflow finds it.

    :raises UsageError: if the address is wrong
    """
    location = gcs_location(for_artifacts(artifact_root, GCS_FORM))
    if location.key or location.anonymous or location.endpoint != GOOGLE:
        return location
    return gcs_found(location.bucket)


def gcs_found(bucket: str) -> GcsLocation:
    """How Google's own client would reach a bucket from here."""
    emulator = os.environ.get(EMULATOR)
    return GcsLocation(bucket, endpoint=(emulator or GOOGLE).rstrip("/"), anonymous=bool(emulator))


def gcs_environment(location: GcsLocation, scratch: Path) -> dict[str, str]:
    """
    The same, as environment variables for a server of ours.

    :param scratch: a folder that only we may read, for a key: Google's client takes it from a file alone
    """
    if location.anonymous:
        return {EMULATOR: location.endpoint}
    named = {EMULATOR: ""}  # else one of our own environment would win
    if location.endpoint != GOOGLE:
        named["API_ENDPOINT_OVERRIDE"] = location.endpoint
    if location.key is not None:
        file = scratch / "service-account.json"
        file.touch(mode=0o600)
        file.write_text(location.key)
        named["GOOGLE_APPLICATION_CREDENTIALS"] = str(file)
    return named


class GcsObjects:
    """The objects below a root. The version of an object is its generation."""

    def __init__(self, place: Place, access: GcsLocation) -> None:
        self.location = place.location
        bucket, self._prefix = place.in_bucket
        self._client = GcsClient(replace(access, bucket=bucket))

    def list(self) -> Iterator[Artifact]:
        fields = "items(name,size,generation,timeCreated),nextPageToken"
        for blob in self._client.bucket.list_blobs(prefix=self._prefix, fields=fields, **_patiently()):
            # Of its creation: that of its last update is another one when only its metadata are.
            written = int(blob.time_created.timestamp() * 1_000_000) * 1000
            yield Artifact(blob.name[len(self._prefix) :], int(blob.size), written, version=str(blob.generation))

    def open(self, artifact: Artifact) -> Body:
        body: Body = self._blob(artifact.path).open(
            "rb", if_generation_match=int(artifact.version), raw_download=True, **_patiently()
        )
        return body

    def put(self, path: str, file: Path, *, create: bool) -> None:
        if create and file.stat().st_size > _IN_ONE_REQUEST:
            self._create_large(path, file)
        else:
            how = {**ONCE, "if_generation_match": 0} if create else _patiently()
            self._blob(path).upload_from_filename(str(file), content_type=_TYPE, **how)

    def _create_large(self, path: str, file: Path) -> None:
        """In one request, unlike what the client would send: of several it is not documented at which the precondition counts."""
        params = {"uploadType": "media", "name": self._prefix + path, "ifGenerationMatch": "0"}
        with file.open("rb") as data:
            self._client.upload(params, data, _TYPE)

    def remove(self, path: str) -> None:
        from google.api_core.exceptions import NotFound

        try:
            self._blob(path).delete(**_patiently())
        except NotFound:
            return

    @contextmanager
    def errors(self, path: str = "") -> Iterator[None]:
        from google.api_core.exceptions import PreconditionFailed

        with source_errors(self.location, path), self._client.translated(path or "the listing"):
            try:
                yield
            except PreconditionFailed:
                raise changed(f"{self.location}/{path}") from None

    def _blob(self, path: str) -> Any:
        return self._client.bucket.blob(self._prefix + path, chunk_size=PART_BYTES)


def _patiently() -> dict[str, Any]:
    """What a call is told that may be made again."""
    from google.cloud.storage.retry import DEFAULT_RETRY

    return {**ONCE, "retry": DEFAULT_RETRY.with_timeout(_TRY_AGAIN_FOR_S)}
