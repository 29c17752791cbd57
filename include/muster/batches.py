"""What comes one after the other, some at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items, the last one maybe shorter; nothing is taken before it is asked for. As `itertools.batched` of Python 3.12."""
    waiting = iter(items)
    while batch := list(islice(waiting, size)):
        yield batch
