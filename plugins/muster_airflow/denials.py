"""
Denied attempts on Muster's DAGs go into the audit trail of the vault that they were aimed at. Airflow itself keeps none of them.

Opening a vault takes a second, and a store may be away: so attempts are taken at once, written to files of ours within a second, and from
there into the vaults. Nobody who was denied waits for that, and nothing that fails here fails his request.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

EVERY_S = 60.0
"""So long the same attempt of the same person on the same DAG is one record; so long a vault that is away is left alone."""
UNKNOWN_DAG = "~"
"""For attempts on DAGs that no workload of the catalog has, or on several at once. It goes into every vault."""
_SETTLE_S = 0.5
_MOST_HELD, _MOST_SPOOLED = 500, 10_000

logger = logging.getLogger(__name__)
Record = dict[str, Any]
Trail = Callable[[Record], None]


@dataclass(frozen=True, slots=True)
class Denial:
    """
    One kind of attempt, and how often it was made.

    :param attempt: ``trigger``, ``approve``, ``clear``, ``change``, ``delete``
    :param path: of the first request, without its query
    :param status: 401 if nobody was signed in, else 403
    :param host: from where the first one came
    """

    who: str
    attempt: str
    dag: str
    run: str
    method: str
    path: str
    status: int
    host: str
    first: datetime
    last: datetime
    times: int = 1

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes two attempts the same."""
        return self.who, self.attempt, self.dag

    def and_again(self, later: Denial) -> Denial:
        """Both as one."""
        return replace(self, last=later.last, times=self.times + later.times)


class Denials:
    """
    Takes denied attempts and sees to it that the vaults' trails tell of them. May be used from several threads and processes.

    :param spool: folder of attempts that are in no vault yet
    :param open_trail: opens what a record is written with; whatever it raises, the record is tried again later
    :param known: the vaults of each DAG of the catalog; under `UNKNOWN_DAG` those that hear of all others
    """

    def __init__(
        self,
        spool: Path,
        open_trail: Callable[[], Trail],
        known: Callable[[], Mapping[str, Sequence[str]]],
        *,
        every_s: float = EVERY_S,
    ) -> None:
        self._spool, self._open_trail, self._known, self._every_s = Spool(spool), open_trail, known, every_s
        self._changed = threading.Condition()
        self._noted: dict[tuple[str, str, str], Denial] = {}
        self._held: dict[tuple[str, str, str], Denial] = {}
        self._not_before: dict[tuple[str, str, str], float] = {}
        self._retry_at = 0.0
        self._keeping = threading.Lock()

    def start(self) -> None:
        """Begin to write what comes, and what an earlier process left."""
        threading.Thread(target=self._work, name="muster-denials", daemon=True).start()
        atexit.register(self._keep_all)

    def note(self, denial: Denial) -> None:
        """Take an attempt. Returns at once; of more than a few hundred different ones at a time it keeps the number only."""
        with self._changed:
            _add(self._noted, denial)
            self._changed.notify()

    def flush(self) -> None:
        """Write what is due to files, and files to the vaults."""
        with self._keeping:
            self._keep(due_only=True)
        if time.monotonic() < self._retry_at:
            return
        try:
            self._spool.empty_into(self._open_trail)
        except Exception:
            logger.warning("denied attempts wait in %s, for no vault took them", self._spool.folder, exc_info=True)
            self._retry_at = time.monotonic() + self._every_s

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._noted:
                    self._changed.wait(self._pause())
            time.sleep(_SETTLE_S)
            try:
                self.flush()
            except Exception:
                logger.exception("denied attempts could not be kept")
                time.sleep(self._every_s)

    def _pause(self) -> float | None:
        """How long there is nothing to do; None for as long as nobody is denied anything."""
        now = time.monotonic()
        due = [self._not_before.get(key, now) for key in self._held]
        if self._spool.waiting():
            due.append(self._retry_at)
        return max(min(due) - now, 0.0) if due else None

    def _keep_all(self) -> None:
        """At the end of the process: what is held goes into files, or else into the log."""
        with self._keeping:
            try:
                self._keep(due_only=False)
            except Exception:
                logger.exception("denied attempts stand here alone: %s", [*self._held.values()])

    def _keep(self, *, due_only: bool) -> None:
        with self._changed:
            noted, self._noted = self._noted, {}
        for denial in noted.values():
            _add(self._held, denial)
        if not self._held:
            return
        known, now = self._known(), time.monotonic()
        for denial in [denial for denial in self._held.values() if denial.dag not in known]:
            del self._held[denial.key]
            _add(self._held, replace(denial, dag=UNKNOWN_DAG))
        self._not_before = {key: at for key, at in self._not_before.items() if at > now}
        for key in [key for key in self._held if not due_only or key not in self._not_before]:
            self._spool.put(self._held[key], known.get(self._held[key].dag, ()))
            del self._held[key]
            self._not_before[key] = now + self._every_s


