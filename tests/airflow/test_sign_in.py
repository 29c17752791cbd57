"""Signing in by Keycloak as `include/deploy/airflow` sets it up, against a provider that signs real tokens; roles; secrets by a backend."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from airflow_site import PROJECT

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(300)]
CONFIG = PROJECT / "include" / "deploy" / "airflow" / "webserver_config.py"
SIGN_IN = Path(__file__).with_name("sign_in_by_oidc.py")
VAULTS = 'vaults: {only: {url: "conn:vault", passphrase: "conn:passphrase"}}\n'
WORKLOAD = """
workload: ledger
owner: finance
objectives: {rpo: 24h, rto: 15m}
configuration: {files: ["conf/*.yaml"]}
vault: only
"""
CREATE_APP = "from airflow.providers.fab.www.app import create_app; create_app(enable_plugins=False)"
RESOLVE = "from muster_airflow.hooks.connections import resolve; print(resolve('conn:warehouse_secret'))"

MAKE_ROLES = """
import json
from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder
from muster_airflow.fab_auth import make_roles

def held(name):
    return sorted(f"{p.action.name} {p.resource.name}" for p in manager.find_role(name).permissions)

with get_application_builder() as builder:
    manager = builder.sm
    make_roles(manager, ["ledger"])
    before = held("muster-operator")
    for change in ("can_edit DAGs", "can_edit HITL Detail:restore__ledger", "can_edit Task Instances:drill__unread", "can_read DAG:verify"):
        action, _, resource = change.partition(" ")
        permission = manager.create_permission(action, resource)
        manager.add_permission_to_role(manager.find_role("muster-operator"), permission)
    lost = manager.find_role("muster-operator")
    manager.remove_permission_from_role(lost, manager.get_permission("can_edit", "Task Instances:drill__ledger"))
    make_roles(manager, ["ledger"])
    after = held("muster-operator")
    print(json.dumps([sorted(set(after) - set(before)), sorted(set(before) - set(after)), "can_edit All Muster DAGs" in held("Admin")]))
"""


def python(arguments: list[str], home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A Python with an Airflow home of its own."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "KEYCLOAK"))}
    own = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__AUTH_MANAGER": "muster_airflow.fab_auth.MusterFabAuthManager",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(home / "plugins"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
        "AIRFLOW__FAB__CONFIG_FILE": str(CONFIG),
        "AIRFLOW__API__SECRET_KEY": "of-this-test-alone",
        "PYTHONPATH": os.pathsep.join(str(PROJECT / name) for name in ("include", "plugins", "tests")),
        "MUSTER_CATALOG": str(home / "include" / "catalog"),
    }
    command = [sys.executable, "-W", "ignore", *arguments]
    return subprocess.run(command, env={**inherited, **own, **environment}, capture_output=True, text=True)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An Airflow home with a migrated database, and a catalog of one workload."""
    made = tmp_path_factory.mktemp("sign-in")
    (made / "include" / "catalog" / "workloads").mkdir(parents=True)
    (made / "include" / "catalog" / "vaults.yaml").write_text(VAULTS)
    (made / "include" / "catalog" / "workloads" / "ledger.yaml").write_text(WORKLOAD)
    (made / "plugins").mkdir()
    done = python(["-m", "airflow", "db", "migrate"], made, AIRFLOW__FAB__CONFIG_FILE=str(made / "none.py"))
    assert done.returncode == 0, done.stdout + done.stderr
    return made


@pytest.fixture(scope="module")
def told(home: Path) -> Any:
    """What came of several sign-ins."""
    done = python([str(SIGN_IN)], home)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_keycloak_alone_signs_people_in(told: Any) -> None:
    """There is no form for a password, and the provider is asked for a code, with PKCE, and for a second factor."""
    assert told["page"] == {"keycloak": True, "password": False}
    asked = {"acr_values": "mfa", "code_challenge_method": "S256", "scope": "openid email profile"}
    assert told["second factor"]["asked"] == {**asked, "client_id": "airflow", "response_type": "code"}


def test_nobody_comes_in_without_a_second_factor(told: Any) -> None:
    """The class of the sign-in stands in the signed identity token; with another one, or none, there is not even an account."""
    for name in ("password only", "no class"):
        assert (told[name]["in"], told[name]["roles"]) == (False, None)


def test_roles_are_those_of_the_groups_at_each_sign_in(told: Any) -> None:
    """A group of the name of a role gives it, another gives nothing; what was taken away in Keycloak is gone at the next sign-in."""
    assert told["second factor"]["in"]
    assert told["second factor"]["roles"] == ["Public", "muster-approver:ledger", "muster-operator"]
    assert told["fewer groups"]["roles"] == ["Public", "muster-viewer"]
    assert (told["no group"]["in"], told["no group"]["roles"]) == (True, ["Public"])


def test_machines_get_a_token_for_a_password_whoever_signs_people_in(told: Any) -> None:
    """A service account has no browser and no second factor; a wrong password gives nothing."""
    assert told["machine"] == ["nightly", None]


def test_without_the_secret_nothing_starts(home: Path) -> None:
    """A sign-in that is not set up whole is no sign-in by something else."""
    done = python(["-c", CREATE_APP], home, KEYCLOAK_REALM_URL="https://keycloak.example.org/realms/platform")
    assert done.returncode != 0
    assert "KEYCLOAK_CLIENT_SECRET" in done.stderr


def test_roles_that_somebody_changed_are_put_right(home: Path) -> None:
    """What was added is taken away and what was taken is given back; what belongs to a DAG, or to a workload that cannot be read, stays."""
    done = python(["-c", MAKE_ROLES], home, AIRFLOW__FAB__CONFIG_FILE=str(home / "none.py"))
    assert done.returncode == 0, done.stdout + done.stderr
    added, lost, admin = json.loads(done.stdout.strip().splitlines()[-1])
    assert (added, lost) == (["can_edit Task Instances:drill__unread", "can_read DAG:verify"], [])
    assert admin


def test_references_are_resolved_by_the_secrets_backend_of_airflow_first(home: Path) -> None:
    """`conn:` names are looked up by whatever backend Airflow is given, before the environment; in its JSON form and in its URI form."""
    for written, value in (
        ({"conn_type": "generic", "password": "from the backend"}, "from the backend"),
        ("postgresql://reader:p%2Fw@db:5432/birds", "postgresql://reader:p%2Fw@db:5432/birds"),
    ):
        (home / "connections.json").write_text(json.dumps({"warehouse_secret": written}))
        backend = {
            "AIRFLOW__SECRETS__BACKEND": "airflow.secrets.local_filesystem.LocalFilesystemBackend",
            "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps({"connections_file_path": str(home / "connections.json")}),
            "AIRFLOW_CONN_WAREHOUSE_SECRET": json.dumps({"conn_type": "generic", "password": "from the environment"}),
        }
        done = python(["-c", RESOLVE], home, **backend)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip().splitlines()[-1] == value
