"""
Restores one component in a process of its own: one that is killed in the middle of it, or whose disk is too small.

``python -m muster.drills.worker`` reads a `Task` as JSON from standard input, since it holds a key. It opens the vault to be read, and
restores below a folder of the sandbox. Nobody but `Worker` begins it.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from muster.adapters.small_disk import on_small_disk
from muster.codec import from_json, to_json

HERE = "restored all but the last step"
TIMEOUT = 900.0


@dataclass(frozen=True, slots=True)
class Task:
    """
    :param address: of the vault, with what it takes to reach it
    :param key: what opens it
    :param over: folder for what would be written to the vault
    :param below: folder that is restored to
    :param halt: whether to stand still right before the first result is moved to its place
    """

    address: str
    insecure: bool
    key: str
    workload: str
    point: str
    component: str
    below: str
    over: str
    halt: bool = False


class Worker:
    """
    Begins such a process, and ends it.

    It runs nothing but our own restore, and reaches the vault as the drill does: with our environment and on our network.

    :param environment: what it is told besides
    :param room: bytes that the disk has which it restores to; None for the disk that is there
    """

    def __init__(self, task: Task, environment: Mapping[str, str], *, room: int | None = None) -> None:
        self._task = task
        before = [] if room is None else on_small_disk(Path(task.below), room)
        self._process = subprocess.Popen(
            [*before, sys.executable, "-m", "muster.drills.worker", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment},
            start_new_session=True,
        )

    def killed_midway(self) -> bool:
        """Let it restore, and kill it by SIGKILL where it stands still; False if it came to an end before."""
        with self._process as process:
            assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - for the type checker
            process.stdin.write(json.dumps(to_json(self._task)))
            process.stdin.close()
            stood = any(HERE in line for line in process.stdout)
            process.kill()
        return stood

    def ended(self) -> str:
        """Let it come to its end; what it said at last: empty if it restored all."""
        try:
            said, _ = self._process.communicate(json.dumps(to_json(self._task)), timeout=TIMEOUT)
        finally:
            self._process.kill()
            self._process.wait()
        return "" if self._process.returncode == 0 else (said.strip().splitlines() or ["it died without a word"])[-1]


def _halt_before_placing(below: str) -> None:
    def watch(event: str, given: tuple[object, ...]) -> None:
        if event == "os.rename" and str(given[1]).startswith(below) and not Path(str(given[1])).name.startswith("."):
            print(HERE, flush=True)  # noqa: T201 - the one who waits for it reads this
            time.sleep(TIMEOUT)

    sys.addaudithook(watch)


def main() -> None:
    """Restore what standard input says; the last line says why not, if not."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, 9)  # die when the drill does
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the drill is over")
    task = from_json(Task, json.load(sys.stdin))
    from muster.errors import MusterError

    try:
        _restore(task)
    except MusterError as error:
        sys.exit(f"{type(error).__name__}: {' '.join(error.message.split())}")


def _restore(task: Task) -> None:
    from muster.adapters.kms_keys import AwsKeys
    from muster.adapters.sandboxed_store import SandboxedStore
    from muster.adapters.stores import open_store
    from muster.adapters.system_clock import SystemClock
    from muster.bootstrap import Platform
    from muster.catalog import Catalog
    from muster.domain.restore_request import RestoreRequest
    from muster.domain.restore_target import target_below
    from muster.domain.timing import stamp_of
    from muster.operations.restore import action_for, restore_component
    from muster.vault.holders import secret_of
    from muster.vault.vault import Actor, Vault

    actor = Actor("drill", os.uname().nodename, "worker")
    store = SandboxedStore(open_store(task.address, insecure=task.insecure), Path(task.over))
    vault = Vault.open(store, secret_of(task.key, AwsKeys()), clock=SystemClock(), actor=actor)
    status = vault.point(task.point, task.workload)
    platform = Platform(Catalog({}, {}), lambda name: name, state=Path(task.over), actor=actor)
    target = target_below(task.below, [component.name for component in status.point.of_kind("dataset")])
    now = platform.clock.now()
    job = platform.restore_job(status, target, RestoreRequest("drill", now))
    if task.halt:
        _halt_before_placing(task.below)
    restore_component(vault, job, action_for(job, task.component), stamp_of(now), platform.clock)


if __name__ == "__main__":
    main()
