"""The tables of a large store are read by a process of their own: the same moment, the same files, the same errors."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from fakes_trees import FolderTree
from muster.adapters import mlflow_reader, mlflow_tables
from muster.adapters.mlflow_reader import Reader, Task
from muster.adapters.mlflow_registry import MlflowSource
from muster.adapters.mlflow_rows import Column, Table
from muster.errors import SourceInvalid, StoreUnavailable
from postgres import Cluster
from registry_seed import SmallStore, driven, empty_store

PASSWORD = "never to be seen"


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> list[Reader]:
    """All stores are large; the processes that were begun."""
    begun: list[Reader] = []
    of = Reader.of

    def noted(*given: Any) -> Reader | None:
        reader = of(*given)
        begun.extend([reader] if reader else [])
        return reader

    monkeypatch.setattr(mlflow_reader, "LARGE", 1)
    monkeypatch.setattr(mlflow_tables.Reader, "of", staticmethod(noted))
    return begun


@pytest.fixture(params=["sqlite", "embedded_postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store that MLflow has made, with some runs."""
    found = f"sqlite:///{tmp_path}/mlflow.db"
    if request.param != "sqlite":
        found = str(request.getfixturevalue(request.param).database())
    empty_store(driven(found), tmp_path / "artifacts")
    for number in range(5):
        add_run(found, f"r{number}")
    return found


def add_run(url: str, name: str) -> None:
    import sqlalchemy as sa

    with sa.create_engine(driven(url), poolclass=sa.NullPool).begin() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO runs (run_uuid, name, experiment_id, lifecycle_stage, status) VALUES (:n, :n, 0, 'active', 'FINISHED')"
            ),
            {"n": name},
        )


def taken(source: MlflowSource, folder: Path) -> tuple[list[tuple[str, Any]], dict[str, Any]]:
    """What a capture stores, but for the moment of the cut, and its details."""
    with source.capture(None) as cut:
        tree = FolderTree(folder).store(cut.files())
        cut.confirm()
        return [(e.path, e.content) for e in tree.entries() if not e.path.endswith("schema.json")], cut.details()


def alive(reader: Reader) -> bool:
    return reader._process.poll() is None


