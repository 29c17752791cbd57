"""What a restore would do, and why it would refuse."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import PurePosixPath
from typing import Literal

from muster import errors
from muster.domain.recovery_point import Component, PointStatus
from muster.domain.restore_policy import Verdict
from muster.domain.restore_request import RestoreRequest, wanted_of
from muster.domain.restore_target import RestoreTarget

ORIGIN = "origin"
_SECRET_OPTION = re.compile(r"([?&][^=&#]*(?:passw|pwd|secret|token|key|sig|credential)[^=&#]*=)[^&#]+", re.IGNORECASE)
POLICY = "policy/"
"""Before the name of a policy, where a refusal is not about a component."""
_CONTAINER = re.compile(r"[a-z0-9$-]{3,63}")

Effect = Literal["create", "replace", "keep"]
"""Nothing is there; what is there is moved aside; it is there already, whole and equal."""


@dataclass(frozen=True, slots=True)
class Action:
    """
    One component that would be restored: how much, and to where (without secrets).

    :param digest: SHA-256 of its list of files, as the manifest has it
    :param also: other places that it takes, in words: artifact root, DVC remote, users' database
    :param path: what of it, relative to the repository or the project; empty for all of it
    """

    component: str
    where: str
    files: int
    size: int
    digest: str
    also: tuple[str, ...] = ()
    path: str = ""
    effect: Effect = "create"


@dataclass(frozen=True, slots=True)
class Refusal:
    """
    Why something may not be done to the place of a component, or a policy forbids all of it.

    :param component: label of the component, ``policy/`` and the policy's name, or the stamp of a restore that is to be undone
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

    @staticmethod
    def of(component: str, error: errors.PermanentError) -> Refusal:
        """What an error forbids."""
        return Refusal(component, type(error).__name__, error.message, error.hint)


def at_work(component: str, running: Iterable[str]) -> list[Refusal]:
    """What forbids something while these, in words, are at work on the same workload."""
    hint = "wait until it has ended, or end it"
    return [Refusal(component, "Refused", f"{busy} is at work on the same workload", hint) for busy in running]


def digest_of(said: Sequence[object]) -> str:
    """Hex SHA-256 of what a plan says, which must be plain JSON."""
    return hashlib.sha256(json.dumps(said, separators=(",", ":")).encode()).hexdigest()


