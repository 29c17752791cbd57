"""The middle of every recovery, the same in a restore and in its rehearsal."""

from __future__ import annotations

from typing import NamedTuple

from airflow.sdk import BaseOperator, TriggerRule, XComArg

from muster_airflow.operators.plan import PLAN, PlanRestoreOperator
from muster_airflow.operators.restore import (
    ConcludeRecoveryOperator,
    CutOverOperator,
    RestoreComponentOperator,
    SmokeInferenceOperator,
    Steps,
    ValidateRestoredOperator,
)
from muster_airflow.operators.sandbox import (
    ConcludeDrillOperator,
    DrillComponentOperator,
    SmokeDrilledOperator,
    ValidateDrilledOperator,
)

SINGLE_KINDS = ("registry", "environment", "configuration")


class Kinds(NamedTuple):
    """The operators that the tasks are made of; nothing is cut over in a drill."""

    restore: type[RestoreComponentOperator]
    validate: type[ValidateRestoredOperator]
    smoke: type[SmokeInferenceOperator]
    conclude: type[ConcludeRecoveryOperator]
    cut_over: type[CutOverOperator] | None = None


FOR_REAL = Kinds(
    RestoreComponentOperator,
    ValidateRestoredOperator,
    SmokeInferenceOperator,
    ConcludeRecoveryOperator,
    CutOverOperator,
)
IN_SANDBOX = Kinds(DrillComponentOperator, ValidateDrilledOperator, SmokeDrilledOperator, ConcludeDrillOperator)


def recover_and_conclude(
    plan: PlanRestoreOperator, workload: str, *, gate: BaseOperator | None = None, kinds: Kinds = FOR_REAL
) -> ConcludeRecoveryOperator:
    """
    Append to a plan: what must be passed before anything is touched, if there is such a gate; then restore all components side by
    side, validate datasets, ask the models again, cut over unless it is a drill, conclude.

    A check begins as soon as what it needs is back. There is a task for every kind of component, whatever the catalog names
    today: an older point may hold what the catalog no longer knows.
    """
    given = {"plan": XComArg(plan, key=PLAN)}
    datasets = kinds.restore.partial(
        task_id="restore_dataset", map_index_template="{{ task.component }}", **given
    ).expand(component=plan.output)
    singles = {
        kind: kinds.restore(task_id=f"restore_{kind}", component=f"{kind}/{workload}", **given) for kind in SINGLE_KINDS
    }
    validated = kinds.validate.partial(task_id="validate", map_index_template="{{ task.component }}", **given).expand(
        component=plan.output
    )
    datasets >> validated
    smoke = kinds.smoke(task_id="smoke_inference", **given)
    [singles["registry"], singles["environment"]] >> smoke
    restored = [datasets, *singles.values()]
    if gate is not None:
        plan >> gate >> restored
    steps = Steps([task.task_id for task in restored], validated.task_id, smoke.task_id)
    done = [*restored, validated, smoke]
    if kinds.cut_over is not None:
        cut_over = kinds.cut_over(task_id="cut_over", steps=steps, trigger_rule=TriggerRule.NONE_FAILED, **given)
        done >> cut_over
        done.append(cut_over)
    conclude = kinds.conclude(
        task_id="conclude",
        planned_by=plan.task_id,
        steps=steps,
        cut_over_by=cut_over.task_id if kinds.cut_over else None,
        trigger_rule=TriggerRule.ALL_DONE,
    )
    [plan, *([gate] if gate else []), *done] >> conclude
    return conclude
