"""Cut over: see once more that what was proven is still what is there, and put it to use. The last step of a restore."""

from __future__ import annotations

from muster.domain.recovery_report import CutOver
from muster.domain.restore_plan import Action, RestorePlan, local_places, steps_of
from muster.domain.timing import Span
from muster.errors import CutOverFailed, PermanentError, Refused
from muster.operations.conclude import CUT_OVER, Outcomes, failures_of
from muster.operations.restore_job import RestoreJob
from muster.operations.tools import Tools
from muster.vault.vault import Vault

NOTHING_TO_SWITCH = "nothing to switch: the target is in place"


def cut_over(vault: Vault, job: RestoreJob, plan: RestorePlan, outcomes: Outcomes, tools: Tools) -> CutOver:
    """
    Look once more at every place, then do what the plan says to put it to use. Nothing is taken back if that fails.

    :param outcomes: of all that came before
    :return: what was done, and why the place does not serve, if it does not
    :raises Refused: if not everything came back and was proven: then nothing was done
    :raises StoreUnavailable: if the vault or a place does not answer
    """
    if found := failures_of(job.status, plan, outcomes):
        raise Refused(f"it is not cut over: {found[0].why}", "see to that first")
    started, done, output = tools.clock.now(), list[str](), ""
    try:
        _require_planned_steps(job, plan)
        for action in plan.actions:
            done += _ready(vault, job, action, tools)
        switch = job.target.switch
        if plan.cut_over and switch and switch.command:
            names = {"MUSTER_WORKLOAD": plan.workload, "MUSTER_POINT": plan.point, "MUSTER_TARGET": plan.target}
            output = tools.switch.run(switch.command, names, switch.within_s, job.secrets())
            done.append(f"ran {switch.command[0]}: it ended well")
        if plan.cut_over and switch and switch.ready:
            took = tools.switch.wait_for(switch.ready, switch.within_s)
            done.append(f"{switch.ready} answers with 200, after {took:.1f} s")
        if not plan.cut_over:
            done.append(NOTHING_TO_SWITCH)
    except PermanentError as error:
        output = error.output if isinstance(error, CutOverFailed) else output
        return CutOver(tuple(done), error.message, output, Span("cut_over", CUT_OVER, started, tools.clock.now()))
    return CutOver(tuple(done), None, output, Span("cut_over", CUT_OVER, started, tools.clock.now()))


def failed(why: str) -> CutOverFailed:
    """The error of a cut over that failed."""
    return CutOverFailed(
        f"everything came back and was proven, but it was not cut over: {why}",
        "see to the place and restore again: what is there, whole and equal, is left, and only what is open is done",
    )


def _require_planned_steps(job: RestoreJob, plan: RestorePlan) -> None:
    if steps_of(job.target, job.request) != plan.cut_over:
        raise Refused(
            "the catalog puts the place to use in another way now than the plan says",
            "it was changed after the plan was drawn: plan again",
        )


def _ready(vault: Vault, job: RestoreJob, action: Action, tools: Tools) -> list[str]:
    """
    What was found at the place of a component, a sentence each.

    :raises CutOverFailed: if it is not what was proven, or somebody still restores to it
    """
    if claims := [claim for place in local_places(action) for claim in tools.switch.claims(place)]:
        raise CutOverFailed(f"{action.component}: another restore to its place is not done: {claims[0]}")
    component = job.status.point.component(action.component)
    assert component is not None  # noqa: S101 - it was just restored
    target = job.target_of(component, action.path)
    told = [f"{action.component} was not compared once more: at such a place that cannot be told"]
    if target.can_tell(component.details):
        if target.holds(component.details, vault.tree(component.tree)) is None:
            raise CutOverFailed(f"{action.component} was changed at {action.where} since it was proven")
        told = [f"{action.component} is still what was proven"]
    if action.effect == "replace":
        told.append(
            f"what {action.component} replaced lies aside; `muster undo` puts it back, `muster discard` removes it,"
            f" the DAG `undo__{job.status.point.workload}` does either"
        )
    return told
