"""A vault over stores that cheat, answer wrongly or take their time, and over several processes at once."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import time
from pathlib import Path
from typing import Any

import pytest

from fakes import Fault, FaultyStore
from muster.adapters.local_store import LocalStore
from muster.codec import from_json, to_json
from muster.domain.content import TreeRef
from muster.errors import IntegrityError, StoreUnavailable
from muster.ports import BlobStore, SourceFile
from vault_snapshots import (
    FILES,
    OLD,
    MiB,
    in_child,
    old_vault,
    snapshot,
    trees_of,
)
from vaults import component, extract, memory_file, noise, point_over, reopen


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return old_vault(tmp_path / "vault")


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
            def readinto(self, room: Any) -> int:
                size = super().readinto(room)
                store.read += size
                store.most_ahead = max(store.most_ahead, store.read - store.stored)
                return size

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
