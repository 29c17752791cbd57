"""What a capture of a registry takes, what it leaves, and what it refuses."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from concurrent.futures import CancelledError
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fakes_trees import FolderTree
from muster.adapters import mlflow_known, mlflow_registry
from muster.adapters.beside import beside
from muster.adapters.mlflow_registry import MlflowSource, MlflowTarget
from muster.adapters.sqlite_copy import copy_sqlite
from muster.domain.restore_target import percent_kept, sqlite_url, target_below
from muster.errors import SourceChanged, SourceInvalid, StoreUnavailable
from postgres import Cluster
from registry_seed import SmallStore, driven, empty_store
from registry_seed import capture as capture_at
from registry_writer import INSERT_RUN, assert_no_orphans


def capture(store: SmallStore, folder: Path, previous: FolderTree | None = None) -> tuple[dict[str, Any], FolderTree]:
    """Details and tree; the tree shares the content of the previous one."""
    with MlflowSource("w", store.url, str(store.artifacts)).capture(previous) as cut:
        tree = FolderTree(folder)
        if previous:
            tree.keep(previous)
        tree.store(cut.files())
        cut.confirm()
        return cut.details(), tree


def paths(tree: FolderTree, prefix: str) -> list[str]:
    return [e.path for e in tree.entries() if e.path.startswith(prefix)]


def put(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


# --- stores that are none ---------------------------------------------------------------------------------------------


def test_missing_file_is_refused_and_not_created(tmp_path: Path) -> None:
    """A store that is not there is an error, and is not there afterwards either."""
    with pytest.raises(SourceInvalid, match=r"no MLflow store .*gone\.db"):
        MlflowSource("w", f"sqlite:///{tmp_path}/gone.db", str(tmp_path)).capture(None).__enter__()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("patient", [True, False])
def test_a_locked_store_is_waited_for_as_long_as_somebody_wants_it(tmp_path: Path, patient: bool) -> None:
    """A writer that takes a second is nothing; and whoever gives up need not wait for a writer that never ends."""
    store = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(store, isolation_level=None)) as writer:
        writer.execute("CREATE TABLE t (x)")
        writer.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        with beside(lambda wanted: copy_sqlite(store, tmp_path / "copy.db", wanted)) as copying:
            time.sleep(1.5)
            assert not copying.done()
            if patient:
                writer.execute("COMMIT")
                copying.result()
        if not patient:
            with pytest.raises(CancelledError):
                copying.result()
    assert time.monotonic() - began < 50
    assert (tmp_path / "copy.db").stat().st_size == (store.stat().st_size if patient else 0)


def test_database_without_mlflow_is_refused(tmp_path: Path, embedded_postgres: Cluster) -> None:
    """An SQLite file and a PostgreSQL database without MLflow's tables are no store."""
    with closing(sqlite3.connect(tmp_path / "other.db")) as other, other:
        other.execute("CREATE TABLE t (x)")
    for url in (f"sqlite:///{tmp_path}/other.db", embedded_postgres.database()):
        with pytest.raises(SourceInvalid, match="is no MLflow store"):
            MlflowSource("w", url, str(tmp_path)).capture(None).__enter__()


