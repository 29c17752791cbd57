"""What a cloud's client must be able to do with one bucket, so that a vault can lie there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from muster.adapters.bucket_proofs import Trial
from muster.ports import BlobInfo, Guarantees, Lock


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look at an object shows."""

    info: BlobInfo
    lock: Lock


@dataclass(frozen=True, slots=True)
class Layer:
    """
    One version of an object; in a bucket that keeps none, the object.

    :param version: how the bucket calls it; None if it has no name
    :param live: it is what a read gives
    :param at: when it was written
    :param ended: when it was laid over or deleted, where the bucket says so
    :param sum: what the bucket says of its bytes: the same for the same bytes
    """

    key: str
    version: str | None
    live: bool
    at: datetime
    ended: datetime | None
    sum: str


class Bucket(Trial, Protocol):
    """
    One bucket, reached by its cloud's own client: each call is one request or the few that belong together, tried once.

    Keys are those of the port; a bucket puts its prefix before them. All calls raise what `muster.ports` says for the call of
    the store that rests on them, and StoreUnavailable for whatever may go better at another try.
    """

    @property
    def url(self) -> str:
        """Where this is, without any secret."""

    def create(self, key: str, data: bytes) -> None:
        """
        Create an object by one request which itself demands that there is none.

        :raises AlreadyExists: if the server says so
        """

    def read(self, key: str) -> bytes:
        """The whole object."""

    def read_range(self, key: str, start: int, length: int) -> bytes:
        """Bytes from `start`, fewer than `length` where the object ends; `length` is not 0."""

    def look(self, key: str, version: str | None = None) -> Seen:
        """Size, time and lock of an object, or of a version of it."""

    def walk(self, prefix: str) -> Iterator[BlobInfo]:
        """All objects whose key begins with `prefix`, in any order."""

    def layers(self, prefix: str) -> Iterator[Layer]:
        """All versions of all objects whose key begins with `prefix`, in any order."""

    def read_layer(self, layer: Layer) -> bytes:
        """The whole of a version."""

    def remove_layer(self, layer: Layer) -> None:
        """Delete a version for good."""

    def hide(self, key: str) -> None:
        """Delete the object as somebody does who knows of no versions: in a bucket that keeps them it becomes one of them."""

    def retain(self, key: str, until: datetime) -> bool:
        """Retain an object at least until a whole second; False if it is already."""

    def hold(self, key: str, *, held: bool, version: str | None = None) -> None:
        """Put an object, or a version of it that is not live, under a legal hold, or lift it."""

    def guarantees(self) -> Guarantees:
        """What the bucket, as it is set up, promises."""
