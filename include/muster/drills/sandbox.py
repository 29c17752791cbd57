"""The sandbox of a drill: one folder in which everything happens, what is written down there, and how nothing of it is left."""

from __future__ import annotations

import json
import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from muster.codec import from_json, to_json
from muster.domain.drill import Choice, DrillOutcome, Harm
from muster.domain.faults import BY_NAME, Fault, Observed, Outcome
from muster.domain.timing import stamp_of
from muster.errors import MusterError, NotFound, Refused, StoreUnavailable
from muster.folders import remove_folder
from muster.ports import Clock

MARK = "MUSTER_SANDBOX"
"""The environment variable by which the processes of a sandbox are known, whoever began them."""
STATE = "drill.json"
FORGOTTEN_AFTER = timedelta(days=1)
"""After how long a sandbox that outlives its processes, as those of DAG runs and game days do, is taken for left behind."""
UNWRITTEN_FOR = 600.0
"""For how many seconds a sandbox may be without anything written down before it is taken for left behind."""
PATIENCE = 5.0


@dataclass(frozen=True, slots=True)
class Owner:
    """
    Whose sandbox it is.

    :param who: ``process`` for a command that ends with its process; otherwise the DAG, or the game day, that may go on in others
    :param pid: of the process that made it
    :param began: when that process began, in seconds since the epoch
    """

    who: str
    host: str
    pid: int
    began: float

    @staticmethod
    def ours(who: str = "process") -> Owner:
        """This process."""
        import psutil

        return Owner(who, socket.gethostname(), os.getpid(), psutil.Process().create_time())

    @property
    def lives(self) -> bool:
        """Whether the process that made it is still running, on this machine."""
        import psutil

        with suppress(psutil.Error):
            return bool(abs(psutil.Process(self.pid).create_time() - self.began) < 1.0)
        return False


@dataclass(frozen=True, slots=True)
class DrillState:
    """
    What is known of a drill so far.

    :param point: the point to recover, as things stand
    :param asked: the point that was asked for
    :param harm: what the view of the vault does now
    :param replica: which of the replicas stands in for the primary vault; None for the primary itself
    :param noticed: whether anybody noticed the fault; None for one that needs no notice
    :param mended: whether something was made whole
    :param lifted: whether the fault was taken away, after the attempt under it was refused
    """

    workload: str
    point: str
    asked: str
    owner: Owner
    began_at: datetime
    choice: Choice
    expected: Outcome | None
    isolation: str
    harm: Harm = field(default_factory=Harm)
    replica: int | None = None
    noticed: bool | None = None
    mended: bool = False
    lifted: bool = False
    story: tuple[str, ...] = ()

    @property
    def fault(self) -> Fault | None:
        return BY_NAME[self.choice.fault] if self.choice.fault else None

    @property
    def active(self) -> str | None:
        """Name of the fault that is in force now."""
        return None if self.lifted else self.choice.fault

    def told(self, *lines: str, **changes: Any) -> DrillState:
        """The state after something more happened."""
        return replace(self, story=(*self.story, *lines), **changes)

    def observed(self, recovered: str | None) -> Observed | None:
        """
        What happened, by what is known and by the recovery that followed; None without a fault.

        :param recovered: the point from which everything came back, or None if it did not
        """
        if self.fault is None:
            return None
        if self.noticed is False:
            return "unnoticed"
        if recovered is None:
            return "failed"
        if self.lifted:
            return "refused"
        if recovered != self.asked:
            return "older_point"
        return "healed" if self.mended else "restored"

    def outcome(self, recovered: str | None) -> DrillOutcome:
        """What the report says of it."""
        return DrillOutcome(
            self.choice.fault,
            self.choice.how,
            self.expected,
            self.observed(recovered),
            self.asked,
            self.story,
            self.choice.passed_over,
            self.isolation,
        )


