"""What a vault needs from the place where its objects lie, and from a service that holds keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """An object in a store: its key, its size in bytes, when it was written."""

    key: str
    size: int
    modified: datetime


@dataclass(frozen=True, slots=True)
class Guarantees:
    """
    What a store promises. Whoever needs more says so instead of hoping.

    :param immutable: objects under a lock cannot be deleted or replaced by the credentials that we hold
    :param conditional_put: two writers of one key cannot both succeed
    :param versioned: a deleted or replaced object can be had back
    """

    immutable: bool
    conditional_put: bool
    versioned: bool


LockMode = Literal["governance", "compliance"]
"""Whether a privileged person may lift a retention (governance), or nobody may before its end (compliance)."""


@dataclass(frozen=True, slots=True)
class Lock:
    """
    What keeps one object from being removed.

    :param until: end of its retention, aware, in UTC; None if it has none
    :param mode: of the retention; None if it has none
    :param held: under a legal hold, which has no end and must be lifted by hand
    """

    until: datetime | None = None
    mode: LockMode | None = None
    held: bool = False


class Locks(Protocol):
    """Lock administration of a store that can lock. Calls are idempotent and may come from several threads."""

    def of(self, key: str) -> Lock:
        """
        The lock of an object, as the store has it.

        :raises NotFound: if there is no such object
        """

    def extend(self, keys: Iterable[str], until: datetime) -> int:
        """
        Retain every object at least until a moment; in bulk, in parallel. A longer retention stays as it is.

        Every request is waited for. If any fails, the first failure is raised, with the number of those that failed.

        :return: how many objects are retained now that were not, or not so long, before
        :raises NotFound: if an object is not there
        :raises Refused: if the store, or our rights in it, do not allow it
        :raises StoreUnavailable: if the store did not answer
        """

    def hold(self, keys: Iterable[str], *, held: bool) -> None:
        """
        Put objects under a legal hold, or lift it. Errors as in `extend`.
        """


@dataclass(frozen=True, slots=True)
class Hidden:
    """
    An object that is there, and that `get` does not give, since somebody laid something over it.

    :param by: what lies over it: ``delete marker``, or another ``version`` with other bytes
    :param at: when that was laid there
    """

    key: str
    by: Literal["delete marker", "version"]
    at: datetime


class Versions(Protocol):
    """
    What a store that keeps versions has below the newest. Objects are written once: the oldest version of a key is ours, and
    whatever lies over it was put there by somebody else.
    """

    def hidden(self, prefix: str = "") -> Iterator[Hidden]:
        """Objects whose oldest version is not what `get` gives, sorted by key."""

    def uncover(self, key: str) -> None:
        """
        Let `get` give the oldest version again; that version itself, and its lock, stay as they are.

        :raises NotFound: if the key has no version
        :raises Refused: if our rights do not allow it
        """


@dataclass(frozen=True, slots=True)
class Proof:
    """
    One guarantee of a store, tried on an object of the trial's own or asked of the store.

    * kept      it was tried, and holds
    * broken    the store promises it (`Guarantees`) or every store must, and it does not hold
    * absent    this store makes no such promise: whoever relies on it must know
    * untold    the store gave no answer from which it could be told

    :param guarantee: what should hold, in a phrase: ``an object is never overwritten``
    :param found: what was tried, and what the store answered, in a sentence
    :param mend: what to do; empty if it is kept
    """

    guarantee: str
    verdict: Literal["kept", "broken", "absent", "untold"]
    found: str
    mend: str = ""


PROBES = "probe/"
"""What the keys of trial objects begin with: they are no part of a vault, may be locked for a minute, and are removed later."""


class BlobStore(Protocol):
    """
    A flat, create-only store of named bytes.

    Keys are ASCII, of ``[A-Za-z0-9._-]`` segments joined by ``/``. All calls may be made from several threads at once. When `put`
    returns, the bytes are durable and every later `get` and `list`, from anywhere, sees them; when it raises, there is
    either nothing or the whole object (a lost answer), never a part of it.
    """

    @property
    def url(self) -> str:
        """Where this is, without any secret."""

    def guarantees(self) -> Guarantees:
        """What this store promises."""

    def locks(self) -> Locks | None:
        """Its lock administration; None if nothing there can be locked, as in a local folder."""

    def versions(self) -> Versions | None:
        """What it keeps of replaced and deleted objects; None if it keeps nothing, as a local folder."""

    def prove(self) -> Iterator[Proof]:
        """
        Try every guarantee, on objects of its own below `PROBES`, and tell what came of it; nothing of a vault is touched.

        What can be deleted of the trial is deleted at its end or by a later one.

        :raises StoreUnavailable: if the store did not answer
        :raises Refused: if not even a trial object may be written
        """

    def put(self, key: str, data: bytes | memoryview) -> None:
        """
        Create an object.

        :param data: may be written over by the caller as soon as this has returned or raised
        :raises AlreadyExists: if the key is taken, whatever it holds; nothing was changed
        :raises StoreUnavailable: if the store did not answer, or is full; trying again may help
        """

    def get(self, key: str) -> bytes:
        """
        The whole object.

        :raises NotFound: if there is none
        :raises StoreUnavailable: if the store did not answer
        """

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """
        Exactly `length` bytes from `start`.

        :raises IntegrityError: if the object is shorter than that
        :raises NotFound: if there is none
        """

    def info(self, key: str) -> BlobInfo:
        """
        Size and time of an object.

        :raises NotFound: if there is none
        """

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        """All objects whose key begins with `prefix` (any string, not only whole segments), sorted by key."""

    def delete(self, key: str) -> None:
        """
        Remove an object. Only expiry calls this.

        :raises NotFound: if there is none
        :raises Refused: if a lock forbids it
        """


class KeyService(Protocol):
    """Keys that never leave their service, under which small secrets are sealed: AWS KMS."""

    def seal(self, key: str, secret: bytes, context: Mapping[str, str]) -> bytes:
        """
        Seal at most 4 KiB under a key of the service.

        :param key: how the service calls it
        :param context: facts that are not secret; opening asks for the same
        :raises Refused: if the key is not there or disabled, or we may not use it
        :raises StoreUnavailable: if the service did not answer
        """

    def open(self, key: str, sealed: bytes, context: Mapping[str, str]) -> bytes | None:
        """
        What was sealed; None if it was sealed under another key or in another context, or is damaged. Errors as in `seal`.
        """
