"""What can be broken on purpose in a drill, what must come of it, and which fault has its turn."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Literal

from muster.errors import NotFound, Refused

Outcome = Literal["healed", "refused", "older_point", "restored"]
"""
* restored      everything came back from the point that was asked for, in spite of the fault
* healed        what was lost or broken was noticed and made whole, and then everything came back from that point
* older_point   the point that was asked for was found bad, and everything came back from an older one
* refused       the attempt was refused in words, nothing was left that could be taken for whole; once the fault was lifted, all came back
"""
Observed = Literal["healed", "refused", "older_point", "restored", "unnoticed", "failed"]
"""What a drill saw: an `Outcome`; or nobody noticed the fault, or the workload did not come back at all."""
Need = Literal["replica", "older_point", "expectations", "model", "registry", "environment", "small_disk", "files"]
OUTCOMES: dict[Outcome, str] = {
    "restored": "restored from the point asked for",
    "healed": "healed, and restored from the point asked for",
    "older_point": "restored from an older point",
    "refused": "refused in words; restored once the fault is lifted",
}
SEEN: dict[Observed, str] = {
    "restored": OUTCOMES["restored"],
    "healed": OUTCOMES["healed"],
    "older_point": OUTCOMES["older_point"],
    "refused": OUTCOMES["refused"],
    "unnoticed": "nobody noticed it",
    "failed": "the workload did not come back",
}
LACKING: dict[Need, str] = {
    "replica": "no replica that holds the point can be read",
    "older_point": "there is no older good point",
    "expectations": "no dataset of the point has expectations",
    "model": "the point has no golden predictions",
    "registry": "the point has no registry",
    "environment": "the point has no environment",
    "small_disk": "this machine lets nobody mount a small disk of their own (user namespaces are switched off)",
    "files": "the point has no file",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """
    One way to be hurt.

    :param does: what is done, in one sentence
    :param acts: where it acts
    :param expects: what must happen
    :param needs: what a workload must have for the fault to be possible at all
    :param helped_by: what it takes to come out of it as `expects` says; without it, `otherwise` must happen
    :param symptom: what people see of it, as an alert would tell them
    :param hints: for training, from vague to plain
    """

    name: str
    does: str
    acts: Literal["store", "restored copy", "key", "clock", "disk", "network", "process"]
    expects: Outcome
    symptom: str
    hints: tuple[str, str, str]
    needs: tuple[Need, ...] = ()
    helped_by: Need | None = None
    otherwise: Outcome = "refused"

    def expected(self, have: frozenset[Need]) -> Outcome:
        """What must happen to a workload that has this."""
        return self.expects if self.helped_by is None or self.helped_by in have else self.otherwise

    def hindrance(self, have: frozenset[Need]) -> str | None:
        """Why it cannot strike a workload that has only this; None if it can."""
        return next((LACKING[need] for need in self.needs if need not in have), None)


FAULTS: tuple[Fault, ...] = (
    Fault(
        "region_gone",
        "The store of the primary vault answers no call.",
        "store",
        "restored",
        "The restore cannot even list recovery points: the vault does not answer.",
        (
            "Is it the platform, or the place where its copies lie?",
            "Somebody else holds the same copy: look into the catalog.",
            "The primary vault's region is gone; restore from a replica.",
        ),
        needs=("replica",),
    ),
    Fault(
        "bit_rot",
        "One bit of a pack that the point needs is read wrong.",
        "store",
        "healed",
        "The restore of one component stops at bytes that do not match their seal.",
        (
            "Everything is there, and yet something is not what it was.",
            "Verification names the pack; can its bytes be had elsewhere?",
            "One bit has rotted in a pack; heal the vault from a replica.",
        ),
        needs=("files",),
        helped_by="replica",
    ),
    Fault(
        "missing_pack",
        "A pack that the point needs is gone from the store.",
        "store",
        "healed",
        "The restore of one component says that the vault lacks what the point names.",
        (
            "Count what is there against what the manifest names.",
            "An object was removed; who still has it?",
            "A pack is missing; heal the vault from a replica.",
        ),
        needs=("files",),
        helped_by="replica",
    ),
    Fault(
        "poisoned_dataset",
        "The data in the point was altered before it was taken, and nobody noticed then.",
        "restored copy",
        "older_point",
        "All files came back by their digests, and people doubt the figures.",
        (
            "A digest proves that bytes are the same, not that they are right.",
            "Ask what the data is expected to be.",
            "The newest dataset is poisoned; go back to an older point.",
        ),
        needs=("expectations",),
        helped_by="older_point",
    ),
    Fault(
        "poisoned_model",
        "A model in the point was altered before it was taken: its signature, or what it has learned.",
        "restored copy",
        "older_point",
        "The registry is back, and the service answers oddly or not at all.",
        (
            "The registry has every row. Has the model what it had?",
            "Ask it what it was asked when the point was taken.",
            "The model is poisoned; go back to an older point.",
        ),
        needs=("model",),
        helped_by="older_point",
    ),
    Fault(
        "lost_registry",
        "The database of the registry that was just put back is lost, its artifacts stay.",
        "restored copy",
        "healed",
        "No model can be found by its name, and the files of all of them are there.",
        (
            "Artifacts without rows are nobody's.",
            "What is there is in the way of a restore, and must not be deleted.",
            "The registry's database is lost; move the rest aside and restore the registry once more.",
        ),
        needs=("model",),
    ),
    Fault(
        "corrupted_alembic",
        "The registry's database says that it has a schema that nobody knows.",
        "restored copy",
        "healed",
        "The registry's server does not start any more.",
        (
            "The data may be whole; what does the server say in its log?",
            "Which Alembic revision does the database claim to have?",
            "The Alembic version is corrupted; move the registry aside and restore it once more.",
        ),
        needs=("registry",),
    ),
    Fault(
        "stale_key",
        "The key that the catalog refers to is no longer one of the vault's.",
        "key",
        "refused",
        "The vault is there, and does not open.",
        (
            "Nothing is broken. Who was told?",
            "When were the holders of the vault changed last?",
            "The key is stale; another holder must open the vault.",
        ),
    ),
    Fault(
        "package_index_down",
        "No package index can be reached while the environment is rebuilt.",
        "network",
        "restored",
        "Nothing can be installed from anywhere.",
        (
            "What does the model need besides its data?",
            "Where do the packages come from when nobody serves them?",
            "The package index is down; the point holds the wheels themselves.",
        ),
        needs=("environment",),
    ),
    Fault(
        "disk_full",
        "The disk that is restored to has room for a part of a component only.",
        "disk",
        "refused",
        "The restore ends early, and its place is as empty as before.",
        (
            "Look at the place, not at the vault.",
            "How large is the point, and how large is the room?",
            "The disk is full; make room and restore again.",
        ),
        needs=("files", "small_disk"),
    ),
    Fault(
        "clock_skew",
        "The clock of the machine that restores is wrong by more than a day.",
        "clock",
        "restored",
        "Times in the log do not fit with each other.",
        (
            "When is now?",
            "Ages of points and times of marks look impossible.",
            "The clock is skewed; what is restored does not depend on it.",
        ),
    ),
    Fault(
        "slow_store",
        "Every call of the vault's store takes longer by a twentieth of a second.",
        "store",
        "restored",
        "The restore goes on, and takes its time.",
        (
            "Nothing failed. Is anything waiting?",
            "How long does one request to the store take?",
            "The store is slow; wait, and hold the time against the objective.",
        ),
    ),
    Fault(
        "worker_killed",
        "The process that restores a component is killed by SIGKILL in the middle of it.",
        "process",
        "restored",
        "A task is gone without a word, and something of its work is left.",
        (
            "Nobody said goodbye: look for an exit by signal 9.",
            "Is what was left behind in the way?",
            "The worker was killed; run the same restore again, at the same place.",
        ),
        needs=("files",),
    ),
)
BY_NAME = {fault.name: fault for fault in FAULTS}
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
