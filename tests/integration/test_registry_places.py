"""Where parts of a registry may lie besides one database and one folder: buckets, and a database of users."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from artifact_buckets import ArtifactBucket
from muster.adapters.mlflow_registry import MlflowTarget
from muster.errors import IntegrityError, SourceInvalid, TargetNotEmpty
from postgres import Cluster
from registry_seed import Captured, SmallStore, capture, query, spoil_a_row


@pytest.mark.parametrize("spelled", ["{}", "/{}", "file://{}", "file:///{}", "file://localhost{}"])
def test_artifacts_are_found_however_their_place_was_spelled(
    spelled: str, small_store: SmallStore, tmp_path: Path
) -> None:
    """Below the root and outside of it, restored elsewhere and to the same root: MLflow's own client lists them where they are now."""
    from mlflow import MlflowClient

    outside = tmp_path / "outside"
    for run, folder in (("r1", small_store.artifacts / "0" / "r1"), ("r2", outside / "r2")):
        folder.mkdir(parents=True)
        (folder / "a.txt").write_text(run)
        small_store.add_run(run, spelled.format(folder))
    details, tree = capture(small_store.url, str(small_store.artifacts), tmp_path / "tree")
    small_store.file.unlink()
    shutil.rmtree(small_store.artifacts)
    shutil.rmtree(outside)
    for url, root in (
        (f"sqlite:///{tmp_path}/new.db", tmp_path / "new"),
        (small_store.url, small_store.artifacts),
    ):
        MlflowTarget(url, str(root)).restore(details, tree)
        client = MlflowClient(url)
        assert [[file.path for file in client.list_artifacts(run)] for run in ("r1", "r2")] == [["a.txt"], ["a.txt"]]
        shutil.rmtree(root)


def test_users_come_back(small_store: SmallStore, tmp_path: Path, embedded_postgres: Cluster) -> None:
    """The basic-auth database is captured with the store: beside an SQLite file, within a PostgreSQL database."""
    from mlflow.server.auth.db.utils import migrate
    from sqlalchemy import create_engine

    auth = tmp_path / "auth.db"
    migrate(create_engine(f"sqlite:///{auth}"), "head")
    with closing(sqlite3.connect(auth)) as users, users:
        users.execute("INSERT INTO users (id, username, password_hash, is_admin) VALUES (7, 'ada', 'scrypt:…', 1)")
    details, tree = capture(
        small_store.url, str(small_store.artifacts), tmp_path / "tree", auth_store_url=f"sqlite:///{auth}"
    )
    assert "scrypt" not in json.dumps(details)
    facts = MlflowTarget(f"sqlite:///{tmp_path}/new/mlflow.db", str(tmp_path / "a")).restore(details, tree)
    assert facts["auth"]["tables"] == details["auth"]["tables"]
    (users,) = (line for line in facts["fidelity_report"]["tables"] if line["table"] == "auth/users")
    assert users["captured"] == users["restored"]
    assert "scrypt" not in json.dumps(facts)
    shared = embedded_postgres.database()
    MlflowTarget(shared, str(tmp_path / "b")).restore(details, tree)
    for url in (f"sqlite:///{tmp_path}/new/basic_auth.db", shared):
        assert query(url, "SELECT id, username FROM users") == [(7, "ada")]
    again, tree2 = capture(shared, str(tmp_path / "b"), tmp_path / "tree2")
    assert again["revisions"] == {**details["revisions"], **details["auth"]["revisions"]}
    MlflowTarget(f"sqlite:///{tmp_path}/one.db", str(tmp_path / "c")).restore(again, tree2)
    assert query(f"sqlite:///{tmp_path}/one.db", "SELECT id, username FROM users") == [(7, "ada")]


def test_artifacts_move_between_disk_and_bucket(captured: Captured, bucket: ArtifactBucket, tmp_path: Path) -> None:
    """From a folder to a bucket, and from the bucket to a folder; the keys of the bucket are nowhere in what is stored."""
    details, tree = captured
    facts = MlflowTarget(f"sqlite:///{tmp_path}/there.db", bucket.address).restore(details, tree)
    assert facts["artifacts"] == details["artifacts"]
    assert facts["roots"] == [bucket.location]
    assert bucket.get("0/r1/artifacts/sub/b.txt") == b"b"
    assert query(f"sqlite:///{tmp_path}/there.db", "SELECT artifact_uri FROM runs") == [
        (f"{bucket.location}/0/r1/artifacts",)
    ]
    with pytest.raises(TargetNotEmpty, match=f"artifact root {re.escape(bucket.location)} is not empty"):
        MlflowTarget(f"sqlite:///{tmp_path}/other.db", bucket.address).check(details)
    again, tree2 = capture(f"sqlite:///{tmp_path}/there.db", bucket.address, tmp_path / "tree2")
    assert again["artifacts"] == details["artifacts"]
    assert bucket.secret not in json.dumps(again) + tree2.read(tree2.entry("schema.json")).decode()
    back = MlflowTarget(f"sqlite:///{tmp_path}/back.db", str(tmp_path / "back")).restore(again, tree2)
    assert back["artifacts"] == details["artifacts"]
    assert (tmp_path / "back" / "0" / "r1" / "artifacts" / "sub" / "b.txt").read_text() == "b"
    assert query(f"sqlite:///{tmp_path}/back.db", "SELECT artifact_uri FROM runs") == [
        (f"{tmp_path}/back/0/r1/artifacts",)
    ]


def test_failed_restore_to_a_bucket_leaves_no_object(
    captured: Captured, bucket: ArtifactBucket, tmp_path: Path
) -> None:
    """What was uploaded before the failure is removed again."""
    details, tree = captured
    spoil_a_row(tree, details)
    target = MlflowTarget(f"sqlite:///{tmp_path}/there.db", bucket.address)
    with pytest.raises((IntegrityError, SourceInvalid)):
        target.restore(details, tree)
    assert bucket.paths() == []
    target.check(details)
