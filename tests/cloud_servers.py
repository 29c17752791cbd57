"""Servers of other clouds that tests talk to: Azurite, and an emulator of Google Cloud Storage, each behind a relay."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO
from urllib.parse import quote

import pytest

from azure_gate import AzureGate
from gcs_gate import GcsGate
from muster.adapters.azure_location import AzureLocation
from muster.adapters.gcs_location import GcsLocation
from muster.loopback import free_port
from muster.ports import LockMode
from relay import Relay

_AZURITE = Path(__file__).with_name("azurite") / "node_modules" / ".bin" / "azurite-blob"
_READY_WITHIN_S = 60
# Ends the server when its own input ends, that is when we do, however we end.
_AS_LONG_AS_WE = '"$@" & server=$!; read -r _; kill "$server"; wait "$server"'

# Azurite's one account, the same everywhere: https://learn.microsoft.com/azure/storage/common/storage-use-azurite
ACCOUNT = "devstoreaccount1"
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@dataclass(frozen=True)
class GcsServer:
    """Google Cloud Storage on loopback, seen through a gate."""

    emulator: str
    gate: GcsGate
    relay: Relay

    def make_bucket(self) -> str:
        """A new bucket of a new name."""
        bucket = f"muster-{secrets.token_hex(6)}"
        request = urllib.request.Request(
            f"{self.emulator}/storage/v1/b?project=tests",
            json.dumps({"name": bucket}).encode(),
            {"Content-Type": "application/json"},
        )
        urllib.request.urlopen(request).close()
        return bucket

    def location(self, bucket: str, prefix: str = "", lock: LockMode = "governance") -> GcsLocation:
        return GcsLocation(bucket, prefix, self.relay.endpoint, anonymous=True, lock=lock)

    def address(self, bucket: str, prefix: str = "") -> str:
        """The address that a person would write."""
        return f"gs://anonymous@{bucket}/{prefix}?endpoint={self.relay.endpoint}"


@dataclass(frozen=True)
class AzureServer:
    """Azure Blob on loopback, seen through a gate."""

    emulator: str
    gate: AzureGate
    relay: Relay
    key: str = field(default=ACCOUNT_KEY, repr=False)

    @property
    def endpoint(self) -> str:
        return f"{self.relay.endpoint}/{ACCOUNT}"

    def make_container(self) -> str:
        """A new container of a new name."""
        from azure.storage.blob import BlobServiceClient

        container = f"muster-{secrets.token_hex(6)}"
        with BlobServiceClient(f"{self.emulator}/{ACCOUNT}", credential=self.key) as client:
            client.create_container(container)
        return container

    def location(self, container: str, prefix: str = "", lock: LockMode = "governance") -> AzureLocation:
        return AzureLocation(ACCOUNT, container, prefix, self.endpoint, self.key, lock)

    def address(self, container: str, prefix: str = "") -> str:
        """The address that a person would write."""
        return f"azure://{quote(self.key, safe='')}@{ACCOUNT}/{container}/{prefix}?endpoint={self.endpoint}"


@pytest.fixture(scope="session")
def gcs_emulator() -> Iterator[str]:
    """The address of an emulator of Google Cloud Storage. It keeps no precondition and no lock: nothing of them is proved on it."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "gcp_storage_emulator",
        "start",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--in-memory",
    ]
    with running(command, f"http://127.0.0.1:{port}") as address:
        yield address


@pytest.fixture(scope="session")
def azurite() -> Iterator[str]:
    """The address of an Azurite. A machine without it fails the test: `make test-servers` installs it."""
    port = free_port()
    command = [
        "node",
        str(_AZURITE),
        "--silent",
        "--inMemoryPersistence",
        "--disableTelemetry",
        "--skipApiVersionCheck",
    ]
    with running([*command, "--blobHost", "127.0.0.1", "--blobPort", str(port)], f"http://127.0.0.1:{port}") as address:
        yield address


@pytest.fixture
def gcs(gcs_emulator: str) -> Iterator[GcsServer]:
    """A bucket of it is made for object retention, unless the test says otherwise to its gate."""
    gate = GcsGate()
    with closing(Relay(gcs_emulator, gate, at_once=1)) as relay:  # it has one thread, and keeps few others waiting
        yield GcsServer(gcs_emulator, gate, relay)


@pytest.fixture
def azure(azurite: str) -> Iterator[AzureServer]:
    """A container of it is made for version-level immutability, unless the test says otherwise to its gate."""
    gate = AzureGate()
    with closing(Relay(azurite, gate)) as relay:
        yield AzureServer(azurite, gate, relay)


@contextmanager
def running(command: Sequence[str | Path], address: str, answers: Callable[[], bool] | None = None) -> Iterator[str]:
    """
    A server from when it answers; it ends with us, or before.

    :param answers: tells whether it does; None to ask at its address
    """
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            ["bash", "-c", _AS_LONG_AS_WE, "-", *command],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            _await(answers or partial(_answers, address), address, log)
            yield address
        finally:
            process.communicate(timeout=30)  # the end of its input is its sign to stop


def _await(answers: Callable[[], bool], address: str, log: IO[bytes]) -> None:
    deadline = time.monotonic() + _READY_WITHIN_S
    while not answers():
        if time.monotonic() >= deadline:
            log.seek(0)
            pytest.fail(
                f"nobody answers at {address} within {_READY_WITHIN_S} s:\n{log.read().decode(errors='replace')}"
            )
        time.sleep(0.1)


def _answers(address: str) -> bool:
    try:
        urllib.request.urlopen(address, timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True
