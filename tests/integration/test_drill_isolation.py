"""What a model that is rehearsed, and the servers beside it, can reach: nothing."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from airflow_site import run
from muster.adapters.mlflow_server import LocalMlflowServer
from muster.adapters.network_cell import SEALED, Confined, NetworkCell
from muster.adapters.process_model_runner import ProcessModelRunner
from muster.drills.sandbox import MARK, processes_of

pytestmark = pytest.mark.timeout(600)
SPY = """
import ctypes, os, socket, struct
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

def by_python(host, port):
    try:
        socket.create_connection((host, port), 3).close()
        return "reached"
    except Exception as error:
        return type(error).__name__

def by_system_call(host, port):
    libc = ctypes.CDLL(None)
    handle = libc.socket(2, 1, 0)
    address = struct.pack("!2xH4s8x", port, socket.inet_aton(host))
    address = struct.pack("H", 2) + address[2:]
    return "reached" if libc.connect(handle, address, len(address)) == 0 else "refused"

class Spy(PythonModel):
    def predict(self, context, model_input, params=None):
        port, hosts = int(model_input[0]), list(model_input[1:])
        found = [f"{way.__name__} {host} {way(host, port)}" for host in hosts for way in (by_python, by_system_call)]
        return found + sorted(os.environ)

set_model(Spy())
"""
LOG = """
import sys, mlflow
store, artifacts, code = sys.argv[1:]
mlflow.set_tracking_uri(store)
mlflow.set_experiment(experiment_id=mlflow.create_experiment("spies", artifacts))
with mlflow.start_run():
    mlflow.pyfunc.log_model(name="model", python_model=code, registered_model_name="spy", pip_requirements=["mlflow"])
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A store and artifact root with a model that tries to get out."""
    folder = tmp_path_factory.mktemp("spy")
    (folder / "spy.py").write_text(SPY)
    store = (f"sqlite:///{folder}/mlflow.db", f"{folder}/artifacts")
    run([sys.executable, "-c", LOG, *store, str(folder / "spy.py")], folder)
    return store


@pytest.fixture
def production() -> Iterator[tuple[int, list[str], list[str]]]:
    """A service on all addresses of this machine: its port, the addresses, and whoever came."""
    came: list[str] = []
    with socket.create_server(("0.0.0.0", 0)) as server:
        server.settimeout(0.2)

        def welcome() -> None:
            while server.fileno() >= 0:
                try:
                    connection, peer = server.accept()
                except TimeoutError:
                    continue
                except OSError:
                    return
                came.append(peer[0])
                connection.close()

        threading.Thread(target=welcome, daemon=True).start()
        ours = [a.address for n in psutil.net_if_addrs().values() for a in n if a.family == socket.AF_INET]
        yield server.getsockname()[1], sorted(set(ours)), came


def ask_spy(
    cell: NetworkCell, registry: tuple[str, str], python: Path, sandbox: Path, words: list[str]
) -> tuple[list[str], list[dict[str, str]]]:
    """What the model found, and the environments of all processes that were running beside it."""
    confined = Confined(cell, {MARK: str(sandbox)})
    with LocalMlflowServer(confined=confined).serve(*registry) as uri:
        beside = [psutil.Process(pid).environ() for pid in processes_of(sandbox)]
        answer = ProcessModelRunner(confined=confined).predict(python, uri, "models:/spy/1", {"inputs": words})
    return [str(value["values"][0]) for value in answer.outputs["values"]], beside


def test_a_model_reaches_no_production_address_and_sees_no_credentials(
    registry: tuple[str, str],
    production: tuple[int, list[str], list[str]],
    model_python: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither Python nor the system calls themselves find a way to any address of this machine; nobody comes to the service."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "production-secret")
    monkeypatch.setenv("MLFLOW_CRYPTO_KEK_PASSPHRASE", "production-secret")
    port, hosts, came = production
    assert "127.0.0.1" in hosts
    with NetworkCell().opened() as cell:
        assert cell.statement == SEALED
        found, beside = ask_spy(cell, registry, model_python, tmp_path, [str(port), *hosts])
    ways = [line for line in found if line.startswith("by_")]
    assert len(ways) == 2 * len(hosts)
    assert [line for line in ways if line.endswith("reached")] == []
    assert came == []
    assert not {"AWS_SECRET_ACCESS_KEY", "MLFLOW_CRYPTO_KEK_PASSPHRASE"} & set(found)
    assert beside
    assert not any("production-secret" in value for environment in beside for value in environment.values())
    assert processes_of(tmp_path) == []


GUARDED = """
import sys
from muster.adapters.model_worker import stay_on_loopback
sys.addaudithook(stay_on_loopback)
exec(sys.argv[1].split("class Spy")[0].replace("from mlflow", "#"))
for way in (by_python, by_system_call):
    for host in sys.argv[3:]:
        print(way.__name__, host, way(host, int(sys.argv[2])))
"""


def test_where_the_system_gives_no_namespace_python_is_guarded_and_the_report_says_so(
    production: tuple[int, list[str], list[str]],
) -> None:
    """The guard holds Python back from other machines, and native code it does not: the statement claims no more than that."""
    port, hosts, _ = production
    (other,) = [host for host in hosts if not host.startswith("127.")][:1]
    cell = NetworkCell()
    cell.failure = "unshare: Operation not permitted"
    assert cell.statement.startswith("no namespace (unshare: Operation not permitted)")
    assert cell.statement.endswith("native code is not held")
    command = [*cell.prefix(), sys.executable, "-c", GUARDED, SPY, str(port), "127.0.0.1", other]
    done = subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": ":".join(sys.path)})
    assert done.stdout.splitlines() == [
        "by_python 127.0.0.1 reached",
        f"by_python {other} PermissionError",
        "by_system_call 127.0.0.1 reached",
        f"by_system_call {other} reached",
    ], done.stderr


def test_a_cell_ends_with_its_holder(tmp_path: Path) -> None:
    """What was begun in it dies with us, and nobody holds the namespace afterwards."""
    script = (
        "import subprocess, sys, time\n"
        "from muster.adapters.network_cell import NetworkCell\n"
        "with NetworkCell().opened() as cell:\n"
        "    child = subprocess.Popen([*cell.prefix(), sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "    time.sleep(1)\n"
        "    print(child.pid, cell._holder.pid, flush=True)\n"
        "    time.sleep(600)\n"
    )
    environment = {"PYTHONPATH": ":".join(sys.path)}
    drill = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment)
    assert drill.stdout is not None
    with drill.stdout:
        pids = [int(pid) for pid in drill.stdout.readline().split()]
    begun = [psutil.Process(pid) for pid in pids]
    drill.kill()
    drill.wait()
    _, alive = psutil.wait_procs(begun, timeout=10)
    assert alive == []
