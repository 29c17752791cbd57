"""
What a registry has, by name, and what of it is there no more: a pure comparison of two points.

MLflow sends no event when something is deleted, so only the comparison tells. A model that was renamed is gone under its name, and is
named, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

ABOUT = "about.json"
"""Where `Holdings` lie in the stored tree of a registry. By its name it is the first of all: to find it, no list is read to its end."""
KEPT = "kept"
"""Folder of a registry that was captured through an API: what no API can make again, since it gives no secrets. It is there for people."""
MOST_NAMED = 20
"""Of a list in the manifest, a mark or a log, so many things are named, and the rest is counted."""
LONGEST_NAME = 80
_NUMBERS = 10

Models = Mapping[str, Mapping[str, Any]]
"""``{model: {"versions": [1, 3], "aliases": {"champion": 3}}}``"""


@dataclass(frozen=True, slots=True)
class Missing:
    """
    Artifacts that a registry names and that are not there, or not all of them.

    :param what: whose they are: ``version 7 of model m of run r1``
    :param path: where they should be
    :param size: bytes that should be there; None if nobody knows
    :param found: bytes that are there; None if there is no file at all
    """

    what: str
    path: str
    size: int | None
    found: int | None = None

    def __str__(self) -> str:
        if self.found is not None:
            return f"{self.what} has {self.found} of {self.size} bytes of artifacts at {self.path}"
        size = "" if self.size is None else f" ({self.size} bytes)"
        return f"{self.what} has no artifacts at {self.path}{size}"


@dataclass(frozen=True, slots=True)
class Holdings:
    """
    ``about.json`` of a captured registry: what the manifest does not tell, since anybody may read that who reads the store.

    :param experiments: id to name of those that are not deleted
    :param prompts: which of the models are prompts
    :param missing: artifacts that were named and not there
    :param others: what else people make by name, such as webhooks and gateway endpoints: id to name, by kind
    :param made: when and of which run each version was made, by model and number: MLflow counts from 1 again when a model was deleted
    """

    experiments: dict[str, str] = field(default_factory=dict)
    prompts: tuple[str, ...] = ()
    missing: tuple[Missing, ...] = ()
    others: dict[str, dict[str, str]] = field(default_factory=dict)
    made: dict[str, dict[str, str]] = field(default_factory=dict)


def deleted(before: Holdings | None, models_before: Models, now: Holdings | None, models: Models) -> list[str]:
    """
    What the point before had and this one has not, each in a phrase: models and prompts with all of theirs in one, then versions and
    aliases of those that are still there, then experiments, then others, as far as both points tell of their kind.

    :param before: None if that point does not tell: then models, versions and aliases alone are compared
    """
    prompts = set(before.prompts if before else ()) | set(now.prompts if now else ())
    found: list[str] = []
    for name, earlier in sorted(models_before.items()):
        kind = "prompt" if name in prompts else "model"
        found += _gone(kind, name, earlier, models.get(name))
        if before and now:
            found += _replaced(kind, name, before.made.get(name, {}), now.made.get(name, {}))
    if before and now:
        experiments = sorted(before.experiments.items(), key=lambda item: (len(item[0]), item[0]))
        found += [f"experiment {shown(name)} ({id_})" for id_, name in experiments if id_ not in now.experiments]
        for kind, names in sorted(before.others.items()):
            there = now.others.get(kind, names)
            found += [f"{kind} {shown(name)} ({id_})" for id_, name in sorted(names.items()) if id_ not in there]
    return found


def bounded(phrases: Sequence[str], most: int = MOST_NAMED) -> list[str]:
    """As many as are named in the clear, and how many more there are."""
    more = len(phrases) - most
    return [*phrases[:most], *([f"and {more} more"] if more > 0 else [])]


def counted(what: str, phrases: Sequence[str]) -> dict[str, Any]:
    """What details and records say of things that are gone: their number, and the first of them by name. Nothing if none is."""
    return {what: {"count": len(phrases), "named": bounded(phrases)}} if phrases else {}


def shown(name: str) -> str:
    """A name that somebody gave, fit for a line of a log."""
    plain = "".join(c if c.isprintable() else " " for c in name)
    return plain if len(plain) <= LONGEST_NAME else f"{plain[:LONGEST_NAME]}…"


def _replaced(kind: str, name: str, before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    """Versions of which only the number is the same."""
    for version, made in before.items():
        if now.get(version, made) != made:
            yield f"version {version} of {kind} {shown(name)}, in whose place another one was made"


def _gone(kind: str, name: str, earlier: Mapping[str, Any], now: Mapping[str, Any] | None) -> Iterator[str]:
    versions, aliases = list(earlier.get("versions", ())), dict(earlier.get("aliases", {}))
    if now is None:
        of = [f"versions {', '.join(bounded([str(v) for v in versions], _NUMBERS))}"] if versions else []
        of += [f"aliases {', '.join(bounded([shown(a) for a in aliases], _NUMBERS))}"] if aliases else []
        yield f"{kind} {shown(name)}" + (f" with {' and '.join(of)}" if of else "")
        return
    left, named = set(now.get("versions", ())), now.get("aliases", {})
    yield from (f"version {version} of {kind} {shown(name)}" for version in versions if version not in left)
    yield from (
        f"alias {shown(alias)} of {kind} {shown(name)}, which was version {version}"
        for alias, version in aliases.items()
        if alias not in named
    )
