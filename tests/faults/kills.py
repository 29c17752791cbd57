"""Work on a vault that is killed at two hundred random places, and what must hold after each of these kills."""

from __future__ import annotations

import importlib
import math
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from subprocess import Popen
from typing import Protocol

from killed import killed_at_step, steps_of
from muster.adapters.local_store import LocalStore
from muster.ports import BlobStore
from programs import awaited, begin, ready, say, started
from vault_snapshots import named_packs
from vaults import read_folder, reopen

SEED = 20261123
BATCH = 20
BATCHES = 10
AT_STEPS, AT_WRITES, AT_MOMENTS = 160, 30, 10
"""So many kills hit between any two instructions, between two of those that put or remove an object, and from outside at some moment."""
WRITING = frozenset({"adapters/local_store.py put", "adapters/local_store.py delete"})
Contents = Mapping[str, Mapping[str, bytes]]
"""What a point holds: for each component the bytes of each file."""


class Work(Protocol):
    """What is killed: in a module as its `WORK`, so that a program can be told to do it."""

    def prepare(self, home: Path) -> None:
        """Make the vault on which it works, as `home`/vault, and what else it needs."""

    def do(self, home: Path, vault: Path, *, long: bool = False) -> None:
        """All of it, on a copy of the vault; `long` has more to it, so that there are more moments."""

    def stage(self, before: set[str], after: set[str]) -> str:
        """How far it got, by the keys of the objects that were there before, and are now."""

    def check(self, home: Path, vault: Path, number: int, *, long: bool) -> None:
        """What must hold after the kill of this number, and that it takes nobody to go on."""


@dataclass(frozen=True)
class Kill:
    """
    One of them.

    :param place: where it hit; None if the work had ended before
    :param wrong: what did not hold afterwards, or nothing
    """

    number: int
    place: str | None
    stage: str
    wrong: str

    def __str__(self) -> str:
        return f"kill {self.number} of seed {SEED}, {self.place}, {self.stage}: {self.wrong}"


