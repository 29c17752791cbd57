"""Many events of a registry are one change, none is forgotten, and no stranger causes one."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from airflow_site import AirflowSite
from muster.errors import NotFound, Refused
from muster_airflow.registry_events import RegistryEvents

pytestmark = pytest.mark.airflow
BODY = json.dumps({"entity": "model_version", "action": "created", "timestamp": "t", "data": {}}).encode()
SETTLE_S = 0.3


class Published:
    """What was told, in order; `failures` attempts fail first."""

    def __init__(self, failures: int = 0) -> None:
        self.told: list[tuple[str, int]] = []
        self.failures = failures
        self._changed = threading.Condition()

    def __call__(self, workload: str, count: int) -> None:
        with self._changed:
            if self.failures:
                self.failures -= 1
                raise ConnectionError("the database is away")
            self.told.append((workload, count))
            self._changed.notify_all()

    def wait_for(self, count: int) -> list[tuple[str, int]]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.told) >= count, timeout=20), self.told
        return self.told


def headers(site: AirflowSite, delivery: str, secret: str | None = None) -> dict[str, str]:
    """As MLflow signs them."""
    from mlflow.webhooks.delivery import _generate_hmac_signature

    timestamp = str(int(datetime.now(UTC).timestamp()))
    signature = _generate_hmac_signature(secret or site.webhook, delivery, timestamp, BODY.decode())
    return {"x-mlflow-delivery-id": delivery, "x-mlflow-timestamp": timestamp, "x-mlflow-signature": signature}


def test_what_comes_together_is_told_once_and_what_comes_later_is_told_again(
    airflow_home: Path, site: AirflowSite
) -> None:
    """Ten events, each sent twice, make one change; an event after that makes another."""
    published = Published()
    events = RegistryEvents(published, settle_s=SETTLE_S)
    for number in (*range(10), *range(10)):
        events.take("penguins", headers(site, f"d{number}"), BODY)
    assert published.wait_for(1) == [("penguins", 10)]
    events.take("penguins", headers(site, "d10"), BODY)
    assert published.wait_for(2) == [("penguins", 10), ("penguins", 1)]
    time.sleep(2 * SETTLE_S)
    assert len(published.told) == 2


def test_a_change_that_could_not_be_published_is_published_later(airflow_home: Path, site: AirflowSite) -> None:
    """The sender was told that we have it."""
    published = Published(failures=2)
    RegistryEvents(published, settle_s=SETTLE_S).take("penguins", headers(site, "d"), BODY)
    assert published.wait_for(1) == [("penguins", 1)]
    assert published.failures == 0


def test_strangers_cause_nothing(airflow_home: Path, site: AirflowSite) -> None:
    """Neither by another secret, nor for a workload that takes no webhooks, or that does not exist."""
    published = Published()
    events = RegistryEvents(published, settle_s=0.0)
    with pytest.raises(Refused):
        events.take("penguins", headers(site, "d", secret="guessed"), BODY)
    for workload in ("ledger", "nowhere"):
        with pytest.raises(NotFound, match="takes webhooks"):
            events.take(workload, headers(site, "d"), BODY)
    time.sleep(0.2)
    assert published.told == []
