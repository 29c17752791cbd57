"""A registry with users and server keys of its own, from the catalog into a vault and back to where it lived."""

from __future__ import annotations

import json
import queue
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from muster.adapters import mlflow_server
from muster.adapters.mlflow_registry import MlflowTarget
from muster.adapters.mlflow_webhooks import open_event
from muster.bootstrap import Platform
from muster.cli.doctor import examine
from muster.cli.screen import Screen
from muster.cli.session import Options, Session
from muster.errors import SourceInvalid, ValidationFailed
from registry_platform import platform_of, restored
from registry_seed import SmallStore, query
from rest_registries import serving

WEBHOOK_KEY = "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY"
PASSPHRASE = "MLFLOW_CRYPTO_KEK_PASSPHRASE"
LENIENT = {"MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https", "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true"}
"""So that MLflow delivers to a receiver on this machine."""
Delivery = tuple[dict[str, str], bytes]


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


def add_webhook(store: SmallStore, key: str, name: str = "watch") -> None:
    """With a secret as MLflow encrypts it."""
    from cryptography.fernet import Fernet

    store.execute(
        "INSERT INTO webhooks (webhook_id, name, url, status, secret, creation_timestamp, last_updated_timestamp)"
        " VALUES (?, ?, 'https://127.0.0.1:9/muster', 'ACTIVE', ?, 1, 1)",
        f"id of {name}",
        name,
        Fernet(key).encrypt(b"s3cret").decode(),
    )


def add_gateway_secret(store: SmallStore, passphrase: str) -> None:
    """As MLflow encrypts it."""
    from mlflow.utils.crypto import KEKManager, _encrypt_secret

    made = _encrypt_secret({"api_key": "sk-1"}, KEKManager(passphrase, 1), "s1", "of openai")
    store.execute(
        "INSERT INTO secrets (secret_id, secret_name, encrypted_value, wrapped_dek, kek_version, masked_value, created_at,"
        " last_updated_at, workspace) VALUES ('s1', 'of openai', ?, ?, 1, '{}', 1, 1, 'default')",
        made.encrypted_value,
        made.wrapped_dek,
    )


def new_key() -> str:
    from cryptography.fernet import Fernet

    return Fernet.generate_key().decode()


@pytest.fixture
def keyed(
    small_store: SmallStore, users: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Platform, str]:
    """A platform whose registry has a webhook, and the key of its secret, which the catalog names."""
    key = new_key()
    monkeypatch.setenv(WEBHOOK_KEY, key)
    add_webhook(small_store, key)
    return guarded(tmp_path, small_store, users, f", server_keys: [env:{WEBHOOK_KEY}]"), key


def test_server_keys_are_kept_with_the_registry(keyed: tuple[Platform, str], tmp_path: Path) -> None:
    """Keys that the catalog names are captured as secrets, also for a workload without a configuration."""
    platform, key = keyed
    workload = platform.catalog.workload("models")
    assert platform.snapshot_job(workload).expected == ["registry/models", "configuration/models"]
    restored(platform, platform.snapshot(workload), "bench")
    kept = json.loads((tmp_path / "bench" / "configuration" / "secrets.json").read_text())
    assert kept == {f"env:{WEBHOOK_KEY}": key}


