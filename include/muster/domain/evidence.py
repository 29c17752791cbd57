"""What a report proves: who, what happened when, what failed first, and which records of the audit trail tell of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal


@dataclass(frozen=True, slots=True)
class ExpectationResult:
    """
    One expectation over one table.

    :param expected: of which column or table, with its arguments
    :param found: in figures; no row of the data
    :param file: the file that was judged, or empty for all of them together
    """

    expected: str
    met: bool
    found: str
    file: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """
    One line of a timeline.

    :param source: ``measured`` by the one who recovered, told by a ``record`` of the audit trail, an ``approval``, ``given`` by whoever
        began it, or ``assumed`` since nobody gave it
    :param ended_at: of a piece of work; None for what has no length
    :param who: empty where a machine did it
    :param record: digest of the audit record that tells of it, or empty
    """

    at: datetime
    what: str
    source: Literal["measured", "record", "approval", "given", "assumed"]
    outcome: str = ""
    who: str = ""
    ended_at: datetime | None = None
    record: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """
    One thing that went wrong.

    :param what: component, check or step
    :param at: when it was known; None if nobody noted it
    """

    what: str
    why: str
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class AuditProof:
    """
    Where a report stands in the audit trail of its vault.

    :param vault: its id
    :param fingerprint: of the vault's first public key, by which it is known
    :param before: digest of the newest record before the run; empty if the run created the vault, or none before it could be read
    :param heads: digests of the newest records when the report was written
    :param count: number of all records then
    :param records: how many of them were written during the run
    :param complete: whether every record of the run, and shortly before it, could be read, and all that those of the run follow are there
    :param made: whether the first record of all is among those of the run, so that none was before it
    """

    vault: str
    url: str
    fingerprint: str
    before: str
    heads: tuple[str, ...]
    count: int
    records: int
    complete: bool
    made: bool = False


def first_of(failures: tuple[Failed, ...]) -> Failed | None:
    """What failed first: the earliest whose time is known, or else the first that was told."""
    timed = [(failed.at, number) for number, failed in enumerate(failures) if failed.at is not None]
    number = min(timed)[1] if timed else 0
    return failures[number] if failures else None
