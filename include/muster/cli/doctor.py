"""``muster doctor``: could we take a point and come back from one, here and now? Every answer is tried, not believed."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from muster.cli.finding import Finding, tried, verdict_on
from muster.cli.session import Session
from muster.cli.vault_checks import check_lock, examine_vault
from muster.domain.recovery_point import AHEAD, RecoveryPoint, latest_good
from muster.errors import IntegrityError, MusterError, NotFound, SourceInvalid, UsageError
from muster.operations.seal import keys_not_held
from muster.report import seconds_in_words, size_in_words

if TYPE_CHECKING:
    from muster.catalog import Workload
    from muster.ports import ComponentSource

LEAST_FREE_BYTES = 1 << 30
OLDEST_PYTHON = (3, 11)


@click.command()
@click.option(
    "--uncover", is_flag=True, help="Bring to light what somebody has hidden under delete markers or newer versions."
)
@click.pass_obj
def doctor(session: Session, uncover: bool) -> None:
    """Try whether snapshots and restores would work.

    Tries everything that they will need, and every guarantee of the vaults' stores, by trying to break it on objects of its own. Says
    what to mend. Exit code 1 if anything is amiss; not if a store makes no promise ("none") or cannot tell ("?").
    """
    findings = list(examine(session, uncover=uncover))
    ok = all(finding.ok for finding in findings)
    document = {"ok": ok, "checks": [finding.document() for finding in findings]}
    session.screen.result(document, *(finding.line() for finding in findings), "", verdict_on(findings))
    if not ok:
        click.get_current_context().exit(1)


def examine(session: Session, *, uncover: bool = False) -> Iterator[Finding]:
    """All findings, in the order in which one needs the other."""
    yield tried("python", _python)
    yield tried("uv", _uv)
    yield tried("free space", lambda: _free_space(session.state))
    read = tried("catalog", lambda: _catalog(session))
    yield read
    if not read.ok:
        return
    if session.catalog_directory:
        yield tried("secrets file", lambda: _secrets(session))
    names = session.vault_names() if session.options.vault else sorted(session.catalog.vaults)
    for name in names:
        yield from examine_vault(session, name, uncover=uncover)
    for workload in session.catalog.workloads.values():
        yield from _examine_workload(session, workload)


def _python() -> str:
    version = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info[:2] < OLDEST_PYTHON:
        raise SourceInvalid(f"Python {version} is too old", "use Python 3.11 or newer")
    return f"{version} at {sys.executable}"


def _uv() -> str:
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.is_file() else shutil.which("uv")
    if not found:
        raise NotFound(
            "uv is not installed; environments cannot be rebuilt", "pip install uv, into the environment of muster"
        )
    return found


def _free_space(state: Path) -> str:
    existing = next(folder for folder in (state, *state.parents) if folder.exists())
    if not os.access(existing, os.W_OK):
        raise UsageError(f"{existing} cannot be written", "name a folder of your own with --state or MUSTER_STATE")
    free = shutil.disk_usage(existing).free
    if free < LEAST_FREE_BYTES:
        raise UsageError(
            f"{size_in_words(free)} are left for {state}",
            "free some space, or name another folder with --state: drills need it",
        )
    return f"{size_in_words(free)} for {state}"


def _catalog(session: Session) -> str:
    catalog = session.catalog
    if session.catalog_directory is None:
        return "none is needed: the vault is named by its URL"
    return f"{len(catalog.workloads)} workloads, {len(catalog.vaults)} vaults in {catalog.directory}"


def _secrets(session: Session) -> str:
    wanted = [config.url for config in session.catalog.vaults.values()]
    wanted += [config.passphrase for config in session.catalog.vaults.values()]
    if not any(reference.startswith("conn:") for reference in wanted) and not session.secrets.path.exists():
        return "none is needed for the vaults"
    return f"{len(session.secrets.check())} names in {session.secrets.path}, which only its owner reads"


def _examine_workload(session: Session, workload: Workload) -> Iterator[Finding]:
    name = workload.workload
    try:
        sources = session.platform.snapshot_job(workload).sources
    except MusterError as error:
        yield Finding(f"{name} sources", "fail", error.message, error.hint)
        sources = ()
    facts: dict[str, Mapping[str, Any]] = {}
    for source in sources:
        label = f"{source.kind}/{source.name}"
        yield tried(f"{name} {label} can be cut", lambda source=source, label=label: _cut(source, label, facts))  # type: ignore[misc]
    if len(facts) == len(sources) and any(details.get("server_keys") for details in facts.values()):
        yield tried(f"{name} server keys", lambda: _server_keys(facts))
    yield tried(f"{name} latest point", lambda: _age(session, workload))
    yield tried(f"{name} lock", lambda: check_lock(session, workload, _latest(session, workload)))


def _cut(source: ComponentSource, label: str, facts: dict[str, Mapping[str, Any]]) -> str:
    with source.capture(None) as cut:
        facts[label] = cut.details()
        return cut.method


def _server_keys(facts: Mapping[str, Mapping[str, Any]]) -> str:
    if lacking := keys_not_held(facts):
        raise SourceInvalid("; ".join(lacking), "until then every point is sealed as suspect, and none is the latest")
    return "all that the registry's server needs are kept with the point"


def _age(session: Session, workload: Workload) -> str:
    point = _latest(session, workload)
    if point is None:
        raise NotFound("there is no good recovery point", f"run: muster snapshot {workload.workload}")
    age = (datetime.now(UTC) - point.taken_at).total_seconds()
    if age < -AHEAD.total_seconds():
        raise IntegrityError(
            f"{point.point} was taken {seconds_in_words(-age)} after now, by a clock that ran ahead, or this one is behind",
            "set the clocks; `latest` passes such a point by until its time has come, and `muster points` lists it",
        )
    promised = workload.objectives.rpo.total_seconds()
    if age > promised:
        raise NotFound(
            f"the latest good point is {seconds_in_words(age)} old; promised are {seconds_in_words(promised)}",
            f"find out why the schedule took none, and run: muster snapshot {workload.workload}",
        )
    return f"{point.point}, {seconds_in_words(age)} old"


def _latest(session: Session, workload: Workload) -> RecoveryPoint | None:
    status = latest_good(session.vault(workload.vault).points(workload.workload))
    return status.point if status else None