def require_none(refusals: Sequence[Refusal]) -> None:
    """
    Let a plan without refusals pass, or raise all of them, under the kind of the first.

    :raises PermanentError: of the first refusal's kind
    """
    if refusals:
        first = refusals[0]
        raise first.error("; ".join(f"{r.component}: {r.message}" for r in refusals), first.hint)


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """
    What a restore would do.

    :param skipped: components that would not be restored, each with the reason
    :param refusals: why nothing may be restored at all; empty when the plan can be applied
    :param warnings: what a person should know before saying yes
    :param verdicts: what each policy says, and why
    :param override: why it goes on although a policy forbids it; empty for not at all
    :param cut_over: what is done to put the place to use when all is back and proven, in words
    :param lost_s: seconds between the point and the loss: what was written in them does not come back
    :param expected_s: seconds that restoring and checking took before, from the workload's history; None if there is none
    """

    workload: str
    point: str
    taken_at: datetime
    target: str
    actions: tuple[Action, ...]
    skipped: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    warnings: tuple[str, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    override: str = ""
    lost_s: float = 0.0
    expected_s: float | None = None
    cut_over: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """
        SHA-256 over what an approval is for: point, place, components, what happens to what is there, what is run to put it to use, and
        what was overridden.

        An override is in it with its reason, whatever it is needed for: something that was at work may have ended when it is looked again.
        What changes from one look to the next without changing what is done, such as free space, is not in it.
        """
        actions = [(a.component, a.path, a.where, a.also, a.files, a.size, a.digest, a.effect) for a in self.actions]
        refused = sorted((r.component, r.kind) for r in self.refusals)
        said = [self.workload, self.point, self.target, actions, self.skipped, refused, self.override, self.cut_over]
        return digest_of(said)

    @property
    def size(self) -> int:
        """Plain bytes that would be written."""
        return sum(action.size for action in self.actions if action.effect != "keep")

    def judged(self, verdicts: Sequence[Verdict], override: str) -> RestorePlan:
        """The plan with what the policies say of it; what they forbid comes before what the places do."""
        forbidden = [Refusal(f"{POLICY}{v.policy}", "Refused", v.reason, v.hint) for v in verdicts if not v.passed]
        return replace(
            self,
            verdicts=tuple(verdicts),
            refusals=(*forbidden, *self.refusals),
            override=override,
        )

    def action(self, component: str) -> Action | None:
        """What would be done with a component, or None."""
        return next((action for action in self.actions if action.component == component), None)

    def require_allowed(self) -> None:
        """
        Let the plan pass, or raise everything that forbids it, under the kind of the first reason.

        :raises PermanentError: of the first refusal's kind
        :raises Refused: if there is nothing to restore
        """
        require_none(self.refusals)
        if not self.actions:
            raise errors.Refused(
                f"there is nothing to restore from {self.point} to {self.target}", "; ".join(self.skipped)
            )


def draw_plan(status: PointStatus, target: RestoreTarget, request: RestoreRequest) -> RestorePlan:
    """
    The plan for a point and a target as far as both can be known without looking at the target itself, and before it is judged.

    :raises NotFound: if the point does not have what is asked for
    :raises UsageError: if a path is asked for in a component of which only the whole is restored
    """
    point = status.point
    actions: list[Action] = []
    skipped: list[str] = []
    refusals: list[Refusal] = []
    for wanted in wanted_of(point, request.only):
        component = point.component(wanted.label)
        assert component is not None  # noqa: S101 - it was chosen from this point
        where = place_of(target, component.kind, component.name)
        if where is None and (target.name == ORIGIN or request.only):
            refusals.append(_homeless(component.label, target.name))
        elif where is None:
            skipped.append(f"{component.label}: the target {target.name} has no place for it")
        else:
            actions.append(_action(component, wanted.path, where, others_of(target, component.kind, component.name)))
    warnings = [f"point {point.point} is marked suspect: {'; '.join(status.doubts)}"] if status.suspect else []
    warnings += [f"point {point.point} is incomplete: {missing}" for missing in status.incomplete]
    return RestorePlan(
        workload=point.workload,
        point=point.point,
        taken_at=point.taken_at,
        target=target.name,
        actions=tuple(actions),
        skipped=tuple(skipped),
        refusals=tuple(refusals),
        warnings=tuple(warnings),
        lost_s=max(0.0, (request.at - point.taken_at).total_seconds()),
        cut_over=steps_of(target, request),
    )


def steps_of(target: RestoreTarget, request: RestoreRequest) -> tuple[str, ...]:
    """What is done to put the place to use in the end; nothing in a drill."""
    return target.switch.steps if target.switch and request.kind == "restore" else ()


def overlaps(plan: RestorePlan) -> list[Refusal]:
    """Components of which one would lie inside of another's place, or in the same: side by side, one would take away the other."""
    places = [(a, path) for a in plan.actions for path in local_places(a)]
    found: list[Refusal] = []
    for (one, inner), (other, outer) in itertools.permutations(places, 2):
        if one.component != other.component and inner.is_relative_to(outer):
            told = f"{inner} lies inside of {outer}, the place of {other.component}"
            hint = "give each a place of its own, or restore one after the other"
            if inner == outer:  # of one after the other, the second would move the first aside
                told = f"{inner} is the place of {other.component}, too"
                hint = (
                    "restore to a folder, where each has its own; in the catalog, make datasets of one repository one dataset with several "
                    "targets, and give each repository a remote of its own"
                )
            found.append(Refusal(one.component, "Refused", told, hint))
    return found


def local_places(action: Action) -> list[PurePosixPath]:
    """The places of an action that are paths of this machine."""
    return [path for where in (action.where, *action.also) if (path := _local(where)) is not None]


def _local(where: str) -> PurePosixPath | None:
    """A place as a path of this machine; None if it is elsewhere."""
    path = where.removeprefix("sqlite://").removeprefix("file://")
    return (
        None if "://" in path or not path.startswith("/") else PurePosixPath(os.path.normpath(f"/{path.lstrip('/')}"))
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


def others_of(target: RestoreTarget, kind: str, name: str) -> tuple[str, ...]:
    """What a component takes besides `place_of`, without secrets."""
    if kind == "dataset":
        places = [target.remotes.get(name)]
    elif kind == "registry" and not target.server:
        places = [target.artifacts, target.auth_store]
    else:
        places = []
    return tuple(without_secrets(place) for place in places if place)


def without_secrets(url: str) -> str:
    """
    A URL with user and password taken out, wherever they stand: ``postgresql://…@host/db?sslpassword=…``.

    What stands before the ``@`` of ``wasbs://container@account…`` is no secret, unless it is more than a name. Of what looks like a URL
    and is none (``s3:/key:secret@bucket``) nothing is shown before the ``@``.
    """
    scheme, separator, rest = url.partition("://")
    if not separator and "@" in url and ":" in url.rpartition("@")[0]:
        return f"…@{url.rpartition('@')[2]}"
    before, at, after = rest.rpartition("@")
    secret = separator and at and before and not (scheme == "wasbs" and _CONTAINER.fullmatch(before))
    shown = f"{scheme}{separator}…@{after}" if secret else url
    return _SECRET_OPTION.sub(r"\1…", shown)


def _action(component: Component, path: str, where: str, also: tuple[str, ...]) -> Action:
    tree = component.tree
    if path:
        return Action(component.label, f"{where}/{path}", tree.files, tree.size, tree.root.sha256, path=path)
    return Action(component.label, where, tree.files, tree.size, tree.root.sha256, also)


def _homeless(label: str, target: str) -> Refusal:
    if target != ORIGIN:
        return Refusal(
            label, "Refused", f"the target {target} has no place for it", "restore it to a folder, or leave it out"
        )
    return Refusal(
        label,
        "Refused",
        "the catalog no longer says where it lived, and a restore to origin leaves nothing out",
        "put it back into the catalog, or restore to a folder",
    )
