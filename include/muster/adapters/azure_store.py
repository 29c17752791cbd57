"""A container of Azure Blob Storage as a blob store: its blobs, and what keeps them from being removed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import Any

from muster.adapters.azure_client import AzureClient
from muster.adapters.azure_location import AzureLocation
from muster.adapters.blob_keys import key_below, path_below
from muster.adapters.bucket import Layer, Seen
from muster.adapters.bucket_proofs import SOONER, Attempt, lifted_by_nobody, transport
from muster.adapters.bucket_store import BucketStore
from muster.errors import Refused, StoreUnavailable
from muster.ports import BlobInfo, Guarantees, Lock, LockMode, Proof

_MODES: dict[LockMode, str] = {"governance": "Unlocked", "compliance": "Locked"}
_SHORTENED_MEND = "say lock=compliance in the address: whoever may set a policy in governance mode may shorten it"
_POLICY_HINT = (
    "docs/stores.md says how to make a container with version-level immutability, and which role its writer needs"
)


def azure_store(location: AzureLocation, retries: int = 5) -> BucketStore:
    """The store in a container; nothing is sent yet."""
    return BucketStore(AzureContainer(location), retries)


class AzureContainer:
    """A `muster.adapters.bucket.Bucket` of Azure Blob Storage. Locks are those of blob versions, not of the container."""

    def __init__(self, location: AzureLocation) -> None:
        self._location = location
        self._client = AzureClient(location)

    def __repr__(self) -> str:
        return f"AzureContainer({self.url!r})"

    @property
    def url(self) -> str:
        return self._location.url

    def create(self, key: str, data: bytes) -> None:
        from azure.core import MatchConditions

        scope = self._location.encryption_scope
        with self._client.creating(key):
            self._blob(key).upload_blob(
                data,
                overwrite=True,  # in the words of the client; the condition below is what forbids it, on the server
                match_condition=MatchConditions.IfMissing,
                max_concurrency=1,
                **({"encryption_scope": scope} if scope else {}),
            )

    def read(self, key: str) -> bytes:
        with self._client.translated(key):
            return self._downloaded(key)

    def read_range(self, key: str, start: int, length: int) -> bytes:
        from azure.core.exceptions import HttpResponseError

        with self._client.translated(key):
            try:
                return self._downloaded(key, offset=start, length=length)
            except HttpResponseError as error:
                if error.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:  # it begins behind the end
                    return b""
                raise

    def look(self, key: str, version: str | None = None) -> Seen:
        blob = self._loaded(key, version)
        return Seen(self._info(blob), _lock(blob))

    def walk(self, prefix: str) -> Iterator[BlobInfo]:
        for blob in self._listed(prefix):
            yield self._info(blob)

    def layers(self, prefix: str) -> Iterator[Layer]:
        """When a version was laid over the service does not say."""
        for blob in self._listed(prefix, include=["versions"]):
            yield Layer(
                key=self._key(blob),
                version=blob.version_id,
                live=blob.version_id is None or bool(blob.is_current_version),
                at=blob.last_modified,
                ended=None,
                sum=f"{bytes(blob.content_settings.content_md5 or b'').hex()} {blob.size}",
            )

    def read_layer(self, layer: Layer) -> bytes:
        with self._client.translated(layer.key):
            return self._downloaded(layer.key, version_id=layer.version)

    def remove_layer(self, layer: Layer) -> None:
        """The version of today is first made one of the past: the service deletes no other by its name."""
        if layer.live:
            self.hide(layer.key)
        if layer.version:
            with self._client.translated(layer.key):
                self._blob(layer.key).delete_blob(version_id=layer.version)

    def hide(self, key: str) -> None:
        with self._client.translated(key):
            self._blob(key).delete_blob()

    def retain(self, key: str, until: datetime) -> bool:
        lock = _lock(self._loaded(key))
        strict = "compliance" in (self._location.lock, lock.mode)
        if lock.until is not None and lock.until >= until and not (strict and lock.mode == "governance"):
            return False
        longest = max(until, lock.until or until)
        self._set_policy(key, "compliance" if strict else "governance", longest)
        if not strict:  # nothing forbids another, who saw the same, to set a sooner end after us
            self._confirm(key, longest)
        return True

    def hold(self, key: str, *, held: bool, version: str | None = None) -> None:
        with self._client.translated(key, hint=_POLICY_HINT):
            self._blob(key).set_legal_hold(held, version_id=version)

    def guarantees(self) -> Guarantees:
        """A container whose versions can be locked keeps versions; of others the service does not say."""
        locking = bool(self._settings().immutable_storage_with_versioning_enabled)
        return Guarantees(immutable=locking, conditional_put=True, versioned=locking)

    def attempts(self, key: str) -> Iterator[Attempt]:
        lock = self.look(key).lock
        if lock.until is not None and lock.mode is not None:
            shorten = partial(self._set_policy, key, lock.mode, lock.until - SOONER)
            yield Attempt("a retention cannot be shortened", shorten, _SHORTENED_MEND)
        yield Attempt("a locked object cannot be deleted", self.removal(key))

    def removal(self, key: str) -> Callable[[], None]:
        (layer,) = (layer for layer in self.layers(key) if layer.live and layer.key == key)
        return partial(self._remove_or_leave, layer)

    def settings(self) -> Iterator[Proof]:
        settings, server = self._settings(), self._location.server
        if settings.immutable_storage_with_versioning_enabled:
            yield lifted_by_nobody(self._location.lock, "the right to set immutability policies")
        yield transport(server)
        scope = self._location.encryption_scope
        yield Proof(
            "what is stored is encrypted",
            "kept",
            f"by Azure, {f'in scope {scope}' if scope else 'as its account says'}",
        )
        yield _public_access(settings.public_access)

    def _path(self, key: str) -> str:
        return path_below(self._location.prefix, key)

    def _blob(self, key: str) -> Any:
        return self._client.container.get_blob_client(self._path(key))

    def _listed(self, prefix: str, **more: Any) -> Iterator[Any]:
        with self._client.translated(prefix or "the container"):
            yield from self._client.container.list_blobs(name_starts_with=self._path(prefix), **more)

    def _loaded(self, key: str, version: str | None = None) -> Any:
        with self._client.translated(key):
            return self._blob(key).get_blob_properties(version_id=version)

    def _settings(self) -> Any:
        with self._client.translated("the container"):
            return self._client.container.get_container_properties()

    def _downloaded(self, key: str, **part: Any) -> bytes:
        return bytes(self._blob(key).download_blob(max_concurrency=1, **part).readall())

    def _set_policy(self, key: str, mode: LockMode, until: datetime) -> None:
        from azure.storage.blob import ImmutabilityPolicy

        with self._client.translated(key, hint=_POLICY_HINT):
            self._blob(key).set_immutability_policy(ImmutabilityPolicy(expiry_time=until, policy_mode=_MODES[mode]))

    def _confirm(self, key: str, until: datetime) -> None:
        lock = self.look(key).lock
        if lock.until is None or lock.until < until:
            raise StoreUnavailable(f"the retention of {key} in {self.url} was changed meanwhile", "try again")

    def _remove_or_leave(self, layer: Layer) -> None:
        """Remove a version of today; if that is refused, it is not left hidden."""
        data = self.read(layer.key)
        try:
            self.remove_layer(layer)
        except Refused:
            self.create(layer.key, data)
            raise

    def _key(self, blob: Any) -> str:
        return key_below(self._location.prefix, str(blob.name))

    def _info(self, blob: Any) -> BlobInfo:
        return BlobInfo(self._key(blob), int(blob.size), blob.creation_time.astimezone(UTC).replace(microsecond=0))


def _lock(blob: Any) -> Lock:
    """The lock of the version of today, from its properties."""
    until, mode = blob.immutability_policy.expiry_time, str(blob.immutability_policy.policy_mode or "")
    held = bool(blob.has_legal_hold)
    if until is None:
        return Lock(held=held)
    return Lock(until.astimezone(UTC), "compliance" if mode.lower() == "locked" else "governance", held)


def _public_access(access: str | None) -> Proof:
    guarantee = "nobody without credentials can read"
    if not access:
        return Proof(guarantee, "kept", "the container gives no public access")
    return Proof(
        guarantee,
        "broken",
        f"the container gives public access to each {access}",
        "az storage container set-permission --public-access off, and forbid public access for the account",
    )
