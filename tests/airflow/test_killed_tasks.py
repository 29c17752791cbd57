"""A task that is cleared or stopped gives up all it holds before its supervisor loses patience."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from airflow_site import PROJECT

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(300)]
SUPERVISOR_PATIENCE_S = 5.0  # airflow.sdk.execution_time.supervisor.WatchedSubprocess.kill, then SIGKILL follows
DAGS = """
import shutil, threading
from datetime import timedelta
from pathlib import Path
from airflow.sdk import dag
from muster_airflow.operators.recovery import RecoveryOperator

FOLDER = Path({folder!r})

class Hold(RecoveryOperator):
    def execute(self, context):
        sandbox = FOLDER / f"{{self.task_id}}.sandbox"
        sandbox.mkdir()
        try:
            (FOLDER / f"{{self.task_id}}.ready").touch()
            threading.Event().wait(60)
        except BaseException as error:
            (FOLDER / f"{{self.task_id}}.ended").write_text(type(error).__name__)
            raise
        finally:
            (FOLDER / f"{{self.task_id}}.ending").touch()
            threading.Event().wait(0.5)
            shutil.rmtree(sandbox)

@dag(dag_id="holds", schedule=None)
def holds():
    Hold(task_id="stopped", retries=0)
    Hold(task_id="late", retries=0, execution_timeout=timedelta(seconds=0.5))

holds()
"""
RUN = """
import sys
from pathlib import Path
from airflow_runs import Runs
done = Runs(Path(sys.argv[1])).run("holds")
print("STATES", sorted(done.states.items()))
"""


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_stopped_task_unwinds(airflow_home: Path, tmp_path: Path) -> None:
    """SIGTERM interrupts a task wherever it waits, a second one does not cut its cleaning short, and a timeout stays a timeout."""
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "holds.py").write_text(DAGS.format(folder=str(tmp_path)))
    shutil.copy(airflow_home / "airflow.db", tmp_path)
    own = {
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path / "dags"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path / 'airflow.db'}",
        "PYTHONPATH": os.pathsep.join(str(PROJECT / part) for part in ("include", "plugins", "tests")),
    }
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(tmp_path / "dags")],
        env=os.environ | own,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        wait_for(tmp_path / "stopped.ready", process)
        process.send_signal(signal.SIGTERM)
        sent = time.monotonic()
        wait_for(tmp_path / "stopped.ending", process)
        process.send_signal(signal.SIGTERM)
        while (tmp_path / "stopped.sandbox").exists():
            assert time.monotonic() < sent + SUPERVISOR_PATIENCE_S, "the sandbox is still there"
            time.sleep(0.02)
        said, _ = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    assert "STATES [('late', 'failed'), ('stopped', 'failed')]" in said, said
    assert (tmp_path / "stopped.ended").read_text() == "KeyboardInterrupt"
    assert (tmp_path / "late.ended").read_text() == "AirflowTaskTimeout"
    assert "AirflowTaskTimeout: Timeout" in said
    assert said.count("raise KeyboardInterrupt") == 1
    assert list(tmp_path.glob("*.sandbox")) == []
