"""A bucket of Google Cloud Storage as a blob store: its objects, and what keeps them from being removed."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from muster.adapters.blob_keys import key_below, path_below
from muster.adapters.bucket import Layer, Seen
from muster.adapters.bucket_proofs import SOONER, Attempt, lifted_by_nobody
from muster.adapters.bucket_store import BucketStore
from muster.adapters.gcs_client import ONCE, GcsClient
from muster.adapters.gcs_location import GcsLocation
from muster.adapters.gcs_settings import allowed_by, proofs_of
from muster.errors import AlreadyExists, NotFound, Refused
from muster.ports import PROBES, BlobInfo, Guarantees, Lock, LockMode, Proof

_MODES: dict[str, LockMode] = {"Unlocked": "governance", "Locked": "compliance"}
_OVERRIDE_MEND = (
    "take storage.objects.overrideUnlockedRetention from these credentials, or say lock=compliance in the address"
)
_RETENTION_HINT = "docs/stores.md says how to make a bucket with object retention, and which rights its writer needs"


def gcs_store(location: GcsLocation, retries: int = 5) -> BucketStore:
    """The store in a bucket; nothing is sent yet."""
    return BucketStore(GcsBucket(location), retries)


class GcsBucket:
    """A `muster.adapters.bucket.Bucket` of Google Cloud Storage, through its JSON API."""

    def __init__(self, location: GcsLocation) -> None:
        self._location = location
        self._client = GcsClient(location)

    def __repr__(self) -> str:
        return f"GcsBucket({self.url!r})"

    @property
    def url(self) -> str:
        return self._location.url

    def create(self, key: str, data: bytes) -> None:
        from google.api_core.exceptions import PreconditionFailed

        with self._client.translated(key):
            try:
                self._upload(key, data, {"ifGenerationMatch": "0"})
            except PreconditionFailed:
                raise AlreadyExists(f"{key} is already in {self.url}", "nothing is ever overwritten") from None

    def read(self, key: str) -> bytes:
        with self._client.translated(key):
            return self._downloaded(key)

    def read_range(self, key: str, start: int, length: int) -> bytes:
        from google.api_core.exceptions import RequestRangeNotSatisfiable

        with self._client.translated(key):
            try:
                return self._downloaded(key, start=start, end=start + length - 1, checksum=None)
            except RequestRangeNotSatisfiable:  # it begins behind the end
                return b""

    def look(self, key: str, version: str | None = None) -> Seen:
        blob = self._loaded(key, version)
        return Seen(self._info(blob), self._lock(blob))

    def walk(self, prefix: str) -> Iterator[BlobInfo]:
        for blob in self._listed(prefix, "name,size,timeCreated"):
            yield self._info(blob)

    def layers(self, prefix: str) -> Iterator[Layer]:
        for blob in self._listed(prefix, "name,size,generation,timeCreated,timeDeleted,md5Hash,crc32c", versions=True):
            yield Layer(
                key=self._key(blob),
                version=str(blob.generation),
                live=blob.time_deleted is None,
                at=blob.time_created,
                ended=blob.time_deleted,
                sum=f"{blob.md5_hash} {blob.crc32c} {blob.size}",
            )

    def read_layer(self, layer: Layer) -> bytes:
        with self._client.translated(layer.key):
            return self._downloaded(layer.key, layer.version)

    def remove_layer(self, layer: Layer) -> None:
        with self._client.translated(layer.key):
            self._blob(layer.key, layer.version).delete(**ONCE)

    def hide(self, key: str) -> None:
        with self._client.translated(key):
            self._blob(key).delete(**ONCE)

    def retain(self, key: str, until: datetime) -> bool:
        blob = self._loaded(key)
        lock = self._lock(blob)
        strict = self._location.lock == "compliance"
        if lock.until is not None and lock.until >= until and not (strict and lock.mode == "governance"):
            return False
        own = blob.retention
        mode = "Locked" if strict or own.mode == "Locked" else "Unlocked"
        longest = max(until, own.retain_until_time or until)
        self._set_retention(blob, mode, longest, override=(own.mode, mode) == ("Unlocked", "Locked"))
        return True

    def hold(self, key: str, *, held: bool, version: str | None = None) -> None:
        with self._client.translated(key, hint=_RETENTION_HINT):
            blob = self._blob(key, version)
            blob.temporary_hold = held
            blob.patch(**ONCE)

    def guarantees(self) -> Guarantees:
        return allowed_by(self._client.loaded())

    def attempts(self, key: str) -> Iterator[Attempt]:
        blob, bucket = self._loaded(key), self._client.loaded()
        own = blob.retention
        if own.mode:  # else it is the bucket's own policy that keeps it
            sooner = own.retain_until_time - SOONER
            shorten = partial(self._set_retention, blob, own.mode, sooner)
            yield Attempt("a retention cannot be shortened", partial(shorten, override=False))
            yield Attempt(
                "a retention cannot be shortened by overriding it", partial(shorten, override=True), _OVERRIDE_MEND
            )
        if not bucket.versioning_enabled:
            yield Attempt("a locked object cannot be overwritten", lambda: self._overwrite(key))
        yield Attempt("a locked object cannot be deleted", self.removal(key))

    def removal(self, key: str) -> Callable[[], None]:
        (layer,) = (layer for layer in self.layers(key) if layer.live and layer.key == key)
        return partial(self.remove_layer, layer)

    def settings(self) -> Iterator[Proof]:
        bucket = self._client.loaded()
        if bucket.object_retention_mode == "Enabled":
            yield lifted_by_nobody(self._location.lock, "storage.objects.overrideUnlockedRetention")
        yield from proofs_of(bucket, self._location.endpoint, self._location.kms_key)
        yield self._public_access(bucket)

    def _path(self, key: str) -> str:
        return path_below(self._location.prefix, key)

    def _blob(self, key: str, version: str | None = None) -> Any:
        return self._client.bucket.blob(self._path(key), generation=int(version) if version else None)

    def _listed(self, prefix: str, fields: str, **more: Any) -> Iterator[Any]:
        with self._client.translated(prefix or "the bucket"):
            fields = f"items({fields}),nextPageToken"
            yield from self._client.bucket.list_blobs(prefix=self._path(prefix), fields=fields, **more, **ONCE)

    def _loaded(self, key: str, version: str | None = None) -> Any:
        with self._client.translated(key):
            blob = self._blob(key, version)
            blob.reload(**ONCE)
            return blob

    def _downloaded(self, key: str, version: str | None = None, **part: Any) -> bytes:
        blob = self._blob(key, version)
        return bytes(blob.download_as_bytes(raw_download=True, single_shot_download=True, **part, **ONCE))

    def _set_retention(self, blob: Any, mode: str, until: datetime, *, override: bool) -> None:
        """On the metadata as they were read: another's change between is an answer of 412, after which all is looked at anew."""
        blob.retention.mode = mode
        blob.retention.retain_until_time = until
        with self._client.translated(self._key(blob), hint=_RETENTION_HINT):
            blob.patch(
                if_metageneration_match=blob.metageneration, override_unlocked_retention=override or None, **ONCE
            )

    def _upload(self, key: str, data: bytes, conditions: dict[str, str]) -> None:
        """Sent whole, not as a resumable upload, of which it is not documented when the precondition is looked at."""
        params = {"uploadType": "multipart"} | conditions
        params |= {"kmsKeyName": self._location.kms_key} if self._location.kms_key else {}
        content_type, body = _multipart(self._path(key), data)
        self._client.upload(params, body, content_type)

    def _overwrite(self, key: str) -> None:
        with self._client.translated(key):
            self._upload(key, b"second", {})

    def _public_access(self, bucket: Any) -> Proof:
        """By its setting; where that prevents nothing, an object is asked for as somebody without credentials."""
        guarantee = "nobody without credentials can read"
        prevention = bucket.iam_configuration.public_access_prevention
        if prevention == "enforced":
            return Proof(guarantee, "kept", "public access prevention is enforced on the bucket")
        mend = f"gcloud storage buckets update gs://{bucket.name} --public-access-prevention"
        stranger = GcsBucket(replace(self._location, key=None, anonymous=True))
        key = f"{PROBES}{secrets.token_hex(16)}"
        self.create(key, b"first")
        try:
            stranger.read(key)
        except Refused:
            said = f"it was tried, and refused; but public access prevention of the bucket is {prevention or 'not set'}"
            return Proof(guarantee, "absent", said, mend)
        finally:
            with suppress(Refused, NotFound):  # the bucket's own policy keeps it; the next trial removes it
                self.removal(key)()
        return Proof(guarantee, "broken", "an object was read without any credentials", mend)

    def _key(self, blob: Any) -> str:
        return key_below(self._location.prefix, str(blob.name))

    def _info(self, blob: Any) -> BlobInfo:
        # Of its creation, since setting a retention changes when it was updated; whole seconds, as in the other stores.
        return BlobInfo(self._key(blob), int(blob.size), blob.time_created.astimezone(UTC).replace(microsecond=0))

    def _lock(self, blob: Any) -> Lock:
        """The longest of what retains it: its own retention, and the policy of its bucket, which may be lifted unless that is locked."""
        held = bool(blob.temporary_hold or blob.event_based_hold)
        own, policy = blob.retention.retain_until_time, blob.retention_expiration_time
        if own is not None and (policy is None or own >= policy):
            return Lock(own, _MODES.get(blob.retention.mode), held)
        if policy is None:
            return Lock(held=held)
        locked = self._client.loaded().retention_policy_locked
        return Lock(policy, "compliance" if locked else "governance", held)


def _multipart(path: str, data: bytes) -> tuple[str, bytes]:
    """
    Content type and body of an upload in one request, with a checksum that the server compares before anything comes to be.

    https://cloud.google.com/storage/docs/uploading-objects-from-memory (JSON API, ``uploadType=multipart``)
    """
    import google_crc32c

    crc32c = base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()
    boundary = secrets.token_hex(16)
    about = json.dumps({"name": path, "crc32c": crc32c, "contentType": "application/octet-stream"})
    head = f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{about}\r\n"
    part = f"--{boundary}\r\nContent-Type: application/octet-stream\r\n\r\n"
    return f"multipart/related; boundary={boundary}", b"".join(
        [head.encode(), part.encode(), data, f"\r\n--{boundary}--\r\n".encode()]
    )
