"""Commands that look for damage, and mend it: verify, heal."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from muster.cli.points import of_workload, to_list
from muster.cli.session import Session
from muster.errors import UsageError
from muster.report import size_in_words

if TYPE_CHECKING:
    from muster.domain.recovery_point import PointStatus
    from muster.vault.findings import VerifyReport
    from muster.vault.vault import Vault

_files = click.option("--files", is_flag=True, help="Compute the digests of every file anew, too.")


@click.command()
@click.argument("point", required=False)
@of_workload
@click.option(
    "--read-data",
    default="100%",
    show_default=True,
    metavar="SHARE",
    help="Part of the stored bytes that is read again; which one moves on each time, so 10% come round in ten times.",
)
@_files
@click.option(
    "--head", default="", metavar="DIGEST", help="Newest audit record that was seen elsewhere: it must be there still."
)
@click.pass_obj
def verify(
    session: Session,
    point: str | None,
    workload: str | None,
    read_data: str,
    files: bool,
    head: str,
) -> None:
    """Check stored bytes against digests and signatures.

    Checks POINT, or every point there is and what no point needs. What is found is marked on the points that it touches.
    """
    from muster.adapters.system_clock import SystemClock
    from muster.operations.seen import SeenHeads
    from muster.operations.verify import Thoroughness, damaged, examine

    seen, vaults = SeenHeads(session.state), _to_verify(session, point, workload)
    if head and len(vaults) != 1:
        raise UsageError("an audit record is of one vault, and several would be verified", "name one with --vault")
    how = Thoroughness(_share(read_data), whole=not point and not workload, files=files, heads=tuple(head.split()))

    def unmarked(why: str) -> None:
        session.screen.note(f"no point is marked as verified or suspect: {why}")

    checked = []
    for vault, statuses in vaults:
        with session.screen.progress() as progress:
            wanted = seen.asked_for(how, vault)
            report = examine(vault, statuses, wanted, SystemClock(), progress, unmarked)
        seen.note(vault, report)
        if not report.ok:
            raise damaged(vault, report)
        checked.append((vault, statuses, report))
    document = {"verified": [_document(*one) | {"share": how.share, "files": files} for one in checked]}
    session.screen.result(document, *(line for one in checked for line in _lines(*one)))


@click.command()
@click.option(
    "--from",
    "replicas",
    multiple=True,
    metavar="VAULT|URL",
    help="A copy of the vault; may be given again.  [the workloads' replicas in the catalog]",
)
@click.option(
    "--from-source", "sources", multiple=True, metavar="WORKLOAD", help="A workload whose sources are read again."
)
@_files
@click.pass_obj
def heal(session: Session, replicas: Sequence[str], sources: Sequence[str], files: bool) -> None:
    """Bring back what a vault has lost, from its replicas or from what the sources still have.

    Verifies everything first. Nothing is overwritten: what is damaged is stored anew, what is gone comes back under its name.
    """
    from muster.adapters.system_clock import SystemClock
    from muster.operations import heal as healing

    name = _vault_to_heal(session, sources)
    vault = session.vault(name)
    stores = [session.store_at(place) for place in replicas] or session.replicas(name)
    jobs = [session.platform.snapshot_job(session.catalog.workload(workload)) for workload in sources]
    if not stores and not jobs:
        raise UsageError(
            f"nothing is named that could have what {vault.url} has lost",
            "name a replica with --from or in the catalog, or a workload with --from-source",
        )
    with session.screen.progress() as progress:
        healed = healing.heal(vault, healing.Help(stores, jobs), SystemClock(), files=files, progress=progress)
    document = {"vault": vault.url, "put_back": healed.objects, "chunks": healed.chunks, "points": healed.points}
    session.screen.result({"healed": document}, f"{vault.url}: {healed}; nothing is damaged")


def _to_verify(session: Session, point: str | None, workload: str | None) -> list[tuple[Vault, list[PointStatus]]]:
    if point:
        return [session.find_readable(point, workload)]
    vaults = [session.vault(name) for name in session.vault_names(workload)]
    return [(vault, vault.readable_points(workload)) for vault in vaults]


def _vault_to_heal(session: Session, sources: Sequence[str]) -> str:
    names = {session.catalog.workload(workload).vault for workload in sources}
    if session.options.vault or not names:
        return session.one_vault()
    if len(names) > 1:
        raise UsageError("these workloads are kept in several vaults", "heal one vault at a time")
    return names.pop()


def _document(vault: Vault, statuses: Sequence[PointStatus], report: VerifyReport) -> dict[str, object]:
    return {
        "vault": vault.url,
        "points": len(statuses),
        "objects": report.objects,
        "bytes": report.bytes,
        "notices": to_list(list(report.notices)),
        "head": report.head,
    }


def _lines(vault: Vault, statuses: Sequence[PointStatus], report: VerifyReport) -> Iterator[str]:
    yield (
        f"{vault.url}: {len(statuses)} points whole; {report.objects} objects checked, {size_in_words(report.bytes)} read"
    )
    yield from (f"  notice: {notice}" for notice in report.notices)
    yield f"  newest audit record: {report.head}"


def _share(text: str) -> float:
    match = re.fullmatch(r"(\d{1,3}(?:\.\d+)?)\s*%", text)
    share = float(match[1]) / 100 if match else -1.0
    if not 0 <= share <= 1:
        raise UsageError(f"{text!r} is not a share", "write it in percent, from 0% to 100%: --read-data 10%")
    return share
