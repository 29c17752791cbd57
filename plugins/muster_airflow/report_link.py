"""The button on a recovery's last task that opens its report."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink

from muster.domain.timing import stamp_of

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


def report_url(workload: str, point: str, at: datetime) -> str:
    """The page with the report of the recovery that ended then; the API server has it (`muster_airflow.ui.points_app`)."""
    from airflow.sdk.configuration import conf

    server = conf.get("api", "base_url", fallback="").rstrip("/")
    return f"{server}/muster/points/{quote(workload)}/{quote(point)}/reports/{stamp_of(at)}"


class ReportLink(BaseOperatorLink):
    """Leads to the report, once there is one; whoever follows it must be signed in, and may see the DAG."""

    name = "Report"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002 - Airflow's form
        """
        Asked by the task's own process when the task is over, whether it failed or not.

        :param operator: what ran; it knows where its report is
        """
        return str(getattr(operator, "report", ""))
