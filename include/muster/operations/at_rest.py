"""
Whether anything puts another state under a workload while it is captured: a restore to where it is, its undo, a rollback.

A cut beside one of them would hold a part of what was and a part of what comes: a state that never existed. Each tells in the audit trail
when it begins and how it ends; so this is known on every machine, whoever began it.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from muster.domain.recovery_point import RecoveryPoint
from muster.errors import SourceChanged
from muster.vault.vault import AuditRecord, Vault

BEGUN, DONE = "begun", "done"
RESTORE = "restore"
MOVERS = {RESTORE: "a restore", "undo": "an undo", "rollback": "a rollback"}
"""Actions of records, and what they are called."""
WHOLE = ("passed", DONE)
"""Outcomes after which the workload is in one state, also where something before it was killed."""
LONGEST = timedelta(hours=24)
"""For how long something that began and told no end is taken for being at work; a process that was killed tells none."""

logger = logging.getLogger(__name__)


def require_at_rest(vault: Vault, workload: str, now: datetime, since: datetime | None = None) -> None:
    """
    See that nothing is at work, nor was since a moment, if one is given.

    :raises SourceChanged: if something is, or was
    """
    running: dict[tuple[str, str], AuditRecord] = {}
    ended: list[AuditRecord] = []
    for record in vault.records_since(min(now - LONGEST, since or now)):
        if record.action not in MOVERS or record.subject.partition("/")[0] != workload:
            continue
        if record.outcome == BEGUN:
            running[record.action, record.subject] = record
            continue
        over = list(running) if record.outcome in WHOLE else [(record.action, record.subject)]
        begun = [running.pop(one) for one in over if one in running]
        if since and record.at >= since:
            ended += begun
    for record in (*running.values(), *ended):
        raise SourceChanged(
            f"{MOVERS[record.action]} of {record.subject}, begun at {record.at:%Y-%m-%d %H:%M:%SZ} by "
            f"{record.actor.name}@{record.actor.host}, moves {workload} while it is captured",
            "take the snapshot when that has ended; if it was killed, run it again to its end, or undo it",
        )


def tell_begun(vault: Vault, point: RecoveryPoint, component: str) -> None:
    """Record that a component goes back to where it lives; where nothing can be recorded, it is not kept from that."""
    if not vault.record_if_possible(RESTORE, f"{point.workload}/{point.point}", BEGUN, {"component": component}):
        logger.warning("take no snapshot of %s meanwhile: nothing keeps it from one", point.workload)
