"""What all buckets that are reached through their cloud's own client have in common: retries, ranges, bulk, the guard of locks."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial

from muster.adapters.blob_keys import check_range, checked_key, is_key
from muster.adapters.bucket import Bucket, Layer
from muster.adapters.bucket_proofs import proofs
from muster.adapters.bucket_versions import BucketVersions, layers_of, proof_of_uncovering
from muster.adapters.bulk import in_bulk
from muster.adapters.retries import created, tried
from muster.errors import NotFound, Refused, StoreUnavailable, UsageError
from muster.ports import PROBES, BlobInfo, Guarantees, Lock, Proof


class BucketStore:
    """
    A `muster.ports.BlobStore` over a `Bucket`.

    Every request is tried again here and nowhere else, since only the one who counts the attempts of a put can tell an object
    that was there before from its own, whose first answer was lost (docs/adr/0007-lost-answer-on-a-conditional-put.md).

    :param retries: how often a request without an answer is tried again
    """

    def __init__(self, bucket: Bucket, retries: int = 5) -> None:
        self._bucket = bucket
        self._retries = retries

    def __repr__(self) -> str:
        return f"BucketStore({self.url!r})"

    @property
    def url(self) -> str:
        return self._bucket.url

    def guarantees(self) -> Guarantees:
        """Create-only; locks and versions as the bucket is set up, which is asked once."""
        return self._set_up

    def locks(self) -> BucketLocks | None:
        """Its lock administration; None if the bucket is not set up for locks, which is asked once."""
        return BucketLocks(self._bucket, self._retries) if self._set_up.immutable else None

    def versions(self) -> BucketVersions | None:
        """What lies beneath the newest versions; None if the bucket keeps none."""
        return BucketVersions(self._bucket, self._retries, self.put) if self._set_up.versioned else None

    def prove(self) -> Iterator[Proof]:
        key = f"{PROBES}{secrets.token_hex(16)}"
        yield from proofs(self, self._bucket, key)
        yield proof_of_uncovering(self, self._bucket, f"{key}-hidden")

    def put(self, key: str, data: bytes | memoryview) -> None:
        checked_key(key)
        whole = bytes(data)
        created(lambda _: self._bucket.create(key, whole), lambda: self.get(key), whole, self._retries)

    def get(self, key: str) -> bytes:
        checked_key(key)
        return tried(lambda: self._bucket.read(key), self._retries)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        checked_key(key)
        if length > 0 and start >= 0:
            return tried(lambda: self._whole_range(key, start, length), self._retries)
        self._check_range(key, start, length)
        return b""

    def info(self, key: str) -> BlobInfo:
        checked_key(key)
        return tried(lambda: self._bucket.look(key), self._retries).info

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        found = tried(lambda: list(self._bucket.walk(prefix)), self._retries)
        return iter(sorted((info for info in found if is_key(info.key)), key=lambda info: info.key))

    def delete(self, key: str) -> None:
        """
        Remove an object with all its versions, the oldest first, if none of them is under a lock.

        The locks are looked at here too: a bucket that keeps versions lets a locked object be hidden, and only forbids its end.
        """
        layers = layers_of(self._bucket, checked_key(key), self._retries)
        if not layers:
            raise NotFound(
                f"there is no {key} in {self.url}", "look at the address of the vault, then list what it holds"
            )
        for layer in layers:
            self._refuse_locked(layer)
        for layer in layers:
            tried(partial(self._bucket.remove_layer, layer), self._retries)

    @cached_property
    def _set_up(self) -> Guarantees:
        return tried(self._bucket.guarantees, self._retries)

    def _refuse_locked(self, layer: Layer) -> None:
        key = layer.key
        lock = tried(lambda: self._bucket.look(key, None if layer.live else layer.version), self._retries).lock
        if lock.held:
            raise Refused(f"{key} in {self.url} is under a legal hold", "lift the hold first, if it may be lifted")
        if lock.until and lock.until > datetime.now(UTC):
            raise Refused(f"{key} in {self.url} is locked until {lock.until:%Y-%m-%d %H:%M:%S} UTC", "wait until then")

    def _whole_range(self, key: str, start: int, length: int) -> bytes:
        data = self._bucket.read_range(key, start, length)
        if len(data) != length:
            self._check_range(key, start, length)
            raise StoreUnavailable(f"{self.url} broke off within {key}", "look at server and network, then try again")
        return data

    def _check_range(self, key: str, start: int, length: int) -> None:
        check_range(self.url, key, self.info(key).size, start, length)


class BucketLocks:
    """The `muster.ports.Locks` of a bucket."""

    def __init__(self, bucket: Bucket, retries: int) -> None:
        self._bucket = bucket
        self._retries = retries

    def of(self, key: str) -> Lock:
        checked_key(key)
        return tried(lambda: self._bucket.look(key), self._retries).lock

    def extend(self, keys: Iterable[str], until: datetime) -> int:
        end = whole_second(until)
        return sum(in_bulk(lambda key: tried(lambda: self._bucket.retain(checked_key(key), end), self._retries), keys))

    def hold(self, keys: Iterable[str], *, held: bool) -> None:
        in_bulk(lambda key: self._hold(checked_key(key), held=held), keys)

    def _hold(self, key: str, *, held: bool) -> None:
        tried(lambda: self._bucket.hold(key, held=held), self._retries)
        if held:
            return
        # An uncovering may have written a held version anew: the one beneath it must not stay held for ever.
        for layer in layers_of(self._bucket, key, self._retries):
            if not layer.live:
                tried(partial(self._bucket.hold, key, held=False, version=layer.version), self._retries)


def whole_second(moment: datetime) -> datetime:
    """The moment, or the next whole second after it, in UTC: clouds keep the end of a retention to the second, and may cut the rest off."""
    if moment.tzinfo is None:
        raise UsageError(f"the end of a retention has no time zone: {moment.isoformat()}", "give it in UTC")
    whole = moment.astimezone(UTC).replace(microsecond=0)
    return whole + timedelta(seconds=1) if moment.microsecond else whole
