"""What Airflow itself must discover of Muster. Everything else is imported by the DAG files as ordinary modules."""

from airflow.plugins_manager import AirflowPlugin

from muster_airflow.report_link import ReportLink
from muster_airflow.ui.denial_watch import DenialWatch
from muster_airflow.ui.events_app import events_app
from muster_airflow.ui.points_app import points_app


class MusterPlugin(AirflowPlugin):
    """Points and reports under ``/muster`` of the API server; webhooks arrive under ``/muster-events``; denied attempts are recorded."""

    name = "muster"
    fastapi_apps = [  # noqa: RUF012 - Airflow's form
        {"app": points_app, "url_prefix": "/muster", "name": "Muster"},
        {"app": events_app, "url_prefix": "/muster-events", "name": "Muster events"},
    ]
    operator_extra_links = [ReportLink()]  # noqa: RUF012 - Airflow's form
    fastapi_root_middlewares = [{"middleware": DenialWatch, "name": "Muster denials"}]  # noqa: RUF012 - Airflow's form
