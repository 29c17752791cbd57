"""What a restore would do, and why it would refuse."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from muster import errors
from muster.domain.content import TreeRef
from muster.domain.recovery_point import PointStatus
from muster.domain.restore_target import RestoreTarget

ORIGIN = "origin"
_SECRET_OPTION = re.compile(r"([?&][^=&#]*(?:passw|pwd|secret|token|key|sig|credential)[^=&#]*=)[^&#]+", re.IGNORECASE)
RESTORED_KINDS = ("dataset", "registry", "environment", "configuration")


@dataclass(frozen=True, slots=True)
class Action:
    """One component that would be restored: how much, and to where (without secrets)."""

    component: str
    where: str
    files: int
    size: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """
    Why a component may not be restored to its place.

    :param kind: name of the error's class in `muster.errors`
    """

    component: str
    kind: str
    message: str
    hint: str

    @property
    def error(self) -> type[errors.PermanentError]:
        """The error's class."""
        found: type[errors.PermanentError] = getattr(errors, self.kind, errors.Refused)
        return found


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """
    What a restore would do.

    :param skipped: components that would not be restored, each with the reason
    :param refusals: why nothing may be restored at all; empty when the plan can be applied
    :param warnings: what a person should know before saying yes
    """

    workload: str
    point: str
    taken_at: datetime
    target: str
    actions: tuple[Action, ...]
    skipped: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Plain bytes that would be written."""
        return sum(action.size for action in self.actions)

    def approve(self) -> None:
        """
        Let the plan pass, or raise everything that forbids it, under the kind of the first reason.

        :raises PermanentError: of the first refusal's kind
        :raises Refused: if there is nothing to restore
        """
        if self.refusals:
            first = self.refusals[0]
            raise first.error("; ".join(f"{r.component}: {r.message}" for r in self.refusals), first.hint)
        if not self.actions:
            raise errors.Refused(
                f"there is nothing to restore from {self.point} to {self.target}", "; ".join(self.skipped)
            )


def draw_plan(status: PointStatus, target: RestoreTarget) -> RestorePlan:
    """The plan for a point and a target as far as both can be known without looking at the target itself."""
    point = status.point
    actions: list[Action] = []
    skipped: list[str] = []
    refusals: list[Refusal] = []
    for component in point.components:
        if component.kind not in RESTORED_KINDS:
            continue
        where = place_of(target, component.kind, component.name)
        if where is None and target.name == ORIGIN:
            refusals.append(_homeless(component.label))
        elif where is None:
            skipped.append(f"{component.label}: the target {target.name} has no place for it")
        else:
            actions.append(_action(component.label, where, component.tree))
    warnings = [f"point {point.point} is marked suspect: {'; '.join(status.doubts)}"] if status.suspect else []
    warnings += [f"point {point.point} is incomplete: {missing}" for missing in status.incomplete]
    return RestorePlan(
        point.workload,
        point.point,
        point.taken_at,
        target.name,
        tuple(actions),
        tuple(skipped),
        tuple(refusals),
        tuple(warnings),
    )


def place_of(target: RestoreTarget, kind: str, name: str) -> str | None:
    """Where a component would go, in words that hold no secret; None if the target has no place for it."""
    if kind == "dataset":
        return target.datasets.get(name)
    if kind == "registry" and target.server:
        return without_secrets(target.server)
    if kind == "registry":
        return without_secrets(target.store) if target.store and target.artifacts else None
    return target.environment if kind == "environment" else target.configuration


def without_secrets(url: str) -> str:
    """A URL with user and password taken out, wherever they stand: ``postgresql://…@host/db?sslpassword=…``."""
    scheme, separator, rest = url.partition("://")
    before, at, after = rest.rpartition("@")
    shown = f"{scheme}{separator}…@{after}" if separator and at and before else url
    return _SECRET_OPTION.sub(r"\1…", shown)


def _action(label: str, where: str, tree: TreeRef) -> Action:
    return Action(label, where, tree.files, tree.size)


def _homeless(label: str) -> Refusal:
    return Refusal(
        label,
        "Refused",
        "the catalog no longer says where it lived, and a restore to origin leaves nothing out",
        "put it back into the catalog, or restore to a folder",
    )
