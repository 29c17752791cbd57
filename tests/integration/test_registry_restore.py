"""What a restore of a registry refuses, how it fails, and what it adapts."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fakes_trees import FolderTree
from muster.adapters import mlflow_fill
from muster.adapters.mlflow_lines import BATCH_SIZE, read_batches
from muster.adapters.mlflow_registry import MlflowTarget
from muster.adapters.mlflow_rows import batches_of, tables_of
from muster.errors import IntegrityError, SourceInvalid, StoreUnavailable, TargetNotEmpty
from postgres import Cluster
from registry_seed import Captured, SmallStore, capture, content, driven, empty_store, query, spoil_a_row


@pytest.fixture(params=["sqlite", "embedded_postgres", pytest.param("mariadb", marks=pytest.mark.servers)])
def target_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place for a store, on each engine."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/new/mlflow.db"
    return str(request.getfixturevalue(request.param).database())


# --- what is refused --------------------------------------------------------------------------------------------------


def test_store_with_content_is_refused_and_untouched(captured: Captured, tmp_path: Path, target_url: str) -> None:
    """A target that holds even one row is refused when looked at and when restored to, and stays as it was."""
    details, tree = captured
    (tmp_path / "new").mkdir()
    empty_store(driven(target_url), tmp_path / "art")
    query(target_url, "INSERT INTO registered_models (name, workspace) VALUES ('m', 'default')")
    before = content(target_url)
    target = MlflowTarget(target_url, str(tmp_path / "artifacts2"))
    for attempt in (lambda: target.check(details), lambda: target.restore(details, tree)):
        with pytest.raises(TargetNotEmpty):
            attempt()
    assert content(target_url) == before
    assert not (tmp_path / "artifacts2").exists()


def test_store_that_a_server_only_started_on_is_taken(
    captured: Captured, tmp_path: Path, embedded_postgres: Cluster
) -> None:
    """A PostgreSQL database with the schema and the default experiment alone is as good as an empty one."""
    details, tree = captured
    url = embedded_postgres.database()
    empty_store(driven(url), tmp_path / "art")
    MlflowTarget(url, str(tmp_path / "new")).restore(details, tree)
    assert query(url, "SELECT value FROM params") == [("v",)]
    assert query(url, "SELECT artifact_location FROM experiments") == [(f"{tmp_path}/new/0",)]


def test_foreign_table_is_refused(captured: Captured, tmp_path: Path, embedded_postgres: Cluster) -> None:
    """A database that somebody else uses is not restored to, be his tables ever so empty."""
    url = embedded_postgres.database()
    query(url, "CREATE TABLE payroll (id int)")
    with pytest.raises(TargetNotEmpty, match="payroll"):
        MlflowTarget(url, str(tmp_path / "new")).check(captured[0])


def test_journal_without_its_file_is_refused(captured: Captured, tmp_path: Path) -> None:
    """SQLite would play an orphaned journal into the restored file."""
    (tmp_path / "new.db-wal").write_bytes(b"x")
    with pytest.raises(TargetNotEmpty, match=r"new\.db-wal"):
        MlflowTarget(f"sqlite:///{tmp_path}/new.db", str(tmp_path / "new")).check(captured[0])


def test_artifact_root_with_content_is_refused_and_untouched(captured: Captured, tmp_path: Path) -> None:
    """One file in the artifact root is enough, and it stays."""
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "precious").write_text("x")
    target = MlflowTarget(f"sqlite:///{tmp_path}/new.db", str(tmp_path / "new"))
    for attempt in (lambda: target.check(captured[0]), lambda: target.restore(*captured)):
        with pytest.raises(TargetNotEmpty, match="artifact root"):
            attempt()
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["precious"]
    assert not (tmp_path / "new.db").exists()


def test_newer_point_is_refused_by_name(captured: Captured, tmp_path: Path) -> None:
    """An older MLflow than the one that wrote the store cannot hold it; the needed one is said."""
    details = {**captured[0], "revisions": {"alembic_version": "fedcba987654"}, "mlflow_version": "9.1.0"}
    with pytest.raises(SourceInvalid, match="fedcba987654") as caught:
        MlflowTarget(f"sqlite:///{tmp_path}/new.db", str(tmp_path / "new")).check(details)
    assert "mlflow==9.1.0" in caught.value.hint


def test_unreachable_target_is_transient(captured: Captured, tmp_path: Path) -> None:
    """A target that does not answer may answer later; its password is in no message."""
    with pytest.raises(StoreUnavailable) as caught:
        MlflowTarget("postgresql://u:s3cret@127.0.0.1:1/d", str(tmp_path / "new")).check(captured[0])
    assert "s3cret" not in str(caught.value)


# --- how it fails -----------------------------------------------------------------------------------------------------


def _damage_rows(tree: FolderTree, _details: dict[str, Any]) -> None:
    tree.flip("tables/params.jsonl")


def _lose_a_row(tree: FolderTree, details: dict[str, Any]) -> None:
    tree.replace("tables/params.jsonl", b"")
    details["tables"]["params"]["rows"] = 1


def _lose_an_artifact(tree: FolderTree, details: dict[str, Any]) -> None:
    details["artifacts"]["files"] += 1


def _break_on_artifact(tree: FolderTree, _details: dict[str, Any]) -> None:
    def fail(path: str) -> None:
        if path.endswith("b.txt"):
            raise IntegrityError("pack 12 is damaged")

    tree.before_extract = fail


@pytest.mark.parametrize(
    "damage", [_damage_rows, _lose_a_row, _lose_an_artifact, _break_on_artifact, spoil_a_row], ids=lambda f: f.__name__
)
def test_failure_leaves_the_target_empty(captured: Captured, damage: Any, tmp_path: Path, target_url: str) -> None:
    """Whatever breaks, and however late: no table, no file and no folder of ours is left."""
    details, tree = captured
    damage(tree, details)
    before, around = content(target_url), sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises((IntegrityError, SourceInvalid)):
        MlflowTarget(target_url, str(tmp_path / "deep" / "new")).restore(details, tree)
    assert content(target_url) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == around


def test_old_root_in_an_unknown_place_fails(small_store: SmallStore, tmp_path: Path) -> None:
    """A column that we do not know to map is named, and nothing is restored with half its locations wrong."""
    small_store.execute("CREATE TABLE archive (id INTEGER PRIMARY KEY, place TEXT)")
    small_store.execute("INSERT INTO archive VALUES (1, ?)", f"file://{small_store.artifacts}/archived")
    details, tree = capture(small_store.url, str(small_store.artifacts), tmp_path / "tree")
    with pytest.raises(IntegrityError, match=r"archive\.place still names an old artifact root"):
        MlflowTarget(f"sqlite:///{tmp_path}/new.db", str(tmp_path / "new")).restore(details, tree)
    assert not (tmp_path / "new.db").exists()


# --- what comes back --------------------------------------------------------------------------------------------------


def test_same_root_needs_no_map(captured: Captured, small_store: SmallStore, tmp_path: Path) -> None:
    """Restored to where they were, all tables have the digests that they had."""
    details, tree = captured
    small_store.artifacts.rename(tmp_path / "lost")
    facts = MlflowTarget(f"sqlite:///{tmp_path}/new.db", str(small_store.artifacts)).restore(details, tree)
    assert facts["tables"] == details["tables"]
    assert facts["roots"] == details["roots"]
    file = small_store.artifacts / "0" / "r1" / "artifacts" / "sub" / "b.txt"
    original = tmp_path / "lost" / "0" / "r1" / "artifacts" / "sub" / "b.txt"
    assert (file.read_text(), file.stat().st_mtime_ns) == ("b", original.stat().st_mtime_ns)


def test_unknown_table_comes_back(small_store: SmallStore, tmp_path: Path, target_url: str) -> None:
    """A table that MLflow does not make is made, with every kind of value in it."""
    small_store.execute("CREATE TABLE site_notes (id INTEGER PRIMARY KEY, note TEXT, raw BLOB, score FLOAT, day DATE)")
    score = "1e308" if target_url.startswith("mysql") else "1e999"  # which knows no infinity
    small_store.execute(f"INSERT INTO site_notes VALUES (1, ?, x'00ff', {score}, '2026-11-23')", "a\u2028b\n'\"\\")
    details, tree = capture(small_store.url, str(small_store.artifacts), tmp_path / "tree")
    facts = MlflowTarget(target_url, str(tmp_path / "new")).restore(details, tree)
    assert facts["tables"]["site_notes"] == details["tables"]["site_notes"]


def test_unknown_columns_come_back(small_store: SmallStore, tmp_path: Path, target_url: str) -> None:
    """Columns that somebody gave a table of MLflow's are made, with what is in them; and such a store is known again as what it is."""
    small_store.add_run("r1").mkdir(parents=True)
    small_store.execute("ALTER TABLE runs ADD COLUMN owner VARCHAR(20) NOT NULL DEFAULT 'nobody'")
    small_store.execute('ALTER TABLE runs ADD COLUMN "cost in €" FLOAT')
    small_store.execute("UPDATE runs SET \"cost in €\" = 0.1, owner = 'ada'")
    details, tree = capture(small_store.url, str(small_store.artifacts), tmp_path / "tree")
    target = MlflowTarget(target_url, str(tmp_path / "new"))
    facts = target.restore(details, tree)
    assert facts["tables"]["runs"]["rows"] == details["tables"]["runs"]["rows"] == 1
    quoted = "`cost in €`" if target_url.startswith("mysql") else '"cost in €"'
    assert query(target_url, f"SELECT owner, {quoted} FROM runs") == [("ada", 0.1)]
    if not target_url.startswith("mysql"):
        assert target.holds(details, tree)


