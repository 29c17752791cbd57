"""What the doctor tries on a vault: its store's guarantees, what is hidden in it, its audit trail, the locks of its points."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from random import SystemRandom
from typing import TYPE_CHECKING

from muster.cli.finding import Finding, Verdict, tried
from muster.cli.session import Session
from muster.cli.wording import moment
from muster.errors import IntegrityError, MusterError, SourceInvalid
from muster.report import seconds_in_words

if TYPE_CHECKING:
    from muster.catalog import Workload
    from muster.domain.recovery_point import RecoveryPoint
    from muster.ports import Locks

LOCKS_LOOKED_AT = 25
"""How many packs of a point are asked for their locks, chosen anew each time."""

_VERDICTS: dict[str, Verdict] = {"kept": "ok", "broken": "fail", "absent": "none", "untold": "untold"}


def examine_vault(session: Session, name: str, *, uncover: bool) -> Iterator[Finding]:
    """
    All findings about a vault.

    :param uncover: bring to light what somebody has hidden, instead of only naming it
    """
    opened = tried(f"vault {name} opens", lambda: session.vault(name).url)
    yield opened
    if opened.ok:
        yield from _proofs(session, name)
        yield tried(f"vault {name}: nothing is hidden", lambda: _hidden(session, name, uncover))
        yield _holders(session, name)
        yield tried(f"vault {name} audit chain", lambda: f"{len(session.vault(name).audit())} records, whole")


def _proofs(session: Session, name: str) -> Iterator[Finding]:
    """Each guarantee of the store, tried by itself."""
    try:
        for proof in session.store(name).prove():
            yield Finding(f"vault {name}: {proof.guarantee}", _VERDICTS[proof.verdict], proof.found, proof.mend)
    except MusterError as error:
        yield Finding(f"vault {name}: its guarantees can be tried", "fail", error.message, error.hint)


def _holders(session: Session, name: str) -> Finding:
    """Whether enough people can open it, and have shown it: said while that can still be mended."""
    check = f"vault {name} holders"
    try:
        holders = session.vault(name).holders
        found, warnings = holders.current(), holders.warnings()
    except MusterError as error:
        return Finding(check, "fail", error.message, error.hint)
    if warnings:
        return Finding(check, "fail" if len(found) < 2 else "none", warnings[0], "see docs/keys.md")
    return Finding(check, "ok", f"{len(found)} can open it: {', '.join(holder.slot.name for holder in found)}")


def _hidden(session: Session, name: str, uncover: bool) -> str:
    versions = session.store(name).versions()
    if versions is None:
        return "the store keeps nothing that could be"
    found = list(versions.hidden())
    if found and not uncover:
        first = found[0]
        raise IntegrityError(
            f"{len(found)} objects lie under what somebody has laid over them: {first.key} under a {first.by} of {moment(first.at)}",
            "run muster doctor --uncover, and find out who writes to the store",
        )
    for hidden in found:
        versions.uncover(hidden.key)
        session.vault(name).record("uncover", hidden.key, "uncovered", {"by": hidden.by})
    return (
        f"{len(found)} objects were, and are uncovered now"
        if found
        else "no object lies under another or a delete marker"
    )


def check_lock(session: Session, workload: Workload, point: RecoveryPoint | None) -> str:
    """
    Whether a workload's points are locked as its catalog entry wants it.

    :param point: its latest good point; None if there is none
    :raises SourceInvalid: if its store cannot lock
    :raises IntegrityError: if its latest point is not locked as it says
    """
    wanted = workload.retention.lock if workload.retention else None
    if wanted is None:
        return "its retention asks for none"
    locks = session.store(workload.vault).locks()
    words = seconds_in_words(wanted.total_seconds())
    if locks is None:
        raise SourceInvalid(
            f"its retention asks for a lock of {words}, and the store of vault {workload.vault} cannot lock: its points are "
            "taken, and whoever has the store's credentials can delete them",
            "put the vault into a bucket with Object Lock or its equal (docs/stores.md), or take lock out of the retention",
        )
    if point is None:
        return f"{words} for every point to come"
    if point.locked_until is None:
        raise IntegrityError(
            f"point {point.point} is not locked, though its retention asks for {words}",
            f"run: muster snapshot {workload.workload}",
        )
    return _looked_at(locks, point, point.locked_until)


def _looked_at(locks: Locks, point: RecoveryPoint, promised: datetime) -> str:
    """Some locks of a point, as the store has them."""
    from muster.vault.layout import pack_key, point_key

    modes = []
    packs = SystemRandom().sample(point.packs, min(LOCKS_LOOKED_AT, len(point.packs)))
    for key in (point_key(point.workload, point.point), *map(pack_key, packs)):
        lock = locks.of(key)
        modes.append(lock.mode)
        if lock.until is None or lock.until < promised:
            raise IntegrityError(
                f"point {point.point} promises to be locked until {moment(promised)}, and the store says of {key}: "
                + (f"until {moment(lock.until)}" if lock.until else "not locked"),
                "a lock was lifted: find out who may do that, and take a snapshot, which locks anew what it reuses",
            )
    lesser = modes.count("governance") if "compliance" in modes else 0
    also = f"; {lesser} of these still in governance mode, as they were locked at first" if lesser else ""
    return f"until {moment(promised)}; the manifest and {len(packs)} of {len(point.packs)} packs were looked at{also}"