def test_damaged_file_is_refused(small_store: SmallStore) -> None:
    """A file that SQLite cannot read is not captured half."""
    small_store.file.write_bytes(small_store.file.read_bytes()[: small_store.file.stat().st_size // 2])
    with pytest.raises(SourceInvalid, match=r"damaged|malformed"):
        MlflowSource("w", small_store.url, str(small_store.artifacts)).capture(None).__enter__()


def test_unreachable_server_is_transient_and_hides_the_password(tmp_path: Path) -> None:
    """A server that does not answer may answer later; its password is in no message."""
    source = MlflowSource("w", "postgres://u:s3cret@127.0.0.1:1/db", str(tmp_path))
    with pytest.raises(StoreUnavailable, match=r"postgresql://…@127\.0\.0\.1:1/db does not answer") as caught:
        source.capture(None).__enter__()
    assert "s3cret" not in f"{caught.value!r} {caught.value} {caught.value.__cause__!r} {vars(source)}"


def test_newer_schema_is_refused(small_store: SmallStore) -> None:
    """A revision that the installed MLflow does not know is named, with what to install."""
    small_store.execute("UPDATE alembic_version SET version_num = 'fedcba987654'")
    with pytest.raises(SourceInvalid, match=r"fedcba987654.*MLflow 3\.17\.2") as caught:
        MlflowSource("w", small_store.url, str(small_store.artifacts)).capture(None).__enter__()
    assert "install" in caught.value.hint


@pytest.mark.parametrize(
    "url", ["mssql://u:s3cret@h/d", "mysql://u:s3cret@h", "sqlite://", "sqlite:///:memory:", "mlruns"]
)
def test_unsupported_store_is_refused(url: str, tmp_path: Path) -> None:
    """A store of another kind is refused by name, without its password."""
    with pytest.raises(SourceInvalid, match="names no MLflow store") as caught:
        MlflowSource("w", url, str(tmp_path))
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://u:pa@se:cret@127.0.0.1:1/d", "more than one @"),
        ("mysql://u:pa@secret@127.0.0.1:1/d", "more than one @"),
        ("u:secret@h/d", "names no MLflow store"),
        ("postgresql://u:secret@[::1/d", "stands where its port belongs"),
        ("mysql://u:secret@h:port/d", "stands where its port belongs"),
        ("mysql://u:secret@127.0.0.1/d?nonsense=1", "the driver knows no option nonsense"),
    ],
)
def test_a_url_that_cannot_be_read_is_named_without_its_password(url: str, said: str, tmp_path: Path) -> None:
    """Also if what is taken for its port is a part of that."""
    with (
        pytest.raises(SourceInvalid, match=said) as caught,
        MlflowSource("w", url, str(tmp_path)).capture(None),
    ):
        pass
    assert "cret" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("name", ["50% off", "a%20b", "who?"])
def test_a_store_below_an_odd_folder_is_found_and_restored(name: str, small_store: SmallStore, tmp_path: Path) -> None:
    """SQLAlchemy and MLflow read %20 as a space. MLflow's own client opens what came back, and lists the artifacts."""
    from mlflow import MlflowClient

    folder = tmp_path / name
    folder.mkdir()
    run = folder / "artifacts" / "0" / "r1"
    run.mkdir(parents=True)
    (run / "a.txt").write_text("a")
    small_store.add_run("r1", percent_kept(str(run)))
    shutil.move(small_store.file, folder / "mlflow.db")
    url, root = sqlite_url(folder / "mlflow.db"), percent_kept(str(folder / "artifacts"))
    assert [file.path for file in MlflowClient(url).list_artifacts("r1")] == ["a.txt"]
    source = MlflowSource("w", url, root)
    with source.capture(None) as cut:
        tree = FolderTree(tmp_path / "tree").store(cut.files())
        details = cut.details()
    shutil.rmtree(folder)
    target = target_below(f"{folder} again", [])
    MlflowTarget(str(target.store), str(target.artifacts)).restore(details, tree)
    client = MlflowClient(str(target.store))
    assert Path(f"{folder} again/registry/mlflow.db").is_file()
    assert [file.path for file in client.list_artifacts("r1")] == ["a.txt"]


@pytest.mark.parametrize(
    "root",
    [
        "./mlruns",
        "mlflow-artifacts:/",
        "abfss://files@account.dfs.core.windows.net/x",
        "wasbs://bucket/x",
        "azure://account/models/../x",
    ],
)
def test_unsupported_artifact_root_is_refused(root: str) -> None:
    """An artifact root that cannot be read from here is refused before anything is read."""
    with pytest.raises(SourceInvalid, match="cannot be read"):
        MlflowSource("w", "sqlite:////x.db", root)


