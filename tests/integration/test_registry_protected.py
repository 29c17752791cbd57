"""A registry with users and server keys of its own, from the catalog into a vault and back to where it lived."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from muster.bootstrap import Platform
from muster.catalog import load_catalog
from muster.domain.recovery_point import PointStatus
from muster.errors import ValidationFailed
from muster.operations.conclude import Incident
from registry_seed import SmallStore, query
from vaults import ACTOR

WEBHOOK_KEY = "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY"
WORKLOAD = """\
workload: models
owner: ops
objectives: {{rpo: 1d, rto: 15m}}
registry: {{store: "{store}", artifacts: "{artifacts}", auth_store: "{auth}"{more}}}
vault: primary
targets:
  bench:
    registry: {{store: "sqlite:///{bench}/mlflow.db", artifacts: "{bench}/artifacts", auth_store: "sqlite:///{bench}/who.db"}}
    configuration: "{bench}/configuration"
"""


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


def platform_of(folder: Path, store: SmallStore, users: Path, more: str = "") -> Platform:
    """A platform that protects a registry alone, with an empty vault."""
    catalog = folder / "include" / "catalog"
    (catalog / "workloads").mkdir(parents=True)
    (catalog / "vaults.yaml").write_text("vaults:\n  primary: {url: conn:vault, passphrase: conn:passphrase}\n")
    bench = folder / "bench"
    text = WORKLOAD.format(
        store=store.url, artifacts=store.artifacts, auth=f"sqlite:///{users}", bench=bench, more=more
    )
    (catalog / "workloads" / "models.yaml").write_text(text)
    places = {"conn:vault": (folder / "vault").as_uri(), "conn:passphrase": "correct horse battery staple"}

    def resolve(reference: str) -> str:
        return os.environ[reference[4:]] if reference.startswith("env:") else places.get(reference, reference)

    platform = Platform(load_catalog(catalog), resolve, state=folder / "state", actor=ACTOR)
    platform.create_vault("primary")
    return platform


def restored(platform: Platform, status: PointStatus, to: str) -> None:
    workload, started = platform.catalog.workload("models"), platform.clock.now()
    target = platform.target(workload, status, to)
    assert "users.db" not in repr(target)
    assert "who.db" not in repr(target)
    platform.restore(platform.vault("primary"), status, target, Incident("drill", started, started))


def test_users_come_back_to_where_they_lived(small_store: SmallStore, users: Path, tmp_path: Path) -> None:
    """A basic-auth database goes where the catalog says: at the origin, and at a named target."""
    platform = platform_of(tmp_path, small_store, users)
    status = platform.snapshot(platform.catalog.workload("models"))
    small_store.file.unlink()
    shutil.rmtree(small_store.artifacts)
    users.unlink()
    for to, file in (("origin", users), ("bench", tmp_path / "bench" / "who.db")):
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
    platform = platform_of(tmp_path, small_store, users, f", server_keys: [env:{WEBHOOK_KEY}]")
    workload = platform.catalog.workload("models")
    assert platform.snapshot_job(workload).expected == ["registry/models", "configuration/models"]
    restored(platform, platform.snapshot(workload), "bench")
    kept = json.loads((tmp_path / "bench" / "configuration" / "secrets.json").read_text())
    assert kept == {f"env:{WEBHOOK_KEY}": "a key of the server"}


def test_point_without_a_needed_server_key_is_suspect(small_store: SmallStore, users: Path, tmp_path: Path) -> None:
    """Encrypted rows whose key nobody captured make a point that is kept, but is not the latest good one."""
    add_webhook(small_store)
    platform = platform_of(tmp_path, small_store, users)
    with pytest.raises(ValidationFailed, match=WEBHOOK_KEY):
        platform.snapshot(platform.catalog.workload("models"))
    (status,) = platform.vault("primary").points("models")
    assert status.suspect
