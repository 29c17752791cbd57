"""The demonstration's client of Airflow's REST API against Airflow's own answers to trouble."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from muster.demo import airflow_api
from muster.demo.airflow_api import AirflowApi
from muster.errors import MusterError
from muster.loopback import free_port

pytestmark = pytest.mark.airflow


@contextmanager
def server(failures: int) -> Iterator[tuple[str, list[str]]]:
    """An API whose database is locked for some requests, with Airflow's own handlers of errors; its URL, and what it was asked."""
    import uvicorn
    from airflow.api_fastapi.common.exceptions import init_error_handlers
    from fastapi import FastAPI
    from sqlalchemy.exc import OperationalError

    app = FastAPI()
    init_error_handlers(app)
    asked: list[str] = []

    @app.post("/auth/token")
    def token() -> dict[str, str]:
        return {"access_token": "t"}

    @app.patch("/api/v2/dags/{dag}")
    def switch(dag: str) -> dict[str, str]:
        asked.append(dag)
        if len(asked) <= failures:
            raise OperationalError("UPDATE dag", {}, Exception("database is locked"))
        return {"dag_id": dag}

    port = free_port()
    running = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=running.run)
    thread.start()
    try:
        deadline = time.monotonic() + 30
        while not running.started:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}", asked
    finally:
        running.should_exit = True
        thread.join()


def test_a_locked_database_is_waited_for(airflow_home: object) -> None:
    """A request that Airflow has undone because its database was locked is sent again."""
    with server(failures=2) as (url, asked):
        AirflowApi(url, "ben", "secret").wait_for_dag("restore__ledger", timeout=30)
    assert asked == ["restore__ledger"] * 3


def test_a_broken_database_is_told_of(airflow_home: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that stays as it is ends in an error that carries Airflow's reason."""
    monkeypatch.setattr(airflow_api, "BUSY_S", 1.0)
    with server(failures=1000) as (url, _), pytest.raises(MusterError, match=r"with 500.*Database error"):
        AirflowApi(url, "ben", "secret").wait_for_dag("restore__ledger", timeout=30)
