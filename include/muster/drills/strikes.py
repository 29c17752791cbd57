"""
What each fault does, who must notice it, and what is done about it.

A strike takes the state of a drill and returns it as it stands afterwards: whether anybody noticed, what was mended, from which point the
recovery goes on. It judges nothing: `DrillState.observed` compares all that with the recovery that follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from muster.adapters.harm import corrupt_revision, lose_database
from muster.domain.faults import Harm, Need
from muster.domain.recovery_point import Component, ComponentKind, Mark, PointStatus
from muster.drills.platform import DrillPlatform
from muster.drills.sandbox import DrillState
from muster.drills.worker import Task, Worker
from muster.errors import IntegrityError, MusterError, StoreUnavailable, TargetNotEmpty, WrongKey
from muster.folders import remove_any
from muster.operations.heal import Help, heal_found
from muster.operations.recover import RestoreJob, smoke_all, validate_one
from muster.operations.restore import plan_restore, restore_component
from muster.operations.verify import Thoroughness, examine
from muster.ports import BlobStore
from muster.vault.vault import Vault
from muster.vault.views import key_object, key_text, place_of, store_of

SLOWER = 0.05
ATTEMPT, ASIDE = "attempt", "aside"
BY_PREFERENCE: tuple[ComponentKind, ...] = ("dataset", "configuration", "registry", "environment")


@dataclass(frozen=True, slots=True)
class Reach:
    """
    How a process of our own comes to the vault.

    :param address: of the vault, with what it takes to reach it
    """

    address: str
    insecure: bool = False


def what_it_has(
    vault: Vault, status: PointStatus, replicas: Iterable[BlobStore], *, small_disk: bool
) -> frozenset[Need]:
    """What of all that faults need a workload has, at this point."""
    point = status.point
    have: set[Need] = set()
    parts: dict[Need, ComponentKind]
    parts = {"registry": "registry", "environment": "environment", "expectations": "validation"}
    have.update(need for need, kind in parts.items() if point.of_kind(kind))
    if {"registry", "environment"} <= have and any(c.details["models"] for c in point.of_kind("golden")):
        have.add("model")
    if any(_stands_in(vault, replica, status) for replica in replicas):
        have.add("replica")
    if _older(vault, point.workload, point.point) is not None:
        have.add("older_point")
    if small_disk:
        have.add("small_disk")
    if _filled(status):
        have.add("files")
    return frozenset(have)


def strike(inside: DrillPlatform, reach: Reach) -> DrillState:
    """
    Let the fault of a drill strike; the state afterwards is written down.

    :raises MusterError: what came in the way that was not the fault
    """
    state = inside.drill
    if state.choice.fault is not None:
        state = inside.sandbox.write(STRIKES[state.choice.fault](inside, state, reach))
    return state


# --- the store ----------------------------------------------------------------------------------------------------------


def _region_gone(inside: DrillPlatform, state: DrillState, _reach: Reach) -> DrillState:
    state = inside.sandbox.write(replace(state, harm=Harm(silent=True)))
    try:
        inside.vault().point(state.asked, state.workload)
    except StoreUnavailable as error:
        state = state.told(f"The primary vault is out of reach: {error.message}.", noticed=True)
    else:
        return state.told("The primary vault answered all the same.", noticed=False)
    for number, replica in enumerate(inside.replicas):
        with suppress(MusterError):
            there = inside.seen(replica, Harm())
            names = [
                s.point.point for s in there.points(state.workload) if not s.suspect and s.point.point <= state.asked
            ]
            if names:
                line = f"The replica {replica.url} has {names[-1]}: the recovery goes on from there."
                return state.told(line, replica=number, harm=Harm(), point=names[-1])
    raise StoreUnavailable(
        f"neither the primary vault of {state.workload} nor a replica can be read", "look at where the replicas lie"
    )


def _bit_rot(inside: DrillPlatform, state: DrillState, _reach: Reach) -> DrillState:
    label, pack, at = _aim(inside, state)
    return _damaged(inside, state.told(f"One bit of {pack} is read wrong.", harm=Harm(rotten={pack: at})), label)


def _missing_pack(inside: DrillPlatform, state: DrillState, _reach: Reach) -> DrillState:
    label, pack, _ = _aim(inside, state)
    return _damaged(inside, state.told(f"{pack} is gone.", harm=Harm(hidden=(pack,))), label)


def _damaged(inside: DrillPlatform, state: DrillState, label: str) -> DrillState:
    """Restore what is damaged in vain; then heal it, in what lies over the vault, or be refused."""
    inside.sandbox.write(state)
    seen = inside.vault()
    state = _attempted(inside, state, seen, label, (IntegrityError,))
    if not state.noticed:
        return state
    replicas = [replica for replica in inside.replicas if _is_copy(seen, replica)]
    if replicas:
        status = seen.point(state.asked, state.workload)
        examine(seen, [status], Thoroughness(), inside.clock)
        healed = heal_found(seen, Help(replicas), inside.clock)
        if healed.left.ok:
            return state.told(f"Healed from {replicas[0].url}: {healed}.", mended=True)
        state = state.told(f"Healing left {len(healed.left.findings)} findings: {healed.left.findings[0]}.")
    return state.told(
        "Nothing was restored from it. The damage is taken away for the recovery that follows.", lifted=True
    )


def _slow_store(_inside: DrillPlatform, state: DrillState, _reach: Reach) -> DrillState:
    return state.told(f"Every call of the vault's store takes {SLOWER} s longer.", harm=Harm(delay=SLOWER))


# --- key, clock, network ------------------------------------------------------------------------------------------------


def _stale_key(inside: DrillPlatform, state: DrillState, _reach: Reach) -> DrillState:
    slot = key_object(inside.truth)
    state = inside.sandbox.write(
        state.told(f"The holder of our key was removed: {slot} is gone.", harm=Harm(hidden=(slot,)))
    )
    try:
        inside.vault()
    except WrongKey as error:
        refused = f"The vault did not open: {error.message}. The right key is used for the recovery that follows."
        return state.told(refused, noticed=True, lifted=True)
    return state.told("The vault opened with a key that is none of its keys any more.", noticed=False)


def _clock_skew(inside: DrillPlatform, state: DrillState, _reach: Reach) -> DrillState:
    wrong = inside.vault_clock.now()
    newest = inside.vault().point(state.asked, state.workload).point
    return state.told(
        f"The clock says {wrong:%Y-%m-%d %H:%M}Z; {newest.point} was taken {newest.taken_at:%Y-%m-%d %H:%M}Z."
    )


def _package_index_down(inside: DrillPlatform, state: DrillState, _reach: Reach) -> DrillState:
    index = inside.environment["UV_DEFAULT_INDEX"]
    return state.told(
        f"The installer's index is {index}, where nobody is; the environment must come from the point's own wheels."
    )


# --- what was restored --------------------------------------------------------------------------------------------------


def _poisoned_dataset(inside: DrillPlatform, state: DrillState, _reach: Reach) -> DrillState:
    seen = inside.vault()
    job = replace(inside.job_below(seen, state.asked, ATTEMPT), docs=inside.sandbox.place("docs"))
    names = [component.name for component in job.status.point.of_kind("validation")]
    for name in names:
        put_back(inside, seen, job, f"dataset/{name}")
    outcomes = [validate_one(seen, job, name, inside.tools) for name in names]
    found = [f"dataset {o.dataset} does not meet {o.suite}: {o.failures[0]}" for o in outcomes if not o.success]
    return _back_to_an_older_point(inside, state, seen, found)


def _poisoned_model(inside: DrillPlatform, state: DrillState, _reach: Reach) -> DrillState:
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
    older = _older(seen, state.workload, state.asked)
    if older is None:
        return state.told(
            "There is no older good point, so nothing is put into service. The poison is taken away.", lifted=True
        )
    return state.told(f"{state.asked} is suspect now; the recovery goes on from {older}.", point=older)


def _lost_registry(inside: DrillPlatform, state: DrillState, _reach: Reach) -> DrillState:
    return _registry_again(inside, state, lose_database, "The database of the restored registry is lost.")


def _corrupted_alembic(inside: DrillPlatform, state: DrillState, _reach: Reach) -> DrillState:
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
        inside, seen, replace(inside.restore_job(job.status, environment), docs=job.docs), registry=False
    )
    remove_any(inside.sandbox.folder / ATTEMPT)
    if not found:
        return state.told("And the registry served all the same.", noticed=False)
    state = state.told(f"It was noticed: {found[0]}.", noticed=True)
    try:
        job.target_of(registry).check(registry.details)
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
        outcomes = smoke_all(seen, job, plan_restore(seen, job.status, job.target, job.target_of), inside.tools)
    except MusterError as error:
        return [_first_line(error)]
    return [f"{o.model} answers otherwise: {_line(o.differences[0])}" for o in outcomes if not o.equal]


# --- disk, process ------------------------------------------------------------------------------------------------------


def _disk_full(inside: DrillPlatform, state: DrillState, reach: Reach) -> DrillState:
    component, below = _component(inside, state), inside.sandbox.place(ATTEMPT)
    room = component.tree.size // 2
    said = Worker(_task(inside, state, reach, component, below), inside.marks, room=room).ended()
    remove_any(below)
    state = state.told(f"{component.label} of {component.tree.size} bytes was restored to a disk of {room}.")
    if not any(words in said.lower() for words in ("no space left", "disk is full", "disk quota")):
        return state.told(f"Nobody spoke of the disk: {said or 'it was restored'}.", noticed=False)
    return state.told(
        f"It was refused: {said}. There is room for the recovery that follows.", noticed=True, lifted=True
    )


def _worker_killed(inside: DrillPlatform, state: DrillState, reach: Reach) -> DrillState:
    component = _component(inside, state)
    task = replace(_task(inside, state, reach, component, inside.sandbox.folder), halt=True)
    if not Worker(task, inside.marks).killed_midway():
        return state.told(f"The restore of {component.label} ended before it could be killed.", noticed=False)
    killed = (
        f"The process that restored {component.label} was killed by SIGKILL; the restore is run again where it was."
    )
    return state.told(killed, noticed=True)


def _task(inside: DrillPlatform, state: DrillState, reach: Reach, component: Component, below: Path) -> Task:
    over = str(inside.sandbox.place("vault"))
    key = key_text(inside.truth)
    return Task(reach.address, reach.insecure, key, state.workload, state.asked, component.label, str(below), over)


# --- what several need --------------------------------------------------------------------------------------------------


def put_back(inside: DrillPlatform, seen: Vault, job: RestoreJob, label: str) -> None:
    """Restore one component of a job."""
    restore_component(seen, job.status, label, job.target_of, inside.clock)


def _attempted(
    inside: DrillPlatform, state: DrillState, seen: Vault, label: str, expected: tuple[type[MusterError], ...]
) -> DrillState:
    """Restore a component beside the place; the fault is noticed if that is refused, and leaves nothing that could be taken for whole."""
    job = inside.job_below(seen, state.asked, ATTEMPT)
    try:
        put_back(inside, seen, job, label)
    except expected as error:
        component = job.status.point.component(label)
        assert component is not None  # noqa: S101 - it was restored from this point
        try:
            job.target_of(component).check(component.details)
        except MusterError as left:
            return state.told(f"{label} was refused, and something of it is left: {_first_line(left)}", noticed=False)
        return state.told(f"{label} was refused: {_first_line(error)}", noticed=True)
    finally:
        remove_any(inside.sandbox.folder / ATTEMPT)
    return state.told(f"{label} came back from a vault that is damaged.", noticed=False)


def _aim(inside: DrillPlatform, state: DrillState) -> tuple[str, str, int]:
    """A component, the pack in which its largest file begins, and a byte of that file's first chunk in there."""
    component = _component(inside, state)
    contents = (entry.content for entry in inside.truth.tree(component.tree).stream() if entry.content)
    largest = max(
        (content for content in contents if content.chunks), key=lambda content: (content.size, content.sha256)
    )
    return component.label, *place_of(inside.truth, largest)


