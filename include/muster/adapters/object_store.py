"""A bucket as a blob store: Amazon S3 and whatever speaks its protocol."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from muster.adapters.blob_keys import check_range, checked_key, is_key
from muster.adapters.bucket_proofs import proofs
from muster.adapters.retries import FIRST_PAUSE_S, LONGEST_PAUSE_S, created
from muster.adapters.s3_admin import S3Admin
from muster.adapters.s3_location import Credentials, S3Location
from muster.adapters.s3_locks import S3Locks
from muster.adapters.s3_proof import S3Trial
from muster.adapters.s3_versions import S3Versions
from muster.errors import AlreadyExists, MusterError, NotFound, Refused, StoreUnavailable, UsageError
from muster.ports import PROBES, BlobInfo, Guarantees, Proof

_LIST_PAGE = 1000
_DETAIL = 300
# A whole object of 64 MiB within this is 1.8 Mbit/s; a put that takes longer is taken for dead.
_REQUEST_TIMEOUT = timedelta(minutes=5)
_CREDENTIALS_HINT = "look at the credentials and at the policy of the bucket"


class S3Store:
    """
    A `muster.ports.BlobStore` in a bucket. Puts carry ``If-None-Match: *`` and are never sent in parts.

    Reads are tried again by obstore. Puts are tried again here, since only the one who counts the attempts can tell an object
    that was there before from its own, whose first answer was lost (docs/adr/0007-lost-answer-on-a-conditional-put.md).
    """

    def __init__(self, location: S3Location) -> None:
        self._location = location
        with self._translated(location.url):
            self._reads = _client(location, location.retries)
            self._puts = _client(location, 0)
        self._admin = S3Admin(location)
        self._versions = S3Versions(self._admin)

    def __repr__(self) -> str:
        return f"S3Store({self.url!r})"

    @property
    def url(self) -> str:
        return self._location.url

    def guarantees(self) -> Guarantees:
        """Create-only; locks and versions as the bucket is set up, which is asked once."""
        facts = self._admin.facts()
        return Guarantees(immutable=facts.lockable, conditional_put=True, versioned=facts.versioning == "Enabled")

    def locks(self) -> S3Locks | None:
        """Its retentions and holds; None if the bucket has no Object Lock."""
        return S3Locks(self._admin) if self._admin.facts().lockable else None

    def versions(self) -> S3Versions | None:
        """What lies beneath the newest versions; None if the bucket keeps none."""
        return self._versions if self._admin.facts().versioning else None

    def prove(self) -> Iterator[Proof]:
        """Every guarantee, tried with all the rights of our credentials; what must be locked for it is locked for a minute."""
        return proofs(self, S3Trial(self, self._admin), f"{PROBES}{secrets.token_hex(16)}")

    def put(self, key: str, data: bytes | memoryview) -> None:
        path = self._path(key)
        created(
            lambda again: self._put_once(key, path, data, again=again),
            lambda: self.get(key),
            data,
            self._location.retries,
        )

    def get(self, key: str) -> bytes:
        import obstore

        with self._translated(key):
            return bytes(obstore.get(self._reads, self._path(key)).bytes())

    def get_range(self, key: str, start: int, length: int) -> bytes:
        import obstore

        if length > 0 and start >= 0:
            try:
                with self._translated(key):
                    data = bytes(obstore.get_range(self._reads, self._path(key), start=start, length=length))
            except StoreUnavailable:  # a range that begins behind the end is answered by an error like any other
                self._check_range(key, start, length)
                raise
            if len(data) == length:
                return data
        self._check_range(key, start, length)
        if length:
            raise StoreUnavailable(f"{self.url} broke off within {key}", "look at server and network, then try again")
        return b""

    def info(self, key: str) -> BlobInfo:
        import obstore

        with self._translated(key):
            return self._info(key, obstore.head(self._reads, self._path(key)))

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        return iter(sorted(self._listed(prefix), key=lambda info: info.key))

    def delete(self, key: str) -> None:
        """Remove an object; in a bucket with versions, all that there is of it, since a delete marker would only hide it."""
        import obstore

        if versions := self.versions():
            versions.remove_all(checked_key(key))
            return
        self.info(key)  # a server answers the deletion of nothing with success
        with self._translated(key):
            obstore.delete(self._reads, self._path(key))

    def _path(self, key: str) -> str:
        return self._location.path(checked_key(key))

    def _put_once(self, key: str, path: str, data: bytes | memoryview, *, again: bool) -> None:
        import obstore

        with self._translated(key):
            version = obstore.put(self._puts, path, data, mode="create", use_multipart=False).get("version")
        if version and self._location.foreign:
            self._versions.settle(key, version, again=again)

    def _listed(self, prefix: str) -> Iterator[BlobInfo]:
        """Objects whose key begins with `prefix`; the server is asked for the whole segments of it."""
        import obstore

        above = self._location.path(prefix).rpartition("/")[0]
        with self._translated(prefix or "the bucket"):
            for page in obstore.list(self._reads, above or None, chunk_size=_LIST_PAGE):
                for meta in page:
                    key = self._location.key(meta["path"])
                    if key.startswith(prefix) and is_key(key):
                        yield self._info(key, meta)

    def _check_range(self, key: str, start: int, length: int) -> None:
        check_range(self.url, key, self.info(key).size, start, length)

    @staticmethod
    def _info(key: str, meta: Any) -> BlobInfo:
        # Whole seconds: some servers give milliseconds in a listing and none in the answer to HEAD.
        return BlobInfo(key, meta["size"], meta["last_modified"].replace(microsecond=0))

    @contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        except (BaseError, OSError, ValueError) as error:
            # From None: the causes repeat the answer of the server, which may quote credentials.
            raise self._error(error, key) from None

    def _error(self, error: Exception, key: str) -> MusterError:
        from obstore import exceptions as thrown

        detail = self._detail(error)
        if "NoSuchBucket" in str(error):
            return NotFound(f"there is no bucket {self._location.bucket} at {self.url}", "make it, or mend the address")
        if isinstance(error, FileNotFoundError):
            return NotFound(
                f"there is no {key} in {self.url}", "look at the address of the vault, then list what it holds"
            )
        if "409 Conflict" in str(error):  # two at once, and neither is told who won: not yet a refusal
            return StoreUnavailable(f"{self.url} was busy with another writer of {key}", "try again")
        if isinstance(error, thrown.AlreadyExistsError | thrown.PreconditionError):
            return AlreadyExists(f"{key} is already in {self.url}", "nothing is ever overwritten")
        forbidden = any(
            status in str(error) for status in ("401 Unauthorized", "403 Forbidden")
        )  # so a listing says it
        if forbidden or isinstance(error, thrown.PermissionDeniedError | thrown.UnauthenticatedError):
            return Refused(f"{self.url} refuses {key}: {detail}", _CREDENTIALS_HINT)
        if isinstance(error, thrown.UnknownConfigurationKeyError | thrown.InvalidPathError | thrown.NotSupportedError):
            return UsageError(f"{self.url} cannot be used for {key}: {detail}", "mend the address of the vault")
        return StoreUnavailable(
            f"{self.url} did not answer for {key}: {detail}", "look at server and network, then try again"
        )

    def _detail(self, error: Exception) -> str:
        """The first line of a foreign error, without credentials."""
        return self._location.without_secrets(str(error).partition("\n")[0][:_DETAIL])


def _client(location: S3Location, retries: int) -> Any:
    """An obstore client that takes nothing from the environment which the location says."""
    from obstore.store import S3Store as Client

    config: dict[str, Any] = {"region": location.region} if location.region else {}
    if location.access_key:
        config["skip_signature"] = False
    if location.endpoint:
        # Both names, since the second, when set in the environment, would win over the first.
        config |= {"endpoint": location.endpoint, "aws_endpoint_url_s3": location.endpoint}
    if location.sse:
        config["aws_server_side_encryption"] = location.sse
    if location.kms_key:
        config["aws_sse_kms_key_id"] = location.kms_key
    return Client(
        location.bucket,
        client_options={
            "allow_http": not location.encrypted,
            "timeout": _REQUEST_TIMEOUT,
        },
        retry_config={
            "max_retries": retries,
            "retry_timeout": _REQUEST_TIMEOUT,
            "backoff": {
                "init_backoff": timedelta(seconds=FIRST_PAUSE_S),
                "max_backoff": timedelta(seconds=LONGEST_PAUSE_S),
                "base": 2,
            },
        },
        credential_provider=Credentials(location),
        **config,
    )
