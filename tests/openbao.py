"""OpenBao on loopback: the Linux Foundation's fork of HashiCorp Vault 1.14, whose API it keeps."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cloud_servers import running
from muster.loopback import free_port

_AUDIT = 'audit "file" "requests" {{ options {{ file_path = "{path}" }} }}\n'
_ROOT = "of-this-test-alone"


@dataclass(frozen=True)
class OpenBao:
    """
    A server in development mode: unsealed, in memory, with a certificate of its own.

    :param environment: in which its command line is `vault` and speaks to it
    """

    address: str
    ca: Path
    audit: Path
    environment: dict[str, str]

    def run(self, line: str, token: str = _ROOT) -> subprocess.CompletedProcess[str]:
        """A line of the shell, with the rights of a token."""
        environment = self.environment | {"VAULT_TOKEN": token}
        return subprocess.run(["bash", "-c", line], env=environment, capture_output=True, text=True)

    def shell(self, line: str) -> str:
        """What a line prints that may do everything, and must succeed."""
        done = self.run(line)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def requests(self) -> list[tuple[str, str, str]]:
        """Operation, path and error of each request that was answered, by its audit device; the root token's are left out."""
        entries = [json.loads(line) for line in self.audit.read_text().splitlines()]
        return [
            (entry["request"]["operation"], entry["request"]["path"], entry.get("error", ""))
            for entry in entries
            if entry["type"] == "response" and "root" not in entry.get("auth", {}).get("policies", [])
        ]


@contextmanager
def running_openbao(binary: Path, folder: Path) -> Iterator[OpenBao]:
    """A server from when it answers; it ends with us, or before."""
    (folder / "bin").mkdir()
    (folder / "bin" / "vault").symlink_to(binary)
    (folder / "server.hcl").write_text(_AUDIT.format(path=folder / "audit.log"))
    port = free_port()
    address, ca = f"https://127.0.0.1:{port}", folder / "vault-ca.pem"
    environment = {
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder),
        "VAULT_ADDR": address,
        "VAULT_CACERT": str(ca),
    }
    server = OpenBao(address, ca, folder / "audit.log", environment)
    command = [
        binary,
        "server",
        "-dev-tls",
        f"-dev-tls-cert-dir={folder}",
        f"-dev-root-token-id={_ROOT}",
        f"-dev-listen-address=127.0.0.1:{port}",
        "-dev-no-store-token",
        f"-config={folder / 'server.hcl'}",
    ]
    with running(command, address, lambda: server.run("vault status").returncode == 0):
        yield server
