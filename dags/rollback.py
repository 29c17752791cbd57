"""
Move single models of a registry in use back to what they were at a point, next to everything else.

One model went wrong: its alias points at the wrong version, or the version, its run and its files are gone. The rest of the registry has
been worked on since, and stays as it is.

1. `plan` looks at the point and at the registry, and changes nothing. It says which alias would move, what would come back and what
   stays. If anything forbids it (something of the same id or number is there with another content, a restore or an undo is at work) it
   says so here, all at once. If everything is there as it was, that is all: nobody is asked.
2. `approve` shows the plan to a second person (*Required Actions*), who must be one of the workload's approvers and not the one who
   triggered the run. The approval is for this very plan. Rejected, or nobody there for four hours: nothing is touched.
3. `apply` does what was approved: artifacts first, then all rows in one transaction. What was deleted is there again under its number and
   id; aliases are moved; nothing else is written over.

**At night?** Take the last point from before it went wrong, name the model and its alias, and say why.
**Failed?** The task says why, and what to do. Trigger it again: what is there is found there, and the plan shows what is left.
"""

from airflow.sdk import DAG, XComArg

from muster.catalog import Workload
from muster_airflow.access import access_control
from muster_airflow.forms import (
    before_param,
    conflicts_param,
    models_param,
    point_param,
    reason_param,
    registry_param,
)
from muster_airflow.operators.plan import PLAN
from muster_airflow.operators.rollback import ApplyRollbackOperator, ApproveRollbackOperator, PlanRollbackOperator
from muster_airflow.policies import APPROVAL_TIMEOUT, default_args
from muster_airflow.workloads import protected_workloads


def rollback_dag(workload: Workload) -> DAG:
    """Models of one workload's registry moved back, triggered by a person."""
    name = workload.workload
    with DAG(
        dag_id=f"rollback__{name}",
        description=f"Move single models of {name} back to what they were at a recovery point",
        doc_md=__doc__,
        schedule=None,
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=False,
        access_control=access_control("rollback", name),
        default_args={**default_args(workload.owner), "workload": name},
        params={
            "models": models_param(),
            "point": point_param(),
            "before": before_param(),
            "to": registry_param(workload.targets),
            "conflicts": conflicts_param(),
            "reason": reason_param(),
        },
        tags=["muster", "rollback", name],
    ) as dag:
        plan = PlanRollbackOperator(
            task_id="plan",
            point="{{ params.point }}",
            before="{{ params.before or '' }}",
            models="{{ params.models | join('\n') }}",
            to="{{ params.to }}",
            rule="{{ params.conflicts }}",
            reason="{{ params.reason }}",
        )
        approve = ApproveRollbackOperator(
            task_id="approve",
            plan=XComArg(plan, key=PLAN),
            approvers=workload.approvers,
            response_timeout=APPROVAL_TIMEOUT,
        )
        plan >> approve >> ApplyRollbackOperator(task_id="apply", plan=XComArg(plan, key=PLAN))
    return dag


for protected in protected_workloads():
    if (
        protected.registry and protected.registry.store
    ):  # what was captured through a server alone has no rows to put back
        rollback_dag(protected)
