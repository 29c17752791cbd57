"""Commands that look after what is kept: verify, audit, catalog."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from muster.cli.points import of_workload, to_list
from muster.cli.screen import table
from muster.cli.session import Session
from muster.cli.wording import moment
from muster.errors import UsageError
from muster.report import seconds_in_words, size_in_words

if TYPE_CHECKING:
    from muster.catalog import Workload
    from muster.domain.recovery_point import PointStatus
    from muster.vault.vault import Vault


@click.command()
@click.argument("point", required=False)
@of_workload
@click.option(
    "--read-data",
    default="100%",
    show_default=True,
    metavar="SHARE",
    help="Part of the stored bytes that is read again.",
)
@click.pass_obj
def verify(session: Session, point: str | None, workload: str | None, read_data: str) -> None:
    """Check stored bytes against digests and signatures.

    Checks POINT, or every point there is. What is found is marked on the points that it touches.
    """
    from muster.adapters.system_clock import SystemClock
    from muster.operations.verify import verify_points

    share = _share(read_data)
    checked: list[dict[str, object]] = []
    for vault, statuses in _to_verify(session, point, workload):
        with session.screen.progress() as progress:
            report = verify_points(vault, statuses, share, SystemClock(), progress)
        checked.append(
            {
                "vault": vault.url,
                "points": len(statuses),
                "objects": report.objects,
                "bytes": report.bytes,
                "share": share,
            }
        )
    lines = [
        f"{one['vault']}: {one['points']} points whole; {one['objects']} objects checked, {size_in_words(int(str(one['bytes'])))} read"
        for one in checked
    ]
    session.screen.result({"verified": checked}, *lines)


def _to_verify(session: Session, point: str | None, workload: str | None) -> list[tuple[Vault, list[PointStatus]]]:
    if point:
        vault, status = session.find(point, workload)
        return [(vault, [status])]
    vaults = [session.vault(name) for name in session.vault_names(workload)]
    return [(vault, vault.readable_points(workload)) for vault in vaults]


def _share(text: str) -> float:
    match = re.fullmatch(r"(\d{1,3}(?:\.\d+)?)\s*%", text)
    share = float(match[1]) / 100 if match else -1.0
    if not 0 <= share <= 1:
        raise UsageError(f"{text!r} is not a share", "write it in percent, from 0% to 100%: --read-data 10%")
    return share


@click.group()
def audit() -> None:
    """Who did what: a chain that nobody changes unnoticed."""


@audit.command("verify")
@click.option(
    "--last", default=10, show_default=True, type=click.IntRange(0), help="How many of the newest records to show."
)
@click.pass_obj
def audit_verify(session: Session, last: int) -> None:
    """Check the whole chain: digests, signatures, gaps."""
    documents, lines = [], []
    for name in session.vault_names():
        vault = session.vault(name)
        records = vault.audit()
        shown = records[len(records) - min(last, len(records)) :]
        documents.append({"vault": vault.url, "records": len(records), "last": to_list(shown)})
        lines.append(f"{vault.url}: {len(records)} records, the chain is whole")
        lines += [
            f"  {r.seq:>6}  {moment(r.at)}  {r.actor.name}@{r.actor.host} ({r.actor.via})  {r.action} {r.subject}: {r.outcome}"
            for r in shown
        ]
    session.screen.result({"audit": documents}, *lines)


@click.group()
def catalog() -> None:
    """The files that say what is protected."""


@catalog.command("check")
@click.pass_obj
def catalog_check(session: Session) -> None:
    """Name every line that is wrong or contradicts another. Opens no connection."""
    found = session.catalog
    rows = [
        (
            w.workload,
            w.owner,
            _words(w.objectives.rpo),
            _words(w.objectives.rto),
            w.schedule or "on events",
            w.vault,
            _parts(w.datasets, w),
        )
        for w in found.workloads.values()
    ]
    document = {"catalog": str(found.directory), "workloads": list(found.workloads), "vaults": list(found.vaults)}
    headings = ("workload", "owner", "rpo", "rto", "schedule", "vault", "protects")
    counts = f"{len(rows)} workload{'s' if len(rows) != 1 else ''}, {len(found.vaults)} vault{'s' if len(found.vaults) != 1 else ''}"
    session.screen.result(document, f"{found.directory}: {counts}, no contradiction", "", table(headings, rows))


def _words(span: timedelta) -> str:
    return seconds_in_words(span.total_seconds())


def _parts(datasets: tuple[object, ...], workload: Workload) -> str:
    parts = [f"{len(datasets)} dataset{'s' if len(datasets) != 1 else ''}"] if datasets else []
    parts += [part for part in ("registry", "environment") if getattr(workload, part) is not None]
    parts += ["configuration"] if workload.protected_configuration else []
    return ", ".join(parts)
