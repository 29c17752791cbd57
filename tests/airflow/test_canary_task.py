"""The canary as a task: it stands in the registry, and nothing is written into what is being restored."""

from __future__ import annotations

from datetime import datetime

import pytest

from airflow_runs import Runs, under_way
from airflow_site import AirflowSite
from muster.adapters.mlflow_canary import read_canary
from muster.adapters.mlflow_store import StoreUrl

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(300)]


def test_a_canary_is_written_and_told_and_held_back_during_a_restore(runs: Runs, site: AirflowSite) -> None:
    """The task hands on what stands in the registry; while a restore is under way it is skipped, and the old one stays."""
    store = StoreUrl.parse(f"sqlite:///{site.folder}/mlflow.db")
    done = runs.run("canary__penguins")
    assert (done.state, done.states) == ("success", {"write": "success"})
    found, told = read_canary(store, "penguins"), done.xcom("write")
    assert (told["id"], datetime.fromisoformat(told["at"])) == (found.id, found.at)
    for dag in ("restore__penguins", "undo__penguins"):
        with under_way(dag):
            held = runs.run("canary__penguins")
        assert held.states == {"write": "skipped"}, dag
    assert read_canary(store, "penguins") == found
    with under_way("restore__ledger"):
        assert runs.run("canary__penguins").states == {"write": "success"}
    assert read_canary(store, "penguins") != found