def test_value_that_does_not_fit_its_column_is_named(small_store: SmallStore) -> None:
    """SQLite lets text into a number's column; such a row is refused by table and column, not mangled."""
    small_store.execute("INSERT INTO trace_metrics (request_id, key, value) VALUES ('r', 'k', 'text')")
    with pytest.raises(SourceInvalid, match=r"trace_metrics\.value holds a str where a float belongs"):
        capture(small_store, small_store.file.parent / "tree")


# --- artifacts --------------------------------------------------------------------------------------------------------


def test_missing_artifacts_of_a_version_are_named(small_store: SmallStore, tmp_path: Path) -> None:
    """A model version without files would not come back: model, version, run and path are said."""
    folder = small_store.add_run("r1")
    small_store.add_version("m", 7, f"{folder}/model", "r1")
    folder.mkdir(parents=True)
    with pytest.raises(
        SourceInvalid, match=r"version 7 of model m of run r1 has no artifacts at .*0/r1/artifacts/model"
    ):
        capture(small_store, tmp_path / "tree")
    put(folder / "model" / "MLmodel")
    assert capture(small_store, tmp_path / "tree")[0]["models"] == {"m": {"versions": [7], "aliases": {}}}


@pytest.mark.parametrize(
    "source", ["runs:/r1/model", "models:/m-1", "mlflow-artifacts:/0/r1/artifacts/model", "models:/other/1"]
)
def test_version_is_followed_however_it_names_its_artifacts(
    source: str, small_store: SmallStore, tmp_path: Path
) -> None:
    """By run, by logged model, by another version or proxied: the files must be there."""
    folder = small_store.add_run("r1") / "model"
    small_store.execute(
        "INSERT INTO logged_models (model_id, experiment_id, name, artifact_location, creation_timestamp_ms, last_updated_timestamp_ms,"
        " status, lifecycle_stage, model_type, source_run_id) VALUES ('m-1', 0, 'n', ?, 1, 1, 0, 'active', '', 'r1')",
        str(folder),
    )
    put(folder.parent / "unrelated")
    small_store.add_version("other", 1, str(folder))
    small_store.add_version("m", 1, source)
    if source != "models:/other/1":
        small_store.execute("DELETE FROM model_versions WHERE name = 'other'")
    with pytest.raises(SourceInvalid, match=r"version 1 of model (m|other) has no artifacts"):
        capture(small_store, tmp_path / "tree")
    put(folder / "MLmodel")
    assert capture(small_store, tmp_path / "tree2")[0]["artifacts"]["files"] == 2


def test_run_without_artifacts_is_fine(small_store: SmallStore, tmp_path: Path) -> None:
    """A run that logged no file has no folder, and nothing is missing."""
    small_store.add_run("r1")
    assert capture(small_store, tmp_path / "tree")[0]["artifacts"] == {"files": 0, "bytes": 0}


def test_only_named_folders_are_taken(small_store: SmallStore, tmp_path: Path) -> None:
    """What no table names is left; what loading writes is left and counted; everything else below a run is taken, links followed."""
    folder = small_store.add_run("r1")
    put(folder / "model" / "MLmodel")
    put(folder / "model" / "registered_model_meta")
    put(folder / "data" / "registered_model_meta", "a file of the user's that is called so")
    (folder / "empty").mkdir()
    (folder / "link").symlink_to(put(tmp_path / "target", "linked"))
    put(small_store.artifacts / "0" / "orphan" / "artifacts" / "x")
    details, tree = capture(small_store, tmp_path / "tree")
    below = "artifacts/0/r1/artifacts/"
    assert paths(tree, "artifacts/") == [
        f"{below}data/registered_model_meta",
        f"{below}empty",
        f"{below}link",
        f"{below}model/MLmodel",
    ]
    assert details["excluded"] == {"registered_model_meta": 1}
    assert tree.read(tree.entry(f"{below}link")) == b"linked"


def test_dangling_link_is_refused(small_store: SmallStore, tmp_path: Path) -> None:
    """A link to nothing cannot be captured, and is not passed over."""
    folder = small_store.add_run("r1")
    folder.mkdir(parents=True)
    (folder / "link").symlink_to(tmp_path / "nothing")
    with pytest.raises(SourceInvalid, match="link to nothing"):
        capture(small_store, tmp_path / "tree")


