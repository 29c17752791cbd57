"""Tables of an SQLite registry that did not change are not read again; whatever changed is, however it changed."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fakes_trees import FolderTree
from muster.adapters import mlflow_pages
from muster.adapters.mlflow_registry import MlflowSource
from registry_seed import SmallStore

RUNS = 40


@pytest.fixture
def store(small_store: SmallStore) -> SmallStore:
    """Some runs with metrics, so that tables have several pages."""
    for number in range(RUNS):
        small_store.add_run(f"r{number}")
    with closing(sqlite3.connect(small_store.file)) as connection:
        rows = [(f"m{n}", n / 7, n, f"r{n % RUNS}", 0, n) for n in range(4000)]
        statement = "INSERT INTO metrics (key, value, timestamp, run_uuid, is_nan, step) VALUES (?, ?, ?, ?, ?, ?)"
        connection.executemany(statement, rows)
        connection.commit()
    return small_store


class Captured:
    """One capture after the other, each knowing the one before."""

    def __init__(self, store: SmallStore, folder: Path) -> None:
        self._store, self._folder, self._count = store, folder, 0
        self.tree: FolderTree | None = None

    def take(self) -> tuple[set[str], dict[str, Any]]:
        """Tables that were written again, and the details."""
        self._count += 1
        source = MlflowSource("w", self._store.url, str(self._store.artifacts))
        tree = FolderTree(self._folder / str(self._count))
        with source.capture(self.tree) as cut:
            written = {name for dump in cut.dumps for name in dump.tables if dump.file(name).exists()}
            tree.store(cut.files())
            details = cut.details()
            cut.confirm()
        self.tree = tree.keep(self.tree) if self.tree else tree
        return written, details


@pytest.fixture
def captured(store: SmallStore, tmp_path: Path) -> Captured:
    taken = Captured(store, tmp_path / "trees")
    written, _ = taken.take()
    assert {"runs", "metrics", "experiments"} <= written
    return taken


def change(store: SmallStore, *statements: str) -> None:
    """Do this to the store, and set its file back to the time that it had."""
    state = store.file.stat()
    with closing(sqlite3.connect(store.file, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
    os.utime(store.file, ns=(state.st_atime_ns, state.st_mtime_ns))


def test_of_an_unchanged_store_no_table_is_read(captured: Captured) -> None:
    """And the point says the same of it."""
    _, before = captured.take()
    written, details = captured.take()
    assert written == set()
    assert details == before


@pytest.mark.parametrize(
    ("statement", "table"),
    [
        ("UPDATE metrics SET value = value + 1 WHERE key = 'm7'", "metrics"),
        ("UPDATE metrics SET value = -value WHERE key = 'm7'", "metrics"),
        ("DELETE FROM metrics WHERE key = 'm3999'", "metrics"),
        ("UPDATE runs SET name = 'other' WHERE run_uuid = 'r1'", "runs"),
        ("ALTER TABLE inputs ADD COLUMN more INTEGER DEFAULT 5", "inputs"),
        ("CREATE TABLE unheard_of (id INTEGER PRIMARY KEY)", "unheard_of"),
    ],
)
def test_a_changed_table_is_read_and_no_other(
    captured: Captured, store: SmallStore, statement: str, table: str
) -> None:
    """Though size and time of the file are as they were: a value of the same length, a row less, a column more."""
    change(store, statement)
    written, details = captured.take()
    assert written == {table}
    fresh = Captured(store, captured._folder / "fresh")
    assert fresh.take()[1]["tables"] == details["tables"]


def test_rows_that_only_moved_are_read_and_found_to_be_the_same(captured: Captured, store: SmallStore) -> None:
    """A VACUUM writes every page anew: nothing is believed, and nothing is stored twice."""
    _, before = captured.take()
    change(store, "DELETE FROM metrics WHERE run_uuid = 'r0'", "VACUUM")
    written, details = captured.take()
    assert "metrics" in written
    assert details["tables"]["runs"] == before["tables"]["runs"]
    change(store, "VACUUM")
    assert captured.take()[1] == details


def test_leases_of_a_running_server_do_not_make_tables_be_read(captured: Captured, store: SmallStore) -> None:
    """The file of a store in use changes all the time."""
    change(store, _insertion(store, "scheduler_leases"), _insertion(store, "job_locks"))
    assert captured.take()[0] == set()


def test_a_table_that_the_vault_has_lost_is_read_again(captured: Captured, store: SmallStore) -> None:
    """What is known is offered with a stream of it; the stream gives the very same rows."""
    tree = captured.tree
    assert tree is not None
    with MlflowSource("w", store.url, str(store.artifacts)).capture(tree) as cut:
        (metrics,) = [file for file in cut.files() if file.path == "tables/metrics.jsonl"]
        assert metrics.known == tree.entry("tables/metrics.jsonl").content
        assert metrics.open is not None
        with metrics.open() as stream:
            assert stream.read() == tree.read(tree.entry("tables/metrics.jsonl"))


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"format":1,"pages":{},"rows":{}}'])
def test_what_cannot_be_read_of_the_point_before_is_not_believed(captured: Captured, damage: bytes) -> None:
    """A look of another format, or none: everything is read."""
    assert captured.tree is not None
    content = captured.tree.entry("look.json").content
    assert content is not None
    (captured.tree.folder / content.sha256).write_bytes(damage)
    assert "metrics" in captured.take()[0]


def test_without_dbstat_everything_is_read(captured: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """An SQLite that cannot tell whose page is which tells so by an error."""
    monkeypatch.setattr(mlflow_pages, "_PAGES", "SELECT name, pageno FROM no_such_table")
    written, before = captured.take()
    assert "metrics" in written
    assert captured.tree is not None
    assert not any(entry.path == "look.json" for entry in captured.tree.entries())
    assert captured.take()[1] == before


def _insertion(store: SmallStore, table: str) -> str:
    """Of some row."""
    with closing(sqlite3.connect(store.file)) as connection:
        columns = connection.execute(f"PRAGMA table_info({table})").fetchall()
    values = ["'x'" if "CHAR" in kind else "1" for _, _, kind, *_ in columns]
    return f"INSERT INTO {table} VALUES ({', '.join(values)})"
