"""What a bucket that keeps versions has below the newest: what somebody has deleted, or laid another version over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import groupby

from muster.adapters.blob_keys import checked_key, is_key
from muster.adapters.bucket import Bucket, Layer
from muster.adapters.retries import tried
from muster.errors import MusterError, NotFound, Refused
from muster.ports import BlobStore, Hidden, Lock, Proof


class BucketVersions:
    """
    The `muster.ports.Versions` of a bucket.

    :param put: the create-only put of its store
    """

    def __init__(self, bucket: Bucket, retries: int, put: Callable[[str, bytes], None]) -> None:
        self._bucket, self._retries, self._put = bucket, retries, put

    def hidden(self, prefix: str = "") -> Iterator[Hidden]:
        found = sorted(tried(lambda: list(self._bucket.layers(prefix)), self._retries), key=_by_age)
        for key, group in groupby(found, key=lambda layer: layer.key):
            layers = list(group)
            oldest, newest, live = layers[0], layers[-1], _live(layers)
            if not is_key(key) or (live and live.sum == oldest.sum):
                continue
            if live:
                yield Hidden(key, "version", live.at)
            else:
                yield Hidden(key, "delete marker", newest.ended or newest.at)

    def uncover(self, key: str) -> None:
        """
        The oldest version is written anew, with the lock that it has, since no cloud turns an old version into the live one.

        What lies over it is deleted first, or, if whoever put it there has locked it, only laid beneath.
        """
        layers = layers_of(self._bucket, checked_key(key), self._retries)
        if not layers:
            raise NotFound(f"there is no version of {key} in {self._bucket.url}", "fetch the object from a replica")
        oldest, live = layers[0], _live(layers)
        if live and live.sum == oldest.sum:
            return
        data = tried(lambda: self._bucket.read_layer(oldest), self._retries)
        lock = tried(lambda: self._bucket.look(key, oldest.version), self._retries).lock
        if live:
            self._take_away(live)
        self._put(key, data)
        self._lock_as(key, lock)

    def _take_away(self, live: Layer) -> None:
        try:
            tried(lambda: self._bucket.remove_layer(live), self._retries)
        except Refused:
            with suppress(NotFound):  # some clouds hide it before they refuse the rest
                tried(lambda: self._bucket.hide(live.key), self._retries)

    def _lock_as(self, key: str, lock: Lock) -> None:
        if lock.held:
            tried(lambda: self._bucket.hold(key, held=True), self._retries)
        until = lock.until
        if until and until > tried(lambda: self._bucket.look(key), self._retries).info.modified:
            tried(lambda: self._bucket.retain(key, until), self._retries)


def proof_of_uncovering(store: BlobStore, bucket: Bucket, key: str) -> Proof:
    """Whether an object that somebody has deleted is seen below the deletion, and comes back."""
    guarantee = "what is deleted can be had back"
    versions = store.versions()
    if versions is None:
        return Proof(
            guarantee,
            "absent",
            "the bucket keeps no versions: what is not locked and is deleted is gone",
            "let the bucket keep versions (docs/stores.md says how)",
        )
    store.put(key, b"first")
    try:
        bucket.hide(key)
        seen = [hidden.key for hidden in versions.hidden(key)] == [key]
        versions.uncover(key)
        if seen and store.get(key) == b"first":
            return Proof(guarantee, "kept", "an object was deleted, was seen below the deletion, and was had back")
        found = "an object was deleted, and was not seen below the deletion"
    except MusterError as error:
        found = f"an object was deleted, and could not be had back: {error.message}"
    finally:
        with suppress(MusterError):
            store.delete(key)
    return Proof(guarantee, "broken", found, "let us list and read versions, or put the vault elsewhere")


def layers_of(bucket: Bucket, key: str, retries: int) -> list[Layer]:
    """All versions of one object, oldest first."""
    found = tried(lambda: list(bucket.layers(key)), retries)
    return sorted((layer for layer in found if layer.key == key), key=_by_age)


def _by_age(layer: Layer) -> tuple[object, ...]:
    """By key, then oldest first; of two that were written in the same instant the live one is the newer."""
    return layer.key, layer.at, layer.live, layer.version or ""


def _live(layers: list[Layer]) -> Layer | None:
    return next((layer for layer in layers if layer.live), None)
