"""Which registered models are meant: by name or shell pattern, whole or by one alias."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from muster.errors import NotFound, UsageError

DEFAULT_WORKSPACE = "default"
SHOWN = 10


@dataclass(frozen=True, slots=True)
class Wanted:
    """
    Models that somebody asks for.

    :param pattern: a name or shell pattern; ``workspace/name`` for a model of another workspace than the default one
    :param alias: only what this alias points at; None for all versions and aliases
    """

    pattern: str
    alias: str | None = None

    @staticmethod
    def parse(text: str) -> Wanted:
        """
        ``NAME`` or ``NAME@ALIAS``.

        :raises UsageError: if one of them is empty
        """
        pattern, separator, alias = text.rpartition("@") if "@" in text else (text, "", "")
        if not pattern or (separator and not alias):
            raise UsageError(
                f"{text!r} names no registered model", "write NAME, a pattern such as flight-*, or NAME@ALIAS"
            )
        return Wanted(pattern, alias or None)

    def __str__(self) -> str:
        return f"{self.pattern}@{self.alias}" if self.alias else self.pattern

    def matches(self, label: str) -> bool:
        """Whether a model is meant."""
        return label == self.pattern or fnmatchcase(label, self.pattern)


def label_of(workspace: str | None, name: str) -> str:
    """How a model is called where there may be several workspaces."""
    return name if workspace in (None, DEFAULT_WORKSPACE) else f"{workspace}/{name}"


def selected(wanted: Iterable[Wanted], models: Mapping[str, Mapping[str, Any]]) -> dict[str, set[str] | None]:
    """
    The models that are meant, each with the aliases that are; None if it is meant as a whole.

    :param models: label to aliases
    :raises NotFound: if a pattern matches nothing, or no model that it matches has the alias
    """
    found: dict[str, set[str] | None] = {}
    for one in wanted:
        matching = [label for label in models if one.matches(label)]
        if not matching:
            raise NotFound(f"there is no registered model {one.pattern}", f"there is: {_listed(models)}")
        having = [label for label in matching if one.alias is None or one.alias in models[label]]
        if not having:
            known = {alias for label in matching for alias in models[label]}
            raise NotFound(f"{one.pattern} has no alias {one.alias}", f"it has: {_listed(known)}")
        for label in having:
            before = found.setdefault(label, set())
            found[label] = None if one.alias is None or before is None else before | {one.alias}
    return found


def means(part: Mapping[str, Any] | None, label: str) -> bool:
    """
    Whether a point is meant to have all of a model, if there is one of that name.

    :param part: what the details of a registry have as ``selective``; None if the whole store was taken
    """
    if part is None:
        return True
    return label in part["models"] or any(Wanted(pattern).matches(label) for pattern in part.get("asked", ()))


def same_part(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> bool:
    """Whether two points were asked for the same models, whichever of these there were; both as in `means`."""
    if one is None or other is None:
        return one is other
    told = "asked" if "asked" in one and "asked" in other else "models"
    return set(one[told]) == set(other[told])


def _listed(names: Iterable[str]) -> str:
    known = sorted(names)
    more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
    return (", ".join(known[:SHOWN]) or "none") + more