def test_what_a_driver_says_of_a_row_is_not_repeated(small_store: SmallStore, tmp_path: Path) -> None:
    """SQLite lets in text that is not UTF-8, and quotes it in its error: which would stand in the audit trail for ever."""
    small_store.add_run("r")
    small_store.execute(
        "INSERT INTO params (key, value, run_uuid) VALUES ('k', CAST(X'68756e74657232FF' AS TEXT), 'r')"
    )
    with pytest.raises(SourceInvalid, match="Could not decode to UTF-8 column 'value'") as caught:
        capture(small_store, tmp_path / "tree")
    assert "hunter2" not in f"{caught.value}"


def test_a_mistyped_artifact_root_is_refused(small_store: SmallStore, tmp_path: Path) -> None:
    """Else all artifacts would be captured as if they lay outside of it, and look as if they had been moved at the next point."""
    (small_store.add_run("r") / "a").mkdir(parents=True)
    typed = tmp_path / "artefacts"
    with pytest.raises(
        SourceInvalid, match=rf"no artifact root {typed}, and the store names other places: {small_store.artifacts}"
    ):
        capture_at(small_store.url, str(typed), tmp_path / "tree")
    typed.mkdir()
    assert capture_at(small_store.url, str(typed), tmp_path / "meant")[0]["roots"][0] == str(typed)
    small_store.execute("UPDATE experiments SET artifact_location = ?", f"{tmp_path}/new/0")
    small_store.execute("UPDATE runs SET artifact_uri = ?", f"{tmp_path}/new/0/r/artifacts")
    assert capture_at(small_store.url, f"{tmp_path}/new", tmp_path / "new tree")[0]["roots"] == [f"{tmp_path}/new"]


def test_roots_elsewhere_are_taken_too(small_store: SmallStore, tmp_path: Path) -> None:
    """A run outside the artifact root is captured below a folder of its own; a proxied one lies below the root."""
    put(tmp_path / "else where" / "r1" / "a.txt")
    put(small_store.artifacts / "0" / "r2" / "artifacts" / "b.txt")
    small_store.add_run("r1", (tmp_path / "else where" / "r1").as_uri())
    small_store.add_run("r2", "mlflow-artifacts:/0/r2/artifacts")
    details, tree = capture(small_store, tmp_path / "tree")
    assert paths(tree, "artifacts/") == ["artifacts/0/r2/artifacts/b.txt"]
    assert [p.split("/", 2)[2] for p in paths(tree, "outside/")] == ["a.txt"]
    assert details["roots"] == [str(small_store.artifacts), str(tmp_path / "else where" / "r1")]


@pytest.mark.parametrize(
    "location", ["abfss://f@a.dfs.core.windows.net/r1", "hdfs://h/r1", "./mlruns/0/r1/artifacts", "/root/../etc"]
)
def test_location_out_of_reach_is_refused(location: str, small_store: SmallStore, tmp_path: Path) -> None:
    """Artifacts that cannot be read from here are not silently left out."""
    small_store.add_run("r1", location)
    with pytest.raises(SourceInvalid, match=r"runs\.artifact_uri names artifacts at"):
        capture(small_store, tmp_path / "tree")


def test_artifact_that_changes_fails_the_cut(small_store: SmallStore, tmp_path: Path) -> None:
    """A file rewritten or removed while the point is taken is noticed at the end, by name."""
    file = put(small_store.add_run("r1") / "weights.bin", "old")
    with MlflowSource("w", small_store.url, str(small_store.artifacts)).capture(None) as cut:
        FolderTree(tmp_path / "tree").store(cut.files())
        cut.confirm()
        file.write_text("new")
        os.utime(file, ns=(1, 1))
        with pytest.raises(SourceChanged, match=r"weights\.bin"):
            cut.confirm()
        file.unlink()
        with pytest.raises(SourceChanged, match=r"weights\.bin"):
            cut.confirm()


