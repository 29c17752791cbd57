"""What putting back, or deleting, what a restore moved aside would do; and why it would refuse."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Literal

from muster.domain.restore_plan import Refusal, digest_of, require_none
from muster.errors import NotFound

UndoVerb = Literal["undo", "discard"]
"""Put the old state back; delete for ever what lies aside."""


@dataclass(frozen=True, slots=True)
class UndoPart:
    """
    One place that a restore filled, in words without secrets.

    :param path: what of the component, relative to its repository or project; empty for all of it
    :param also: other places of it, as in `muster.domain.restore_plan.Action`
    :param aside: what lies aside, and is put back or deleted
    :param there: what lies at the place now
    """

    component: str
    path: str
    where: str
    also: tuple[str, ...]
    aside: tuple[str, ...]
    there: tuple[str, ...]

    @property
    def place(self) -> tuple[str, str, str, tuple[str, ...]]:
        """What of which component belongs where."""
        return self.component, self.path, self.where, self.also


@dataclass(frozen=True, slots=True)
class UndoPlan:
    """
    What would become of what a restore moved aside.

    :param point: from which it restored
    :param stamp: its name in what it moved
    :param target: to where it restored: ``origin``, a target of the catalog, or a folder
    :param set_aside_at: when the first of it was moved
    :param reason: why, as somebody wrote it
    :param refusals: why nothing of it may be done; empty when the plan can be applied
    :param warnings: what a person should know before saying yes
    """

    override: ClassVar[str] = ""
    """Nothing that forbids it can be overridden."""

    workload: str
    point: str
    stamp: str
    verb: UndoVerb
    target: str
    set_aside_at: datetime
    reason: str
    parts: tuple[UndoPart, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """
        SHA-256 over what an approval is for: which restore, what is done, why, to which places, and what lies aside there.

        What lies at the places now is not in it: it is moved aside in turn, or left, whatever it is.
        """
        parts = [(*part.place, part.aside) for part in self.parts]
        refused = sorted((refusal.component, refusal.kind) for refusal in self.refusals)
        said = [self.verb, self.workload, self.point, self.stamp, self.target, self.reason, parts, refused]
        return digest_of(said)

    @property
    def aside(self) -> tuple[str, ...]:
        """Everything that lies aside, and is put back or deleted."""
        return tuple(place for part in self.parts for place in part.aside)

    def is_rest_of(self, plan: UndoPlan) -> bool:
        """
        Whether this is what is left of a plan of which some was done: the same places, and nothing aside that it does not name.

        Where something that was to be put back is not aside any more, it is at its place, or somebody else has taken it.
        """
        if [part.place for part in self.parts] != [part.place for part in plan.parts]:
            return False
        lost = [now for now, then in zip(self.parts, plan.parts, strict=True) if then.aside and not now.aside]
        back = self.verb == "discard" or all(part.there for part in lost)
        return back and set(self.aside) <= set(plan.aside)

    def require_allowed(self) -> None:
        """
        Let the plan pass, or raise everything that forbids it, under the kind of the first reason.

        :raises PermanentError: of the first refusal's kind
        :raises NotFound: if nothing lies aside
        """
        require_none(self.refusals)
        if not self.aside:
            raise NotFound(
                f"nothing that the restore {self.stamp} of {self.workload} moved aside is there any more",
                "it may have failed and put all of it back itself, or somebody moved it by hand: look at the places",
            )
