"""
Put back what a restore replaced, or delete it for ever.

A restore with *Replace what is there* deletes nothing: it moves the old state aside, under a stamp. It stays there until somebody says
what becomes of it.

1. `plan` looks for it and shows every place, and changes nothing. If anything forbids it (nothing is there any more, the catalog names
   another place now, a snapshot or a restore is at work) it says so here, all at once.
2. `approve` shows the plan to a second person (*Required Actions*), who must be one of the workload's approvers and not the one who
   triggered the run. The approval is for this very plan. Rejected, or nobody there for four hours: nothing is touched.
3. `apply` does what was approved. Put back: the old state is where it was, and what the restore had made lies aside in turn, under the
   same stamp. Deleted for ever: it is gone.

**At night?** Trigger it with a reason, and leave the rest as it is: the newest restore that moved something aside is undone.
**Failed?** The task says why, and what to do. Trigger it again: what was done is done, and the plan shows what is left.
"""

from airflow.sdk import DAG, XComArg

from muster.catalog import Workload
from muster_airflow.access import access_control
from muster_airflow.forms import reason_param, stamp_param, then_param
from muster_airflow.operators.plan import PLAN
from muster_airflow.operators.undo import ApplyUndoOperator, ApproveUndoOperator, PlanUndoOperator
from muster_airflow.policies import APPROVAL_TIMEOUT, default_args
from muster_airflow.workloads import protected_workloads


def undo_dag(workload: Workload) -> DAG:
    """What becomes of what a restore of one workload moved aside, triggered by a person."""
    name = workload.workload
    with DAG(
        dag_id=f"undo__{name}",
        description=f"Put back, or delete, what a restore of {name} moved aside",
        doc_md=__doc__,
        schedule=None,
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=False,
        access_control=access_control("undo", name),
        default_args={**default_args(workload.owner), "workload": name},
        params={"stamp": stamp_param(), "then": then_param(), "reason": reason_param()},
        tags=["muster", "undo", name],
    ) as dag:
        plan = PlanUndoOperator(
            task_id="plan",
            stamp="{{ params.stamp or '' }}",
            then="{{ params.then }}",
            reason="{{ params.reason }}",
        )
        approve = ApproveUndoOperator(
            task_id="approve",
            plan=XComArg(plan, key=PLAN),
            approvers=workload.approvers,
            response_timeout=APPROVAL_TIMEOUT,
        )
        plan >> approve >> ApplyUndoOperator(task_id="apply", plan=XComArg(plan, key=PLAN))
    return dag


for protected in protected_workloads():
    undo_dag(protected)
