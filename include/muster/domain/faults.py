"""The catalog of faults: what can be broken on purpose in a drill, and what must come of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
    "refused": "refused in words, and restored once the fault is lifted",
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
        "The clock by which the vault is opened and its points are judged is wrong by more than a day.",
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
