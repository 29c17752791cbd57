"""
A program that takes snapshots beside others: ``python writing_process.py ADDRESS``, and a line of JSON that says which.

It writes ``ready`` when it has opened the vault, begins when its input ends, and writes its statistics for each snapshot.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from fakes import Fault, FaultKind, FaultyStore
from muster.adapters.stores import open_store
from muster.ports import BlobStore
from programs import awaited, begin, ready, say, started
from vaults import memory_file, noise, reopen, seal


@dataclass(frozen=True)
class Writing:
    """
    What one program does: so many snapshots of one workload, each with content that all workloads share and content of its own.

    :param shared: bytes of content that others store as well
    :param fault: how it ends before its time, if it does; at which put of objects with which prefix
    """

    workload: str
    seed: int
    shared: int
    snapshots: int = 1
    fault: tuple[FaultKind, str, int] | None = field(default=None)

    def files(self, number: int) -> dict[str, bytes]:
        """What its snapshot of this number has."""
        own = {f"own-{n}": noise(4000, 1000 * self.seed + 10 * number + n) for n in range(3)}
        return {"shared": noise(self.shared, 1), "empty": b"", **own}


def run_together(address: str, writings: Sequence[Writing]) -> list[tuple[list[dict[str, int]], int]]:
    """Let several programs write into one vault at the same time; statistics and exit code of each."""
    with contextlib.ExitStack() as stack:
        programs = [
            stack.enter_context(started("writing_process", address, json.dumps(asdict(writing))))
            for writing in writings
        ]
        for program in programs:
            awaited(program)
        for program in programs:
            begin(program)
        return [(_rest(program), program.wait(timeout=120)) for program in programs]


def _rest(program: subprocess.Popen[str]) -> list[dict[str, int]]:
    assert program.stdout is not None
    return [json.loads(line) for line in program.stdout]


def main() -> None:
    """What the program does."""
    given = json.loads(sys.argv[2])
    writing = Writing(**given)
    store: BlobStore = open_store(sys.argv[1])
    if writing.fault:
        kind, prefix, at = writing.fault
        store = FaultyStore(store, Fault(kind, "put", at=at, prefix=prefix))
    reopen(store)
    files = [writing.files(number) for number in range(writing.snapshots)]
    ready()
    for number, content in enumerate(files):
        vault = reopen(store)
        with vault.writer() as writer:
            tree = writer.store_tree([memory_file(*item) for item in content.items()])
        seal(vault, tree, number=number, workload=writing.workload)
        say(json.dumps({"new": writer.stats.new_chunks, "reused": writer.stats.reused_chunks}))
