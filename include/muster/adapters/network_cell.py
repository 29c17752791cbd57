"""A network of its own for the processes of a sandbox: a loopback that nobody else is on, and no way out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
LIBC = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *given):
    if getattr(libc, name)(*given):
        sys.exit(f"{name}: {os.strerror(ctypes.get_errno())}")
def die_with(parent):
    if sys.platform == "linux":
        call("prctl", 1, 9, 0, 0, 0)  # PR_SET_PDEATHSIG, SIGKILL
    if os.getppid() != parent:
        sys.exit("the parent died")
"""
OWN_USER = """
def own_user(kinds):
    ids = {"uid_map": os.getuid(), "gid_map": os.getgid()}
    call("unshare", kinds)
    with open("/proc/self/setgroups", "w") as file:
        file.write("deny")
    for name, number in ids.items():
        with open(f"/proc/self/{name}", "w") as file:
            file.write(f"{number} {number} 1")
"""
"""Becoming the owner of new namespaces, as the same user to all others; works without any right where user namespaces are allowed."""
_HOLD = f"""
{LIBC}{OWN_USER}
import fcntl, socket, struct
own_user({CLONE_NEWUSER | CLONE_NEWNET})
die_with(int(sys.argv[1]))
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as lo:
    fcntl.ioctl(lo, 0x8914, struct.pack("16sH14x", b"lo", 0x41))  # SIOCSIFFLAGS: IFF_UP | IFF_RUNNING
print("ready", flush=True)
sys.stdin.read()
"""
_JOIN = f"""
{LIBC}
if sys.argv[2] != "0":
    for kind, flag in (("user", {CLONE_NEWUSER}), ("net", {CLONE_NEWNET})):
        call("setns", os.open(f"/proc/{{sys.argv[2]}}/ns/{{kind}}", os.O_RDONLY), flag)
die_with(int(sys.argv[1]))
os.execv(sys.argv[3], sys.argv[3:])
"""
SEALED = "a network namespace of its own: loopback only, on which nothing of this machine listens"


class NetworkCell:
    """
    Begins commands in a network namespace that has nothing but its own loopback, where the system allows that to us.

    The namespace is held by a small process as long as the cell is open. Every command that is begun through `prefix` dies when we do.
    """

    def __init__(self) -> None:
        self._holder: subprocess.Popen[str] | None = None
        self.failure = ""

    @property
    def sealed(self) -> bool:
        """Whether there is a namespace to begin commands in."""
        return self._holder is not None

    @property
    def statement(self) -> str:
        """Which isolation is in force, in words for the report."""
        if self.sealed:
            return SEALED
        return f"no namespace ({self.failure}): a guard in the model's Python refuses every address but loopback, native code is not held"

    def prefix(self) -> list[str]:
        """What stands before a command, so that it runs in here: to be called where the command is begun, by the same process."""
        holder = str(self._holder.pid) if self._holder else "0"
        return [sys.executable, "-I", "-S", "-c", _JOIN, str(os.getpid()), holder]

    @contextmanager
    def opened(self) -> Iterator[NetworkCell]:
        """Hold the namespace for as long as the context lasts; without one if the system refuses, as `statement` then says."""
        holder = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _HOLD, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            assert holder.stdout is not None  # noqa: S101 - for the type checker
            if holder.stdout.readline().strip() == "ready":
                self._holder = holder
            else:
                self.failure = (holder.communicate()[1].strip().splitlines() or ["it did not say why"])[-1]
            yield self
        finally:
            self._holder = None
            with suppress(ProcessLookupError):
                holder.send_signal(signal.SIGKILL)
            holder.communicate()


@dataclass(frozen=True, slots=True)
class Confined:
    """
    How processes of a sandbox are begun.

    :param cell: the network that they are on
    :param environment: all that they are told besides what every such process is told; nothing of our own environment is added
    """

    cell: NetworkCell
    environment: Mapping[str, str] = field(default_factory=dict)