def test_the_same_is_stored(url: str, tmp_path: Path, readers: list[Reader], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever process reads the rows; and it has ended when the capture has."""
    source = MlflowSource("w", url, str(tmp_path / "artifacts"))
    beside = taken(source, tmp_path / "beside")
    assert len(readers) == 1
    assert not alive(readers[0])
    monkeypatch.setattr(mlflow_reader, "LARGE", 1 << 40)
    assert taken(source, tmp_path / "here") == beside
    assert len(readers) == 1


def test_what_is_written_meanwhile_is_of_the_next_point(
    url: str, tmp_path: Path, readers: list[Reader], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process sees the moment of the cut, not the one in which it begins."""
    source = MlflowSource("w", url, str(tmp_path / "artifacts"))
    begin = Reader.__init__

    def late(self: Reader, task: Task) -> None:
        add_run(url, f"late{len(readers)}")
        begin(self, task)

    monkeypatch.setattr(Reader, "__init__", late)
    for number in range(2):
        with source.capture(None) as cut:
            add_run(url, f"later{number}")
            tree = FolderTree(tmp_path / str(number)).store(cut.files())
        assert len(readers) == number + 1
        assert cut.details()["tables"]["runs"]["rows"] == 5 + 2 * number
        assert f"late{number}".encode() not in tree.read(tree.entry("tables/runs.jsonl"))


def test_of_a_later_point_it_reads_what_changed(
    url: str, tmp_path: Path, readers: list[Reader], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the first one everything, before anybody knows what is in it; then those tables alone that are not what they were."""
    asked: list[list[str]] = []
    of = mlflow_tables.Reader.of

    def noted(connection: Any, copy: Any, tables: Any) -> Reader | None:
        asked.append([table.name for table, _ in tables])
        return of(connection, copy, tables)

    monkeypatch.setattr(mlflow_tables.Reader, "of", staticmethod(noted))
    monkeypatch.setattr(mlflow_tables, "_due", lambda *_: False)
    source, tree = MlflowSource("w", url, str(tmp_path / "artifacts")), None
    for number in range(2):
        with source.capture(tree) as cut:
            tree = FolderTree(tmp_path / f"tree{number}").store(cut.files())
            rows = cut.details()["tables"]["runs"]["rows"]
        assert rows == 5 + number
        add_run(url, f"more{number}")
    assert set(asked[0]) > {"runs", "experiments", "alembic_version"}
    assert asked[1] == ["runs"]
    assert len(readers) == 2


def test_a_moment_that_cannot_be_shared_is_read_by_one(
    embedded_postgres: Cluster,
    tmp_path: Path,
    readers: list[Reader],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As where a proxy leads the second connection to another server: the same is stored, and the log says why it took longer."""
    found = embedded_postgres.database()
    empty_store(driven(found), tmp_path / "artifacts")
    add_run(found, "r")
    source = MlflowSource("w", found, str(tmp_path / "artifacts"))
    beside = taken(source, tmp_path / "beside")
    monkeypatch.setattr(mlflow_reader, "exported_snapshot", lambda _connection: "00000003-0000001B-1")
    assert taken(source, tmp_path / "here") == beside
    assert "cannot be read by two at the same moment" in caplog.text
    assert not any(map(alive, readers))


def test_its_errors_are_those_of_the_capture(small_store: SmallStore, tmp_path: Path, readers: list[Reader]) -> None:
    """A row that MLflow could not have written is named."""
    small_store.add_run("r")
    small_store.execute("UPDATE runs SET start_time = 'noon'")
    with pytest.raises(SourceInvalid, match=r"runs\.start_time holds a str where a integer belongs"):
        taken(MlflowSource("w", small_store.url, str(small_store.artifacts)), tmp_path / "tree")
    assert not alive(readers[0])


def test_if_it_is_killed_nothing_is_taken_for_whole(
    small_store: SmallStore, tmp_path: Path, readers: list[Reader], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The capture fails, and says that it can be tried again; before it has begun, others can do its work."""
    small_store.add_run("r")
    source = MlflowSource("w", small_store.url, str(small_store.artifacts))
    joined = Reader.joined

    def kill(reader: Reader) -> None:
        reader._process.kill()
        reader._process.wait()
        assert reader._process.stdout
        reader._process.stdout.close()
        reader._process.stdout = io.BytesIO()  # what it might have said by now is lost

    def late(self: Reader) -> None:
        if not self._joined:
            joined(self)
            kill(self)

    with monkeypatch.context() as patch:
        patch.setattr(Reader, "joined", late)
        with pytest.raises(StoreUnavailable, match=r"the process that reads the tables of sqlite:.* ended with -9"):
            taken(source, tmp_path / "tree")

    def early(self: Reader) -> None:
        kill(self)
        joined(self)

    monkeypatch.setattr(Reader, "joined", early)
    stored, _ = taken(source, tmp_path / "next")
    assert "tables/runs.jsonl" in dict(stored)
    assert len(readers) == 2


def test_one_that_ends_as_it_begins_is_done_without(
    small_store: SmallStore,
    tmp_path: Path,
    readers: list[Reader],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Where Python cannot be started again, the tables are read here, and the log says why it took longer."""
    source = MlflowSource("w", small_store.url, str(small_store.artifacts))
    beside = taken(source, tmp_path / "beside")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert taken(source, tmp_path / "here") == beside
    assert "cannot be read by two at the same moment" in caplog.text
    assert len(readers) == 2
    assert readers[1]._process.returncode == 1


def test_a_damaged_store_is_called_so_whoever_reads_it(
    small_store: SmallStore, tmp_path: Path, readers: list[Reader]
) -> None:
    """The copy is checked while a process of its own reads it; what that one says of the damage is not what is said."""
    for number in range(300):
        small_store.add_run(f"r{number}")
    ((root,),) = small_store.execute("SELECT rootpage FROM sqlite_master WHERE name = 'runs'")
    ((size,),) = small_store.execute("PRAGMA page_size")
    data = bytearray(small_store.file.read_bytes())
    data[(root - 1) * size + 8 : root * size] = bytes(size - 8)
    small_store.file.write_bytes(data)
    with pytest.raises(SourceInvalid, match=r"the SQLite file .* is damaged"):
        taken(MlflowSource("w", small_store.url, str(small_store.artifacts)), tmp_path / "tree")
    assert len(readers) == 1
    assert not alive(readers[0])


def test_a_capture_that_fails_ends_it(
    small_store: SmallStore, readers: list[Reader], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever fails here, before or after the rows are asked for."""
    source = MlflowSource("w", small_store.url, str(small_store.artifacts))
    with pytest.raises(RuntimeError), source.capture(None):
        raise RuntimeError
    assert not alive(readers[0])
    monkeypatch.setattr("muster.adapters.mlflow_registry.models_of", None)
    with pytest.raises(TypeError), source.capture(None):
        pass
    assert not alive(readers[1])


def test_it_ends_with_its_caller(small_store: SmallStore, tmp_path: Path) -> None:
    """However that ends: the end of its standard input is enough. It is not told the password by its command or environment."""
    small_store.execute(
        "CREATE VIEW endless AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n"
    )
    endless = (Table("endless", (Column("x", "integer", False),), ("x",)), str(tmp_path / "rows"))
    store = f"sqlite:///{small_store.file}?p={PASSWORD}"
    reader = Reader(Task(store, "shown", str(small_store.file), None, (endless,)))
    try:
        reader.joined()
        about = Path("/proc") / str(reader._process.pid)
        assert PASSWORD.encode() not in (about / "cmdline").read_bytes() + (about / "environ").read_bytes()
        assert alive(reader)
        assert reader._process.stdin
        reader._process.stdin.close()
        assert reader._process.wait(60) == 1
    finally:
        reader.close()
