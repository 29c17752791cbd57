"""
Read the vaults again and say what is damaged, before somebody needs it.

Names, signatures, manifests and sizes are always checked whole; of the stored bytes, a share is read again, decrypted and compared
with its digests. Every point is marked: verified, or suspect, and a suspect point is never the latest good one. What is damaged or gone
is brought back from the replicas that the catalog names, if they have it; what is whole again is marked verified. Then the audit trail
is compared with the replicas and with the vaults that `anchored_in` of `vaults.yaml` names, whose trails are told its newest records.

**Failed?** `verify` names each damaged object, the points and the files that it touches, and no replica could mend it. `muster heal` takes
other replicas, or the sources; else restore from another point. In any case find out who writes to the store.
"""

from airflow.sdk import DAG

from muster_airflow import schedules
from muster_airflow.access import access_control
from muster_airflow.forms import share_param
from muster_airflow.operators.verify import VerifyVaultOperator
from muster_airflow.policies import VERIFY_SCHEDULE, default_args
from muster_airflow.workloads import vault_names

with DAG(
    dag_id="verify",
    description="Check that every vault still holds what it was given",
    doc_md=__doc__,
    schedule=schedules.at(VERIFY_SCHEDULE),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    access_control=access_control("verify"),
    default_args=default_args("muster"),
    params={"share": share_param()},
    tags=["muster", "verify"],
):
    VerifyVaultOperator.partial(
        task_id="verify", share="{{ params.share }}", map_index_template="{{ task.vault }}"
    ).expand(vault=vault_names())
