"""A vault in a folder, and what can go wrong while it is written: kills, full disks, stores that fail, cheat or answer late."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes import Fault, FaultyStore
from muster.adapters.local_store import LocalStore
from muster.errors import StoreUnavailable
from muster.ports import SourceFile
from vault_snapshots import (
    FILES,
    OLD,
    MiB,
    assert_whole_then_go_on,
    in_child,
    old_vault,
    snapshot,
    start_child,
    trees_of,
)
from vaults import extract, make_vault, memory_file, noise, reopen, seal


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return old_vault(tmp_path / "vault")


# --- kills ------------------------------------------------------------------------------------------------------------


def puts_of_a_snapshot() -> list[str]:
    """The keys, by folder, that a snapshot writes, in order."""
    return ["packs/", "packs/", "indexes/", "packs/", "indexes/", "points/", "audit/", "marks/", "audit/"]


def test_a_snapshot_writes_content_before_what_names_it(store: LocalStore) -> None:
    """Packs, then the index over them, then the manifest: the list of kills below is complete."""
    counting = FaultyStore(store)
    snapshot(reopen(counting))
    written = [f"{key.partition('/')[0]}/" for operation, key in counting.calls if operation == "put"]
    assert written == puts_of_a_snapshot()


@pytest.mark.parametrize("number", range(1, len(puts_of_a_snapshot()) + 1))
@pytest.mark.parametrize("kind", ["kill", "kill_after"])
def test_a_kill_at_any_write_leaves_every_point_whole(
    store: LocalStore, tmp_path: Path, kind: str, number: int
) -> None:
    """SIGKILL just before and just after each write; the rerun finds what is durable and does not store it again."""
    killing = FaultyStore(store, Fault(kind, "put", at=number))
    assert in_child(lambda: snapshot(reopen(killing))) == -signal.SIGKILL
    stats = assert_whole_then_go_on(store, tmp_path)
    if number >= 3:  # both packs of the first writer are durable before its index is written
        assert stats.new_chunks == 0
    elif kind == "kill_after":
        assert stats.reused_chunks > 0


def test_a_kill_at_any_moment_leaves_every_point_whole(store: LocalStore, tmp_path: Path) -> None:
    """Not at a write but whenever: eight times in a row over one vault, at moments spread over a snapshot."""
    started = time.monotonic()
    assert in_child(lambda: snapshot(reopen(store), number=9)) == 0
    lasted = time.monotonic() - started
    moments = random.Random(7)
    killed = 0
    for turn in range(8):
        changed = {**FILES, "large": noise(36 * MiB, 100 + turn)}
        child = start_child(lambda files=changed, turn=turn: snapshot(reopen(store), turn + 1, files))
        time.sleep(moments.uniform(0.05, 1.0) * lasted)
        os.kill(child, signal.SIGKILL)
        killed += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        vault = reopen(store)
        report = vault.verify(share=0.0)
        assert report.ok, [str(finding) for finding in report.findings]
        assert extract(vault, trees_of(vault, 0)[0], tmp_path / f"old{turn}") == OLD
    assert killed >= 3
    report = reopen(store).verify()
    assert report.ok, [str(finding) for finding in report.findings]


def test_a_creation_killed_at_any_write_can_be_begun_again(tmp_path: Path) -> None:
    """There is a vault, whole, or there is none; never a half."""
    for number in range(1, 6):
        for kind in ("kill", "kill_after"):
            store = LocalStore(tmp_path / f"{kind}{number}")
            killed = in_child(
                lambda kind=kind, store=store, n=number: make_vault(FaultyStore(store, Fault(kind, "put", at=n)))
            )
            assert killed == -signal.SIGKILL
            if not list(store.list("vault.json")):
                make_vault(store)
            vault = reopen(store)
            vault.record("begin", "x", "ok")
            assert vault.verify().ok


# --- full and failing stores ------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB of its own; without the right to mount one, files that may not grow beyond 8 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], capture_output=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if mounted.returncode:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8 * MiB, hard))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        yield disk
    finally:
        if mounted.returncode:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        else:
            subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_fails_the_snapshot_and_harms_no_point(small_disk: Path, tmp_path: Path) -> None:
    """The message speaks of space; the old point is whole; with more room the rerun goes on."""
    store = LocalStore(small_disk / "vault")
    vault, _ = make_vault(store)
    with vault.writer() as writer:
        tree = writer.store_tree([memory_file(*item) for item in OLD.items()])
    seal(vault, tree, number=0)
    with pytest.raises(StoreUnavailable, match="no space left"):
        snapshot(reopen(store))
    assert len(reopen(store).points()) == 1
    assert reopen(store).verify().ok
    roomy = tmp_path / "roomy"
    shutil.copytree(small_disk / "vault", roomy)
    assert_whole_then_go_on(LocalStore(roomy), tmp_path)


@pytest.mark.parametrize(
    ("kind", "number"),
    [(kind, n) for kind in ("fail", "lose_answer") for n in range(1, len(puts_of_a_snapshot()) + 1)]
    + [("full", 1), ("full", 3), ("full", 6)],
)
def test_a_store_that_fails_at_any_write_fails_the_snapshot(
    store: LocalStore, tmp_path: Path, kind: str, number: int
) -> None:
    """Never success with a failure inside; and trying again gets there."""
    failing = FaultyStore(store, Fault(kind, "put", at=number))
    with pytest.raises(StoreUnavailable):
        snapshot(reopen(failing))
    assert_whole_then_go_on(store, tmp_path)


def test_what_was_read_before_a_failure_is_not_stored_again(store: LocalStore) -> None:
    """A source that fails at its last file: the chunks of those before are found by the retry."""

    def broken() -> Iterator[SourceFile]:
        yield from (memory_file(*item) for item in FILES.items())
        raise StoreUnavailable("the source does not answer", "try again")

    with pytest.raises(StoreUnavailable, match="source"), reopen(store).writer() as writer:
        writer.store_tree(broken())
    assert reopen(store).verify().ok
    assert snapshot(reopen(store)).new_stored_bytes < 10_000


def test_a_store_that_is_down_while_the_rest_is_kept_does_not_hide_the_first_failure(store: LocalStore) -> None:
    """The error of the source is raised; that not everything could be kept is noted on it."""
    failing = FaultyStore(store, Fault("fail", "put", times=None))

    def broken() -> Iterator[SourceFile]:
        yield memory_file("a", noise(5 * MiB, 77))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as raised, reopen(failing).writer() as writer:
        writer.store_tree(broken())
    assert "did not answer" in raised.value.__notes__[0]
