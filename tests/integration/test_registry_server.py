"""A server of our own over a registry: it answers, it says why it does not, and nothing of it is left."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from muster.adapters import mlflow_server
from muster.adapters.mlflow_server import LocalMlflowServer
from muster.demo.processes import ProcessTree
from muster.errors import StoreUnavailable
from muster.loopback import free_port
from registry_seed import SmallStore

SERVE = """
import sys, time
from muster.adapters.mlflow_server import LocalMlflowServer
with LocalMlflowServer().serve(sys.argv[1], sys.argv[2]):
    print("up", flush=True)
    time.sleep(600)
"""

ORPHAN = """
import os, time
leader = os.getpid()
if os.fork() == 0:
    while os.getppid() == leader:
        time.sleep(0.01)
    os._exit(0)
"""


def server_processes(store: SmallStore) -> list[psutil.Process]:
    """Processes, zombies aside, that were given this store in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(store.file) in process.environ().get("MLFLOW_BACKEND_STORE_URI", ""):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_server_answers_and_is_gone_afterwards(
    small_store: SmallStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over an own port (the first choice is taken by another server), with proxied artifacts; killed with all its children on a failure."""
    import socket

    import mlflow

    (small_store.artifacts / "0" / "r1" / "artifacts").mkdir(parents=True)
    (small_store.artifacts / "0" / "r1" / "artifacts" / "a.txt").write_text("proxied")
    small_store.add_run("r1", "mlflow-artifacts:/0/r1/artifacts")
    monkeypatch.setenv("SOME_SECRET_OF_OURS", "s3cret")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = [taken.getsockname()[1]]
        monkeypatch.setattr(mlflow_server, "free_port", lambda: ports.pop() if ports else free_port())
        with (  # noqa: PT012 (the server must die of what happens inside)
            pytest.raises(ZeroDivisionError),
            LocalMlflowServer().serve(small_store.url, str(small_store.artifacts)) as uri,
        ):
            assert [r.info.run_id for r in mlflow.MlflowClient(uri).search_runs(["0"])] == ["r1"]
            file = mlflow.artifacts.download_artifacts(run_id="r1", artifact_path="a.txt", tracking_uri=uri)
            assert Path(file).read_text() == "proxied"
            processes = server_processes(small_store)
            assert len(processes) == 2  # who leads them, and the server: all that it imports is imported once
            assert not any(str(small_store.file) in " ".join(p.cmdline()) for p in processes)
            assert all(os.getpgid(p.pid) != os.getpgid(0) for p in processes)
            assert not any("SOME_SECRET_OF_OURS" in p.environ() for p in processes)
            raise ZeroDivisionError
    assert ports == []
    assert server_processes(small_store) == []


def test_server_that_does_not_come_up_says_why(small_store: SmallStore) -> None:
    """A store at a schema that this MLflow does not know gives the end of the server's log, and no process."""
    small_store.execute("UPDATE alembic_version SET version_num = 'fedcba987654'")
    with (
        pytest.raises(StoreUnavailable, match=r"did not come up(.|\n)*fedcba987654"),
        LocalMlflowServer().serve(small_store.url, str(small_store.artifacts)),
    ):
        pass
    assert server_processes(small_store) == []


def test_server_dies_with_a_parent_that_was_killed(small_store: SmallStore) -> None:
    """Nobody is there to stop it then, and its environment holds the password of the store."""
    parent = subprocess.Popen(
        [sys.executable, "-c", SERVE, small_store.url, str(small_store.artifacts)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"up\n"
        processes = server_processes(small_store)
        assert len(processes) >= 2
        parent.kill()
    deadline = time.monotonic() + 10
    while (left := server_processes(small_store)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in left:
        process.kill()
    assert left == []


def test_what_ended_is_not_waited_for() -> None:
    """An orphan of the server's group that has ended, and that who adopts orphans has not taken note of, is no running server."""
    with ProcessTree():  # adopts orphans, and looks at them when it ends
        leader = subprocess.Popen([sys.executable, "-c", ORPHAN], start_new_session=True)
        assert leader.wait() == 0
        deadline = time.monotonic() + 10
        while not (left := [p.status() for p in psutil.process_iter() if os.getpgid(p.pid) == leader.pid]) or (
            left != [psutil.STATUS_ZOMBIE]
        ):
            assert time.monotonic() < deadline, left
            time.sleep(0.02)
        assert not mlflow_server._group_lives(leader)
