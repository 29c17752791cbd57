"""
What each fault does, who must notice it, and what is done about it.

A strike takes the state of a drill and returns it as it stands afterwards: whether anybody noticed, what was mended, from which point the
recovery goes on. It judges nothing: `DrillState.observed` compares all that with the recovery that follows.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from muster.domain.drill import Harm
from muster.domain.recovery_point import Component
from muster.drills.circumstances import filled, is_copy
from muster.drills.platform import DrillPlatform
from muster.drills.sandbox import DrillState
from muster.drills.strikes_restored import (
    ATTEMPT,
    corrupted_alembic,
    first_line,
    lost_registry,
    poisoned_dataset,
    poisoned_model,
    put_back,
)
from muster.drills.worker import Task, Worker
from muster.errors import IntegrityError, MusterError, StoreUnavailable, WrongKey
from muster.folders import remove_any
from muster.operations.heal import Help, heal_found
from muster.operations.verify import Thoroughness, examine
from muster.vault.vault import Vault
from muster.vault.views import key_object, key_text, place_of

SLOWER = 0.05


def strike(inside: DrillPlatform) -> DrillState:
    """
    Let the fault of a drill strike; the state afterwards is written down.

    :raises MusterError: what came in the way that was not the fault
    """
    state = inside.drill
    if state.choice.fault is not None:
        state = inside.sandbox.write(STRIKES[state.choice.fault](inside, state))
    return state


# --- the store ----------------------------------------------------------------------------------------------------------


def _region_gone(inside: DrillPlatform, state: DrillState) -> DrillState:
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


def _bit_rot(inside: DrillPlatform, state: DrillState) -> DrillState:
    label, pack, at = _aim(inside, state)
    return _damaged(inside, state.told(f"One bit of {pack} is read wrong.", harm=Harm(rotten={pack: at})), label)


def _missing_pack(inside: DrillPlatform, state: DrillState) -> DrillState:
    label, pack, _ = _aim(inside, state)
    return _damaged(inside, state.told(f"{pack} is gone.", harm=Harm(hidden=(pack,))), label)


def _damaged(inside: DrillPlatform, state: DrillState, label: str) -> DrillState:
    """Restore what is damaged in vain; then heal it, in what lies over the vault, or be refused."""
    inside.sandbox.write(state)
    seen = inside.vault()
    state = _attempted(inside, state, seen, label, (IntegrityError,))
    if not state.noticed:
        return state
    replicas = [replica for replica in inside.replicas if is_copy(seen, replica)]
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


def _slow_store(_inside: DrillPlatform, state: DrillState) -> DrillState:
    return state.told(f"Every call of the vault's store takes {SLOWER} s longer.", harm=Harm(delay=SLOWER))


# --- key, clock, network ------------------------------------------------------------------------------------------------


def _stale_key(inside: DrillPlatform, state: DrillState) -> DrillState:
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


def _clock_skew(inside: DrillPlatform, state: DrillState) -> DrillState:
    wrong = inside.vault_clock.now()
    newest = inside.vault().point(state.asked, state.workload).point
    return state.told(
        f"The clock says {wrong:%Y-%m-%d %H:%M}Z; {newest.point} was taken {newest.taken_at:%Y-%m-%d %H:%M}Z."
    )


def _package_index_down(inside: DrillPlatform, state: DrillState) -> DrillState:
    index = inside.environment["UV_DEFAULT_INDEX"]
    return state.told(
        f"The installer's index is {index}, where nobody is; the environment must come from the point's own wheels."
    )


# --- disk, process ------------------------------------------------------------------------------------------------------


def _disk_full(inside: DrillPlatform, state: DrillState) -> DrillState:
    component, below = _component(inside, state), inside.sandbox.place(ATTEMPT)
    room = component.tree.size // 2
    said = Worker(_task(inside, state, component, below), inside.marks, room=room).ended()
    remove_any(below)
    state = state.told(f"{component.label} of {component.tree.size} bytes was restored to a disk of {room}.")
    if not any(words in said.lower() for words in ("no space left", "disk is full", "disk quota")):
        return state.told(f"Nobody spoke of the disk: {said or 'it was restored'}.", noticed=False)
    return state.told(
        f"It was refused: {said}. There is room for the recovery that follows.", noticed=True, lifted=True
    )


def _worker_killed(inside: DrillPlatform, state: DrillState) -> DrillState:
    component = _component(inside, state)
    task = replace(_task(inside, state, component, inside.sandbox.folder), halt=True)
    if not Worker(task, inside.marks).killed_midway():
        return state.told(f"The restore of {component.label} ended before it could be killed.", noticed=False)
    killed = (
        f"The process that restored {component.label} was killed by SIGKILL; the restore is run again where it was."
    )
    return state.told(killed, noticed=True)


def _task(inside: DrillPlatform, state: DrillState, component: Component, below: Path) -> Task:
    over = str(inside.sandbox.place("vault"))
    key = key_text(inside.truth)
    reach = inside.reach
    return Task(reach.address, reach.insecure, key, state.workload, state.asked, component.label, str(below), over)


# --- what several need --------------------------------------------------------------------------------------------------


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
            job.target_of(component, "").check(component.details)
        except MusterError as left:
            return state.told(f"{label} was refused, and something of it is left: {first_line(left)}", noticed=False)
        return state.told(f"{label} was refused: {first_line(error)}", noticed=True)
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
    return filled(inside.truth.point(state.asked, state.workload))[0]


STRIKES: dict[str, Callable[[DrillPlatform, DrillState], DrillState]] = {
    "region_gone": _region_gone,
    "bit_rot": _bit_rot,
    "missing_pack": _missing_pack,
    "poisoned_dataset": poisoned_dataset,
    "poisoned_model": poisoned_model,
    "lost_registry": lost_registry,
    "corrupted_alembic": corrupted_alembic,
    "stale_key": _stale_key,
    "package_index_down": _package_index_down,
    "disk_full": _disk_full,
    "clock_skew": _clock_skew,
    "slow_store": _slow_store,
    "worker_killed": _worker_killed,
}
"""What each fault of the catalog does."""
