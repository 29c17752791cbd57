"""A whole drill, in one process: sandbox, fault, recovery, report, and the sandbox removed whatever happened."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from muster.adapters.small_disk import small_disk_possible
from muster.bootstrap import Platform
from muster.domain.drill import NONE, choose
from muster.domain.faults import BY_NAME, Need
from muster.domain.recovery_point import PointStatus
from muster.domain.recovery_report import RecoveryReport
from muster.domain.restore_plan import RestorePlan
from muster.drills.circumstances import Reach, what_it_has
from muster.drills.platform import DrillPlatform
from muster.drills.sandbox import DrillState, Owner, Sandbox, left_behind, make, tear_down
from muster.drills.strikes import strike
from muster.operations.conclude import Incident, Outcomes, conclude
from muster.operations.recover import recover
from muster.operations.tools import Tools
from muster.vault.vault import Vault

logger = logging.getLogger(__name__)
SEEDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """
    What a drill is asked for.

    :param fault: a fault's name, ``scheduled``, ``random`` or ``none``
    :param seed: of a random choice; None to draw one, which the report names
    """

    fault: str = NONE
    seed: int | None = None


def rehearse(platform: Platform, vault: Vault, status: PointStatus, wanted: Wanted, reach: Reach) -> RecoveryReport:
    """
    Drill the recovery of one point, and report.

    :raises MusterError: whatever failed first, the fault's outcome among it; the report was written then, if there was a plan
    """
    started = platform.clock.now()
    with sandbox_for(platform, status.point.workload) as sandbox:
        inside = DrillPlatform(platform, vault, sandbox, reach)
        with inside.entered():
            prepare(inside, status, wanted, Owner.ours())
            state = strike(inside)
            return recover_inside(inside, state, Incident("drill", started, started))


@contextmanager
def sandbox_for(platform: Platform, workload: str) -> Iterator[Sandbox]:
    """A new sandbox, gone afterwards. What killed drills left behind is removed before."""
    clean(platform)
    sandbox = make(platform.state, workload, platform.clock)
    try:
        yield sandbox
    finally:
        tear_down(sandbox.folder)


def clean(platform: Platform, again: str | None = None) -> list[Path]:
    """
    Remove what killed drills left behind: processes and folders.

    :param again: the DAG that begins anew, whose earlier sandboxes are left behind for sure
    :raises MusterError: if something of them is still there
    """
    left = left_behind(platform.state, platform.clock.now(), again)
    for folder in left:
        logger.warning("a drill that was killed left %s behind: it is removed", folder)
        tear_down(folder)
    return left


def prepare(inside: DrillPlatform, status: PointStatus, wanted: Wanted, owner: Owner) -> DrillState:
    """
    Choose the fault of a drill, and write down what is known.

    :raises NotFound: if there is no such fault
    :raises Refused: if it cannot strike this workload
    """
    name, point, now = status.point.workload, status.point.point, inside.clock.now()
    seed = secrets.randbelow(SEEDS) if wanted.seed is None else wanted.seed
    have = _have(inside, status) if wanted.fault != NONE else frozenset()
    choice = choose(wanted.fault, have=have, day=now.date(), seed=seed)
    expected = BY_NAME[choice.fault].expected(have) if choice.fault else None
    return inside.sandbox.write(DrillState(name, point, point, owner, now, choice, expected, inside.isolation))


def _have(inside: DrillPlatform, status: PointStatus) -> frozenset[Need]:
    workload = inside.catalog.workloads.get(status.point.workload)
    replicas = inside.truth_platform.replicas(workload.vault) if workload else []
    return what_it_has(inside.truth, status, replicas, small_disk=small_disk_possible())


def recover_inside(inside: DrillPlatform, state: DrillState, incident: Incident) -> RecoveryReport:
    """Recover in the sandbox from the point that the fault has left, and report to the true vault."""
    job = inside.job_below(inside.vault(), state.point)
    return recover(inside.vault(), job, incident, inside.tools, concluding=partial(_conclude, inside))


def _conclude(
    inside: DrillPlatform,
    _seen: Vault,
    status: PointStatus,
    plan: RestorePlan,
    incident: Incident,
    outcomes: Outcomes,
    _tools: Tools,
) -> RecoveryReport:
    drilled = replace(outcomes, drilled=inside.drill.outcome, from_this_vault=inside.drill.replica is None)
    return conclude(inside.truth, status, plan, incident, drilled, inside.truth_platform.tools)
