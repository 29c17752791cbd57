"""What somebody asks of a restore."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from muster.domain.content import checked_path
from muster.domain.recovery_point import RecoveryPoint
from muster.errors import IntegrityError, NotFound, UsageError

RESTORED_KINDS = ("dataset", "registry", "environment", "configuration")
PATH_KINDS = {"dataset": ("data", "repo"), "configuration": ("files",)}
"""Kinds of which a path can be restored, and the folders of their trees that hold the files of the repository or the project."""


@dataclass(frozen=True, slots=True)
class RestoreRequest:
    """
    What somebody asks of a restore, besides the point and the place.

    :param at: when the platform was lost; what was written after the point and before it is lost
    :param only: kinds (``registry``), components (``dataset/flights``), or paths in them (``dataset/flights/data/2013.csv``); all if empty
    :param replace: move what is in the way aside, instead of refusing
    :param override: why the restore goes on although a policy that can be overridden forbids it; empty for not at all
    """

    kind: Literal["restore", "drill"]
    at: datetime
    only: tuple[str, ...] = ()
    replace: bool = False
    override: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A component, or one path in it (relative to the repository or the project); empty for all of it."""

    label: str
    path: str = ""


def wanted_of(point: RecoveryPoint, only: tuple[str, ...]) -> tuple[Wanted, ...]:
    """
    The components of a point that are asked for, in the order of the manifest.

    :raises NotFound: if the point has no such component; the hint lists what it has
    :raises UsageError: if a path is asked for in a component of which only the whole is restored, twice, or none of what a tree can hold
    """
    labels = [component.label for component in point.components if component.kind in RESTORED_KINDS]
    if not only:
        return tuple(Wanted(label) for label in labels)
    found = [wanted for text in only for wanted in _wanted(text.rstrip("/"), labels)]
    for label in {wanted.label for wanted in found}:
        same = [wanted for wanted in found if wanted.label == label]
        if len(same) > 1:
            raise UsageError(f"{label} is asked for {len(same)} times", "name it once, or one path of it")
    return tuple(sorted(found, key=lambda wanted: labels.index(wanted.label)))


def _wanted(text: str, labels: list[str]) -> list[Wanted]:
    kind = [label for label in labels if label.split("/")[0] == text]
    if kind:
        return [Wanted(label) for label in kind]
    label = next((label for label in labels if text == label or text.startswith(f"{label}/")), None)
    if label is None:
        raise NotFound(f"the point has no component {text!r}", f"it has {', '.join(labels)}")
    path = text[len(label) + 1 :]
    if path and label.split("/")[0] not in PATH_KINDS:
        raise UsageError(
            f"of {label}, only the whole is restored", "a single model is moved back on its own; leave the path out"
        )
    return [Wanted(label, _typed_path(label, path) if path else "")]


def _typed_path(label: str, path: str) -> str:
    try:
        return checked_path(path)
    except IntegrityError as error:
        raise UsageError(
            f"{path!r} is no path in {label}", f"write it as it lies there: {label}/FOLDER/FILE, without . and .."
        ) from error


def below(kind: str, path: str, entry: str) -> str | None:
    """
    Where an entry of a component's tree lies below a path of it: empty if it is the path itself, None if it is elsewhere.

    :param entry: path in the tree, where the adapters put a component's files below folders of their own
    """
    for folder in PATH_KINDS[kind]:
        top = f"{folder}/{path}"
        if entry == top:
            return ""
        if entry.startswith(f"{top}/"):
            return entry[len(top) + 1 :]
    return None