def test_a_key_that_opens_nothing_makes_no_point(
    small_store: SmallStore, users: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one than the server has, of either kind: named with what it does not open, before anything is stored."""
    good, passphrase = new_key(), "of this server alone"
    add_webhook(small_store, good)
    add_webhook(small_store, new_key(), "of an older key")
    add_gateway_secret(small_store, passphrase)
    platform = guarded(tmp_path, small_store, users, f", server_keys: [env:{WEBHOOK_KEY}, env:{PASSPHRASE}]")
    workload = platform.catalog.workload("models")

    def refused(key: str, words: str) -> None:
        monkeypatch.setenv(WEBHOOK_KEY, key)
        monkeypatch.setenv(PASSPHRASE, words)
        with pytest.raises(SourceInvalid) as caught:
            platform.snapshot(workload)
        assert platform.vault("primary").points("models") == []
        said.append(f"{caught.value}")
        assert key not in said[-1]
        assert words not in said[-1]

    said: list[str] = []
    refused(new_key(), passphrase)
    assert "webhook of an older key (id of of an older key), webhook watch (id of watch)" in said[-1]
    refused("no key at all", passphrase)
    refused(good, passphrase)
    assert f"{WEBHOOK_KEY} that registry.server_keys names does not open" in said[-1]
    assert "webhook watch" not in said[-1]
    small_store.execute("DELETE FROM webhooks WHERE name = 'of an older key'")
    refused(good, "of another server")
    assert (
        f"the {PASSPHRASE} that registry.server_keys names does not open what the store holds: gateway secret of openai (s1)"
        in said[-1]
    )
    monkeypatch.setenv(PASSPHRASE, passphrase)
    assert not platform.snapshot(workload).suspect


def test_a_restore_to_where_another_key_is_used_is_refused(
    keyed: tuple[Platform, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server there could not read what comes back. With the key, or where none is yet, it comes back, and that is said."""
    platform, key = keyed
    status = platform.snapshot(platform.catalog.workload("models"))
    (component,) = status.point.of_kind("registry")
    assert key not in json.dumps(component.details)
    details, tree = component.details, platform.vault("primary").tree(component.tree)

    def target(name: str, **keys: str) -> MlflowTarget:
        return MlflowTarget(f"sqlite:///{tmp_path}/{name}/mlflow.db", str(tmp_path / name / "artifacts"), keys=keys)

    monkeypatch.setenv(WEBHOOK_KEY, new_key())
    with pytest.raises(SourceInvalid, match=rf"{WEBHOOK_KEY} that registry.server_keys names here is not the one"):
        restored(platform, status, "bench")
    assert not (tmp_path / "bench" / "mlflow.db").exists()
    assert target("a", **{WEBHOOK_KEY: key}).restore(details, tree)["keys"] == {WEBHOOK_KEY: "the same"}
    assert target("b").restore(details, tree)["keys"] == {WEBHOOK_KEY: "not here"}
    assert query(f"sqlite:///{tmp_path}/b/mlflow.db", "SELECT name FROM webhooks") == [("watch",)]


def test_point_without_a_needed_server_key_is_suspect(
    small_store: SmallStore, users: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Encrypted rows whose key nobody captured make a point that is kept, but is not the latest good one; the doctor says so before."""
    assert "models server keys" not in doctor(guarded(tmp_path / "none", small_store, users))
    key = new_key()
    add_webhook(small_store, key)
    platform = guarded(tmp_path, small_store, users)
    ok, told = doctor(platform)["models server keys"]
    assert not ok
    assert f"no server can read without {WEBHOOK_KEY}; name it in registry.server_keys" in told
    with pytest.raises(ValidationFailed, match=WEBHOOK_KEY):
        platform.snapshot(platform.catalog.workload("models"))
    (status,) = platform.vault("primary").points("models")
    assert status.suspect
    monkeypatch.setenv(WEBHOOK_KEY, key)
    named = guarded(tmp_path / "named", small_store, users, f", server_keys: [env:{WEBHOOK_KEY}]")
    assert doctor(named)["models server keys"][0]


def doctor(platform: Platform) -> dict[str, tuple[bool, str]]:
    """What `muster doctor` finds: check to whether all is well, and what was found."""
    session = Session(Options(state=platform.state), Screen(as_json=True))
    session.catalog_directory, session.catalog, session.platform = None, platform.catalog, platform
    return {finding.check: (finding.ok, finding.found) for finding in examine(session)}


@contextmanager
def receiver() -> Iterator[tuple[str, queue.Queue[Delivery]]]:
    """The address of a server that takes webhooks, and what it took."""
    taken: queue.Queue[Delivery] = queue.Queue()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            taken.put(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing is said."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/hook", taken
        finally:
            server.shutdown()


def make_secrets(uri: str, hook: str) -> str:
    """A webhook with a secret and a gateway secret, made through a server; the id of the second."""
    import mlflow
    from mlflow.entities.webhook import WebhookAction, WebhookEntity, WebhookEvent
    from mlflow.tracking._tracking_service.utils import _get_store

    event = WebhookEvent(WebhookEntity.REGISTERED_MODEL, WebhookAction.CREATED)
    mlflow.MlflowClient(uri, uri).create_webhook("watch", hook, [event], secret="signed with this")
    secret = _get_store(uri).create_gateway_secret("llm", {"api_key": "sk-of-the-gateway"}, provider="openai")
    return str(secret.secret_id)


def test_a_server_on_the_restored_store_reads_what_was_encrypted(
    small_store: SmallStore, users: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the sealed keys alone: it delivers a webhook signed with the restored secret, and MLflow decrypts a gateway secret."""
    import mlflow
    from cryptography.fernet import Fernet
    from mlflow.exceptions import MlflowException
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    keys = {WEBHOOK_KEY: Fernet.generate_key().decode(), PASSPHRASE: "of this server alone"}
    monkeypatch.setattr(mlflow_server, "PASSED_ON", (*mlflow_server.PASSED_ON, *LENIENT))
    for name, value in (keys | LENIENT).items():
        monkeypatch.setenv(name, value)
    with receiver() as (hook, taken):
        with serving(small_store.file, small_store.artifacts) as uri:
            gateway_secret = make_secrets(uri, hook)
        platform = guarded(tmp_path, small_store, users, f", server_keys: [env:{WEBHOOK_KEY}, env:{PASSPHRASE}]")
        status = platform.snapshot(platform.catalog.workload("models"))
        for name in keys:
            monkeypatch.delenv(name)
        small_store.file.unlink()
        restored(platform, status, "bench")
        kept = json.loads((tmp_path / "bench" / "configuration" / "secrets.json").read_text())
        bench = tmp_path / "bench"
        store = SqlAlchemyStore(f"sqlite:///{bench}/mlflow.db", str(bench / "artifacts"))
        with pytest.raises(MlflowException):
            store._get_decrypted_secret(gateway_secret)
        for name in keys:
            monkeypatch.setenv(name, kept[f"env:{name}"])
        assert store._get_decrypted_secret(gateway_secret) == {"api_key": "sk-of-the-gateway"}
        with serving(bench / "mlflow.db", bench / "artifacts") as uri:
            mlflow.MlflowClient(uri, uri).create_registered_model("made after the restore")
            headers, body = taken.get(timeout=60)
    event = open_event("signed with this", headers, body, datetime.now(UTC))
    assert (event.entity, event.action) == ("registered_model", "created")
    assert json.loads(body)["data"]["name"] == "made after the restore"
