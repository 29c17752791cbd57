"""How connections, times and the plugin folder are read."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from airflow_site import PROJECT
from muster.errors import CatalogError, NotFound, UsageError

pytestmark = pytest.mark.airflow


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"conn_type": "generic", "password": "/srv/vault"}, "/srv/vault"),
        ({"conn_type": "muster", "password": "words of a passphrase"}, "words of a passphrase"),
        ({"conn_type": "http", "extra": '{"url": "file:///srv/vault"}'}, "file:///srv/vault"),
        ({"conn_type": "sqlite", "host": "/srv/mlflow.db"}, "sqlite:////srv/mlflow.db"),
        ({"conn_type": "fs", "extra": '{"path": "/srv/data"}'}, "/srv/data"),
        (
            {
                "conn_type": "postgres",
                "host": "db",
                "port": 5433,
                "login": "m@e",
                "password": "p/w",
                "schema": "mlflow",
            },
            "postgresql://m%40e:p%2Fw@db:5433/mlflow",
        ),
        (
            {"conn_type": "postgres", "host": "db", "login": "me", "schema": "x", "extra": '{"sslmode": "require"}'},
            "postgresql://me@db/x?sslmode=require",
        ),
        (
            {
                "conn_type": "mysql",
                "host": "db",
                "port": 3306,
                "login": "m@e",
                "password": "p/w",
                "schema": "mlflow",
                "extra": '{"charset": "utf8", "ssl": {"ca": "/etc/ca.pem"}}',
            },
            "mysql://m%40e:p%2Fw@db:3306/mlflow?ssl_ca=%2Fetc%2Fca.pem",
        ),
        (
            {"conn_type": "mysql", "schema": "x", "extra": '{"unix_socket": "/run/m", "ssl": "{\\"ca\\": \\"c\\"}"}'},
            "mysql:///x?ssl_ca=c&unix_socket=%2Frun%2Fm",
        ),
        (
            {
                "conn_type": "aws",
                "login": "KEY",
                "password": "SEC/RET",
                "extra": '{"region_name": "eu-central-1", "endpoint_url": "http://127.0.0.1:9",'
                ' "service_config": {"s3": {"bucket_name": "vault", "prefix": "a/b"}}}',
            },
            "s3://KEY:SEC%2FRET@vault/a/b?endpoint=http%3A%2F%2F127.0.0.1%3A9&region=eu-central-1",
        ),
        ({"conn_type": "aws", "login": "KEY", "password": "SECRET"}, None),
        ({"conn_type": "generic"}, None),
        ({"conn_type": "smtp", "password": "x"}, None),
    ],
)
def test_connections_are_read_as_urls(fields: dict[str, Any], url: str | None) -> None:
    """Each supported type gives one URL, path or secret; a connection that carries none gives None."""
    from airflow.sdk import Connection

    from muster_airflow.hooks.connections import connection_url

    assert connection_url(Connection(conn_id="x", **fields)) == url


def test_references_are_resolved(airflow_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """conn: and env: are looked up, everything else is its own value, and what is missing is named."""
    from muster_airflow.hooks.connections import resolve

    monkeypatch.setenv("AIRFLOW_CONN_SHELF", '{"conn_type": "generic", "password": "/srv/shelf"}')
    monkeypatch.setenv("AIRFLOW_CONN_EMPTY", '{"conn_type": "smtp", "host": "mail"}')
    monkeypatch.setenv("SHELF_TOKEN", "a token of some length")
    assert resolve("conn:shelf") == "/srv/shelf"
    assert resolve("env:SHELF_TOKEN") == "a token of some length"
    assert resolve("file:///srv/x") == "file:///srv/x"
    with pytest.raises(NotFound, match="no connection nothing") as missing:
        resolve("conn:nothing")
    assert "airflow connections add nothing" in missing.value.hint
    with pytest.raises(CatalogError, match="empty"):
        resolve("conn:empty")
    with pytest.raises(NotFound, match="NO_SUCH_VARIABLE"):
        resolve("env:NO_SUCH_VARIABLE")


def test_what_was_resolved_is_masked(airflow_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The value, and the password in a URL in both of its spellings, are stars in everything that is logged."""
    from airflow.sdk.log import redact

    from muster_airflow.hooks.connections import resolve

    monkeypatch.setenv("LONELY_URL", "postgresql://me:p%2Fassw0rd-x@db.example/mlflow")
    resolve("env:LONELY_URL")
    for text in ("postgresql://me:p%2Fassw0rd-x@db.example/mlflow", "p%2Fassw0rd-x", "p/assw0rd-x"):
        assert redact(f"could not log in: {text}!") == "could not log in: ***!"
    monkeypatch.setenv("LONELY_URL", "postgresql://db.example/mlflow?user=me&password=hunter2-y&sslmode=require")
    resolve("env:LONELY_URL")
    assert redact("hunter2-y at sslmode require") == "*** at sslmode require"


def test_the_time_of_an_incident() -> None:
    """Empty means the start of the run, a time without a zone is UTC, and neither nonsense nor the future is taken."""
    from muster_airflow.operators.plan import incident_time

    started = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
    assert incident_time("", started) == incident_time("None", started) == started
    assert incident_time("2026-11-23T11:00:00", started) == datetime(2026, 11, 23, 11, 0, tzinfo=UTC)
    berlin = datetime(2026, 11, 23, 11, 0, tzinfo=timezone(timedelta(hours=1)))
    assert incident_time(berlin.isoformat(), started) == datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
    for wrong in ("yesterday", "2026-11-23T12:00:01+00:00"):
        with pytest.raises(UsageError):
            incident_time(wrong, started)


def test_a_sandbox_is_removed_only_where_drills_have_theirs(tmp_path: Path) -> None:
    """A path that is not directly below the drills' folder is refused, and stays."""
    from muster.errors import Refused
    from muster_airflow.operators.recovery import Site
    from muster_airflow.operators.sandbox import RemoveSandboxOperator

    class State:
        state = tmp_path / "state"

    precious = tmp_path / "state" / "drills" / ".." / "precious"
    precious.mkdir(parents=True)
    for path in (precious, tmp_path / "state" / "drills", tmp_path):
        operator = RemoveSandboxOperator(task_id="remove", sandbox=str(path))
        with pytest.raises(Refused, match="no sandbox"):
            operator.perform(Site(State(), {}, ""))  # type: ignore[arg-type]
        assert path.is_dir()
    (tmp_path / "state" / "drills" / "one" / "deep").mkdir(parents=True)
    RemoveSandboxOperator(task_id="remove", sandbox=str(tmp_path / "state" / "drills" / "one")).perform(
        Site(State(), {}, "")  # type: ignore[arg-type]
    )
    assert not (tmp_path / "state" / "drills" / "one").exists()


PLUGINS = """
import sys
from airflow import plugins_manager
plugins, errors = plugins_manager._get_plugins()
ours = [p.name for p in plugins if "muster" in str(getattr(p, "source", ""))]
print(ours, errors, [m for m in ("recovery", "restore", "snapshot", "verify", "policies") if m in sys.modules], sep=";")
"""


def test_airflow_executes_one_file_of_the_plugins_folder(airflow_home: Path) -> None:
    """Only muster_plugin.py is run as a plugin: our modules are nobody's top-level modules under their bare names."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT / "include"), str(PROJECT / "plugins")])}
    command = [sys.executable, "-W", "ignore", "-c", PLUGINS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "['muster'];{};[]"
