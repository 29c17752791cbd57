"""mlflow-export-import, the exporter that most people use, in an environment of its own and between two MLflow servers."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import uv
from measuring import Cost, timed

PACKAGES = ("mlflow-export-import==1.2.0", "tabulate==0.9.0")
"""It imports tabulate without asking for it."""
ENTITIES = ("experiments", "runs", "metrics", "registered_models", "model_versions", "registered_model_aliases")
SERVER_S = 120.0


@dataclass(frozen=True)
class Imported:
    """
    What came of an import.

    :param cost: until it ended, by itself or by an error
    :param error: the last line that it said if it ended by an error, else empty
    :param rows: table to its rows in the source and in the target
    :param same_runs: how many runs kept their id
    """

    cost: Cost
    error: str
    rows: dict[str, tuple[int, int]]
    same_runs: int

    def __str__(self) -> str:
        came = ", ".join(
            f"{after:,} of {before:,} {table.replace('_', ' ')}" for table, (before, after) in self.rows.items()
        )
        return f"{'ended by an error' if self.error else 'exit 0'}; came back: {came}; {self.same_runs:,} runs under their ids"


class Exporter:
    """
    :param folder: where its environment is made, which is not timed
    """

    def __init__(self, folder: Path) -> None:
        tool, self._bin = uv.find_uv_bin(), folder / "bin"
        subprocess.run([tool, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
        wanted = [f"mlflow=={version('mlflow')}", *PACKAGES]
        subprocess.run([tool, "pip", "install", "--quiet", "--python", str(folder), *wanted], check=True)

    def export(self, store: str, artifacts: Path, to: Path) -> Cost:
        """Everything that a server over a store has. It must end well: a benchmark against a failure proves nothing."""
        with self.serving(store, artifacts) as uri:
            return timed([str(self._bin / "export-all"), "--output-dir", str(to)], to.parent, _environment(uri))

    def restore(self, exported: Path, store: Path, artifacts: Path, source: Path) -> Imported:
        """
        All of it into an empty server.

        :param store: the SQLite file of the new server
        :param source: that of the old one, to count what came
        """
        with self.serving(f"sqlite:///{store}", artifacts) as uri:
            started = time.perf_counter()
            command = [str(self._bin / "import-all"), "--input-dir", str(exported)]
            done = subprocess.run(command, env=_environment(uri), capture_output=True, text=True)
            cost = Cost(time.perf_counter() - started, 0.0, 0)
        lines = (done.stdout + done.stderr).strip().splitlines()
        before, after = _rows(source), _rows(store)
        same = len(_runs(source) & _runs(store))
        error = lines[-1] if done.returncode and lines else ""
        return Imported(cost, error, {table: (before[table], after[table]) for table in ENTITIES}, same)

    @staticmethod
    @contextmanager
    def serving(store: str, artifacts: Path) -> Iterator[str]:
        """An MLflow server over a store; its start is not timed."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--workers",
            "1",
        ]
        command += ["--backend-store-uri", store, "--artifacts-destination", str(artifacts)]
        uri = f"http://127.0.0.1:{port}"
        server = subprocess.Popen(command, env=_environment(uri), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + SERVER_S
            while True:
                try:
                    urllib.request.urlopen(f"{uri}/health", timeout=5).close()
                    break
                except OSError:
                    if time.monotonic() > deadline or server.poll() is not None:
                        sys.exit(f"no MLflow server came up over {store}")
                    time.sleep(0.2)
            yield uri
        finally:
            server.terminate()
            server.wait()


def _environment(uri: str) -> dict[str, str]:
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return os.environ | quiet | {"MLFLOW_TRACKING_URI": uri}


def _rows(store: Path) -> dict[str, int]:
    with closing(sqlite3.connect(store)) as connection:
        return {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ENTITIES}


def _runs(store: Path) -> set[str]:
    with closing(sqlite3.connect(store)) as connection:
        return {run for (run,) in connection.execute("SELECT run_uuid FROM runs")}
