"""Commands about recovery points: points, show, plan, restore."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from muster.cli.break_glass import break_glass, break_the_glass
from muster.cli.session import Session
from muster.cli.wording import plan_lines, point_lines, points_table, report_lines
from muster.codec import to_json
from muster.domain.timing import stamp_of
from muster.errors import NotFound, UsageError

if TYPE_CHECKING:
    from muster.domain.recovery_point import Mark, PointStatus
    from muster.domain.restore_request import RestoreRequest
    from muster.domain.restore_target import RestoreTarget
    from muster.vault.vault import Vault

Command = TypeVar("Command", bound=Callable[..., Any])


def to_place(function: Command) -> Command:
    """The option that says where a restore goes."""
    text = "A folder (with a slash in it), a target of the catalog, or origin."
    return click.option("--to", required=True, metavar="DIR|TARGET", help=text)(function)


def of_workload(function: Command) -> Command:
    """The option that says whose point is meant, where that is not clear from its name."""
    return click.option("-w", "--workload", help="Whose point; needed for `latest` where there are several workloads.")(
        function
    )


def asked(function: Command) -> Command:
    """The options that say what is asked of a restore."""
    options = [
        click.option(
            "--before", metavar="TIME", help="Take the newest verified point before this time, whatever POINT says."
        ),
        click.option(
            "--only",
            multiple=True,
            metavar="WHAT",
            help="A kind (registry), a component (dataset/flights), or a path in one (dataset/flights/data/2013.csv); repeatable.",
        ),
        click.option("--replace", is_flag=True, help="Move what is in the way aside; `muster undo` puts it back."),
        click.option(
            "--override", default="", metavar="REASON", help="Why it should go on although a policy forbids it."
        ),
        click.option(
            "--incident-at",
            metavar="TIME",
            help="When the platform was lost, as 2026-11-23T02:00:00Z; the recovery time counts from here.  [now]",
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


@click.command()
@click.argument("workload", required=False)
@click.pass_obj
def points(session: Session, workload: str | None) -> None:
    """List recovery points, oldest first."""
    found: list[PointStatus] = []
    for name in session.vault_names(workload):
        found += session.vault(name).points(workload)
    found.sort(key=lambda status: status.point.point)
    if workload and not found:
        session.require_known(workload)
    now = datetime.now(UTC)
    whose = f" of {workload}" if workload else ""
    session.screen.result(
        to_list(found), points_table(found, now) if found else f"there is no recovery point{whose} yet"
    )


@click.command()
@click.argument("point")
@of_workload
@click.option(
    "--report",
    "folder",
    type=click.Path(path_type=Path),
    help="Write the reports of its restores and drills into a new folder.",
)
@click.pass_obj
def show(session: Session, point: str, workload: str | None, folder: Path | None) -> None:
    """Show a recovery point.

    Shows what POINT holds, how it was cut, and what was learned of it since. POINT is an id, its beginning, or `latest`.
    """
    from muster.cli.accept import change_lines

    vault, status = session.find(point, workload)
    if folder is None:
        sealed = vault.holders.sealed_with(status.point)
        document = to_json(status) | {"signed_by": {"generation": sealed.number, "fingerprint": sealed.key.fingerprint}}
        signed = f"signed with the key {sealed.key.fingerprint[:16]} of generation {sealed.number}"
        session.screen.result(document, *point_lines(status), *change_lines(vault, status), "", signed)
        return
    written = _write_reports(vault, status, folder)
    session.screen.result({"reports": [str(path) for path in written]}, *(f"wrote {path}" for path in written))


@click.command()
@click.argument("point")
@to_place
@of_workload
@asked
@click.pass_obj
def plan(session: Session, /, point: str, to: str, workload: str | None, **options: Any) -> None:
    """Say what a restore would do; change nothing.

    Says what of POINT would go where, and what forbids it; the exit code is then that of the refusal. POINT is an id, its
    beginning, `latest`, or `verified` for the newest verified one.
    """
    vault, status, request = _chosen(session, point, workload, options)
    drawn = session.platform.plan(vault, status, _target(session, status, to), request)
    session.screen.result(to_json(drawn) | {"digest": drawn.digest}, *plan_lines(drawn))
    if drawn.refusals:
        click.get_current_context().exit(drawn.refusals[0].error.exit_code)


@click.command()
@click.argument("point")
@to_place
@of_workload
@asked
@break_glass
@click.option("--plan", "digest", metavar="DIGEST", help="Restore only if the plan is still this one of `muster plan`.")
@click.pass_obj
def restore(
    session: Session,
    /,
    point: str,
    to: str,
    workload: str | None,
    reason: str | None,
    second_key: Path | None,
    digest: str | None,
    **options: Any,
) -> None:
    """Put POINT back, prove it, and report.

    It goes where nothing is, unless --replace moves that aside; nothing is ever overwritten. Data is validated and models are
    asked again, and the measured times are reported against what was promised. Without Airflow's second person, the vault's
    audit trail gets the reason, or the second holder of a key.
    """
    from muster.operations.conclude import Incident

    began = datetime.now(UTC)
    vault, status, request = _chosen(session, point, workload, options)
    target = _target(session, status, to)
    drawn = session.platform.plan(vault, status, target, request)
    approval = break_the_glass(session, vault, drawn, digest, reason, second_key)
    session.screen.note(f"restoring {status.point.point} of {status.point.workload} to {to}")
    incident = Incident("restore", request.at, began, approval)
    report = session.platform.restore(vault, status, target, incident, request, drawn.digest)
    session.screen.result(to_json(report) | {"summary": report.summary()}, *report_lines(report))


def _chosen(
    session: Session, point: str, workload: str | None, options: dict[str, Any]
) -> tuple[Vault, PointStatus, RestoreRequest]:
    """The point that is meant, and what is asked for it."""
    from muster.domain.restore_request import RestoreRequest

    now = datetime.now(UTC)
    before = _time(options["before"], now) if options["before"] else None
    at = _time(options["incident_at"], now) if options["incident_at"] else now
    vault, status = session.choose(point, workload, before, at)
    return vault, status, RestoreRequest("restore", at, options["only"], options["replace"], options["override"])


def _target(session: Session, status: PointStatus, to: str) -> RestoreTarget:
    return session.platform.target(session.catalog.workloads.get(status.point.workload), status, to)


def _time(text: str, now: datetime) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a time", "write it as 2026-11-23T02:00:00Z") from None
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    if at > now:
        raise UsageError(f"the incident at {at:%Y-%m-%dT%H:%M:%SZ} is still to come", "times without a zone are UTC")
    return at


def _write_reports(vault: Vault, status: PointStatus, folder: Path) -> list[Path]:
    reports = [(mark, mark.report) for mark in status.marks if mark.report]
    if not reports:
        raise NotFound(f"no report is marked on {status.point.point}", "a restore or a drill writes one")
    written: list[Path] = []
    for mark, report in reports:
        tree = vault.tree(report)
        wanted = [(entry, folder / _report_name(mark) / entry.path) for entry in tree.entries() if entry.kind == "file"]
        tree.extract(wanted)
        written += [path for _, path in wanted]
    return written


def _report_name(mark: Mark) -> str:
    return f"{mark.kind}-{stamp_of(mark.at)}"


def to_list(values: list[Any]) -> list[Any]:
    """Values of the domain as plain JSON data."""
    return [to_json(value) for value in values]
