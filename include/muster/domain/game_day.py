"""A game day: people against a fault that nobody names to them, against the clock; every step is logged and scored."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from muster.domain.faults import BY_NAME, Outcome

Step = Literal["hint", "detect", "decide", "restore"]
FULL = 100
COSTS: dict[str, int] = {"hint": 10, "wrong": 15, "unnamed": 20, "undecided": 10, "late": 20, "lost": 40}
"""What is taken off: for each hint and wrong answer; for a fault never named, nothing decided, a missed objective, no restore."""


@dataclass(frozen=True, slots=True)
class Event:
    """
    One thing that the team did.

    :param said: the hint that was given, or what the team answered
    :param right: whether the answer was right, or the restore passed; None for a hint
    """

    at: datetime
    step: Step
    said: str
    right: bool | None = None


@dataclass(frozen=True, slots=True)
class GameDay:
    """
    :param fault: what the team does not know
    :param expected: what must come of it
    :param rto_s: the workload's objective, by which the team is measured
    """

    workload: str
    fault: str
    seed: int
    expected: Outcome
    began_at: datetime
    rto_s: float
    events: tuple[Event, ...] = ()

    @property
    def symptom(self) -> str:
        """What the team is told at the beginning."""
        return BY_NAME[self.fault].symptom

    @property
    def hints_left(self) -> tuple[str, ...]:
        """What can still be told, from vague to plain."""
        return BY_NAME[self.fault].hints[len(self._of("hint")) :]

    def then(self, event: Event) -> GameDay:
        """The game after something more happened."""
        return replace(self, events=(*self.events, event))

    def seconds_to(self, step: Step) -> float | None:
        """How long it took from the beginning to the first right answer, or the restore that passed; None if it never came."""
        return next(((e.at - self.began_at).total_seconds() for e in self._of(step) if e.right), None)

    def deductions(self) -> list[tuple[str, int]]:
        """What is taken off the full score, each with its reason."""
        hints, wrong = len(self._of("hint")), sum(e.right is False for e in self.events if e.step != "restore")
        restored = self.seconds_to("restore")
        judged = [
            (f"{hints} hints", COSTS["hint"] * hints),
            (f"{wrong} wrong answers", COSTS["wrong"] * wrong),
            ("the fault was never named", COSTS["unnamed"] * (self.seconds_to("detect") is None)),
            ("what must come of it was never decided", COSTS["undecided"] * (self.seconds_to("decide") is None)),
            ("the workload was not restored", COSTS["lost"] * (restored is None)),
            (
                "the recovery time objective was missed",
                COSTS["late"] * (restored is not None and restored > self.rto_s),
            ),
        ]
        return [(why, cost) for why, cost in judged if cost]

    @property
    def score(self) -> int:
        """From 0 to 100."""
        return max(0, FULL - sum(cost for _, cost in self.deductions()))

    def log(self) -> list[str]:
        """All of it, a line each, with the seconds since the beginning."""
        lines = [f"{self.began_at:%Y-%m-%d %H:%M:%S}Z  game day of {self.workload}, seed {self.seed}: {self.symptom}"]
        for event in self.events:
            verdict = {True: "right", False: "wrong", None: ""}[event.right]
            if event.step == "restore":
                verdict = "passed" if event.right else "failed"
            seconds = (event.at - self.began_at).total_seconds()
            lines.append(f"{seconds:>9.0f} s  {event.step}: {event.said} {verdict}".rstrip())
        lines.append(
            f"the fault was {self.fault}: {BY_NAME[self.fault].does} It must be {self.expected.replace('_', ' ')}."
        )
        for step in ("detect", "decide", "restore"):
            took = self.seconds_to(step)
            lines.append(f"time to {step}: {'never' if took is None else f'{took:.0f} s'}")
        lines += [f"-{cost}: {why}" for why, cost in self.deductions()]
        return [*lines, f"score: {self.score} of {FULL}"]

    def _of(self, step: Step) -> list[Event]:
        return [event for event in self.events if event.step == step]
