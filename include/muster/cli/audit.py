"""Commands about the audit trail: verify, export, anchor."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from muster.cli.points import to_list
from muster.cli.session import Session
from muster.cli.typed_keys import asked_secret
from muster.cli.wording import moment
from muster.errors import UsageError
from muster.operations.evidence import decided_by

if TYPE_CHECKING:
    from muster.operations.audit import Elsewhere
    from muster.ports import BlobStore
    from muster.vault.auditing import Auditing, AuditReport
    from muster.vault.vault import AuditRecord, Vault


@click.group()
def audit() -> None:
    """Who did what: a chain that nobody changes unnoticed."""


@audit.command("verify")
@click.option(
    "--last", default=10, show_default=True, type=click.IntRange(0), help="How many of the newest records to show."
)
@click.option(
    "--replica",
    "replicas",
    multiple=True,
    metavar="VAULT|URL",
    help="A copy of the vault, or another vault in which its trail was anchored; may be given again.  "
    "[replicas and anchored_in of the catalog]",
)
@click.option("--alone", is_flag=True, help="Ask no other place what it knows of the trail.")
@click.option(
    "--head", default="", metavar="DIGEST", help="Newest audit record that was seen elsewhere: it must be there still."
)
@click.pass_obj
def audit_verify(session: Session, last: int, replicas: Sequence[str], alone: bool, head: str) -> None:
    """Find what was removed, altered, reordered, or cut off.

    Checks digests, signatures and gaps, and that every record is there which a recovery point, a mark, a rotation, an earlier
    verification on this machine, or another place knows of: a replica, or a vault in which the trail is anchored.
    """
    from muster.operations.audit import prove
    from muster.operations.seen import SeenHeads

    names, seen = session.vault_names(), SeenHeads(session.state)
    if (replicas or head) and len(names) != 1:
        raise UsageError("a replica or an audit record is of one vault, and there are several", "name one with --vault")
    if replicas and alone:
        raise UsageError("--alone asks no other place, and --replica names one", "leave one of the two away")
    checked = []
    for name in names:
        vault = session.vault(name)
        elsewhere = None if alone else functools.partial(_elsewhere, session, name, replicas)
        report = prove(vault, seen.asked(vault, head.split()), elsewhere)
        seen.remember(vault, report.anchor.heads)
        checked.append((vault, report))
    document = {"audit": [_document(vault, report, last) for vault, report in checked]}
    session.screen.result(document, *(line for vault, report in checked for line in _lines(vault, report, last)))


@audit.command("export")
@click.option(
    "--since", metavar="TIME", help="Only records of this time and later, as 2026-11-23T02:00:00Z.  [all records]"
)
@click.pass_obj
def audit_export(session: Session, since: str | None) -> None:
    """Write the records as JSON lines, for a SIEM.

    One object a line, oldest first; docs/audit.md tells the fields. If the trail is not whole, what can be read is written all the
    same, and the exit code is 3.
    """
    from muster.operations.audit import not_whole

    begin = _time(since) if since else datetime.min.replace(tzinfo=UTC)
    broken = []
    for name in session.vault_names():
        vault = session.vault(name)
        report = vault.auditing.check()
        session.screen.lines(_exported(record) for record in report.records if record.at >= begin)
        if not report.ok:
            broken.append(not_whole(vault, report))
    if broken:
        raise broken[0]


@audit.command("anchor")
@click.option(
    "--to", "place", required=True, metavar="VAULT", help="Another vault, by its name in the catalog or by its URL."
)
@click.pass_obj
def audit_anchor(session: Session, place: str) -> None:
    """Name the newest records in another vault's trail.

    Whoever then cuts this trail off must cut off the other as well. `muster audit verify --replica` asks it.
    """
    vault = session.vault(session.one_vault() if session.options.vault else _other_than(session, place))
    other = _another_vault(session, place)
    if other.id == vault.id:
        raise UsageError(
            f"{place} holds the same vault, or a copy of it",
            "a trail is anchored in another vault; a copy is compared with `muster audit verify --replica`",
        )
    anchor = vault.auditing.anchor_in(other.auditing)
    document = {"vault": vault.url, "anchored_in": other.url, "heads": list(anchor.heads), "records": anchor.count}
    line = f"{vault.url}: {anchor.count} records, the newest {anchor.head}, are named in the trail of {other.url}"
    session.screen.result({"anchor": document}, line)


def _other_than(session: Session, place: str) -> str:
    """The one vault of the catalog that is not the place."""
    names = [name for name in sorted(session.catalog.vaults) if name != place]
    if len(names) != 1:
        raise UsageError(
            "it is not clear whose trail is to be anchored", f"name a vault with --vault: {', '.join(names) or 'none'}"
        )
    return names[0]


def _another_vault(session: Session, place: str) -> Vault:
    """A vault besides the one that the command is about: of the catalog, or any by its URL, which the given key opens too."""
    if not any(sign in place for sign in ":/"):
        return session.platform.vault(place)
    from muster.adapters.system_clock import SystemClock
    from muster.vault.vault import Vault

    secret = session.given_secret() or asked_secret(session.screen)
    return Vault.open(session.store_at(place), secret, clock=SystemClock(), actor=session.actor)


def _elsewhere(session: Session, name: str, replicas: Sequence[str]) -> Elsewhere:
    """Copies of a vault, and others that know of it: those that were named, or else those of the catalog."""
    if replicas:
        return _apart(session, session.vault(name), replicas)
    healing = session.vault(name).healing
    copies = [replica for replica in session.replicas(name) if healing.is_copy(replica)]
    return copies, [other.auditing for other in session.witnesses(name)]


def _apart(session: Session, vault: Vault, replicas: Sequence[str]) -> Elsewhere:
    """Copies of this vault, which its own key reads, and other vaults, which are opened with theirs."""
    copies: list[BlobStore] = []
    others: list[Auditing] = []
    for place in replicas:
        store = session.store_at(place)
        if vault.healing.is_copy(store):
            copies.append(store)
        else:
            others.append(_another_vault(session, place).auditing)
    return copies, others


def _document(vault: Vault, report: AuditReport, last: int) -> dict[str, object]:
    return {
        "vault": vault.url,
        "records": len(report.records),
        "heads": list(report.anchor.heads),
        "anchors": report.anchors,
        "notices": to_list(list(report.notices)),
        "last": to_list(list(_newest(report, last))),
    }


def _lines(vault: Vault, report: AuditReport, last: int) -> Iterator[str]:
    yield f"{vault.url}: {len(report.records)} records, the chain is whole; {report.anchors} anchors agree"
    yield from (f"  notice: {notice}" for notice in report.notices)
    yield f"  newest: {report.anchor.head}"
    yield from (
        f"  {r.seq:>6}  {moment(r.at)}  {r.actor.name}@{r.actor.host} ({r.actor.via})  {r.action} {r.subject}: {decided_by(r)}"
        for r in _newest(report, last)
    )


def _newest(report: AuditReport, last: int) -> tuple[AuditRecord, ...]:
    return report.records[len(report.records) - min(last, len(report.records)) :]


def _exported(record: AuditRecord) -> dict[str, object]:
    """The stable fields of docs/audit.md."""
    return {
        "time": record.at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "vault": record.vault,
        "seq": record.seq,
        "digest": record.digest,
        "parents": list(record.parents),
        "action": record.action,
        "subject": record.subject,
        "outcome": record.outcome,
        "actor": {"name": record.actor.name, "host": record.actor.host, "via": record.actor.via},
        "details": record.details,
    }


def _time(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a time", "write it as 2026-11-23T02:00:00Z") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