def _component(inside: DrillPlatform, state: DrillState) -> Component:
    return _filled(inside.truth.point(state.asked, state.workload))[0]


def _filled(status: PointStatus) -> list[Component]:
    """Components with bytes in them, those first that are restored soonest."""
    return [c for kind in BY_PREFERENCE for c in status.point.of_kind(kind) if c.tree.size]


def _older(vault: Vault, workload: str, point: str) -> str | None:
    """The newest good point before one."""
    good = [s.point.point for s in vault.points(workload) if s.point.point < point and not s.suspect]
    return good[-1] if good else None


def _is_copy(vault: Vault, replica: BlobStore) -> bool:
    with suppress(MusterError):
        return vault.healing.is_copy(replica)
    return False


def _stands_in(vault: Vault, replica: BlobStore, status: PointStatus) -> bool:
    """Whether a replica holds a copy of the vault, and the manifest of the point in it."""
    from muster.vault.layout import point_key

    if not _is_copy(vault, replica) or replica.url == store_of(vault).url:
        return False
    with suppress(MusterError):
        replica.info(point_key(status.point.workload, status.point.point))
        return True
    return False


def _first_line(error: MusterError) -> str:
    return _line(error.message)


def _line(text: str) -> str:
    return (text.strip().splitlines() or [""])[0][:300]


STRIKES: dict[str, Callable[[DrillPlatform, DrillState, Reach], DrillState]] = {
    "region_gone": _region_gone,
    "bit_rot": _bit_rot,
    "missing_pack": _missing_pack,
    "poisoned_dataset": _poisoned_dataset,
    "poisoned_model": _poisoned_model,
    "lost_registry": _lost_registry,
    "corrupted_alembic": _corrupted_alembic,
    "stale_key": _stale_key,
    "package_index_down": _package_index_down,
    "disk_full": _disk_full,
    "clock_skew": _clock_skew,
    "slow_store": _slow_store,
    "worker_killed": _worker_killed,
}
"""What each fault of the catalog does."""
