"""Leave the time where it is looked for after a restore."""

from __future__ import annotations

from typing import Any

from airflow.sdk.exceptions import AirflowSkipException

from muster.codec import to_json
from muster_airflow.operators.recovery import Site, WorkloadOperator


class WriteCanaryOperator(WorkloadOperator):
    """
    Write the canary of a workload into its registry. Returns what was written.

    It is passed over while a restore of the workload, or the undoing of one, is under way: nothing is written into what is being
    proven, or moved.

    :raises UsageError: if the catalog wants no canary any more
    """

    def perform(self, at: Site) -> Any:
        for dag in (f"restore__{at.name}", f"undo__{at.name}"):
            if at.context["ti"].get_dr_count(dag, states=["queued", "running"]):
                raise AirflowSkipException(f"a run of {dag} is under way")
        written = at.platform.write_canary(at.workload)
        self.log.info("Wrote the canary %s of %s", written.id, written.at)
        return to_json(written)
