"""Remove objects: what a lock protects is left alone, what the store refuses is named, and nothing of it counts as removed."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime

from muster.errors import NotFound, Refused, StoreUnavailable
from muster.ports import BlobStore

_REMOVERS = 8


@dataclass(slots=True)
class Removals:
    """
    What became of objects that were to be removed; each key is in one of the four.

    :param gone: not there any more, since somebody else removed them
    :param locked: by key, what protects it
    :param refused: by key, what the store said
    """

    removed: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    locked: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


class Remover:
    """
    Removes objects of one store.

    :param now: the present by the clock that is behind, of the store's and ours: a lock that has ended by one may not by the other
    """

    def __init__(self, store: BlobStore, now: datetime) -> None:
        self._store, self._now = store, now

    def remove(self, keys: Iterable[str]) -> Removals:
        """
        Remove objects in parallel; every one is tried.

        :raises StoreUnavailable: if the store did not answer for some, with their number, when all others were tried
        """
        wanted = list(keys)
        with ThreadPoolExecutor(_REMOVERS) as removers:
            outcomes = list(removers.map(self._outcome, wanted))
        done = Removals()
        failures = [outcome for outcome in outcomes if isinstance(outcome, StoreUnavailable)]
        for key, outcome in zip(wanted, outcomes, strict=True):
            _sort_in(done, key, outcome)
        if failures:
            raise StoreUnavailable(
                f"{len(failures)} of {len(wanted)} objects could not be removed: {failures[0].message}",
                "run it again: it goes on where this one ended",
            ) from failures[0]
        return done

    def protection(self, key: str) -> str | None:
        """
        What keeps an object from being removed, as the store has it; None if nothing does.

        :raises NotFound: if it is not there
        """
        locks = self._store.locks()
        if locks is None:
            return None
        lock = locks.of(key)
        if lock.held:
            return "under a legal hold of the store"
        if lock.until and lock.until > self._now:
            return f"locked by the store until {lock.until:%Y-%m-%d %H:%M:%S}Z"
        return None

    def _outcome(self, key: str) -> str | NotFound | Refused | StoreUnavailable | None:
        try:
            if protection := self.protection(key):
                return protection
            self._store.delete(key)
        except (NotFound, Refused, StoreUnavailable) as error:
            return error
        return None


def _sort_in(done: Removals, key: str, outcome: str | Exception | None) -> None:
    if outcome is None:
        done.removed.append(key)
    elif isinstance(outcome, str):
        done.locked[key] = outcome
    elif isinstance(outcome, NotFound):
        done.gone.append(key)
    elif isinstance(outcome, Refused):
        done.refused[key] = outcome.message
