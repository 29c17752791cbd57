"""A real Airflow on loopback: API server, scheduler, DAG processor and triggerer, each a process of its own."""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from muster.demo.airflow_api import AirflowApi
from muster.demo.layout import PROJECT
from muster.demo.processes import Child, ProcessTree, finish
from muster.errors import StoreUnavailable
from muster.loopback import free_port

USER, APPROVER = "admin", "recovery-lead"
ROLES = {USER: "admin", APPROVER: "user"}
"""Two people, since nobody approves their own restore."""
START_S = 300.0
AIRFLOW = (sys.executable, "-m", "airflow")
SIMPLE_AUTH_MANAGER = "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"
SERVICES = ("api-server", "scheduler", "dag-processor", "triggerer")


@dataclass(frozen=True, slots=True)
class Airflow:
    """A running Airflow, and how to log in."""

    url: str
    passwords: Mapping[str, str] = field(repr=False)
    children: tuple[Child, ...] = field(repr=False)

    def api(self, user: str = USER) -> AirflowApi:
        """Its REST API, logged in."""
        return AirflowApi(self.url, user, self.passwords[user])


@dataclass(frozen=True, slots=True)
class Settings:
    """
    :param home: AIRFLOW_HOME, a new folder
    :param logs: where the output of the processes goes
    :param dags: folder of DAG files
    :param plugins: folder of plugins
    :param environment: what tasks find in their environment: connections, catalog, variables of the workload
    :param auth_manager: who signs people in; with any other than the simple one, users must be made before it can be used
    """

    home: Path
    logs: Path
    dags: Path = PROJECT / "dags"
    plugins: Path = PROJECT / "plugins"
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    auth_manager: str = SIMPLE_AUTH_MANAGER


@dataclass(frozen=True, slots=True)
class Prepared:
    """An Airflow whose metadata database is being made."""

    settings: Settings
    port: int
    passwords: Mapping[str, str] = field(repr=False)
    env: Mapping[str, str] = field(repr=False)
    migration: Child


def prepare_airflow(tree: ProcessTree, settings: Settings) -> Prepared:
    """Begin to make the metadata database; other work may go on meanwhile."""
    port = free_port()
    passwords = {user: secrets.token_urlsafe(12) for user in ROLES}
    env = environment(settings, port)
    settings.home.mkdir(parents=True, exist_ok=True)
    file = settings.home / "passwords.json"
    file.touch(0o600)
    file.write_text(json.dumps(passwords))
    log = settings.logs / "airflow-db.log"
    migration = tree.start("airflow db migrate", [*AIRFLOW, "db", "migrate"], env=env, log=log)
    return Prepared(settings, port, passwords, env, migration)


def start_airflow(tree: ProcessTree, prepared: Prepared, services: Iterable[str] = SERVICES) -> Airflow:
    """
    Start the processes; they are not ready yet, see `wait_until_healthy`.

    :raises MusterError: if the database could not be made; the message carries the end of the log
    """
    finish(prepared.migration)
    port, logs = prepared.port, prepared.settings.logs
    commands = {
        "api-server": ["api-server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"],
        "scheduler": ["scheduler", "--skip-serve-logs"],
        "dag-processor": ["dag-processor"],
        "triggerer": ["triggerer", "--skip-serve-logs"],
    }
    children = [
        tree.start(name, [*AIRFLOW, *arguments], env=prepared.env, log=logs / f"{name}.log")
        for name, arguments in commands.items()
        if name in services
    ]
    return Airflow(f"http://127.0.0.1:{port}", prepared.passwords, tuple(children))


def wait_until_healthy(airflow: Airflow, timeout: float = START_S) -> AirflowApi:
    """
    Wait until every component reports a heartbeat, and log in: only our own server knows our password.

    :raises StoreUnavailable: if a process ends, or one is not healthy in time
    """
    deadline = time.monotonic() + timeout
    missing = ["an answer"]
    while time.monotonic() < deadline:
        for child in airflow.children:
            child.check_alive()
        try:
            api = airflow.api()
            missing = api.unhealthy()
        except StoreUnavailable:
            missing = ["an answer"]
        else:
            if not missing:
                return api
        time.sleep(0.3)
    raise StoreUnavailable(
        f"Airflow at {airflow.url} is not healthy after {timeout:.0f} s; missing: {', '.join(missing)}",
        f"read the logs in {airflow.children[0].log.parent}",
    )


def environment(settings: Settings, port: int) -> dict[str, str]:
    """What every Airflow process gets: nothing of the caller's own Airflow, everything of ours."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MUSTER_"))}
    return {
        **inherited,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PYTHONPATH": os.pathsep.join([str(PROJECT / "include"), str(PROJECT / "plugins")]),
        "PYTHONUNBUFFERED": "1",
        "AIRFLOW_HOME": str(settings.home),
        **{f"AIRFLOW__{name}": value for name, value in _options(settings, port).items()},
        **settings.environment,
    }


def _options(settings: Settings, port: int) -> dict[str, str]:
    return {
        "API_AUTH__JWT_SECRET": secrets.token_hex(32),
        "API__BASE_URL": f"http://127.0.0.1:{port}",
        "API__SECRET_KEY": secrets.token_hex(32),
        "CORE__AUTH_MANAGER": settings.auth_manager,
        "CORE__DAGS_FOLDER": str(settings.dags),
        "CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__FERNET_KEY": _fernet_key(),
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__PARALLELISM": "4",
        "CORE__PLUGINS_FOLDER": str(settings.plugins),
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(settings.home / "passwords.json"),
        "CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{user}:{role}" for user, role in ROLES.items()),
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{settings.home / 'airflow.db'}",
        "DAG_PROCESSOR__PARSING_PROCESSES": "1",
        "DAG_PROCESSOR__REFRESH_INTERVAL": "300",
        "LOGGING__BASE_LOG_FOLDER": str(settings.home / "logs"),
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.1",
        "USAGE_DATA_COLLECTION__ENABLED": "False",
        "WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
    }


def _fernet_key() -> str:
    import base64

    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def connection(text: str) -> str:
    """A URL or secret as an Airflow connection: it stands in the password field, which Airflow masks wherever it is shown."""
    return json.dumps({"conn_type": "generic", "password": text})
