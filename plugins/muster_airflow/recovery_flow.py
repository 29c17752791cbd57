"""The middle of every recovery, the same in a restore and in its rehearsal."""

from __future__ import annotations

from airflow.sdk import BaseOperator, TriggerRule, XComArg

from muster_airflow.operators.plan import PLAN, PlanRestoreOperator
from muster_airflow.operators.restore import (
    ConcludeRecoveryOperator,
    RestoreComponentOperator,
    SmokeInferenceOperator,
    ValidateRestoredOperator,
)

SINGLE_KINDS = ("registry", "environment", "configuration")


def recover_and_conclude(
    plan: PlanRestoreOperator, workload: str, gate: BaseOperator | None = None
) -> ConcludeRecoveryOperator:
    """
    Append to a plan: what must be passed before anything is touched, if there is such a gate; then restore all components side by
    side, validate datasets, ask the models again, conclude.

    A check begins as soon as what it needs is back. There is a task for every kind of component, whatever the catalog names
    today: an older point may hold what the catalog no longer knows.
    """
    given = {"plan": XComArg(plan, key=PLAN)}
    datasets = RestoreComponentOperator.partial(
        task_id="restore_dataset", map_index_template="{{ task.component }}", **given
    ).expand(component=plan.output)
    singles = {
        kind: RestoreComponentOperator(task_id=f"restore_{kind}", component=f"{kind}/{workload}", **given)
        for kind in SINGLE_KINDS
    }
    validated = ValidateRestoredOperator.partial(
        task_id="validate", map_index_template="{{ task.component }}", **given
    ).expand(component=plan.output)
    datasets >> validated
    smoke = SmokeInferenceOperator(task_id="smoke_inference", **given)
    [singles["registry"], singles["environment"]] >> smoke
    restored = [datasets, *singles.values()]
    if gate is not None:
        plan >> gate >> restored
    conclude = ConcludeRecoveryOperator(
        task_id="conclude",
        planned_by=plan.task_id,
        restored_by=[task.task_id for task in restored],
        validated_by=validated.task_id,
        asked_by=smoke.task_id,
        trigger_rule=TriggerRule.ALL_DONE,
    )
    [plan, *([gate] if gate else []), *restored, validated, smoke] >> conclude
    return conclude
