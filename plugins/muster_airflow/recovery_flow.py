"""The middle of every recovery, the same in a restore and in its rehearsal."""

from __future__ import annotations

from typing import NamedTuple

from airflow.sdk import BaseOperator, TriggerRule, XComArg

from muster_airflow.operators.plan import PLAN, PlanRestoreOperator
from muster_airflow.operators.restore import (
    ConcludeRecoveryOperator,
    RestoreComponentOperator,
    SmokeInferenceOperator,
    ValidateRestoredOperator,
)
from muster_airflow.operators.sandbox import (
    ConcludeDrillOperator,
    DrillComponentOperator,
    SmokeDrilledOperator,
    ValidateDrilledOperator,
)

SINGLE_KINDS = ("registry", "environment", "configuration")


class Steps(NamedTuple):
    """The operators that the tasks are made of."""

    restore: type[RestoreComponentOperator]
    validate: type[ValidateRestoredOperator]
    smoke: type[SmokeInferenceOperator]
    conclude: type[ConcludeRecoveryOperator]


FOR_REAL = Steps(RestoreComponentOperator, ValidateRestoredOperator, SmokeInferenceOperator, ConcludeRecoveryOperator)
IN_SANDBOX = Steps(DrillComponentOperator, ValidateDrilledOperator, SmokeDrilledOperator, ConcludeDrillOperator)


def recover_and_conclude(
    plan: PlanRestoreOperator, workload: str, *, gate: BaseOperator | None = None, steps: Steps = FOR_REAL
) -> ConcludeRecoveryOperator:
    """
    Append to a plan: what must be passed before anything is touched, if there is such a gate; then restore all components side by
    side, validate datasets, ask the models again, conclude.

    A check begins as soon as what it needs is back. There is a task for every kind of component, whatever the catalog names
    today: an older point may hold what the catalog no longer knows.
    """
    given = {"plan": XComArg(plan, key=PLAN)}
    datasets = steps.restore.partial(
        task_id="restore_dataset", map_index_template="{{ task.component }}", **given
    ).expand(component=plan.output)
    singles = {
        kind: steps.restore(task_id=f"restore_{kind}", component=f"{kind}/{workload}", **given) for kind in SINGLE_KINDS
    }
    validated = steps.validate.partial(task_id="validate", map_index_template="{{ task.component }}", **given).expand(
        component=plan.output
    )
    datasets >> validated
    smoke = steps.smoke(task_id="smoke_inference", **given)
    [singles["registry"], singles["environment"]] >> smoke
    restored = [datasets, *singles.values()]
    if gate is not None:
        plan >> gate >> restored
    conclude = steps.conclude(
        task_id="conclude",
        planned_by=plan.task_id,
        restored_by=[task.task_id for task in restored],
        validated_by=validated.task_id,
        asked_by=smoke.task_id,
        trigger_rule=TriggerRule.ALL_DONE,
    )
    [plan, *([gate] if gate else []), *restored, validated, smoke] >> conclude
    return conclude
