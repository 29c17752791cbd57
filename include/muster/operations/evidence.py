"""Gather what a report proves: the timeline, what failed first, and where it stands in the audit trail."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime

from muster.domain.approval import Approval
from muster.domain.evidence import AuditProof, Event, Failed
from muster.domain.recovery_report import ComponentOutcome, CutOver, SmokeOutcome, ValidationOutcome
from muster.domain.timing import Span
from muster.errors import MusterError
from muster.vault.audit import AuditRecord
from muster.vault.header import Actor
from muster.vault.vault import Vault

logger = logging.getLogger(__name__)


def named(actor: Actor) -> str:
    """``alice@host (cli)``."""
    return f"{actor.name}@{actor.host} ({actor.via})"


def trail_of_run(vault: Vault, workload: str, point: str, began: datetime) -> tuple[list[Event], AuditProof | None]:
    """
    What the audit trail tells of a run, and where it stands in the trail.

    A trail that cannot be read keeps nobody from his report: then there is no proof, and the log says why.
    """
    try:
        records, proof = vault.auditing.since(began)
    except MusterError as error:
        logger.warning("the audit trail of %s cannot be read for the report: %s", vault.url, error.message)
        return [], None
    of_run = [record for record in records if _of_run(record, vault.actor, workload, point)]
    return [_told(record) for record in of_run], proof


def timeline(
    incident_at: datetime,
    detected_at: datetime,
    spans: Iterable[Event],
    told: Iterable[Event],
    approval: Approval | None,
    failures: Iterable[Failed],
    finished_at: datetime,
) -> tuple[Event, ...]:
    """
    Everything that is known to have happened, in order.

    Nobody measures a loss. Where no time before the start was given for it, as in a drill, it is assumed to be that of the start.
    """
    given = incident_at < detected_at
    lost = Event(incident_at, "the loss, as it was given", "given")
    events = [lost if given else Event(incident_at, "the loss is assumed here", "assumed")]
    events.append(Event(detected_at, "the recovery was started", "measured"))
    events += [*spans, *told]
    if approval:
        what = f"plan {approval.plan_digest[:16]} approved"
        events.append(Event(approval.approved_at, what, "approval", approval.reason, approval.approved_by))
    events += [Event(f.at, f.what, "measured", f"failed: {f.why}") for f in failures if f.at]
    events.append(Event(finished_at, "concluded", "measured"))
    return tuple(sorted(events, key=lambda event: event.at))


def work(
    decided: Span,
    components: Iterable[ComponentOutcome],
    validations: Iterable[ValidationOutcome],
    smoke: Iterable[SmokeOutcome],
    cut_over: CutOver | None,
) -> list[Event]:
    """Each piece of work that came to an end, and when the newest of what came back was written."""
    components = list(components)
    done = [_piece(decided, "plan and approval", "decided")]
    done += [_piece(one.span, one.component, "restored") for one in components]
    done += [_piece(v.span, f"validation/{v.dataset}", "met" if v.success else "unmet") for v in validations]
    done += [_piece(s.span, s.model, "equal" if s.equal else "different") for s in smoke]
    if cut_over and cut_over.span:
        done.append(_piece(cut_over.span, cut_over.span.name, cut_over.outcome))
    return done + [
        Event(
            one.newest.at,
            f"{one.newest.what} {one.newest.id[:12]}",
            "measured",
            f"the newest in {one.component} that came back",
        )
        for one in components
        if one.newest and one.newest.at
    ]


def _piece(span: Span, what: str, outcome: str) -> Event:
    return Event(span.started_at, what, "measured", outcome, ended_at=span.finished_at)


def _told(record: AuditRecord) -> Event:
    what = f"{record.action} {record.subject}"
    return Event(record.at, what, "record", decided_by(record), named(record.actor), record=record.digest)


def _of_run(record: AuditRecord, actor: Actor, workload: str, point: str) -> bool:
    """By who wrote it (a run of Airflow has a name of its own), or by what it is about."""
    same = record.actor == actor or (record.actor.via == actor.via and actor.via != "cli")
    return same or point in record.subject or workload in record.subject.split("/")


def decided_by(record: AuditRecord) -> str:
    """How what was done ended; of a decision also who made it, which need not be the one whose run wrote it down."""
    person = record.details.get("decided_by")
    return f"{record.outcome} by {person}" if person else record.outcome
