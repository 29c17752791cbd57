"""A drill as values: which fault has its turn, what it does to a store, and what came of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from muster.domain.faults import BY_NAME, FAULTS, OUTCOMES, SEEN, Need, Observed, Outcome
from muster.errors import NotFound, Refused

NONE, RANDOM, SCHEDULED = "none", "random", "scheduled"
CHOICES = (SCHEDULED, RANDOM, NONE, *BY_NAME)


@dataclass(frozen=True, slots=True)
class Choice:
    """
    Which fault a drill has.

    :param fault: its name; None for a drill without one
    :param how: how it came to be chosen: ``by name``, ``at random, seed 7``
    :param passed_over: faults that had their turn and could not strike, each with the reason
    """

    fault: str | None
    how: str
    passed_over: tuple[str, ...] = ()


def choose(wanted: str, *, have: frozenset[Need], day: date, seed: int) -> Choice:
    """
    The fault of a drill.

    :param wanted: a fault's name, ``random``, ``scheduled`` (each day the next one that can strike this workload) or ``none``
    :param have: what the workload has
    :param seed: the same seed makes the same random choice
    :raises NotFound: if there is no such fault
    :raises Refused: if the fault that was named cannot strike this workload
    """
    if wanted == NONE:
        return Choice(None, "without a fault")
    if wanted == RANDOM:
        drawn = int.from_bytes(hashlib.sha256(str(seed).encode()).digest())
        return _first(drawn % len(FAULTS), have, f"at random, seed {seed}")
    if wanted == SCHEDULED:
        return _first(day.toordinal() % len(FAULTS), have, f"by schedule, {day.isoformat()}")
    if wanted not in BY_NAME:
        raise NotFound(f"there is no fault {wanted!r}", f"there are: {', '.join(CHOICES)}")
    if hindrance := BY_NAME[wanted].hindrance(have):
        raise Refused(
            f"the fault {wanted} cannot strike here: {hindrance}", "choose another, or give the workload what it lacks"
        )
    return Choice(wanted, "by name")


def _first(start: int, have: frozenset[Need], how: str) -> Choice:
    """The first from a place on that can strike, going round."""
    passed: list[str] = []
    for fault in (*FAULTS[start:], *FAULTS[:start]):
        hindrance = fault.hindrance(have)
        if hindrance is None:
            return Choice(fault.name, how, tuple(passed))
        passed.append(f"{fault.name}: {hindrance}")
    return Choice(None, how, tuple(passed))


@dataclass(frozen=True, slots=True)
class Harm:
    """
    What a view of a store does to whoever reads through it. The store itself stays as it is.

    :param silent: it answers no call
    :param hidden: keys of objects that are not there
    :param rotten: key of an object, and which of its bytes has a wrong bit
    :param delay: seconds by which each call takes longer
    """

    silent: bool = False
    hidden: tuple[str, ...] = ()
    rotten: Mapping[str, int] | None = None
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class DrillOutcome:
    """
    What a drill adds to the report of its recovery.

    :param fault: None for a drill without one
    :param chosen: how the fault was chosen
    :param expected: what must happen; None without a fault
    :param observed: what happened; None without a fault
    :param asked: the point that was asked for
    :param story: what was seen and done, a sentence each
    :param passed_over: faults that had their turn and could not strike
    :param isolation: what kept the sandbox apart, in words
    """

    fault: str | None
    chosen: str
    expected: Outcome | None
    observed: Observed | None
    asked: str
    story: tuple[str, ...]
    passed_over: tuple[str, ...]
    isolation: str

    def summary(self) -> dict[str, str | None]:
        """The few words that a mark carries and a page shows."""
        return {"name": self.fault, "chosen": self.chosen, "expected": self.expected, "observed": self.observed}

    @property
    def as_expected(self) -> bool:
        """Whether that happened which must."""
        return self.expected == self.observed

    @property
    def failure(self) -> str | None:
        """What is wrong, in a sentence; None if all is as it must be."""
        if self.as_expected:
            return None
        happened = SEEN[self.observed] if self.observed else "nothing"
        must = OUTCOMES[self.expected] if self.expected else "nothing"
        return f"the fault {self.fault} must end so: {must}; what happened: {happened}. {' '.join(self.story[-1:])}".strip()
