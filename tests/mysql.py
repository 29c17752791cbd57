"""
A real MariaDB server for `make test-servers`, as Debian packages it.

With ``MUSTER_MYSQLD`` (a command that takes the options of a ``mysqld``) the same tests run against that server instead: `make test-mysql`.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from muster.loopback import free_port

SERVER = Path("/usr/sbin/mariadbd")
INSTALL = Path("/usr/bin/mariadb-install-db")
HASTY = {"LD_PRELOAD": "libeatmydata.so"}
"""Files are not synced: a schema of MLflow is made in a quarter of the time. A killed server still loses nothing."""
PASSWORD = "pass:word@1"
SPEED = (
    *("--skip-log-bin", "--innodb-flush-log-at-trx-commit=2", "--innodb-flush-method=nosync", "--innodb-doublewrite=0"),
    *("--innodb-buffer-pool-size=128M", "--innodb-file-per-table=0", "--skip-name-resolve"),
)
"""What was committed survives the server, not the machine."""
READY_WITHIN = 60.0
MYSQLD = os.environ.get("MUSTER_MYSQLD")
MYSQL_ALONE = ("--mysqlx=OFF", "--secure-file-priv=NULL") if MYSQLD else ()


@dataclass
class MariaDb:
    """
    A server on a loopback port and a socket; users come by the port with a password.

    :param as_user: the words before a command that make it run as somebody who is not root
    """

    folder: Path
    as_user: list[str]
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    is_mysql: bool = bool(MYSQLD)

    def start(self) -> None:
        """Start it, also after `kill`."""
        options = [
            *("--no-defaults", f"--datadir={self.folder}/data", f"--socket={self.folder}/socket"),
            *("--bind-address=127.0.0.1", f"--port={self.port}", f"--pid-file={self.folder}/pid", *SPEED),
        ]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.as_user, MYSQLD or str(SERVER), *options, *MYSQL_ALONE],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=os.environ | HASTY,
            )
        deadline = time.monotonic() + READY_WITHIN
        while True:
            try:
                self.execute("SELECT 1")
                return
            except Exception:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"MariaDB did not start:\n{(self.folder / 'log').read_text()[-3000:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        """As a power cut ends it."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def connection(self) -> Any:
        """By the socket, with all rights."""
        import pymysql

        return pymysql.connect(unix_socket=f"{self.folder}/socket", user="root", charset="utf8mb4", autocommit=True)

    def execute(self, *statements: str) -> list[Any]:
        """Rows of the last statement."""
        with contextlib.closing(self.connection()) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def database(self, options: str = "CHARACTER SET utf8mb4") -> str:
        """A new, empty database; its URL, for a user with all rights."""
        name = f"t{secrets.token_hex(6)}"
        self.execute(f"CREATE DATABASE {name} {options}")
        return self.url("muster", name)

    def url(self, user: str, database: str, password: str = PASSWORD) -> str:
        return f"mysql://{user}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"

    def user(self, *grants: str) -> str:
        """A new user with these rights (``SELECT ON db.*``); its name."""
        name = f"u{secrets.token_hex(6)}"
        self.execute(
            f"CREATE USER {name}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'",
            *(f"GRANT {grant} TO {name}@'127.0.0.1'" for grant in grants),
        )
        return name


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDb]:
    """MariaDB as Debian packages it. Fails where it is not installed."""
    for program in () if MYSQLD else (SERVER, INSTALL):
        if not program.exists():
            pytest.fail(f"{program} is missing: apt-get install mariadb-server-core mariadb-client-core libeatmydata1")
    folder = Path(tempfile.mkdtemp(prefix="mariadb-", dir="/tmp"))
    as_user: list[str] = []
    if os.geteuid() == 0:
        shutil.chown(folder, "nobody", "nogroup")
        as_user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    install = [str(INSTALL), "--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]
    made = [MYSQLD, "--no-defaults", "--initialize-insecure"] if MYSQLD else install
    subprocess.run(
        [*as_user, *made, f"--datadir={folder}/data", *SPEED],
        check=True,
        capture_output=True,
        cwd=folder,
        env=os.environ | HASTY,
    )
    server = MariaDb(folder, as_user)
    server.start()
    try:
        server.execute(
            f"CREATE USER muster@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'", "GRANT ALL ON *.* TO muster@'127.0.0.1'"
        )
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder)


def name_of(url: str) -> str:
    """The name of the database in a URL."""
    return url.rpartition("/")[2]