class Series:
    """
    Two hundred kills of one work, each of a process of its own, on a copy of one vault.

    Each kill has a stretch of the work for itself, in which it hits anywhere. So they are spread over all of it, and twice as dense at
    its end as on the whole: first much is read, and at last what names the rest is written. `kill` does one of them again.

    :param module: has the `WORK`
    :param home: an empty folder
    """

    def __init__(self, module: str, home: Path) -> None:
        self._module, self._home = module, home
        self._batches: dict[int, list[Kill]] = {}

    @cached_property
    def work(self) -> Work:
        """What is killed, with everything that it needs."""
        work: Work = importlib.import_module(self._module).WORK
        work.prepare(self._home)
        return work

    @cached_property
    def steps(self) -> int:
        """How many steps it takes, unharmed."""
        vault = self._copy("whole")
        return steps_of(lambda: self.work.do(self._home, vault))

    @cached_property
    def writes(self) -> int:
        """How many of its steps are in `WRITING`."""
        vault = self._copy("written")
        return steps_of(lambda: self.work.do(self._home, vault), WRITING)

    @cached_property
    def seconds(self) -> float:
        """How long it takes in a program of its own, unharmed: the quicker of two times."""
        return min(self._timed(f"timed-{n}") for n in range(2))

    def batch(self, number: int) -> list[Kill]:
        """One of the `BATCHES` of kills, by two processes side by side; done once."""
        if number not in self._batches:
            self.steps, self.writes, self.seconds  # noqa: B018 - they are measured once, and with nothing beside them
            with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as beside:
                self._batches[number] = list(beside.map(self.kill, range(number * BATCH, (number + 1) * BATCH)))
        return self._batches[number]

    def all(self) -> list[Kill]:
        """All kills."""
        return [kill for number in range(BATCHES) for kill in self.batch(number)]

    def kill(self, number: int) -> Kill:
        """Kill the work once, and look at what is left."""
        long = number >= AT_STEPS + AT_WRITES
        vault = self._copy(f"killed-{number}")
        before = keys(vault)
        place, stage, wrong = None, "", ""
        try:
            place = self._strike(number, vault)
            stage = self.work.stage(before, keys(vault))
            self.work.check(self._home, vault, number, long=long)
        except Exception:
            wrong = traceback.format_exc()
        shutil.rmtree(vault)
        return Kill(number, place, stage, wrong)

    def _strike(self, number: int, vault: Path) -> str | None:
        share = random.Random(f"{SEED} {number}").random()
        if number < AT_STEPS:
            return self._at_a_step(math.sqrt((number + share) / AT_STEPS), self.steps, frozenset(), vault)
        number -= AT_STEPS
        if number < AT_WRITES:
            return self._at_a_step((number + share) / AT_WRITES, self.writes, WRITING, vault)
        return self._at_a_moment((number - AT_WRITES + share) / AT_MOMENTS, vault)

    def _at_a_step(self, share: float, steps: int, inside: frozenset[str], vault: Path) -> str | None:
        step = 1 + int(share * steps)
        place = killed_at_step(step, lambda: self.work.do(self._home, vault), inside)
        return place and f"step {step} of {steps}{' that write' if inside else ''}, {place}"

    def _at_a_moment(self, share: float, vault: Path) -> str | None:
        """After a share of the time that the work takes; sooner, on another copy, if it was quicker this time."""
        moment = share * self.seconds
        for _ in range(4):
            with self._begun(vault) as program:
                time.sleep(moment)
                program.kill()
                assert program.stdout is not None
                ended = program.stdout.read() == "done\n"
            if not ended:
                return f"after {moment:.3f} of {self.seconds:.3f} s"
            moment /= 2
            shutil.rmtree(vault)
            self._copy(vault.name)
        return None

    def _timed(self, name: str) -> float:
        with self._begun(self._copy(name)) as program:
            since = time.monotonic()
            assert program.stdout is not None
            assert program.stdout.readline() == "done\n"
            return time.monotonic() - since

    @contextmanager
    def _begun(self, vault: Path) -> Iterator[Popen[str]]:
        """A program that has just begun with the work."""
        with started("faults.kills", self._module, str(self._home), str(vault)) as program:
            awaited(program)
            begin(program)
            yield program

    def _copy(self, name: str) -> Path:
        self.work  # noqa: B018 - it is prepared first
        return Path(shutil.copytree(self._home / "vault", self._home / name, copy_function=os.link))


def keys(vault: Path) -> set[str]:
    """The keys of all objects of a vault in a folder."""
    return {info.key for info in LocalStore(vault).list()}


def assert_nothing_but_objects(vault: Path) -> None:
    """No file in a folder that is not an object: what was not put whole is not there at all."""
    assert set(read_folder(vault)) == keys(vault)


def assert_sound(store: BlobStore) -> None:
    """Verification reads everything and finds nothing, the audit trail holds, and indexes name every pack that a manifest does."""
    vault = reopen(store)
    assert [str(finding) for finding in vault.verify().findings] == []
    vault.audit()
    assert needed_packs(store) <= named_packs(vault)


def restored(store: BlobStore) -> dict[str, Contents]:
    """Every point that is listed, as it comes back through all checks; its runbook is read, and no part of what was captured."""
    vault = reopen(store)
    found: dict[str, Contents] = {}
    for status in vault.points():
        trees = {component.label: vault.tree(component.tree) for component in status.point.components}
        found[status.point.point] = {
            label: {entry.path: tree.read(entry) for entry in tree.entries() if entry.content}
            for label, tree in trees.items()
        }
        found[status.point.point].pop("runbook/flights", None)
    return found


def needed_packs(store: BlobStore) -> set[str]:
    """Names of the packs that the points name."""
    return {pack for status in reopen(store).points() for pack in status.point.packs}


def main() -> None:
    """The work as a program: what it is, where it is prepared, and the vault."""
    module, home, vault = sys.argv[1:4]
    work: Work = importlib.import_module(module).WORK
    with tempfile.TemporaryDirectory() as warm:
        work.do(Path(home), Path(shutil.copytree(vault, Path(warm, "vault"))))  # what is imported late is imported now
    ready()
    work.do(Path(home), Path(vault), long=True)
    say("done")
