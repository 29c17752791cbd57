"""What was measured reaches a StatsD server by Airflow's own metrics."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_site import PROJECT

pytestmark = pytest.mark.airflow
EMIT = "from muster_airflow.metrics import emit_recovery; from report_pages import a_report; emit_recovery(a_report())"


def test_a_recovery_is_told_to_statsd(airflow_home: Path) -> None:
    """Times of each stage, the work lost and the verdicts arrive as gauges, with the workload and the kind in their names or tags."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(20)
        metrics = {
            "STATSD_ON": "True",
            "STATSD_HOST": "127.0.0.1",
            "STATSD_PORT": str(server.getsockname()[1]),
            "STATSD_INFLUXDB_ENABLED": "True",
        }
        environment = {**os.environ, **{f"AIRFLOW__METRICS__{name}": value for name, value in metrics.items()}}
        environment["PYTHONPATH"] = os.pathsep.join(str(PROJECT / part) for part in ("include", "plugins", "tests"))
        done = subprocess.run([sys.executable, "-c", EMIT], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        told: dict[str, float] = {}
        while len(told) < 11:
            name, _, value = server.recv(4096).decode().rpartition("|")[0].rpartition(":")
            if ".muster." in name:
                told[name.partition(".")[2]] = float(value)
    times = {name: value for name, value in told.items() if name.startswith("muster.recovery_time_s,")}
    assert {name.partition("stage=")[2].partition(",")[0] for name in times} == {
        *("detect", "decide", "restore", "validate", "cut_over", "total")
    }
    assert max(times.values()) == pytest.approx(sum(times.values()) / 2)
    assert all("workload=" in name and "kind=" in name for name in told)
    others = {name.partition(",")[0] for name in told.keys() - times.keys()}
    assert others == {
        "muster.recovery_point_s",
        "muster.recovery_point_by_s",
        "muster.recovery_passed",
        "muster.rto_met",
        "muster.rpo_met",
    }
