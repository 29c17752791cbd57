"""Ctrl-C, SIGTERM and `make down` leave no process behind, at whatever point they come."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_runs import real_airflow
from muster.demo.airflow_api import AirflowApi
from muster.demo.airflow_platform import Settings
from muster.demo.processes import ProcessTree
from muster.errors import MusterError, NotFound

PROJECT = Path(__file__).resolve().parents[2]
PATIENCE_S = 280
DAGS = """
from airflow.sdk import dag, task

@dag(dag_id="sound", schedule=None)
def sound():
    @task
    def double(x):
        return 2 * x
    double.expand(x=[1, 2])

@dag(dag_id="unsound", schedule=None)
def unsound():
    @task(retries=0)
    def break_down():
        raise ValueError("the bridge is out")
    break_down()

sound()
unsound()
"""

pytestmark = pytest.mark.airflow


@pytest.fixture
def guard() -> Iterator[ProcessTree]:
    """Orphans of whatever a test starts come to this process, where they are counted, and ended if they should not be there."""
    with ProcessTree() as tree:
        yield tree


def demo_environment(home: Path) -> dict[str, str]:
    return {
        **os.environ,
        "MUSTER_DEMO_HOME": str(home),
        "PYTHONPATH": f"{PROJECT / 'include'}{os.pathsep}{PROJECT / 'plugins'}",
        "PYTHONUNBUFFERED": "1",
    }


def wait_until_said(log: Path, words: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while words not in log.read_text(errors="replace"):
        assert process.poll() is None, log.read_text(errors="replace")
        assert time.monotonic() < deadline, f"{words!r} was not said:\n{log.read_text(errors='replace')}"
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("words", "number"),
    [
        ("A platform at work", signal.SIGINT),
        ("Git and DVC", signal.SIGINT),
        ("an MLflow server", signal.SIGTERM),
    ],
    ids=["at once", "while servers start", "while the model is trained"],
)
def test_an_interrupted_demo_leaves_no_process(
    tmp_path: Path, guard: ProcessTree, words: str, number: signal.Signals
) -> None:
    """Whatever was running, after the signal nothing is, and the exit code says interrupted."""
    log = tmp_path / "demo.log"
    command = [sys.executable, "-m", "muster.demo"]
    child = guard.start("demo", command, env=demo_environment(tmp_path / "home"), log=log)
    wait_until_said(log, words, child.process)
    time.sleep(1.5)
    assert len(guard.descent()) > 1
    os.kill(child.process.pid, number)
    assert child.process.wait(60) == 130, log.read_text(errors="replace")
    assert guard.descent() == set()


def test_a_platform_goes_up_and_down(tmp_path: Path, guard: ProcessTree) -> None:
    """`up` leaves a healthy platform that outlives it, a second `up` finds it, `down` in the middle of a task leaves nothing."""
    env = demo_environment(tmp_path / "home")
    demo = [sys.executable, "-m", "muster.demo"]
    guard.run("up", [*demo, "up"], env=env, log=tmp_path / "up.log")
    access = json.loads((tmp_path / "home" / "ready.json").read_text())
    api = AirflowApi(access["airflow"], access["user"], access["password"])
    assert api.unhealthy() == []
    guard.run("up again", [*demo, "up"], env=env, log=tmp_path / "again.log")
    assert access["password"] in (tmp_path / "again.log").read_text()

    run = api.trigger("snapshot__flight_delays", {})
    deadline = time.monotonic() + PATIENCE_S
    while not any(task.state == "running" for task in api.tasks("snapshot__flight_delays", run)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    guard.run("down", [*demo, "down"], env=env, log=tmp_path / "down.log")
    assert guard.descent() == set()
    guard.run("down again", [*demo, "down"], env=env, log=tmp_path / "nothing.log")
    assert "nothing is running" in (tmp_path / "nothing.log").read_text()


def test_airflow_tells_how_runs_end(tmp_path: Path, guard: ProcessTree) -> None:
    """Over a real Airflow: tasks are told as they end, a failed run says why, and a DAG that is not there says what was not read."""
    dags = tmp_path / "dags"
    dags.mkdir()
    (dags / "some.py").write_text(DAGS)
    (dags / "torn.py").write_text("from airflow.sdk import dag\nraise RuntimeError('half a page')\n")
    settings = Settings(tmp_path / "airflow", tmp_path / "logs", dags, tmp_path / "plugins")
    with real_airflow(settings, ("sound", "unsound")) as (airflow, api):
        assert not [word for word in airflow.passwords.values() if word in repr(airflow)]
        told: list[str] = []
        run = api.trigger("sound", {})
        api.wait_for_run("sound", run, lambda task: told.append(f"{task.name} {task.state}"), 120)
        assert sorted(told) == ["double [0] success", "double [1] success"]
        run = api.trigger("unsound", {})
        with pytest.raises(MusterError, match="break_down: ValueError: the bridge is out"):
            api.wait_for_run("unsound", run, lambda _: None, 120)
        with pytest.raises(NotFound, match="half a page"):
            api.wait_for_dag("missing", timeout=1)
    assert guard.descent() == set()
