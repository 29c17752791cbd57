"""
Rehearse the recovery of a workload, for real: restore the latest good point into a sandbox, check it, measure it, remove it.

1. `prepare_sandbox` makes an empty folder. Nothing outside of it is touched.
2. `plan`, `restore_…`, `validate`, `smoke_inference`: the very tasks of a restore, with a registry server and an environment of
   their own.
3. `conclude` writes the report into the vault and marks the point as drilled, passed or failed.
4. `remove_sandbox` removes the folder, whatever happened before.
5. `passed` is reached only if the report is good and the sandbox is gone.

**Failed?** Then the platform would not come back from this point as promised. `conclude` says why. Take that as an incident.
"""

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

from muster.catalog import Workload
from muster_airflow import schedules
from muster_airflow.access import access_control
from muster_airflow.deadlines import recovery_deadline
from muster_airflow.forms import point_param
from muster_airflow.operators.plan import PlanRestoreOperator
from muster_airflow.operators.sandbox import PrepareSandboxOperator, RemoveSandboxOperator
from muster_airflow.policies import DRILL_SCHEDULE, default_args
from muster_airflow.recovery_flow import recover_and_conclude
from muster_airflow.workloads import protected_workloads


def drill_dag(workload: Workload) -> DAG:
    """The drill of one workload, every night."""
    name = workload.workload
    with DAG(
        dag_id=f"drill__{name}",
        description=f"Rehearse the recovery of {name} in a sandbox",
        doc_md=__doc__,
        schedule=schedules.at(DRILL_SCHEDULE),
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=False,
        access_control=access_control("drill", name),
        default_args={**default_args(workload.owner), "workload": name},
        params={"point": point_param()},
        deadline=recovery_deadline(workload),
        tags=["muster", "drill", name],
    ) as dag:
        sandbox = PrepareSandboxOperator(task_id="prepare_sandbox")
        plan = PlanRestoreOperator(task_id="plan", point="{{ params.point }}", to=sandbox.output, kind="drill")
        conclude = recover_and_conclude(plan, name)
        remove = RemoveSandboxOperator(task_id="remove_sandbox", sandbox=sandbox.output).as_teardown(setups=sandbox)
        conclude >> remove
        [conclude, remove] >> EmptyOperator(task_id="passed")
    return dag


for protected in protected_workloads():
    drill_dag(protected)
