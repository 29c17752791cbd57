"""Commands that show what is proved and prepared: trend, runbook."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from muster.cli.screen import table
from muster.cli.session import Session
from muster.cli.wording import moment
from muster.codec import to_json
from muster.errors import NotFound, UsageError
from muster.report import seconds_in_words

if TYPE_CHECKING:
    from muster.catalog import Workload
    from muster.domain.trend import Figures, Recovery, Trend

_MET = {True: "met", False: "MISSED", None: ""}


@click.command()
@click.argument("workload")
@click.option(
    "--last", default=30, show_default=True, type=click.IntRange(1), help="How many of the newest recoveries to show."
)
@click.pass_obj
def trend(session: Session, workload: str, last: int) -> None:
    """Show how recovery times developed.

    Shows what every past drill and restore of WORKLOAD took and lost, against its objectives, and the most work that would have been
    lost between its points.
    """
    from muster.domain.trend import trend_of

    statuses = [status for name in session.vault_names(workload) for status in session.vault(name).points(workload)]
    if not statuses:
        session.require_known(workload)
        raise NotFound(f"there is no recovery point of {workload}", "take one with `muster snapshot`")
    found = trend_of(workload, statuses)
    session.screen.result(to_json(found), *_trend_lines(found, last))


@click.command()
@click.argument("workload", required=False)
@click.option("--all", "every", is_flag=True, help="Of all workloads of the catalog.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="A file (.md or .html); with --all a folder. What is there is replaced.  [standard output]",
)
@click.option("--catalog-only", is_flag=True, help="Ask no vault: leave out how the points stand.")
@click.option("--point", help="The one that lies in the vault with this point; no catalog is needed.")
@click.pass_obj
def runbook(
    session: Session, workload: str | None, every: bool, out: Path | None, catalog_only: bool, point: str | None
) -> None:
    """Say how a workload comes back.

    Renders the runbook of WORKLOAD from the catalog and from what the vault knows now.
    """
    if every == bool(workload) or (every and (point or not out)) or (catalog_only and point):
        raise UsageError(
            "it is not clear which runbook is meant",
            "name a workload, with --point or --catalog-only if you like; or give --all and a folder with --out",
        )
    if every and out:
        books = {name: _rendered(session, name, catalog_only, None) for name in session.catalog.workloads}
        written = [_write(out / f"{name}.md", text) for name, (text, _) in books.items()]
        session.screen.result({"runbooks": [str(path) for path in written]}, *(f"wrote {path}" for path in written))
        return
    text, page = _rendered(session, str(workload), catalog_only, point)
    if out is None:
        session.screen.result({"workload": workload, "markdown": text.decode()}, text.decode().rstrip("\n"))
        return
    path = _write(out, page if out.suffix == ".html" else text)
    session.screen.result({"runbooks": [str(path)]}, f"wrote {path}")


def _rendered(session: Session, name: str, catalog_only: bool, point: str | None) -> tuple[bytes, bytes]:
    from muster.adapters.system_clock import SystemClock
    from muster.domain.runbook import Runbook
    from muster.operations.runbook import kept_runbook, live_runbook
    from muster.report.runbook import render_runbook

    if point:
        vault, status = session.find(point, name)
        return kept_runbook(vault, status.point)
    workload = session.catalog.workload(name)
    if catalog_only:
        return render_runbook(Runbook(_entry(workload)))
    return live_runbook(session.vault(session.options.vault or workload.vault), _entry(workload), name, SystemClock())


def _entry(workload: Workload) -> dict[str, Any]:
    return workload.model_dump(mode="json", exclude={"root", "source"})


def _write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def _trend_lines(found: Trend, last: int) -> Iterator[str | Table]:
    count, missed = len(found.recoveries), found.missed
    yield f"{found.workload}: {count} drills and restores, {missed} failed or missed an objective; {len(found.exposures)} good points"
    yield ""
    headings = (
        "when",
        "what",
        "of",
        "ended",
        "time",
        "objective",
        "",
        "work lost",
        "by canary",
        "objective ",
        " ",
        "stages",
    )
    rows = [_row(each) for each in found.recoveries[-last:]]
    yield (
        table(headings, rows, right=("time", "objective", "work lost", "by canary", "objective "))
        if rows
        else "none yet"
    )
    yield ""
    rows_of_figures = [
        ("recovery time", *_words(found.time)),
        ("work lost", *_words(found.lost)),
        ("between points", *_words(found.exposed)),
    ]
    columns = ("seen", "times", "median of the newest 7", "before them", "change", "worst")
    yield table(columns, rows_of_figures, right=columns[1:])


def _row(each: Recovery) -> tuple[str, ...]:
    stages = ", ".join(f"{name.replace('_', ' ')} {seconds_in_words(seconds)}" for name, seconds in each.stages.items())
    ended = "passed" if each.passed else "FAILED"
    time, rto = _span(each.recovery_time), _span(each.rto)
    lost, rpo = _span(each.lost), _span(each.rpo)
    when = moment(each.at)
    return (
        when,
        each.kind,
        each.point,
        ended,
        time,
        rto,
        _MET[each.rto_met],
        lost,
        _span(each.by_canary),
        rpo,
        _MET[each.rpo_met],
        stages,
    )


def _words(figures: Figures) -> tuple[str, ...]:
    change = "" if figures.change is None else f"{100 * figures.change:+.0f} %"
    return str(figures.count), _span(figures.median), _span(figures.before), change, _span(figures.worst)


def _span(seconds: float | None) -> str:
    return "" if seconds is None else seconds_in_words(seconds)