def test_long_rows_are_handled_few_at_a_time(small_store: SmallStore, tmp_path: Path, target_url: str) -> None:
    """Texts of any length, such as spans with pictures in them, fill no memory: neither read, nor stored, nor put in."""
    import sqlalchemy as sa

    rows, length = 60, 200_000
    small_store.execute("CREATE TABLE site_notes (id INTEGER PRIMARY KEY, note TEXT)")
    for number in range(rows):
        small_store.execute("INSERT INTO site_notes VALUES (?, ?)", number, f"{number:03}" + "x" * length)
    details, tree = capture(small_store.url, str(small_store.artifacts), tmp_path / "tree")
    MlflowTarget(target_url, str(tmp_path / "new")).restore(details, tree)
    stored = tmp_path / "site_notes.jsonl"
    stored.write_bytes(tree.read(tree.entry("tables/site_notes.jsonl")))
    with sa.create_engine(driven(target_url), poolclass=sa.NullPool).connect() as connection:
        table = tables_of(connection)["site_notes"]
        for batches in (list(batches_of(connection, table)), list(read_batches(stored))):
            assert max(len(batch.lines) for batch in batches) <= BATCH_SIZE + 16 * (length + 20)
            assert [row[0] for batch in batches for row in batch.rows] == list(range(rows))


