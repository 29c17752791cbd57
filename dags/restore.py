"""
Bring a workload back from a recovery point.

1. `plan` looks at the point and at the target, and changes nothing. If anything forbids the restore it says so here, all at once.
2. `restore_…` put the components back, side by side; each is reconciled with what was captured, and is not there if it failed.
3. `validate` judges the restored data by the expectations that the point carries; `smoke_inference` asks the restored models, in
   their rebuilt environment, what they were asked when the point was taken.
4. `conclude` measures the recovery time and the recovery point actual, writes the report into the vault and marks the point.

**At night?** Trigger it with the form as it is: the latest good point, back to where the workload lives. Say when the platform was
lost, so that the recovery time is measured from there. **Failed?** `conclude` says what is missing. Do not put that copy into
service. Nothing is ever overwritten: move away what is in the way, then trigger a new run.
"""

from airflow.sdk import DAG

from muster.catalog import Workload
from muster_airflow.access import access_control
from muster_airflow.forms import incident_param, point_param, target_param
from muster_airflow.operators.restore import PlanRestoreOperator
from muster_airflow.policies import default_args
from muster_airflow.recovery_flow import recover_and_conclude
from muster_airflow.workloads import protected_workloads


def restore_dag(workload: Workload) -> DAG:
    """The restore of one workload, triggered by a person."""
    name = workload.workload
    with DAG(
        dag_id=f"restore__{name}",
        description=f"Bring {name} back from a recovery point",
        doc_md=__doc__,
        schedule=None,
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=False,
        access_control=access_control("restore", name),
        default_args={**default_args(workload.owner), "workload": name},
        params={"point": point_param(), "to": target_param(workload.targets), "incident_at": incident_param()},
        tags=["muster", "restore", name],
    ) as dag:
        plan = PlanRestoreOperator(
            task_id="plan",
            point="{{ params.point }}",
            to="{{ params.to }}",
            incident_at="{{ params.incident_at or '' }}",
        )
        recover_and_conclude(plan, name)
    return dag


for protected in protected_workloads():
    restore_dag(protected)