@dataclass(frozen=True, slots=True)
class Sandbox:
    """
    One drill's folder.

    * ``datasets`` … ``configuration``   what is restored, as below any folder that is restored to
    * ``attempt``                        what is restored in vain, under a fault
    * ``aside``                          what was moved out of the way
    * ``vault``                          what is written while the true vault is only read
    * ``tmp``                            temporary files of everything that runs here
    """

    folder: Path

    @property
    def state(self) -> DrillState:
        """
        What is written down.

        :raises NotFound: if this is no sandbox, or is no more
        """
        try:
            return from_json(DrillState, json.loads((self.folder / STATE).read_text()))
        except (OSError, ValueError) as error:
            raise NotFound(f"{self.folder} is no sandbox of a drill", "begin a new drill") from error

    def write(self, state: DrillState) -> DrillState:
        """Write down how things stand: whole, or as before."""
        fresh = self.folder / f".{STATE}.new"
        fresh.write_text(json.dumps(to_json(state), indent=1))
        fresh.replace(self.folder / STATE)
        return state

    def place(self, name: str) -> Path:
        """A folder of it by its name; made when it is not there."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return folder

    @contextmanager
    def temporary_files(self) -> Iterator[None]:
        """Let what this process puts away for a while be put into the sandbox, so that it is removed with it."""
        before, tempfile.tempdir = tempfile.tempdir, str(self.place("tmp"))
        try:
            yield
        finally:
            tempfile.tempdir = before


def make(state: Path, workload: str, clock: Clock) -> Sandbox:
    """
    A new empty sandbox.

    :raises StoreUnavailable: if it cannot be made; nothing is left then
    """
    folder = state / "drills" / f"{workload}-{stamp_of(clock.now())}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise StoreUnavailable(
            f"no sandbox could be made at {folder}: {error.strerror or error}; nothing was restored, and nothing runs",
            "see that the folder of MUSTER_STATE can be written to and has room, then drill again",
        ) from error
    return Sandbox(folder)


def tear_down(sandbox: Path) -> None:
    """
    End every process of a sandbox, then remove it, whole.

    :raises MusterError: if a process or a file of it is still there; the message names it
    """
    _end_processes(sandbox)
    remove_folder(sandbox)


def remove(state: Path, sandbox: Path) -> None:
    """
    `tear_down` for a folder that somebody names.

    :raises Refused: if it is no sandbox of ours; nothing was removed
    """
    sandbox, drills = sandbox.resolve(), (state / "drills").resolve()
    if sandbox.parent != drills:
        raise Refused(f"{sandbox} is no sandbox of a drill", f"sandboxes lie in {drills}; nothing was removed")
    tear_down(sandbox)


def left_behind(state: Path, now: datetime, again: str | None = None) -> list[Path]:
    """
    Sandboxes of drills that were killed.

    :param again: the DAG that begins anew: it runs once at a time, so that what is there of it was left behind
    """
    folders = [path for path in sorted((state / "drills").glob("*")) if path.is_dir() and not path.is_symlink()]
    return [path for path in folders if _is_left(path, now, again)]


def _is_left(folder: Path, now: datetime, again: str | None) -> bool:
    try:
        drill = Sandbox(folder).state
    except MusterError:  # killed before anything was written down, or made a moment ago by somebody else
        return now.timestamp() - folder.stat().st_mtime > UNWRITTEN_FOR
    owner = drill.owner
    if owner.host != socket.gethostname():
        return now - drill.began_at > FORGOTTEN_AFTER
    if owner.who == "process":
        return not owner.lives
    return owner.who == again or (not owner.lives and now - drill.began_at > FORGOTTEN_AFTER)


def processes_of(sandbox: Path) -> list[int]:
    """Process ids of everything that was begun for a sandbox, except for ourselves."""
    import psutil

    found: list[int] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(MARK) == str(sandbox):
                found.append(process.pid)
    return found


def _end_processes(sandbox: Path) -> None:
    import psutil

    ended = processes_of(sandbox)
    for pid in ended:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    with suppress(psutil.Error):
        psutil.wait_procs([psutil.Process(pid) for pid in ended if psutil.pid_exists(pid)], timeout=PATIENCE)
    if left := processes_of(sandbox):
        raise MusterError(
            f"processes of the sandbox {sandbox} are still running: {', '.join(map(str, left))}; its files stay as they are",
            "end them by hand, then run `muster drill --clean`",
        )
