"""What `muster.ports.Locks` promises. Every store that locks has a test class below this one."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from muster.errors import MusterError, NotFound, Refused
from muster.ports import BlobStore, Lock, Locks

HOUR = timedelta(hours=1)
A_MOMENT = timedelta(seconds=2)


def from_now(span: timedelta) -> datetime:
    """A whole second, as some servers keep no parts of one."""
    return datetime.now(UTC).replace(microsecond=0) + span


class LocksContract:
    """Subclasses give a fixture `store`: a new, empty store that locks. What they leave behind may stay locked for two hours."""

    @pytest.fixture
    def locks(self, store: BlobStore) -> Locks:
        locks = store.locks()
        assert locks is not None
        return locks

    def test_promises_immutability(self, store: BlobStore) -> None:
        """A store that can lock says so."""
        assert store.guarantees().immutable

    def test_nothing_is_locked_by_itself(self, store: BlobStore, locks: Locks) -> None:
        """A new object has no lock, and can be removed."""
        store.put("a", b"x")
        assert locks.of("a") == Lock()
        store.delete("a")

    def test_refuses_to_remove_what_is_retained(self, store: BlobStore, locks: Locks) -> None:
        """The refusal names the object, which stays as it is."""
        store.put("packs/aa/1", b"x")
        until = from_now(HOUR)
        assert locks.extend(["packs/aa/1"], until) == 1
        assert locks.of("packs/aa/1").until == until
        assert locks.of("packs/aa/1").mode in ("governance", "compliance")
        with pytest.raises(Refused, match="packs/aa/1") as caught:
            store.delete("packs/aa/1")
        assert caught.value.hint
        assert store.get("packs/aa/1") == b"x"
        assert [info.key for info in store.list()] == ["packs/aa/1"]

    def test_never_shortens(self, store: BlobStore, locks: Locks) -> None:
        """A longer retention stays, an equal one is no change, a shorter one is extended; the count is of those."""
        for key in ("long", "equal", "short", "none"):
            store.put(key, b"x")
        until = from_now(HOUR)
        locks.extend(["long"], until + HOUR)
        locks.extend(["equal"], until)
        locks.extend(["short"], until - HOUR / 2)
        assert locks.extend(["long", "equal", "short", "none"], until) == 2
        assert locks.of("long").until == until + HOUR
        assert {locks.of(key).until for key in ("equal", "short", "none")} == {until}
        assert locks.extend(["long", "equal", "short", "none"], until) == 0

    def test_never_ends_early(self, store: BlobStore, locks: Locks) -> None:
        """A store that keeps whole seconds only rounds up."""
        store.put("a", b"x")
        until = from_now(HOUR) + timedelta(microseconds=1)
        locks.extend(["a"], until)
        end = locks.of("a").until
        assert end is not None
        assert until <= end <= until + timedelta(seconds=1)
        assert locks.extend(["a"], until) == 0

    def test_ends(self, store: BlobStore, locks: Locks) -> None:
        """When a retention has ended, the object can be removed."""
        store.put("a", b"x")
        until = from_now(A_MOMENT)
        locks.extend(["a"], until)
        with pytest.raises(Refused):
            store.delete("a")
        time.sleep((until - datetime.now(UTC)).total_seconds() + 1)
        store.delete("a")
        assert list(store.list()) == []

    def test_takes_many_at_once(self, store: BlobStore, locks: Locks) -> None:
        """More objects than there are workers; one that is missing is named, and the others are locked all the same."""
        keys = [f"packs/{n:02}" for n in range(40)]
        for key in keys:
            store.put(key, b"x")
        until = from_now(HOUR)
        with pytest.raises(NotFound, match="packs/no"):
            locks.extend(["packs/no", *keys], until)
        assert {locks.of(key).until for key in keys} == {until}
        assert locks.extend([], until) == 0

    def test_counts_what_failed(self, store: BlobStore, locks: Locks) -> None:
        """Of several failures one is raised, and their number told."""
        store.put("a", b"x")
        with pytest.raises(NotFound, match=r"no1.* 1 more of 3 failed|no2.* 1 more of 3 failed"):
            locks.extend(["no1", "a", "no2"], from_now(HOUR))

    def test_holds_until_lifted(self, store: BlobStore, locks: Locks) -> None:
        """A hold has no end and no retention; holding and lifting twice is no error."""
        for key in ("a", "b"):
            store.put(key, b"x")
        for _ in range(2):
            locks.hold(["a", "b"], held=True)
            assert locks.of("a") == Lock(held=True)
        with pytest.raises(Refused):
            store.delete("b")
        for _ in range(2):
            locks.hold(["b"], held=False)
        store.delete("b")
        with pytest.raises(Refused):
            store.delete("a")
        locks.hold(["a"], held=False)
        assert locks.of("a") == Lock()

    def test_a_hold_and_a_retention_are_two(self, store: BlobStore, locks: Locks) -> None:
        """Lifting the hold leaves the retention."""
        store.put("a", b"x")
        until = from_now(HOUR)
        locks.extend(["a"], until)
        locks.hold(["a"], held=True)
        assert (locks.of("a").held, locks.of("a").until) == (True, until)
        locks.hold(["a"], held=False)
        with pytest.raises(Refused):
            store.delete("a")

    @pytest.mark.parametrize(
        "ask",
        [
            lambda locks: locks.of("packs/no"),
            lambda locks: locks.extend(["packs/no"], from_now(HOUR)),
            lambda locks: locks.hold(["packs/no"], held=True),
        ],
        ids=["of", "extend", "hold"],
    )
    def test_names_what_is_not_there(self, locks: Locks, ask: Callable[[Locks], object]) -> None:
        """What is not there is a NotFound that names it, with a hint."""
        with pytest.raises(NotFound, match="packs/no") as caught:
            ask(locks)
        error: MusterError = caught.value
        assert error.hint
        assert "\n" not in error.message
