"""
Remove the recovery points that their workload's retention no longer keeps, and what no point needs any more.

Nothing is expired of a workload without `retention`. The newest good point, points on hold and whatever the store has locked always stay.
Packs that no point needs are condemned first, and removed by a run after the grace of three days, so that a snapshot under way loses
nothing. The task's log says for every point why it stays or goes. Trigger it with `apply` switched off to see what would go.

**Failed?** `IntegrityError`: something is damaged, and what it needs cannot be told, so no pack was removed: run `verify`, heal, and run
this again.
`Refused`: the store did not let objects be removed; all others were. Let the vault's credentials delete, or find out who locked these.
A run that was killed loses nothing: the next one goes on.
"""

from airflow.sdk import DAG

from muster_airflow import schedules
from muster_airflow.access import access_control
from muster_airflow.forms import apply_param
from muster_airflow.operators.expire import ExpirePointsOperator
from muster_airflow.policies import EXPIRE_SCHEDULE, default_args
from muster_airflow.workloads import vault_names

with DAG(
    dag_id="expire",
    description="Remove points that the retention no longer keeps",
    doc_md=__doc__,
    schedule=schedules.at(EXPIRE_SCHEDULE),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    access_control=access_control("expire"),
    default_args=default_args("muster"),
    params={"apply": apply_param()},
    tags=["muster", "expire"],
):
    ExpirePointsOperator.partial(
        task_id="expire", apply="{{ params.apply }}", map_index_template="{{ task.vault }}"
    ).expand(vault=vault_names())
