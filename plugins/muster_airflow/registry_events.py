"""
Events of MLflow registries become asset events, which start a snapshot of the workload.

They are hints: MLflow tells nothing of deletions, and forgets what it could not deliver. What they miss, the schedule brings.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from muster.adapters.mlflow_webhooks import RegistryEvent
    from muster.catalog import Workload

SETTLE_S = 5.0
"""A registration is several events within seconds: so long the first one waits for others."""
_REMEMBERED = 4096
_ATTEMPTS = 5

logger = logging.getLogger(__name__)


class RegistryEvents:
    """
    Takes webhooks, and publishes one asset event for all of a workload that come within `settle_s`. May be used from several threads.

    :param publish: given the workload, and how many events it stands for
    """

    def __init__(self, publish: Callable[[str, int], None], *, settle_s: float = SETTLE_S) -> None:
        self._publish, self._settle_s = publish, settle_s
        self._lock = threading.Lock()
        self._waiting: dict[str, int] = {}
        self._seen: OrderedDict[tuple[str, str], None] = OrderedDict()

    def take(self, workload: str, headers: Mapping[str, str], body: bytes) -> RegistryEvent:
        """
        Check a webhook, and see to it that a snapshot follows.

        :raises NotFound: if there is no such workload, or it takes no webhooks
        :raises Refused: if it is not signed by the workload's registry, or is an old one
        :raises UsageError: if it is no event
        :raises StoreUnavailable: if Airflow did not hand out the secret
        """
        from muster.adapters.mlflow_webhooks import open_event

        event = open_event(_secret_of(workload), headers, body, datetime.now(UTC))
        with self._lock:
            if (workload, event.delivery) in self._seen:
                return event
            self._seen[workload, event.delivery] = None
            while len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)
            first = workload not in self._waiting
            self._waiting[workload] = self._waiting.get(workload, 0) + 1
        if first:
            self._later(workload, _ATTEMPTS)
        return event

    def _later(self, workload: str, attempts: int) -> None:
        timer = threading.Timer(self._settle_s, self._tell, (workload, attempts))
        timer.daemon = True
        timer.start()

    def _tell(self, workload: str, attempts: int) -> None:
        """What comes from now on is told of anew: the snapshot may have looked at the registry already."""
        with self._lock:
            count = self._waiting.pop(workload)
        try:
            self._publish(workload, count)
        except Exception:
            logger.exception("the change of the registry of %s could not be published", workload)
            if attempts > 1:
                with self._lock:
                    again = workload not in self._waiting
                    self._waiting[workload] = self._waiting.get(workload, 0) + count
                if again:
                    self._later(workload, attempts - 1)


def publish_change(workload: str, count: int) -> None:
    """
    An event of the workload's asset, unless a run of its snapshot is waiting to begin: that one sees the change as well.

    Runs in the API server, which has the database.
    """
    from airflow.assets.manager import asset_manager
    from airflow.models.asset import AssetModel
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState

    from muster_airflow.assets import workload_change_asset

    with create_session() as session:
        runs = session.query(DagRun.id).filter_by(dag_id=f"snapshot__{workload}", state=DagRunState.QUEUED)
        if runs.first() is not None:
            return
        asset = session.query(AssetModel).filter_by(name=workload_change_asset(workload).name).first()
        if asset is None:
            logger.warning("no snapshot of %s waits for changes: Airflow has not read its DAG yet", workload)
            return
        extra = {"workload": workload, "from": "mlflow", "events": count}
        asset_manager.register_asset_change(asset=asset, extra=extra, session=session, source_is_api=True)


def _secret_of(workload: str) -> str:
    from muster.errors import NotFound
    from muster_airflow.hooks.connections import resolve

    found = _workload(workload)
    if found is None or found.registry is None or found.registry.webhook is None:
        raise NotFound(f"no workload {workload} takes webhooks", "give its registry a `webhook` in the catalog")
    return resolve(found.registry.webhook)


def _workload(name: str) -> Workload | None:
    from muster_airflow.workloads import protected_workloads

    return next((workload for workload in protected_workloads() if workload.workload == name), None)
