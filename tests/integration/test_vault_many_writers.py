"""Several programs store overlapping data in one vault at once, without a lock server; some are killed; nothing is lost."""

from __future__ import annotations

import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fakes import FaultyStore
from muster.adapters.stores import open_store
from muster.ports import BlobStore
from muster.vault.index import Index
from muster.vault.index_merge import MOST, superseded
from servers import S3Server
from vaults import make_vault, reopen
from writing_process import Writing, run_together

MiB = 1024 * 1024
KILLED = -signal.SIGKILL


@pytest.fixture(params=["folder", "moto_s3"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a new vault, in a folder or in a bucket of an S3 server."""
    if request.param == "folder":
        address = str(tmp_path / "vault")
    else:
        s3: S3Server = request.getfixturevalue(request.param)
        address = s3.address(s3.make_bucket())
    make_vault(open_store(address))
    return address


def assert_sealed(store: BlobStore, writing: Writing, snapshots: int) -> None:
    """All points of a workload are there, and every file of each reads back, through all checks, as it was."""
    vault = reopen(store)
    points = vault.points(writing.workload)
    assert len(points) == snapshots
    for number, status in enumerate(points):
        tree = vault.tree(status.point.components[0].tree)
        assert {entry.path: tree.read(entry) for entry in tree.entries()} == writing.files(number)


def assert_whole(store: BlobStore) -> None:
    report = reopen(store).verify()
    assert report.ok, [str(finding) for finding in report.findings]


def test_writers_at_once_of_whom_some_are_killed(address: str) -> None:
    """Four programs with 34 MiB in common: two seal; one dies after its first pack, one after its index; both can be run again."""
    faults = {"a": None, "b": None, "c": ("kill_after", "packs/", 1), "d": ("kill_after", "indexes/", 1)}
    writings = [Writing(name, n, 34 * MiB, fault=fault) for n, (name, fault) in enumerate(faults.items())]
    ended = run_together(address, writings)
    assert [code for _, code in ended] == [0, 0, KILLED, KILLED]
    store = open_store(address)
    assert_whole(store)
    assert [len(reopen(store).points(name)) for name in faults] == [1, 1, 0, 0]
    again = [Writing(writing.workload, writing.seed, writing.shared) for writing in writings[2:]]
    for said, code in run_together(address, again):
        assert code == 0
        assert said[0]["reused"] > 10  # what is shared is there, and in indexes or found in packs
        assert said[0]["new"] <= 4  # its own three files and the list of entries
    for writing in writings:
        assert_sealed(store, writing, 1)
    assert_whole(store)


def test_many_snapshots_at_once_leave_few_index_objects_to_read(address: str) -> None:
    """Three programs take eight snapshots each and merge indexes beside each other; expiry of what is superseded harms nothing."""
    writings = [Writing(f"w{seed}", seed, 9000, snapshots=8) for seed in range(3)]
    assert [code for _, code in run_together(address, writings)] == [0, 0, 0]
    store = open_store(address)
    for writing in writings:
        assert_sealed(store, writing, 8)
    assert_whole(store)
    assert len(list(store.list("indexes/"))) > 24
    master = reopen(store)._master
    for key in superseded(store, master, datetime.now(UTC) + timedelta(hours=1)):
        store.delete(key)
    counting = FaultyStore(store)
    index = Index(counting, master)
    assert index.reconcile() == []
    assert len([key for operation, key in counting.calls if operation == "get" and key.startswith("indexes/")]) <= MOST
    for writing in writings:
        assert_sealed(store, writing, 8)
    assert_whole(store)
