"""Child processes whose whole descent ends with us, whatever sessions and groups they put themselves into."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from muster.errors import MusterError, StoreUnavailable

GRACE_S = 5.0
INSIST_S = 3.0
PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER = 36, 37  # linux/prctl.h
PROC = Path("/proc")
SHOWN_LOG_LINES = 15


@dataclass(frozen=True, slots=True)
class Child:
    """A server that we started."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def check_alive(self) -> None:
        """
        :raises StoreUnavailable: if it has ended; the message carries the end of its log
        """
        if self.process.poll() is not None:
            raise StoreUnavailable(
                f"{self.name} ended with code {self.process.returncode}:\n{log_tail(self.log)}", f"read {self.log}"
            )


class ProcessTree:
    """
    A scope for child processes. Leaving it, by any way out, ends every process that came from it.

    A process group is not enough here: Airflow puts each task into a group of its own, and a drill's MLflow server leads a
    session. So on Linux this process becomes the reaper of orphans (`man 2 PR_SET_CHILD_SUBREAPER`): whatever descends from
    it stays below it in the process table, where it is found. SIGTERM and SIGHUP end the scope just as Ctrl-C does, unless
    they are ignored here, and all three are repeated until it ends: Python drops what is raised in a destructor or in a weak
    reference's callback, of which each import has one.
    """

    def __init__(self) -> None:
        self._spared: frozenset[int] = frozenset()
        self._adopted_before = False
        self._handlers: dict[signal.Signals, Any] = {}
        self._again = threading.Timer(INSIST_S, lambda: None)
        self._children: list[Child] = []

    def __enter__(self) -> ProcessTree:
        self._spared = frozenset(_children_of(os.getpid()))
        self._adopted_before = _adopt_orphans(True)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._handlers[number] = signal.signal(number, self._interrupt)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in self._handlers:
            signal.signal(number, signal.SIG_IGN)
        self._again.cancel()
        try:
            self._end(self.descent())
        finally:
            _adopt_orphans(self._adopted_before)
            for number, handler in self._handlers.items():
                signal.signal(number, handler)

    def start(self, name: str, command: Sequence[str], *, env: Mapping[str, str], log: Path) -> Child:
        """Start a server in a session of its own, so that the terminal's Ctrl-C reaches only us; its output goes to `log`."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        child = Child(name, process, log)
        self._children.append(child)
        return child

    def stop(self, child: Child) -> None:
        """End one server and all that came from it; returns when they are gone."""
        self._end({child.process.pid, *_descendants(child.process.pid)})
        child.process.wait()
        self._children.remove(child)

    def run(self, name: str, command: Sequence[str], *, env: Mapping[str, str], log: Path) -> None:
        """
        Run a program to its end.

        :raises MusterError: if it fails; the message carries the end of its output
        """
        child = self.start(name, command, env=env, log=log)
        finish(child)
        self._children.remove(child)

    def descent(self) -> set[int]:
        """Every living process that came from this scope."""
        found = set(_descendants(os.getpid()))
        for pid in self._spared:
            found -= {pid, *_descendants(pid)}
        return self._remaining(found)

    def _interrupt(self, number: int, _frame: FrameType | None) -> None:
        self._again.cancel()
        self._again = threading.Timer(INSIST_S, os.kill, (os.getpid(), number))
        self._again.daemon = True
        self._again.start()
        raise KeyboardInterrupt

    def _end(self, pids: set[int]) -> None:
        _signal(pids, signal.SIGTERM)
        polite_until = time.monotonic() + GRACE_S
        while pids := self._remaining(pids):
            if time.monotonic() > polite_until:
                _signal(pids, signal.SIGKILL)
            time.sleep(0.05)

    def _remaining(self, pids: set[int]) -> set[int]:
        for child in self._children:
            child.process.poll()
        _reap(pids)
        parents = _parents()
        alive = {pid for pid in pids if pid in parents}
        return alive | {descendant for pid in alive for descendant in _descendants(pid, parents)}


def finish(child: Child) -> None:
    """
    Wait for a program.

    :raises MusterError: if it failed; the message carries the end of its output
    """
    code = child.process.wait()
    if code:
        raise MusterError(f"{child.name} failed with code {code}:\n{log_tail(child.log)}", f"read {child.log}")


def log_tail(log: Path) -> str:
    """The last lines of a log file, indented."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n".join(f"    {line}" for line in lines[-SHOWN_LOG_LINES:])


def started_at(pid: int) -> str | None:
    """A text that tells a process from every other that ever had its number; None if there is no such process."""
    if PROC.joinpath("self", "stat").exists():
        fields = _stat_on_linux(PROC / str(pid))
        return None if fields is None or fields[0] == "Z" else fields[19]
    return (
        subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True).stdout.strip() or None
    )


def _adopt_orphans(adopt: bool) -> bool:
    """Become, or cease to be, the reaper of orphans; returns what we were before."""
    if not sys.platform.startswith("linux"):
        return False
    prctl, before = ctypes.CDLL(None).prctl, ctypes.c_int()
    prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(before), 0, 0, 0)
    prctl(PR_SET_CHILD_SUBREAPER, int(adopt), 0, 0, 0)
    return bool(before.value)


def _signal(pids: set[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _reap(pids: set[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def _children_of(pid: int) -> list[int]:
    return [child for child, parent in _parents().items() if parent == pid]


def _descendants(pid: int, parents: Mapping[int, int] | None = None) -> Iterator[int]:
    parents = _parents() if parents is None else parents
    for child, parent in parents.items():
        if parent == pid:
            yield child
            yield from _descendants(child, parents)


def _parents() -> dict[int, int]:
    """Every process of this machine that we may see, with its parent."""
    if PROC.joinpath("self", "stat").exists():
        return dict(filter(None, map(_parent_on_linux, PROC.glob("[0-9]*"))))
    table = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True).stdout
    return {int(pid): int(parent) for pid, parent in (line.split() for line in table.splitlines())}


def _parent_on_linux(entry: Path) -> tuple[int, int] | None:
    fields = _stat_on_linux(entry)
    return None if fields is None else (int(entry.name), int(fields[1]))


def _stat_on_linux(entry: Path) -> list[str] | None:
    """State, parent and so on: what stands behind the name in ``man 5 proc_pid_stat``; None if the process has ended."""
    try:
        return (entry / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
