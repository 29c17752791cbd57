"""A registry with users and server keys of its own, from the catalog into a vault and back to where it lived."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from muster.bootstrap import Platform
from muster.errors import ValidationFailed
from registry_platform import platform_of, restored
from registry_seed import SmallStore, query

WEBHOOK_KEY = "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY"


@pytest.fixture
def users(tmp_path: Path) -> Path:
    """A basic-auth database in a folder of its own, with one user."""
    from mlflow.server.auth.db.utils import migrate
    from sqlalchemy import create_engine

    file = tmp_path / "access" / "users.db"
    file.parent.mkdir()
    engine = create_engine(f"sqlite:///{file}")
    migrate(engine, "head")
    engine.dispose()
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("INSERT INTO users (id, username, password_hash, is_admin) VALUES (7, 'ada', 'scrypt:…', 1)")
    return file


def guarded(folder: Path, store: SmallStore, users: Path, more: str = "") -> Platform:
    """A platform that protects a registry and its users."""
    return platform_of(folder, store.url, store.artifacts, f', auth_store: "sqlite:///{users}"{more}')


def test_users_come_back_to_where_they_lived(small_store: SmallStore, users: Path, tmp_path: Path) -> None:
    """A basic-auth database goes where the catalog says: at the origin, and at a named target."""
    platform = guarded(tmp_path, small_store, users)
    status = platform.snapshot(platform.catalog.workload("models"))
    small_store.file.unlink()
    shutil.rmtree(small_store.artifacts)
    users.unlink()
    for to, file in (("origin", users), ("bench", tmp_path / "bench" / "who.db")):
        target = repr(platform.target(platform.catalog.workload("models"), status, to))
        assert "users.db" not in target
        assert "who.db" not in target
        restored(platform, status, to)
        assert query(f"sqlite:///{file}", "SELECT id, username FROM users") == [(7, "ada")]
    assert not [path for path in tmp_path.rglob("basic_auth.db") if path.exists()]


def add_webhook(store: SmallStore) -> None:
    store.execute(
        "INSERT INTO webhooks (webhook_id, name, url, status, secret, creation_timestamp, last_updated_timestamp)"
        " VALUES ('w1', 'watch', 'https://127.0.0.1:9/muster', 'ACTIVE', 'gAAAA', 1, 1)"
    )


def test_server_keys_are_kept_with_the_registry(
    small_store: SmallStore, users: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys that the catalog names are captured as secrets, also for a workload without a configuration."""
    monkeypatch.setenv(WEBHOOK_KEY, "a key of the server")
    add_webhook(small_store)
    platform = guarded(tmp_path, small_store, users, f", server_keys: [env:{WEBHOOK_KEY}]")
    workload = platform.catalog.workload("models")
    assert platform.snapshot_job(workload).expected == ["registry/models", "configuration/models"]
    restored(platform, platform.snapshot(workload), "bench")
    kept = json.loads((tmp_path / "bench" / "configuration" / "secrets.json").read_text())
    assert kept == {f"env:{WEBHOOK_KEY}": "a key of the server"}


def test_point_without_a_needed_server_key_is_suspect(small_store: SmallStore, users: Path, tmp_path: Path) -> None:
    """Encrypted rows whose key nobody captured make a point that is kept, but is not the latest good one."""
    add_webhook(small_store)
    platform = guarded(tmp_path, small_store, users)
    with pytest.raises(ValidationFailed, match=WEBHOOK_KEY):
        platform.snapshot(platform.catalog.workload("models"))
    (status,) = platform.vault("primary").points("models")
    assert status.suspect
