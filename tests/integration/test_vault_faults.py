"""A vault in a folder, and what can go wrong while it is written: kills, full disks, stores that fail, cheat or answer late."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fakes import Fault, FaultyStore, FrozenClock
from muster.adapters.local_store import LocalStore
from muster.codec import from_json, to_json
from muster.domain.content import TreeRef
from muster.domain.recovery_point import Mark
from muster.errors import IntegrityError, StoreUnavailable
from muster.ports import BlobStore, SourceFile
from muster.vault.vault import Vault, WriterStats
from vaults import POINT, component, extract, make_vault, memory_file, noise, point_over, reopen, seal

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


def in_child(work: Callable[[], object]) -> int:
    """Run in a forked process; return its exit code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(start_child(work), 0)[1])


def start_child(work: Callable[[], object]) -> int:
    """Run in a forked process that never comes back into the test; return its id."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """A vault with one sealed point, number 0."""
    store = LocalStore(tmp_path / "vault")
    vault, _ = make_vault(store)
    with vault.writer() as writer:
        tree = writer.store_tree([memory_file(*item) for item in OLD.items()])
    seal(vault, tree, number=0)
    return store


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


@pytest.mark.parametrize("kind", ["truncate", "flip"])
@pytest.mark.parametrize("what", ["packs/", "indexes/", "points/", "marks/", "audit/"])
def test_a_store_that_writes_something_else_is_found_out(
    store: LocalStore, tmp_path: Path, kind: str, what: str
) -> None:
    """Half the bytes, or a wrong bit, written with a smile: verify names that object, and the old point is whole."""
    cheating = FaultyStore(store, Fault(kind, "put", prefix=what))
    with contextlib.suppress(IntegrityError):  # some of it is noticed at once
        snapshot(reopen(cheating))
    (damaged, *_) = [key for operation, key in cheating.calls if operation == "put" and key.startswith(what)]
    vault = reopen(store)
    assert damaged in {finding.object for finding in vault.verify().findings}
    assert extract(vault, trees_of(vault, 0)[0], tmp_path / "old") == OLD


@pytest.mark.parametrize("kind", ["truncate", "flip"])
@pytest.mark.parametrize("operation", ["get", "get_range"])
def test_what_a_store_gives_back_wrong_is_never_restored(
    store: LocalStore, tmp_path: Path, kind: str, operation: str
) -> None:
    """Whatever it was that came back damaged: either the restore fails, or the bytes are right."""
    snapshot(reopen(store))
    calls = FaultyStore(store)
    extract(reopen(calls), trees_of(reopen(calls), 1)[0], tmp_path / "whole")
    count = sum(name == operation for name, _ in calls.calls)
    failed = 0
    for number in range(1, count + 1, max(1, count // 12)):
        cheating = FaultyStore(store, Fault(kind, operation, at=number))
        try:
            vault = reopen(cheating)
            assert extract(vault, trees_of(vault, 1)[0], tmp_path / str(number)) == FILES
        except IntegrityError:
            failed += 1
    assert failed or operation == "get_range"


def test_a_transient_damage_on_the_way_is_read_again(store: LocalStore, tmp_path: Path) -> None:
    """A chunk that came back wrong once is fetched once more before the restore is given up."""
    flipping = FaultyStore(store, Fault("flip", "get_range", prefix="packs/", at=2))
    vault = reopen(flipping)
    assert extract(vault, trees_of(vault, 0)[0], tmp_path / "old") == OLD


def test_a_restore_that_fails_leaves_no_half_file(store: LocalStore, tmp_path: Path) -> None:
    """The store goes away in the middle: there are whole files or none, and no temporary ones."""
    snapshot(reopen(store))
    failing = FaultyStore(store, Fault("fail", "get_range", at=3, times=None))
    vault = reopen(failing)
    tree = trees_of(vault, 1)[0]
    with pytest.raises(StoreUnavailable):
        extract(vault, tree, tmp_path / "new")
    for path in (tmp_path / "new").rglob("*"):
        assert path.is_dir() or path.read_bytes() == FILES[path.relative_to(tmp_path / "new").as_posix()]


def test_a_pack_that_was_lost_is_stored_again_by_the_next_snapshot(store: LocalStore, tmp_path: Path) -> None:
    """A writer does not believe an index about a pack that is not there: the point is mended by taking another."""
    snapshot(reopen(store))
    for info in [info for info in store.list("packs/") if info.size > 20 * MiB]:
        store.delete(info.key)
    assert not reopen(store).verify().ok
    stats = snapshot(reopen(store), number=2)
    assert stats.new_chunks > 10
    vault = reopen(store)
    assert extract(vault, trees_of(vault, 2)[0], tmp_path / "two") == FILES
    assert extract(vault, trees_of(vault, 1)[0], tmp_path / "one") == FILES
    report = vault.verify()
    assert report.ok, [str(finding) for finding in report.findings]


class SlowStore(FaultyStore):
    """Takes no pack before the reader has come to a stop; remembers how far it was ever ahead of what was stored."""

    def __init__(self, inner: BlobStore) -> None:
        super().__init__(inner)
        self.read = self.stored = self.most_ahead = 0

    def open(self, content: bytes) -> io.BytesIO:
        store = self

        class Counted(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                block = super().read(size)
                store.read += len(block)
                store.most_ahead = max(store.most_ahead, store.read - store.stored)
                return block

        return Counted(content)

    def put(self, key: str, data: bytes) -> None:
        if key.startswith("packs/"):
            before = -1
            while before != self.read:
                before = self.read
                time.sleep(0.4)
            self.stored += len(data)
        super().put(key, data)


def test_memory_stays_bounded_while_uploads_are_slow(store: LocalStore) -> None:
    """Of 320 MiB that are there to be read, only a few packs wait for a store that takes its time."""
    slow = SlowStore(store)
    files = [SourceFile(f"f{n}", functools.partial(slow.open, noise(40 * MiB, 200 + n))) for n in range(8)]
    with reopen(slow).writer() as writer:
        writer.store_tree(files)
    assert 32 * MiB < slow.most_ahead < 220 * MiB


def test_a_point_of_components_from_several_processes_is_sealed_by_another(store: LocalStore, tmp_path: Path) -> None:
    """As tasks on several workers do it: each captures, none shares memory, one seals."""
    for number in range(3):
        assert in_child(lambda n=number: _capture(store, tmp_path, n)) == 0
    vault = reopen(store)
    trees = [_read_ref(tmp_path / f"{number}.json") for number in range(3)]
    point = vault.seal(point_over(vault, *trees, number=5))
    assert len(point.components) == 3
    assert component(trees[0]).tree == trees[0]
    assert vault.verify().ok


def _capture(store: LocalStore, tmp_path: Path, number: int) -> None:
    vault = reopen(store)
    with vault.writer() as writer:
        tree = writer.store_tree([memory_file("shared", OLD["old"]), memory_file("own", noise(5000, number))])
    (tmp_path / f"{number}.json").write_text(json.dumps(to_json(tree)))


def _read_ref(path: Path) -> TreeRef:
    return from_json(TreeRef, json.loads(path.read_text()))
