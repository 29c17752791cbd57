"""``muster doctor``: could we take a point and come back from one, here and now? Every answer is tried, not believed."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from muster.cli.session import Session
from muster.domain.recovery_point import latest_good
from muster.errors import AlreadyExists, IntegrityError, MusterError, NotFound, SourceInvalid, UsageError
from muster.report import seconds_in_words, size_in_words

if TYPE_CHECKING:
    from muster.catalog import Workload
    from muster.ports import ComponentSource

LEAST_FREE_BYTES = 1 << 30
OLDEST_PYTHON = (3, 11)


@dataclass(frozen=True, slots=True)
class Finding:
    """
    One thing that was tried.

    :param found: what is there, or what is wrong
    :param mend: what to do; empty if it is well
    """

    check: str
    ok: bool
    found: str
    mend: str = ""


@click.command()
@click.pass_obj
def doctor(session: Session) -> None:
    """Try whether snapshots and restores would work.

    Tries everything that they will need, and says what to mend. Exit code 1 if anything is amiss.
    """
    findings = list(examine(session))
    lines = [
        f"{'ok  ' if f.ok else 'FAIL'}  {f.check}: {f.found}" + (f"\n      {f.mend}" if f.mend else "")
        for f in findings
    ]
    failed = sum(not f.ok for f in findings)
    verdict = f"{failed} of {len(findings)} checks failed" if failed else f"all {len(findings)} checks passed"
    session.screen.result({"ok": not failed, "checks": [asdict(f) for f in findings]}, *lines, "", verdict)
    if failed:
        click.get_current_context().exit(1)


def examine(session: Session) -> Iterator[Finding]:
    """All findings, in the order in which one needs the other."""
    yield _try("python", _python)
    yield _try("uv", _uv)
    yield _try("free space", lambda: _free_space(session.state))
    read = _try("catalog", lambda: _catalog(session))
    yield read
    if not read.ok:
        return
    if session.catalog_directory:
        yield _try("secrets file", lambda: _secrets(session))
    names = session.vault_names() if session.options.vault else sorted(session.catalog.vaults)
    for name in names:
        yield from _examine_vault(session, name)
    for workload in session.catalog.workloads.values():
        yield from _examine_workload(session, workload)


def _try(check: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(check, ok=True, found=look())
    except MusterError as error:
        return Finding(check, ok=False, found=error.message, mend=error.hint)


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


def _examine_vault(session: Session, name: str) -> Iterator[Finding]:
    opened = _try(f"vault {name} opens", lambda: session.vault(name).url)
    yield opened
    if opened.ok:
        yield _try(f"vault {name} is write-once", lambda: _write_once(session, name))
        yield _try(f"vault {name} audit chain", lambda: f"{len(session.vault(name).audit())} records, whole")


def _write_once(session: Session, name: str) -> str:
    """Try to put the vault's own header over itself: a store that allows it does not keep its promise, and nothing is harmed."""
    store = session.store(name)
    try:
        store.put("vault.json", store.get("vault.json"))
    except AlreadyExists:
        kept = store.guarantees()
        return "overwriting is refused" + (
            ", deleting too" if kept.immutable else "; whoever has its credentials can delete"
        )
    raise IntegrityError(
        f"the store {store.url} lets existing objects be overwritten",
        "use a store with conditional writes; two writers could damage this vault",
    )


def _examine_workload(session: Session, workload: Workload) -> Iterator[Finding]:
    name = workload.workload
    try:
        sources = session.platform.snapshot_job(workload).sources
    except MusterError as error:
        yield Finding(f"{name} sources", ok=False, found=error.message, mend=error.hint)
        sources = ()
    for source in sources:
        yield _try(f"{name} {source.kind}/{source.name} can be cut", lambda source=source: _cut(source))  # type: ignore[misc]
    yield _try(f"{name} latest point", lambda: _age(session, workload))


def _cut(source: ComponentSource) -> str:
    with source.capture(None) as cut:
        return cut.method


def _age(session: Session, workload: Workload) -> str:
    status = latest_good(session.vault(workload.vault).points(workload.workload))
    if status is None:
        raise NotFound("there is no good recovery point", f"run: muster snapshot {workload.workload}")
    age = (datetime.now(UTC) - status.point.taken_at).total_seconds()
    promised = workload.objectives.rpo.total_seconds()
    if age > promised:
        raise NotFound(
            f"the latest good point is {seconds_in_words(age)} old; promised are {seconds_in_words(promised)}",
            f"find out why the schedule took none, and run: muster snapshot {workload.workload}",
        )
    return f"{status.point.point}, {seconds_in_words(age)} old"