def test_unfinished_jobs_come_back_failed(small_store: SmallStore, tmp_path: Path) -> None:
    """A job that was under way does not start again in the restored registry; finished ones are as they were."""
    for number, status in enumerate((0, 1, 2, 5, 6)):
        small_store.execute(
            "INSERT INTO jobs (id, creation_time, job_name, params, status, retry_count, last_update_time)"
            " VALUES (?, 1, 'j', '{}', ?, 0, 1)",
            f"job{number}",
            status,
        )
    details, tree = capture(small_store.url, str(small_store.artifacts), tmp_path / "tree")
    url = f"sqlite:///{tmp_path}/new.db"
    facts = MlflowTarget(url, str(tmp_path / "new")).restore(details, tree)
    assert query(url, "SELECT status FROM jobs ORDER BY id") == [(3,), (3,), (2,), (5,), (3,)]
    assert facts["adapted"] == {"jobs.status: unfinished": 3}


def test_sequences_go_on_where_they_were(embedded_postgres: Cluster, small_store: SmallStore, tmp_path: Path) -> None:
    """A number given out and deleted again is not given out twice, and the next one is free; where SQLite cannot but do so, it is said."""
    url = embedded_postgres.database()
    empty_store(driven(url), tmp_path / "artifacts")
    add = "INSERT INTO experiments (name, lifecycle_stage) VALUES ('{}', 'active') RETURNING experiment_id"
    ids = [query(url, add.format(name))[0][0] for name in "abc"]
    query(url, f"DELETE FROM experiments WHERE experiment_id = {ids[-1]}")
    details, tree = capture(url, str(tmp_path / "artifacts"), tmp_path / "tree")
    again, small = embedded_postgres.database(), embedded_postgres.database()
    MlflowTarget(again, str(tmp_path / "new")).restore(details, tree)
    assert query(again, add.format("d")) == [(ids[-1] + 1,)]
    file = f"sqlite:///{tmp_path}/new.db"
    facts = MlflowTarget(file, str(tmp_path / "file")).restore(details, tree)
    assert facts["adapted"] == {"experiments.experiment_id: the last number given out": 1}
    assert query(file, add.format("d")) == [(ids[-1],)]
    small_store.execute("INSERT INTO experiments (experiment_id, name, lifecycle_stage) VALUES (41, 'x', 'active')")
    details, tree = capture(small_store.url, str(small_store.artifacts), tmp_path / "tree2")
    MlflowTarget(small, str(tmp_path / "new2")).restore(details, tree)
    assert query(small, add.format("d")) == [(42,)]