def _add(found: dict[tuple[str, str, str], Denial], denial: Denial) -> None:
    if denial.key not in found and len(found) >= _MOST_HELD:
        denial = replace(denial, dag=UNKNOWN_DAG, attempt="change", who="many")
    before = found.get(denial.key)
    found[denial.key] = before.and_again(denial) if before else denial


class Spool:
    """A folder of attempts, one a file, that are in no vault yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def waiting(self) -> list[Path]:
        """The files, oldest first."""
        return sorted(self.folder.glob("*.json"))

    def put(self, denial: Denial, vaults: Sequence[str]) -> None:
        """Keep an attempt, once for each vault; the log has it if the folder is full of those that no vault takes."""
        told = {**asdict(denial), "id": uuid.uuid4().hex}
        waiting = len(self.waiting())
        for vault in vaults:
            record = json.dumps({**told, "vault": vault}, default=datetime.isoformat)
            if waiting >= _MOST_SPOOLED:
                logger.error("%s is full; a denied attempt stands here alone: %s", self.folder, record)
                continue
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            part = self.folder / f"{time.time_ns()}-{uuid.uuid4().hex}.part"
            part.write_text(record)
            part.rename(part.with_suffix(".json"))

    def empty_into(self, open_trail: Callable[[], Trail]) -> None:
        """
        Write all that waits, unless another process is about it. What was written is removed; killed in between, it is written twice.

        A vault that fails keeps nothing back that others are to be told; what it was raised with comes last.
        """
        if not self.waiting():
            return
        with self._alone() as alone:
            if not alone:
                return
            write, failed = open_trail(), dict[str, Exception]()
            for file in self.waiting():
                self._write(file, write, failed)
            for error in failed.values():
                raise error

    def _write(self, file: Path, write: Trail, failed: dict[str, Exception]) -> None:
        try:
            record = json.loads(file.read_text())
            vault = record["vault"]
        except (ValueError, KeyError, TypeError):
            logger.exception("%s is no denied attempt that we wrote", file)
            file.rename(file.with_suffix(".unreadable"))
            return
        if vault in failed:
            return
        try:
            write(record)
        except Exception as error:  # noqa: BLE001 - raised when all others were written
            failed[vault] = error
        else:
            file.unlink()

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        with (self.folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True


def open_trails() -> Trail:
    """Writes records into the vaults that they name, which are opened when they are needed."""
    from muster.vault.header import Actor
    from muster_airflow.hooks.recovery import RecoveryHook

    platform = RecoveryHook().platform

    def write(record: Record) -> None:
        told = {name: value for name, value in record.items() if name not in ("who", "host", "dag", "vault")}
        actor = Actor(record["who"], record["host"], "airflow")
        platform.vault(record["vault"]).record("denied", record["dag"], "denied", told, by=actor)

    return write


def known_dags() -> dict[str, list[str]]:
    """
    The vaults of each DAG that the catalog makes.

    :raises CatalogError: if the vaults cannot be read
    """
    from muster_airflow.access import VERBS
    from muster_airflow.workloads import protected_workloads, vault_names

    everywhere = vault_names()
    known = {name: list(everywhere) for name in (*VERBS, UNKNOWN_DAG)}
    for workload in protected_workloads():
        known |= {f"{verb}__{workload.workload}": [workload.vault] for verb in VERBS}
    return known
