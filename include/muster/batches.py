"""What comes one after the other, some at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items, the last one maybe shorter; nothing is taken before it is asked for. As `itertools.batched` of Python 3.12."""
    waiting = iter(items)
    while batch := list(islice(waiting, size)):
        yield batch


def batched_by(
    weight: Callable[[Item], int], items: Iterable[Item], heaviest: int, most: int | None = None
) -> Iterator[list[Item]]:
    """
    Lists whose items weigh up to `heaviest` together; one that weighs more by itself is alone in its own.

    :param most: items in a list; None for any number
    """
    batch: list[Item] = []
    held = 0
    for item in items:
        weighs = weight(item)
        if batch and (held + weighs > heaviest or len(batch) == most):
            yield batch
            batch, held = [], 0
        batch.append(item)
        held += weighs
    if batch:
        yield batch