def test_what_sqlite_cannot_hold_is_counted(embedded_postgres: Cluster, tmp_path: Path) -> None:
    """NaN and negative zero come back exactly on PostgreSQL; on SQLite as MLflow has them there, and that is said."""
    url = embedded_postgres.database()
    empty_store(driven(url), tmp_path / "artifacts")
    query(url, "INSERT INTO runs (run_uuid, experiment_id, name) VALUES ('r', 0, 'n')")
    query(
        url,
        "INSERT INTO logged_models (model_id, experiment_id, name, artifact_location, creation_timestamp_ms,"
        " last_updated_timestamp_ms, status, lifecycle_stage) VALUES ('m', 0, 'n', '/nowhere', 1, 1, 0, 'active')",
    )
    for name, value in (("a", "NaN"), ("b", "-0.0"), ("c", "-Infinity"), ("d", "1e-320")):
        query(
            url, f"INSERT INTO logged_model_metrics VALUES ('m', '{name}', 1, 1, '{value}', 0, 'r', null, null, null)"
        )
    details, tree = capture(url, str(tmp_path / "artifacts"), tmp_path / "tree")
    exact = MlflowTarget(embedded_postgres.database(), str(tmp_path / "exact")).restore(details, tree)
    assert exact["tables"]["logged_model_metrics"] == details["tables"]["logged_model_metrics"]
    assert exact["adapted"] == {}
    new = f"sqlite:///{tmp_path}/new.db"
    facts = MlflowTarget(new, str(tmp_path / "new")).restore(details, tree)
    assert facts["adapted"] == {
        "logged_model_metrics.metric_value: NaN": 1,
        "logged_model_metrics.metric_value: negative zero": 1,
    }
    assert query(new, "SELECT metric_value FROM logged_model_metrics ORDER BY metric_name") == [
        (None,), (0.0,), (float("-inf"),), (1e-320,),
    ]  # fmt: skip


def test_older_store_is_brought_up_to_date(tmp_path: Path, target_url: str) -> None:
    """A store of MLflow 2.22 is restored at its own revision, then migrated with its rows in it."""
    from sqlalchemy import create_engine

    from muster.adapters.mlflow_schema import create_schema

    file = tmp_path / "old.db"
    with create_engine(f"sqlite:///{file}").begin() as connection:
        create_schema(connection, {"alembic_version": "0584bdc529eb"})
    with closing(sqlite3.connect(file)) as old, old:
        old.execute(
            "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage)"
            " VALUES (3, 'e', ?, 'active')",
            (f"{tmp_path}/art/3",),
        )
        old.execute("INSERT INTO registered_models (name) VALUES ('m')")
        old.execute(
            "INSERT INTO model_versions (name, version, source, current_stage) VALUES ('m', 5, ?, 'Production')",
            (f"{tmp_path}/art/3/model",),
        )
    (tmp_path / "art" / "3" / "model").mkdir(parents=True)
    (tmp_path / "art" / "3" / "model" / "MLmodel").write_text("x")
    details, tree = capture(f"sqlite:///{file}", str(tmp_path / "art"), tmp_path / "tree")
    assert details["alembic_revision"] == "0584bdc529eb"
    facts = MlflowTarget(target_url, str(tmp_path / "moved")).restore(details, tree)
    assert facts["alembic_revision"] == "dc11669786a5"
    assert facts["fidelity_report"]["upgraded"] == ["0584bdc529eb", "dc11669786a5"]
    assert facts["fidelity_report"]["differing"] == 0
    assert facts["models"] == {"m": {"versions": [5], "aliases": {}}}
    assert query(target_url, "SELECT name, version, source FROM model_versions") == [
        ("m", 5, f"{tmp_path}/moved/3/model")
    ]
    assert query(target_url, "SELECT workspace FROM registered_models") == [("default",)]


