"""Servers that tests talk to: S3 in this process (moto), a real one (Ceph RGW), and a line that loses answers."""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from muster.adapters.s3_location import S3Location
from muster.loopback import free_port

_SCRIPT = Path(__file__).with_name("s3_server.sh")
_READY_WITHIN_S = 120


@dataclass(frozen=True)
class S3Server:
    """An S3 server on loopback, and the keys of its owner."""

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)

    def make_bucket(self, *, lock: bool = False) -> str:
        """A new bucket of a new name; with Object Lock, and so with versions, if told so."""
        bucket = f"muster-{secrets.token_hex(6)}"
        self.client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=lock)
        return bucket

    @property
    def client(self) -> Any:
        """A boto3 client with all rights: whoever owns the account, or has stolen its keys."""
        return _client(self)

    def location(self, bucket: str, prefix: str = "", retries: int = 1) -> S3Location:
        return S3Location(bucket, prefix, self.endpoint, "us-east-1", self.access_key, self.secret_key, retries)

    def address(self, bucket: str, prefix: str = "") -> str:
        """The address that a person would write: ``s3://ACCESS:SECRET@bucket/prefix?endpoint=…``."""
        keys = f"{quote(self.access_key, safe='')}:{quote(self.secret_key, safe='')}"
        path = f"/{prefix}" if prefix else ""
        return f"s3://{keys}@{bucket}{path}?endpoint={self.endpoint}&region=us-east-1"


@functools.cache
def _client(server: S3Server) -> Any:
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name="us-east-1",
    )


@pytest.fixture(scope="session")
def moto_s3() -> Iterator[S3Server]:
    """An S3 server in this process. It accepts any keys: nothing about permissions is proved on it."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _one_at_a_time(server)
    host, port = server.get_host_and_port()
    yield S3Server(f"http://{host}:{port}", "any-access-key", "any/secret+key")
    server.stop()


def _one_at_a_time(server: Any) -> None:
    """moto looks whether an object is there, and then writes it: of two requests at once, both could win."""
    app, turn = server._server.app, threading.Lock()

    def answer(environ: Any, start_response: Any) -> Any:
        with turn:
            return app(environ, start_response)

    server._server.app = answer


@pytest.fixture(scope="session")
def ceph_s3() -> Iterator[S3Server]:
    """A real S3 server. A machine without it fails the test: `make test-servers` installs it."""
    with running_ceph() as server:
        yield server


@contextlib.contextmanager
def running_ceph() -> Iterator[S3Server]:
    """Ceph's RGW on loopback, until the context is left."""
    folder = Path(tempfile.mkdtemp(prefix="muster-rgw-"))
    port, monitor = free_port(), free_port()
    server = S3Server(f"http://127.0.0.1:{port}", secrets.token_hex(10).upper(), secrets.token_hex(20))
    keys = {"S3_ACCESS_KEY": server.access_key, "S3_SECRET_KEY": server.secret_key}
    process = subprocess.Popen(
        ["bash", str(_SCRIPT), str(folder / "ceph"), str(port), str(monitor)],
        env=os.environ | keys,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _await_ready(process)
        yield server
    finally:
        process.communicate(timeout=60)  # the end of its input is its sign to stop
        shutil.rmtree(folder)


def _await_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    alarm = threading.Timer(_READY_WITHIN_S, process.terminate)
    alarm.start()
    line = process.stdout.readline()
    alarm.cancel()
    if line.strip() != "ready":
        _, errors = process.communicate(timeout=60)
        pytest.fail(f"the S3 server of {_SCRIPT.name} did not come up within {_READY_WITHIN_S} s:\n{errors}")


@pytest.fixture
def lossy_line(moto_s3: S3Server) -> Iterator[LossyLine]:
    """A relay to the S3 server in this process."""
    line = LossyLine(moto_s3.endpoint)
    yield line
    line.close()


class LossyLine:
    """
    A TCP relay to a server on loopback that passes on what is asked, and loses answers when told to.

    :param upstream: address of the server
    """

    def __init__(self, upstream: str) -> None:
        self._upstream = (str(urlsplit(upstream).hostname), int(urlsplit(upstream).port or 80))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._to_lose = 0
        self._longest: int | None = None
        self.lost = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def lose(self, answers: int) -> None:
        """Lose the next answers: the server does what it was asked, and the asker's connection breaks instead."""
        with self._lock:
            self._to_lose = answers

    def break_off(self, after: int) -> None:
        """Break every connection when so many bytes of answers have passed through it."""
        self._longest = after

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                asker, _ = self._listener.accept()
            except OSError:  # closed
                return
            server = socket.create_connection(self._upstream)
            threading.Thread(target=self._ask, args=(asker, server), daemon=True).start()
            threading.Thread(target=self._answer, args=(server, asker), daemon=True).start()

    def _ask(self, asker: socket.socket, server: socket.socket) -> None:
        try:
            while piece := asker.recv(1 << 16):
                server.sendall(piece)
        except OSError:
            pass
        finally:
            _hang_up(server)

    def _answer(self, server: socket.socket, asker: socket.socket) -> None:
        passed = 0
        try:
            while (piece := server.recv(1 << 16)) and not self._loses():
                left = len(piece) if self._longest is None else self._longest - passed
                asker.sendall(piece[:left])
                passed += len(piece)
                if left < len(piece):
                    break
        except OSError:
            pass
        finally:
            _hang_up(asker)
            _hang_up(server)

    def _loses(self) -> bool:
        with self._lock:
            if not self._to_lose:
                return False
            self._to_lose -= 1
            self.lost += 1
            return True


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
