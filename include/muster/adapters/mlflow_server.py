"""An MLflow server of our own over a given store: for asking models when a point is taken and when it comes back."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from muster.adapters.mlflow_access import Access
from muster.adapters.mlflow_locations import root_place
from muster.adapters.mlflow_store import StoreUrl
from muster.adapters.network_cell import Confined
from muster.errors import StoreUnavailable
from muster.loopback import free_port
from muster.scratch import scratch_folder

PASSED_ON = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE"),
    *("AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_ACCESS_KEY", "AZURE_CLIENT_ID", "AZURE_TENANT_ID"),
    *("AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_AUTHORITY_HOST"),
    *("IDENTITY_ENDPOINT", "IDENTITY_HEADER", "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT"),
    *("CLOUDSDK_CONFIG", "GCE_METADATA_HOST", "STORAGE_EMULATOR_HOST"),
    *("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION"),
    *("MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY", "MLFLOW_CRYPTO_KEK_PASSPHRASE"),
)
"""The only variables of our own environment that the server gets: what finds programs and buckets, and the keys of its secrets."""
CONFINED_TO = ("PATH", "LANG", "LC_ALL", "TZ")
"""The same for a server of a sandbox: no credentials, no keys."""
DEATH_SIGNAL = 1
"""``PR_SET_PDEATHSIG`` of Linux's prctl(2)."""
GUARD = f"""
import ctypes, os, signal, subprocess, sys
signal.signal(signal.SIGUSR1, lambda *_: os.killpg(0, signal.SIGKILL))
if sys.platform == "linux":
    ctypes.CDLL(None).prctl({DEATH_SIGNAL}, signal.SIGUSR1)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent died")
sys.exit(subprocess.call(sys.argv[2:]))
"""
"""Leads the server's process group, and kills it when we die and can no longer do so: the server holds the store's password."""
SERVE = """
import os, runpy, sys
import uvicorn  # by which mlflow.server knows that it serves
import mlflow.server
from mlflow.cli import cli
begin = getattr(mlflow.server, "_exec_cmd", None)
def here(command, *, extra_env=None, **options):
    if command[1:3] != ["-m", "uvicorn"]:
        return begin(command, extra_env=extra_env, **options)
    os.environ.update(extra_env or {})
    sys.argv[:] = command[2:]
    runpy.run_module("uvicorn", run_name="__main__", alter_sys=True)
    sys.exit()
mlflow.server._exec_cmd = here
cli(["server", *sys.argv[1:]])
"""
"""
``mlflow server`` whose uvicorn runs in the same process. MLflow 3.17 begins another, which imports everything once more: half of the start.
A version that begins it in another way is left alone.
"""
ASK = """
import socket, sys, time
port, deadline = int(sys.argv[1]), time.monotonic() + float(sys.argv[2])
while time.monotonic() < deadline:
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as server:
            server.sendall(b"GET /health HTTP/1.0\\r\\nHost: 127.0.0.1\\r\\n\\r\\n")
            if b" 200 " in server.recv(64):
                sys.exit(0)
    except OSError:
        pass
    time.sleep(0.1)
sys.exit(1)
"""
"""Waits in the server's own network until it answers."""
STARTS = 3
LOG_TAIL = 2000


