"""The guarantees of a bucket, tried on objects of the trial's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from muster.errors import AlreadyExists, MusterError, NotFound, Refused
from muster.ports import PROBES, BlobStore, LockMode, Locks, Proof

PROBE_LOCKED_FOR = timedelta(minutes=1)
"""Long enough for every attempt on a slow line, and short enough to be forgotten."""
SOONER = PROBE_LOCKED_FOR / 2
"""By how much an attempt shortens a retention: what is let happen leaves the object locked for the attempts that follow."""
_LEFT_BEHIND = timedelta(hours=1)
_LOCKED = "a locked object cannot be deleted"


@dataclass(frozen=True, slots=True)
class Attempt:
    """
    Something that a lock must refuse.

    :param guarantee: what holds if it is refused
    :param make: makes the attempt; raises Refused if the store refuses it
    :param mend: what to do if it is let happen
    """

    guarantee: str
    make: Callable[[], None]
    mend: str = "do not rely on this bucket's locks; put a replica elsewhere"


class Trial(Protocol):
    """What differs from cloud to cloud."""

    def attempts(self, key: str) -> Iterator[Attempt]:
        """What must be refused on an object that is retained: each attempt, when made, tries to get past the lock."""

    def removal(self, key: str) -> Callable[[], None]:
        """Delete for good what is live now, with every right that our credentials have, past the guards of the store's own port."""

    def settings(self) -> Iterator[Proof]:
        """What can be told of the bucket besides: transport, encryption, public access."""


def proofs(store: BlobStore, bucket: Trial, key: str) -> Iterator[Proof]:
    """
    Each guarantee of a bucket, tried: that nothing is overwritten, that locks hold; then what its settings say.

    :param key: of the trial's object, below `PROBES`; objects of earlier trials whose locks have ended are removed
    """
    _tidy(store)
    store.put(key, b"first")
    try:
        yield overwriting_refused(store, key)
        if locks := store.locks():
            until = store.info(key).modified + PROBE_LOCKED_FOR  # by the store's own clock
            yield from _locks_hold(locks, bucket, key, until)
            yield _hold_refuses(store, locks, bucket, f"{key}-held")
        else:
            yield Proof(
                _LOCKED,
                "absent",
                "the bucket is not set up for locks: whoever has its credentials can delete what is there",
                "make a bucket with object retention (docs/stores.md says how) and put the vault, or a replica, there",
            )
        yield from bucket.settings()
    finally:
        with suppress(MusterError):
            store.delete(key)


def _hold_refuses(store: BlobStore, locks: Locks, bucket: Trial, key: str) -> Proof:
    """
    Whether a legal hold, without any retention, keeps an object.

    :param key: of the trial's object, which is gone afterwards
    """
    guarantee = "an object under a legal hold cannot be deleted"
    store.put(key, b"first")
    try:
        locks.hold([key], held=True)
        return refused(Attempt(guarantee, bucket.removal(key)))
    except Refused as error:
        return Proof(guarantee, "untold", error.message, error.hint)
    finally:
        with suppress(MusterError):
            locks.hold([key], held=False)
        with suppress(MusterError):
            store.delete(key)


def lifted_by_nobody(mode: LockMode, lifter: str) -> Proof:
    """
    What the mode of the retentions promises.

    :param lifter: who can lift one of governance
    """
    guarantee = "nobody at all can lift a lock before its end"
    if mode == "compliance":
        return Proof(guarantee, "kept", "locks are set in compliance mode")
    return Proof(
        guarantee,
        "absent",
        f"locks are set in governance mode, which whoever has {lifter} can lift",
        "say lock=compliance in the address once its retention is settled",
    )


def transport(server: str) -> Proof:
    """Whether the way to a server is encrypted, by its address."""
    guarantee = "what is sent is encrypted"
    if server.startswith("https://"):
        return Proof(guarantee, "kept", f"{server} is reached by TLS only")
    return Proof(guarantee, "absent", f"{server} is reached without TLS", "use an https:// endpoint")


def _tidy(store: BlobStore) -> None:
    """Remove what earlier trials left; what is younger may be of one that runs now."""
    for info in store.list(PROBES):
        if info.modified > datetime.now(UTC) - _LEFT_BEHIND:
            continue
        with suppress(Refused, NotFound):  # still locked, or another trial was quicker
            store.delete(info.key)


def overwriting_refused(store: BlobStore, key: str) -> Proof:
    """Write again what was written with the content ``first``."""
    guarantee = "an object is never overwritten"
    try:
        store.put(key, b"second")
    except AlreadyExists:
        if store.get(key) == b"first":
            return Proof(guarantee, "kept", "a second write of one name was refused, and the first is still there")
    return Proof(
        guarantee,
        "broken",
        "a second write of one name took the place of the first",
        "use a store that keeps conditional writes; two writers could damage this vault",
    )


def _locks_hold(locks: Locks, bucket: Trial, key: str, until: datetime) -> Iterator[Proof]:
    locks.extend([key], until)
    lock = locks.of(key)
    if lock.until is None or lock.until < until:
        yield Proof(
            _LOCKED,
            "broken",
            f"a retention was set, and afterwards the store says of it: {lock.until}",
            "the store takes locks and does not keep them: put the vault elsewhere",
        )
        return
    for attempt in bucket.attempts(key):
        yield refused(attempt)


def refused(attempt: Attempt) -> Proof:
    """Make an attempt, and tell whether it was refused."""
    try:
        attempt.make()
    except Refused as refusal:
        return Proof(attempt.guarantee, "kept", f"it was tried, and refused: {refusal.message}")
    except MusterError as error:
        return Proof(
            attempt.guarantee, "untold", f"it was tried, and neither done nor refused: {error.message}", error.hint
        )
    return Proof(
        attempt.guarantee,
        "broken",
        "it was tried on a locked object of the trial's own, and the store let it happen",
        attempt.mend,
    )
