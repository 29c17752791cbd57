"""The canary as a task: it stands in the registry, and nothing is written into what is being restored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from airflow_runs import Runs
from airflow_site import AirflowSite
from muster.adapters.mlflow_canary import read_canary
from muster.adapters.mlflow_store import StoreUrl

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(300)]


@contextmanager
def under_way(dag_id: str) -> Iterator[None]:
    """A run of a DAG that has begun, and waits."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState
    from airflow.utils.types import DagRunType

    now = datetime.now(UTC)
    with create_session() as session:
        run = DagRun(
            dag_id=dag_id, run_id="waiting", run_type=DagRunType.MANUAL, run_after=now, state=DagRunState.RUNNING
        )
        session.add(run)
    try:
        yield
    finally:
        with create_session() as session:
            session.query(DagRun).filter_by(dag_id=dag_id, run_id="waiting").delete()


def test_a_canary_is_written_and_told_and_held_back_during_a_restore(runs: Runs, site: AirflowSite) -> None:
    """The task hands on what stands in the registry; while a restore is under way it is skipped, and the old one stays."""
    store = StoreUrl.parse(f"sqlite:///{site.folder}/mlflow.db")
    done = runs.run("canary__penguins")
    assert (done.state, done.states) == ("success", {"write": "success"})
    found, told = read_canary(store, "penguins"), done.xcom("write")
    assert (told["id"], datetime.fromisoformat(told["at"])) == (found.id, found.at)
    with under_way("restore__penguins"):
        held = runs.run("canary__penguins")
    assert held.states == {"write": "skipped"}
    assert read_canary(store, "penguins") == found
    with under_way("restore__ledger"):
        assert runs.run("canary__penguins").states == {"write": "success"}
    assert read_canary(store, "penguins") != found
