"""
Take a recovery point of a workload: one consistent cut over its datasets, registry, environment and configuration.

1. `pin` names the point before anything is read. A task that is retried or cleared works on the same point.
2. `capture_…` store the components in the vault, side by side. What is in the vault already is not stored again.
3. `validate` judges each captured dataset by its expectations; `golden_predictions` asks each model its own example.
4. `seal` reconciles every count and digest, compares data and models with the last good point, and signs the manifest, last. Only now
   there is a recovery point.

**Failed?** If a component is missing, nothing was sealed: mend the source and clear the failed task; what is stored is not stored
again. If a check failed, the point is kept but marked *suspect*, and the last good point stays the latest: mend the source and
trigger a new run. If `seal` says that data *changed as if by ransomware*, the last good point is held, and `muster show POINT` names
files: stop what writes there and run `restore`, or, if it was meant, `muster accept POINT --reason …`.
"""

from airflow.sdk import DAG, TriggerRule

from muster.catalog import Workload
from muster_airflow import schedules
from muster_airflow.access import access_control
from muster_airflow.assets import recovery_point_asset
from muster_airflow.operators.snapshot import (
    CaptureComponentOperator,
    GoldenPredictionsOperator,
    PinPointOperator,
    SealPointOperator,
    ValidateDatasetOperator,
)
from muster_airflow.policies import default_args
from muster_airflow.workloads import protected_workloads


def snapshot_dag(workload: Workload) -> DAG:
    """The snapshot of one workload; it has a task for each kind of component that the catalog names."""
    name = workload.workload
    with DAG(
        dag_id=f"snapshot__{name}",
        description=f"Take a recovery point of {name}",
        doc_md=__doc__,
        schedule=schedules.of_snapshots(workload),
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=False,
        access_control=access_control("snapshot", name),
        default_args={**default_args(workload.owner), "workload": name},
        tags=["muster", "snapshot", name],
    ) as dag:
        pin = PinPointOperator(task_id="pin")
        given = {"pin": pin.output}
        captured = {
            kind: CaptureComponentOperator(task_id=f"capture_{kind}", component=f"{kind}/{name}", **given)
            for kind, protected in (
                ("registry", workload.registry),
                ("environment", workload.environment),
                ("configuration", workload.protected_configuration),
            )
            if protected
        }
        steps = list(captured.values())

        if workload.datasets:
            datasets = CaptureComponentOperator.partial(
                task_id="capture_dataset", map_index_template="{{ task.component }}", **given
            ).expand(component=[f"dataset/{dataset.name}" for dataset in workload.datasets])
            validated = ValidateDatasetOperator.partial(
                task_id="validate", map_index_template="{{ task.dataset['component'] }}", **given
            ).expand(dataset=datasets.output)
            steps += [datasets, validated]

        if workload.smoke:
            golden = GoldenPredictionsOperator(
                task_id="golden_predictions", environment=captured["environment"].output, **given
            )
            captured["registry"] >> golden
            steps.append(golden)

        steps >> SealPointOperator(
            task_id="seal",
            captured_by=[step.task_id for step in steps],
            outlets=[recovery_point_asset(name)],
            trigger_rule=TriggerRule.ALL_DONE,
            **given,
        )
    return dag


for protected in protected_workloads():
    snapshot_dag(protected)
