"""
Leave the time in the registry of a workload, so that a restore can tell from what came back up to when it came back.

1. `write` sets one tag of the experiment `muster-canary` to the time and a random id; the one before is gone. There is such a DAG only
   for workloads whose catalog entry says `canary: {every: …}`, since it writes into a system of yours.

After a restore or a drill the canary is read out of what came back, and the recovery point actual counts from it: docs/recovery-figures.md.
While a restore of the workload is under way the task is passed over. **Failed?** Somebody deleted the experiment, the registry does not
answer, or the user of its store may not write (then give `canary: {through: …}`). As long as no canary is written the recovery point
actual of every new point grows, and drills miss its objective: it is as if nothing was written.
"""

from airflow.sdk import DAG

from muster.catalog import Workload
from muster_airflow import schedules
from muster_airflow.access import access_control
from muster_airflow.operators.canary import WriteCanaryOperator
from muster_airflow.policies import default_args
from muster_airflow.workloads import protected_workloads


def canary_dag(workload: Workload) -> DAG:
    """The canary of one workload, as often as the catalog says."""
    name = workload.workload
    with DAG(
        dag_id=f"canary__{name}",
        description=f"Leave the time in the registry of {name}",
        doc_md=__doc__,
        schedule=schedules.of_canaries(workload),
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=False,
        access_control=access_control("canary", name),
        default_args={**default_args(workload.owner), "workload": name},
        tags=["muster", "canary", name],
    ) as dag:
        WriteCanaryOperator(task_id="write")
    return dag


for protected in protected_workloads():
    if protected.canary:
        canary_dag(protected)
