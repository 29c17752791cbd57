"""Taking up a snapshot where an earlier try of the same run left it, over a real vault in memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fakes import FrozenClock, MemoryStore
from fakes_components import FakeSource
from muster.domain.recovery_point import Mark, PointStatus
from muster.errors import ValidationFailed
from muster.operations.resume import pin_for_run, sealed_before
from muster.operations.seal import seal_point
from muster.operations.snapshot import Handover, Pin, capture
from muster.vault.vault import Actor, Passphrase, Vault
from vaults import flip

LABEL = "dataset/flights"


class Scheduler:
    """Runs the steps of a snapshot of one dataset, again and again."""

    def __init__(self) -> None:
        self.clock = FrozenClock()
        actor = Actor("test", "here", "pytest")
        self.store = MemoryStore()
        self.vault, _ = Vault.create(self.store, Passphrase("correct horse"), clock=self.clock, actor=actor)
        self.source = FakeSource("dataset", "flights", {"a.csv": b"1\n2\n"}, self.clock)

    def pin(self, run: str) -> Pin:
        self.clock.advance(60)
        return pin_for_run(self.vault, "flights", run, self.clock)

    def handover(self, pin: Pin) -> Handover:
        return sealed_before(self.vault, pin, LABEL) or capture(self.vault, pin, self.source)

    def damage(self, kind: str) -> None:
        """One wrong bit in the one object that there is of a kind."""
        (key,) = (key for key in self.store.objects if key.startswith(kind))
        self.store.objects[key] = flip(self.store.objects[key], 100)

    def seal(self, pin: Pin, *handovers: Handover) -> PointStatus:
        return seal_point(self.vault, pin, handovers, expected=[LABEL], objectives={}, catalog={}, clock=self.clock)


@pytest.fixture
def scheduler() -> Scheduler:
    return Scheduler()


def test_runs_have_points_of_their_own(scheduler: Scheduler) -> None:
    """Two runs never share a point, and the second names the first as the one before it."""
    first = scheduler.pin("run 1")
    scheduler.seal(first, scheduler.handover(first))
    second = scheduler.pin("run 2")
    assert second.point != first.point
    assert (first.previous, second.previous) == (None, first.point)


def test_a_run_that_has_sealed_is_pinned_to_its_point_again(scheduler: Scheduler) -> None:
    """Repeated from the beginning, it hands over what was sealed and gives the same point, although the source has moved on."""
    pin = scheduler.pin("run 1")
    sealed = scheduler.seal(pin, scheduler.handover(pin))
    scheduler.source.files["a.csv"] = b"something else\n"
    again = scheduler.pin("run 1")
    assert again.point == pin.point
    assert scheduler.seal(again, scheduler.handover(again)).point == sealed.point
    assert len(scheduler.vault.points("flights")) == 1


def test_a_run_that_has_not_sealed_is_pinned_anew(scheduler: Scheduler) -> None:
    """Until something is sealed a repeated run names its point after the present moment, since that is what it will show."""
    first, second = scheduler.pin("run 1"), scheduler.pin("run 1")
    assert first.point != second.point
    assert first.point.partition("-")[2] == second.point.partition("-")[2]


def test_nothing_is_handed_over_twice_before_the_seal(scheduler: Scheduler) -> None:
    """Before the point is sealed, and for components that it does not have, there is nothing to hand over anew."""
    pin = scheduler.pin("run 1")
    handover = scheduler.handover(pin)
    assert sealed_before(scheduler.vault, pin, LABEL) is None
    scheduler.seal(pin, handover)
    assert sealed_before(scheduler.vault, pin, LABEL) == handover
    assert sealed_before(scheduler.vault, pin, "dataset/other") is None


def test_a_suspect_point_is_not_taken_up_again(scheduler: Scheduler) -> None:
    """Whoever repeats a run whose checks failed has mended the source, and gets another point."""
    pin = scheduler.pin("run 1")
    with pytest.raises(ValidationFailed):
        scheduler.seal(pin, replace(scheduler.handover(pin), failure="rows are missing"))
    again = scheduler.pin("run 1")
    assert again.point != pin.point
    assert not scheduler.seal(again, scheduler.handover(again)).suspect
    assert [status.suspect for status in scheduler.vault.points("flights")] == [True, False]


@pytest.mark.parametrize("kind", ["points/flights/", "marks/"])
def test_a_damaged_point_does_not_stop_the_next_run(scheduler: Scheduler, kind: str) -> None:
    """Nothing is known of the point before, so everything is read, and the new point is good."""
    pin = scheduler.pin("run 1")
    scheduler.seal(pin, scheduler.handover(pin))
    scheduler.vault.mark(Mark("flights", pin.point, "verified", scheduler.clock.now()))
    scheduler.damage(kind)
    following = scheduler.pin("run 2")
    assert following.previous is None
    assert not scheduler.seal(following, scheduler.handover(following)).suspect
    assert scheduler.pin("run 3").previous == following.point


def test_a_damaged_point_is_not_taken_up_again(scheduler: Scheduler, caplog: pytest.LogCaptureFixture) -> None:
    """The run that sealed it takes another, and says why."""
    pin = scheduler.pin("run 1")
    scheduler.seal(pin, scheduler.handover(pin))
    scheduler.damage("points/flights/")
    again = scheduler.pin("run 1")
    assert again.point != pin.point
    assert pin.point in caplog.text
    assert not scheduler.seal(again, scheduler.handover(again)).suspect
