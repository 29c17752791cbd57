"""Snapshots that are interrupted: what they write, and what every failure must leave behind."""

from __future__ import annotations

import faulthandler
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from fakes import FrozenClock
from muster.adapters.local_store import LocalStore
from muster.domain.content import TreeRef
from muster.domain.recovery_point import Mark
from muster.ports import BlobStore
from muster.vault.vault import Vault, WriterStats
from vaults import POINT, extract, make_vault, memory_file, noise, reopen, seal

MiB = 1024 * 1024
FILES = {"large": noise(36 * MiB, 11), "small/a": b"a" * 1000, "small/b": noise(1000, 12)}
OLD = {"old": noise(2 * MiB, 13)}


def snapshot(vault: Vault, number: int = 1, files: dict[str, bytes] = FILES) -> WriterStats:
    """Three components in two writers, a manifest, a mark: every kind of object is written."""
    with vault.writer() as writer:
        trees = [writer.store_tree([memory_file(*item) for item in files.items()]), writer.store_tree([])]
        stats = writer.stats
    with vault.writer() as writer:
        trees.append(writer.store_tree([memory_file("record", b"of component %d" % number)]))
    seal(vault, *trees, number=number)
    vault.mark(Mark("flights", f"{POINT}{number}", "verified", FrozenClock().now()))
    return stats


STACK_AFTER, PATIENCE = 90, 100
"""Seconds after which a forked process writes where it stands, and for which it is waited for."""


def in_child(work: Callable[[], object]) -> int:
    """
    Run in a forked process; return its exit code, or minus the signal that ended it.

    :raises AssertionError: if it does not end; it has written its stack to standard error before
    """
    child = start_child(work)
    deadline = time.monotonic() + PATIENCE
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise AssertionError("the forked process hangs; where, stands in its standard error")
        time.sleep(0.01)
    return os.waitstatus_to_exitcode(ended[1])


def start_child(work: Callable[[], object]) -> int:
    """Run in a forked process that never comes back into the test; return its id."""
    child = os.fork()
    if child == 0:
        code = 99
        faulthandler.dump_traceback_later(STACK_AFTER)
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def trees_of(vault: Vault, number: int) -> tuple[TreeRef, ...]:
    return tuple(component.tree for component in vault.point(f"{POINT}{number}").point.components)


def assert_whole_then_go_on(store: BlobStore, tmp_path: Path) -> WriterStats:
    """What every failure must leave behind: the old point whole, the new one whole or absent, and a rerun that works."""
    vault = reopen(store)
    assert extract(vault, trees_of(vault, 0)[0], tmp_path / "old") == OLD
    report = vault.verify(share=0.0)
    assert report.ok, [str(finding) for finding in report.findings]
    assert named_packs(vault) <= {info.key.rpartition("/")[2] for info in store.list("packs/")}
    stats = snapshot(reopen(store))
    vault = reopen(store)
    assert [status.point.point for status in vault.points()] == [f"{POINT}0", f"{POINT}1"]
    assert extract(vault, trees_of(vault, 1)[0], tmp_path / "new") == FILES
    report = vault.verify()
    assert report.ok, [str(finding) for finding in report.findings]
    return stats


def named_packs(vault: Vault) -> set[str]:
    """All packs that index objects name."""
    vault._index.refresh()
    return set(vault._index.packs())


def old_vault(folder: Path) -> LocalStore:
    """A vault with one sealed point, number 0."""
    store = LocalStore(folder)
    vault, _ = make_vault(store)
    with vault.writer() as writer:
        tree = writer.store_tree([memory_file(*item) for item in OLD.items()])
    seal(vault, tree, number=0)
    return store
