"""Places that make room for a restore, and get back what they held."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Kept:
    """
    What lies at a place, and beside it under the stamp of a restore; in words for people, without secrets.

    :param before: what was there before the restore
    :param undone: what the restore had made, if it was undone
    :param there: what is there now
    """

    before: tuple[str, ...]
    undone: tuple[str, ...]
    there: tuple[str, ...]


class Aside(Protocol):
    """
    A place whose content can be moved out of the way, whole, and back again. Nothing is ever deleted but by `discard`.

    What changes something is safe to repeat, and returns the places that it touched, in words for people, without secrets.
    """

    def kept(self, stamp: str) -> Kept:
        """
        Look, and change nothing.

        :raises Refused: if nothing lies aside, and the folder that it would lie in is not there either
        :raises StoreUnavailable: if the place cannot be looked at
        """

    def set_aside(self, stamp: str) -> tuple[str, ...]:
        """
        Move what is there to a name of its own, beside it or where it is in nobody's way. Nothing is done where nothing is.

        :param stamp: names the restore for which it makes room; letters and digits
        :raises Refused: if something of this name lies there already, or the place cannot be moved
        """

    def put_back(self, stamp: str) -> tuple[str, ...]:
        """Move it back. What was restored in its place is moved aside in turn, and kept until it is discarded."""

    def discard(self, stamp: str, only: Collection[str]) -> tuple[str, ...]:
        """
        Delete what was moved aside under this stamp, for ever.

        :param only: what may be deleted, in the words of `kept`
        :raises Refused: if anything else lies aside under this stamp, or something cannot be deleted
        """
