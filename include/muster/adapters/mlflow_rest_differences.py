"""Where a document that was captured and one that came back differ, said shortly."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from muster.codec import canonical

Json = Any
_SHOWN = 60
_NOTHING = object()


def difference(wanted: Json, found: Json, at: str) -> str:
    """
    The first field that is another one, with both values.

    :param at: name of what is compared
    """
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        keys = sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key))
        if keys:
            return difference(wanted.get(keys[0], _NOTHING), found.get(keys[0], _NOTHING), f"{at}.{keys[0]}")
    if isinstance(wanted, list) and isinstance(found, list) and any(isinstance(i, dict | list) for i in wanted + found):
        return _of_lists(wanted, found, at)
    return f"{at} was {_shown(wanted)} and is {_shown(found)}"


def _of_lists(wanted: list[Json], found: list[Json], at: str) -> str:
    """Of what only one of them has, the first: they are held to each other without regard to their order."""
    there, back = ({canonical(item) for item in items} for items in (wanted, found))
    lost = [n for n, item in enumerate(wanted) if canonical(item) not in back]
    new = [n for n, item in enumerate(found) if canonical(item) not in there]
    if lost and new:
        return difference(wanted[lost[0]], found[new[0]], f"{at}[{lost[0]}]")
    if lost or new:
        n = (lost or new)[0]
        return difference(wanted[n] if lost else _NOTHING, found[n] if new else _NOTHING, f"{at}[{n}]")
    return f"{at} had {len(wanted)} items and has {len(found)}"


def _shown(value: Json) -> str:
    if value is _NOTHING:
        return "not there"
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
