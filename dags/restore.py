"""
Bring a workload back from a recovery point.

1. `plan` looks at the point and at the target, and changes nothing. If anything forbids the restore it says so here, all at once.
2. `approve` shows the plan to a second person (*Required Actions*), who must be one of the workload's approvers and not the one who
   triggered the run. The approval is for this very plan. Rejected, or nobody there for four hours: nothing is touched.
3. `restore_…` put the components back, side by side; each is reconciled with what was captured, and is not there if it failed.
   What is there already, whole and equal, is left as it is: a second run does only what is left.
4. `validate` judges the restored data by the expectations that the point carries; `smoke_inference` asks the restored models, in
   their rebuilt environment, what they were asked when the point was taken.
5. `cut_over` sees that all of it is still what was proven, and then does what the plan says to put it to use; it runs only if everything
   before it went well.
6. `conclude` measures the recovery time and the recovery point actual, writes the report into the vault and marks the point.

**At night?** Trigger it with `verified` as the point, back to where the workload lives. Say when the platform was lost, so that the
recovery time is measured from there. **Failed?** `conclude` says what is missing. Do not put that copy into service. Nothing is ever
overwritten: *Replace what is there* moves the old state aside, and the DAG `undo__<workload>` puts it back.
"""

from airflow.sdk import DAG, XComArg

from muster.catalog import Workload
from muster_airflow.access import access_control
from muster_airflow.deadlines import recovery_deadline
from muster_airflow.forms import (
    before_param,
    incident_param,
    only_param,
    override_param,
    point_param,
    replace_param,
    target_param,
)
from muster_airflow.operators.approve import ApproveRestoreOperator
from muster_airflow.operators.plan import PLAN, PlanRestoreOperator
from muster_airflow.policies import APPROVAL_TIMEOUT, default_args
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
        params={
            "point": point_param("verified"),
            "before": before_param(),
            "to": target_param(workload.targets),
            "only": only_param(),
            "replace": replace_param(),
            "incident_at": incident_param(),
            "override": override_param(),
        },
        deadline=recovery_deadline(workload),
        tags=["muster", "restore", name],
    ) as dag:
        plan = PlanRestoreOperator(
            task_id="plan",
            point="{{ params.point }}",
            before="{{ params.before or '' }}",
            to="{{ params.to }}",
            only="{{ (params.only or []) | join('\n') }}",
            replace="{{ params.replace }}",
            incident_at="{{ params.incident_at or '' }}",
            override="{{ params.override or '' }}",
        )
        approve = ApproveRestoreOperator(
            task_id="approve",
            plan=XComArg(plan, key=PLAN),
            approvers=workload.approvers,
            response_timeout=APPROVAL_TIMEOUT,
        )
        recover_and_conclude(plan, name, gate=approve)
    return dag


for protected in protected_workloads():
    restore_dag(protected)