class LocalMlflowServer:
    """
    Starts ``mlflow server`` as a child in a session of its own, on a free loopback port.

    :param patience: seconds until a server that does not answer is given up
    :param confined: where it is begun, for a sandbox: then it gets none of our credentials, and only who is begun there reaches it
    """

    def __init__(self, patience: float = 120.0, *, confined: Confined | None = None) -> None:
        self._patience = patience
        self._confined = confined

    @contextmanager
    def serve(self, store_url: str, artifact_root: str) -> Iterator[str]:
        """
        The tracking URI of a server that answers. The whole process group is killed when the context is left.

        The server runs no jobs and sends no telemetry. The store's URL travels in the environment: arguments are visible to all.

        :raises StoreUnavailable: if it does not come up; the message carries the end of its log
        """
        store, place = StoreUrl.parse(store_url), root_place(artifact_root)
        access = Access.of(artifact_root)
        with scratch_folder("mlflow") as scratch:
            buckets = access.environment(scratch)
            environment = _environment(store, place.location, buckets, self._confined)
            log = scratch / "server.log"
            process, uri = self._started(environment, log, store.shown)
            try:
                yield uri
            finally:
                _stop(process)

    def _started(self, environment: dict[str, str], log: Path, shown: str) -> tuple[subprocess.Popen[bytes], str]:
        """A server that answers. Another process may take the free port first: then its own start fails, and we try anew."""
        for attempt in range(1, STARTS + 1):
            port = free_port()
            process = _launch(environment, port, log, self._prefix)
            try:
                if self._answers(process, port):
                    return process, f"http://127.0.0.1:{port}"
            except BaseException:
                _stop(process)
                raise
            _stop(process)
            said = log.read_text(errors="replace")
            if "ddress already in use" not in said or attempt == STARTS:
                break
        raise StoreUnavailable(
            f"the MLflow server over {shown} did not come up; its log ends with:\n{said[-LOG_TAIL:]}",
            "see that the store is at the schema of the installed MLflow (`mlflow db upgrade`)",
        )

    @property
    def _prefix(self) -> list[str]:
        return self._confined.cell.prefix() if self._confined else []

    def _answers(self, process: subprocess.Popen[bytes], port: int) -> bool:
        if self._confined and self._confined.cell.sealed:
            return self._answers_inside(process, port)
        deadline = time.monotonic() + self._patience
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(OSError, urllib.error.URLError), opener.open(_health(port), timeout=5) as answer:
                if answer.status == 200 and _owns_port(process, port):
                    return True
            time.sleep(0.1)
        return False

    def _answers_inside(self, process: subprocess.Popen[bytes], port: int) -> bool:
        """The same where we cannot reach it; nobody else can have taken its port there."""
        asking = [*self._prefix, sys.executable, "-I", "-S", "-c", ASK, str(port), str(self._patience)]
        with subprocess.Popen(asking, stdin=subprocess.DEVNULL) as helper:
            try:
                while helper.poll() is None and process.poll() is None:
                    time.sleep(0.05)
            finally:
                helper.kill()
        return helper.returncode == 0 and process.poll() is None


def _health(port: int) -> str:
    return f"http://127.0.0.1:{port}/health"


def _owns_port(process: subprocess.Popen[bytes], port: int) -> bool:
    """Whether the port that answers belongs to the process group that we started, and not to somebody who was quicker."""
    import psutil

    if process.poll() is not None:
        return False
    with contextlib.suppress(psutil.Error):
        ours = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        return any(c.laddr.port == port for p in ours for c in p.net_connections("tcp") if c.status == "LISTEN")
    return False


def _environment(store: StoreUrl, artifacts: str, buckets: dict[str, str], confined: Confined | None) -> dict[str, str]:
    return {
        **{name: os.environ[name] for name in (CONFINED_TO if confined else PASSED_ON) if name in os.environ},
        **(confined.environment if confined else {}),
        **buckets,
        "MLFLOW_BACKEND_STORE_URI": store.url,
        "MLFLOW_ARTIFACTS_DESTINATION": artifacts,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "GX_ANALYTICS_ENABLED": "false",
        "GIT_PYTHON_REFRESH": "quiet",
    }


def _launch(environment: dict[str, str], port: int, log: Path, prefix: list[str]) -> subprocess.Popen[bytes]:
    arguments = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--serve-artifacts"]
    with log.open("wb") as output:
        return subprocess.Popen(
            [
                *prefix,
                sys.executable,
                "-c",
                GUARD,
                str(os.getpid()),
                sys.executable,
                "-c",
                SERVE,
                *arguments,
            ],
            env=environment,
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the whole group, also when its leader died already."""
    for sign, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and _group_lives(process):
            time.sleep(0.05)


def _group_lives(process: subprocess.Popen[bytes]) -> bool:
    """Whether anything of the group still runs: not what has ended and waits for its parent, who may take its time."""
    import psutil

    process.poll()
    for member in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getpgid(member.pid) == process.pid and member.status() != psutil.STATUS_ZOMBIE:
                return True
    return False
