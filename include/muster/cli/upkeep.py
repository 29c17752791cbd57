"""Commands that look after what is protected: catalog."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import click

from muster.cli.screen import table
from muster.cli.session import Session
from muster.report import seconds_in_words

if TYPE_CHECKING:
    from muster.catalog import Workload


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
