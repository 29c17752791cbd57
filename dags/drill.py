"""
Rehearse the recovery of a workload, for real: restore the latest good point into a sandbox, with something broken on purpose, check it,
measure it, remove it.

1. `prepare_sandbox` makes an empty folder, and chooses what is broken: each night the next of the catalog of faults (docs/drills.md).
   Nothing outside of the folder is touched.
2. `strike` breaks it, sees whether that is noticed, and does what is to be done: heal, refuse, go back to an older point.
3. `plan`, `restore_…`, `validate`, `smoke_inference`: the very tasks of a restore, with a registry server and an environment of
   their own, on a network that leads nowhere. Nothing is cut over.
4. `conclude` writes the report into the vault and marks the point as drilled, passed or failed.
5. `remove_sandbox` ends all processes of the sandbox and removes the folder, whatever happened before.
6. `passed` is reached only if the report is good and the sandbox is gone.

**Failed?** Then the platform would not come back from this point as promised, or the fault ended otherwise than it must. `conclude` says
why. Take that as an incident.
"""

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

from muster.catalog import Workload
from muster_airflow import schedules
from muster_airflow.access import access_control
from muster_airflow.deadlines import recovery_deadline
from muster_airflow.forms import fault_param, point_param, seed_param
from muster_airflow.operators.sandbox import (
    PlanDrillOperator,
    PrepareSandboxOperator,
    RemoveSandboxOperator,
    StrikeOperator,
)
from muster_airflow.policies import DRILL_SCHEDULE, default_args
from muster_airflow.recovery_flow import IN_SANDBOX, recover_and_conclude
from muster_airflow.workloads import protected_workloads

SANDBOX = "{{ ti.xcom_pull(task_ids='prepare_sandbox') }}"


def drill_dag(workload: Workload) -> DAG:
    """The drill of one workload, every night."""
    name = workload.workload
    with DAG(
        dag_id=f"drill__{name}",
        description=f"Rehearse the recovery of {name} in a sandbox, with something broken on purpose",
        doc_md=__doc__,
        schedule=schedules.at(DRILL_SCHEDULE),
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=False,
        access_control=access_control("drill", name),
        default_args={**default_args(workload.owner), "workload": name, "sandbox": SANDBOX},
        params={"point": point_param(), "fault": fault_param(), "seed": seed_param()},
        deadline=recovery_deadline(workload),
        tags=["muster", "drill", name],
    ) as dag:
        prepare = PrepareSandboxOperator(
            task_id="prepare_sandbox",
            point="{{ params.point }}",
            fault="{{ params.fault }}",
            seed="{{ params.seed }}",
        )
        strike = StrikeOperator(task_id="strike", sandbox=prepare.output)
        plan = PlanDrillOperator(task_id="plan", point=strike.output, to=SANDBOX, kind="drill")
        conclude = recover_and_conclude(plan, name, kinds=IN_SANDBOX)
        remove = RemoveSandboxOperator(task_id="remove_sandbox", sandbox=prepare.output).as_teardown(setups=prepare)
        conclude >> remove
        [conclude, remove] >> EmptyOperator(task_id="passed")
    return dag


for protected in protected_workloads():
    drill_dag(protected)