def old_store(file: Path) -> None:
    """A store of MLflow 2.22 with a trace that has a name, which a later MLflow keeps in another place."""
    from sqlalchemy import create_engine

    from muster.adapters.mlflow_schema import create_schema

    with create_engine(f"sqlite:///{file}").begin() as connection:
        create_schema(connection, {"alembic_version": "0584bdc529eb"})
    with closing(sqlite3.connect(file)) as old, old:
        old.executescript("""
            INSERT INTO experiments (experiment_id, name, lifecycle_stage) VALUES (3, 'e', 'active');
            INSERT INTO registered_models (name) VALUES ('m'), ('n');
            INSERT INTO trace_info (request_id, experiment_id, timestamp_ms, execution_time_ms, status)
            VALUES ('t', 3, 1, 1, 'OK');
            INSERT INTO trace_tags (key, value, request_id) VALUES ('mlflow.traceName', 'asked', 't'), ('k', 'v', 't');
        """)


def test_what_a_migration_keeps_elsewhere_is_not_missed(tmp_path: Path, target_url: str) -> None:
    """The name of a trace is a column now, and no tag; the tag of a person stays one."""
    old_store(tmp_path / "old.db")
    details, tree = capture(f"sqlite:///{tmp_path}/old.db", str(tmp_path / "art"), tmp_path / "tree")
    assert details["tables"]["trace_tags"]["rows"] == 2
    MlflowTarget(target_url, str(tmp_path / "moved")).restore(details, tree)
    assert query(target_url, "SELECT request_id, value FROM trace_tags") == [("t", "v")]
    assert query(target_url, "SELECT trace_name FROM trace_info") == [("asked",)]


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        ("DELETE FROM registered_models WHERE name = 'n'", "registered_models had 2 rows and has 1 after"),
        ("INSERT INTO registered_models (name, workspace) VALUES ('o', 'default')", "had 2 rows and has 3 after"),
        ("DROP TABLE trace_tags", "trace_tags had 2 rows and is gone after"),
    ],
)
def test_what_a_migration_loses_fails_the_restore(
    tmp_path: Path, target_url: str, loss: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that takes rows, makes some, or drops a table: named, and the place is left empty."""
    old_store(tmp_path / "old.db")
    details, tree = capture(f"sqlite:///{tmp_path}/old.db", str(tmp_path / "art"), tmp_path / "tree")
    migrate = mlflow_fill.migrate

    def losing(connection: Any, *to: Any) -> None:
        migrate(connection, *to)
        connection.exec_driver_sql(loss)

    monkeypatch.setattr(mlflow_fill, "migrate", losing)
    with pytest.raises(IntegrityError, match=said):
        MlflowTarget(target_url, str(tmp_path / "moved")).restore(details, tree)
    assert not content(target_url)
    assert not (tmp_path / "moved").exists()


def test_restored_file_stands_alone(captured: Captured, tmp_path: Path) -> None:
    """The SQLite file appears at once under its name, with nothing of its making beside it."""
    MlflowTarget(f"sqlite:///{tmp_path}/new/mlflow.db", str(tmp_path / "a")).restore(*captured)
    assert os.listdir(tmp_path / "new") == ["mlflow.db"]  # noqa: PTH208
    with closing(sqlite3.connect(tmp_path / "new" / "mlflow.db")) as restored:
        assert restored.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert restored.execute("PRAGMA foreign_key_check").fetchall() == []
