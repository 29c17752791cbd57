"""Faults of what was restored: poison that came with it, and a registry that is spoiled afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from muster.adapters.harm import corrupt_revision, lose_database
from muster.domain.recovery_point import Mark
from muster.domain.timing import stamp_of
from muster.drills.circumstances import older
from muster.drills.platform import DrillPlatform
from muster.drills.sandbox import DrillState
from muster.errors import MusterError, TargetNotEmpty
from muster.folders import remove_any
from muster.operations.recover import smoke_all, validate_one
from muster.operations.restore import action_for, plan_restore, restore_component
from muster.operations.restore_job import RestoreJob
from muster.vault.vault import Vault

ATTEMPT, ASIDE = "attempt", "aside"


def poisoned_dataset(inside: DrillPlatform, state: DrillState) -> DrillState:
    seen = inside.vault()
    job = replace(inside.job_below(seen, state.asked, ATTEMPT), docs=inside.sandbox.place("docs"))
    names = [component.name for component in job.status.point.of_kind("validation")]
    for name in names:
        put_back(inside, seen, job, f"dataset/{name}")
    outcomes = [validate_one(seen, job, name, inside.tools) for name in names]
    found = [f"dataset {o.dataset} does not meet {o.suite}: {o.failures[0]}" for o in outcomes if not o.success]
    return _back_to_an_older_point(inside, state, seen, found)


def poisoned_model(inside: DrillPlatform, state: DrillState) -> DrillState:
    seen = inside.vault()
    return _back_to_an_older_point(
        inside, state, seen, _asked_in_vain(inside, seen, inside.job_below(seen, state.asked, ATTEMPT))
    )


def _back_to_an_older_point(inside: DrillPlatform, state: DrillState, seen: Vault, found: list[str]) -> DrillState:
    """Say in the sandbox's copy of the vault that a point is bad, and take the newest good one before it."""
    remove_any(inside.sandbox.folder / ATTEMPT)
    if not found:
        return state.told(
            "The point came back, and nothing that was asked of it told that it is poisoned.", noticed=False
        )
    state = state.told(f"It was noticed: {found[0]}.", noticed=True)
    seen.mark(Mark(state.workload, state.asked, "suspect", inside.clock.now(), {"cause": "drill", "reason": found[0]}))
    before = older(seen, state.workload, state.asked)
    if before is None:
        return state.told(
            "There is no older good point, so nothing is put into service. The poison is taken away.", lifted=True
        )
    return state.told(f"{state.asked} is suspect now; the recovery goes on from {before}.", point=before)


def lost_registry(inside: DrillPlatform, state: DrillState) -> DrillState:
    return _registry_again(inside, state, lose_database, "The database of the restored registry is lost.")


def corrupted_alembic(inside: DrillPlatform, state: DrillState) -> DrillState:
    return _registry_again(inside, state, corrupt_revision, "The restored registry claims a schema that nobody knows.")


def _registry_again(inside: DrillPlatform, state: DrillState, spoil: Callable[[Path], None], what: str) -> DrillState:
    """Put the registry back, spoil it, see that it serves nobody and is in the way of a restore; move it aside."""
    seen = inside.vault()
    job = inside.job_below(seen, state.asked)
    (registry,) = job.status.point.of_kind("registry")
    put_back(inside, seen, job, registry.label)
    spoil(Path(str(job.target.store).removeprefix("sqlite:///")))
    state = state.told(what)
    environment = replace(job.target, environment=str(inside.sandbox.folder / ATTEMPT / "environment"))
    found = _asked_in_vain(
        inside, seen, replace(inside.restore_job(job.status, environment, job.request), docs=job.docs), registry=False
    )
    remove_any(inside.sandbox.folder / ATTEMPT)
    if not found:
        return state.told("And the registry served all the same.", noticed=False)
    state = state.told(f"It was noticed: {found[0]}.", noticed=True)
    try:
        job.target_of(registry, "").check(registry.details)
    except TargetNotEmpty as error:
        state = state.told(f"A restore over what is left was refused: {error.message}.")
    (inside.sandbox.folder / "registry").rename(inside.sandbox.place(ASIDE) / "registry")
    return state.told("What was left is moved aside, and the registry is restored once more.", mended=True)


def _asked_in_vain(inside: DrillPlatform, seen: Vault, job: RestoreJob, *, registry: bool = True) -> list[str]:
    """Restore what models need and ask them; what is wrong with the answers, or why there are none."""
    environments = job.status.point.of_kind("environment") if job.status.point.of_kind("golden") else ()
    parts = [*(job.status.point.of_kind("registry") if registry else ()), *environments]
    for component in parts:
        put_back(inside, seen, job, component.label)
    try:
        if not environments:
            with inside.tools.server.serve(str(job.target.store), str(job.target.artifacts)):
                return []
        outcomes = smoke_all(seen, job, plan_restore(seen, job), inside.tools)
    except MusterError as error:
        return [first_line(error)]
    return [f"{o.model} answers otherwise: {line(o.differences[0])}" for o in outcomes if not o.equal]


def put_back(inside: DrillPlatform, seen: Vault, job: RestoreJob, label: str) -> None:
    """Restore one component of a job."""
    restore_component(seen, job, action_for(job, label), stamp_of(inside.clock.now()), inside.clock)


def first_line(error: MusterError) -> str:
    return line(error.message)


def line(text: str) -> str:
    return (text.strip().splitlines() or [""])[0][:300]