def test_unchanged_content_is_not_read_again(
    small_store: SmallStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next point opens only what changed, and what is too young to be told apart by its time, if no file has its day."""
    monkeypatch.setattr(mlflow_registry, "due", lambda _path, _at: False)
    monkeypatch.setattr(mlflow_known, "SETTLED", 0.0)
    folder = small_store.add_run("r1")
    long_ago = (time.time_ns() - 3_600 * 10**9,) * 2
    for name in ("same", "other", "young"):
        put(folder / name, name)
    for name in ("same", "other"):
        os.utime(folder / name, ns=long_ago)
    os.utime(folder / "young", ns=(time.time_ns() + 3_600 * 10**9,) * 2)
    details, first = capture(small_store, tmp_path / "first")
    put(folder / "other", "OTHER")
    small_store.execute("INSERT INTO params (key, value, run_uuid) VALUES ('k', 'v', 'r1')")
    again, second = capture(small_store, tmp_path / "second", first)
    below = "artifacts/0/r1/artifacts"
    assert sorted(second.opened) == [
        "about.json",
        f"{below}/other",
        f"{below}/young",
        "look.json",
        "schema.json",
        "tables/params.jsonl",
        "versions.json",
    ]
    assert second.read(second.entry(f"{below}/same")) == b"same"
    assert again["tables"]["runs"] == details["tables"]["runs"]
    assert again["tables"]["params"]["rows"] == 1


# --- tables -----------------------------------------------------------------------------------------------------------


def test_unknown_tables_are_carried_and_locks_are_not(small_store: SmallStore, tmp_path: Path) -> None:
    """A table that MLflow does not know is in the point; locks of processes are left out, and that is said."""
    small_store.execute("CREATE TABLE site_notes (id INTEGER PRIMARY KEY, note TEXT, blob BLOB, score FLOAT)")
    small_store.execute("INSERT INTO site_notes VALUES (2, 'b', x'00ff', 1e999), (1, NULL, NULL, -0.5)")
    small_store.execute("INSERT INTO scheduler_leases (lease_key, acquired_at, ttl_seconds) VALUES ('k', 1, 1)")
    details, tree = capture(small_store, tmp_path / "tree")
    assert tree.read(tree.entry("tables/site_notes.jsonl")).decode() == (
        '[1,null,null,-0.5]\n[2,"b",{"bytes":"AP8="},{"float":"inf"}]\n'
    )
    assert details["tables"]["site_notes"]["rows"] == 2
    assert details["left_out"]["scheduler_leases"]["rows"] == 1
    assert "scheduler_leases" not in details["tables"]


def test_concurrent_writer_leaves_no_orphans_on_sqlite(small_store: SmallStore, tmp_path: Path) -> None:
    """While somebody writes runs with tags, every cut has both or neither."""

    def begin(run: str) -> None:
        with closing(sqlite3.connect(small_store.file, timeout=30)) as connection, connection:
            connection.execute(INSERT_RUN, (run,))
            connection.execute("INSERT INTO tags (key, value, run_uuid) VALUES ('k', 'v', ?)", (run,))

    source = MlflowSource("w", small_store.url, str(small_store.artifacts))
    assert_no_orphans(begin, source, tmp_path)


def test_concurrent_writer_leaves_no_orphans_on_postgresql(embedded_postgres: Cluster, tmp_path: Path) -> None:
    """The same on PostgreSQL, whose tables are read one after the other."""
    import psycopg2

    url = embedded_postgres.database()
    empty_store(driven(url), tmp_path / "artifacts")
    with closing(psycopg2.connect(url)) as connection:

        def begin(run: str) -> None:
            with connection, connection.cursor() as cursor:
                cursor.execute(INSERT_RUN.replace("?", "%s"), (run,))
                cursor.execute("INSERT INTO tags (key, value, run_uuid) VALUES ('k', 'v', %s)", (run,))

        assert_no_orphans(begin, MlflowSource("w", url, str(tmp_path / "artifacts")), tmp_path)
