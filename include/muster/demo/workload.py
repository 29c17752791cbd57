"""The AI platform of the demonstration: flights under DVC, a model in an MLflow server, and Airflow to protect both."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import sys
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from muster.bootstrap import Platform
from muster.catalog import load_catalog
from muster.demo.airflow_platform import Settings, connection
from muster.demo.layout import PROJECT, Layout
from muster.demo.processes import Child, ProcessTree
from muster.errors import MusterError, StoreUnavailable
from muster.loopback import free_port
from muster.vault.vault import Actor

WORKLOAD = "flight_delays"
MODELS = ("models:/flight-delay@champion", "models:/flight-delay@challenger")
CATALOG = PROJECT / "include" / "catalog"
LOCK = Path(__file__).with_name("model-environment.lock")
SERVER_S = 90.0


@dataclass(frozen=True)
class Site:
    """
    Everything that has an address or a secret here; the committed catalog names them, this says what they are.

    :param port: of the MLflow server, the same one before and after the disaster, so that its clients need not know
    """

    layout: Layout
    port: int = field(default_factory=free_port)
    passphrase: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)

    @property
    def tracking_uri(self) -> str:
        """Where the MLflow server answers."""
        return f"http://127.0.0.1:{self.port}"

    @cached_property
    def connections(self) -> Mapping[str, str]:
        """``conn:`` names of the catalog."""
        return {
            "flights_repo": str(self.layout.repository),
            "mlflow_store": self.layout.store_url,
            "mlflow_artifacts": str(self.layout.artifacts),
            "muster_vault": self.layout.vault.as_uri(),
            "muster_passphrase": self.passphrase,
        }

    @cached_property
    def variables(self) -> Mapping[str, str]:
        """``env:`` names of the catalog."""
        return {
            "FLIGHT_DELAYS_ENVIRONMENT": str(self.layout.environment),
            "FLIGHT_DELAYS_CONFIGURATION": str(self.layout.configuration),
            "FLIGHT_DELAYS_LATE_MINUTES": "15",
            "FLIGHT_DELAYS_TOKEN": self.token,
        }

    def resolve(self, reference: str) -> str:
        """What Airflow's hook and the command line do with references, for this site."""
        kind, _, name = reference.partition(":")
        known = {"conn": self.connections, "env": self.variables}.get(kind, {})
        return known.get(name, reference)

    def muster(self) -> Platform:
        """Muster over the committed catalog, at this site."""
        actor = Actor(name="demo", host=socket.gethostname(), via="muster demo")
        return Platform(load_catalog(CATALOG), self.resolve, state=self.layout.state, actor=actor)

    def settings(self) -> Settings:
        """Airflow, with the connections in its environment."""
        named = {f"AIRFLOW_CONN_{name.upper()}": connection(text) for name, text in self.connections.items()}
        ours = {"MUSTER_CATALOG": str(CATALOG), "MUSTER_STATE": str(self.layout.state)}
        environment = {**self.variables, **named, **ours}
        return Settings(self.layout.airflow, self.layout.logs, environment=environment)

    def write_access(self) -> None:
        """Leave beside the platform what the `muster` command needs: a secrets file, and the variables to source."""
        import yaml

        home = self.layout.home
        secrets_file = home / "secrets.yaml"
        secrets_file.touch(0o600)
        secrets_file.write_text(yaml.safe_dump(dict(self.connections)))
        exported = {**self.variables, "MUSTER_SECRETS": str(secrets_file), "MUSTER_STATE": str(self.layout.state)}
        script = home / "access.sh"
        script.touch(0o600)
        script.write_text("".join(f"export {name}='{value}'\n" for name, value in exported.items()))


def check_tools() -> None:
    """
    :raises MusterError: if a program that the demonstration runs is not installed
    """
    if shutil.which("git") is None:
        raise MusterError("git is not installed", "install git and start again")


def start_environment(tree: ProcessTree, layout: Layout) -> Child:
    """Begin to build the model's environment from its lock; other work may go on meanwhile."""
    command = [sys.executable, "-m", "muster.demo.model_environment", str(LOCK), str(layout.environment)]
    return tree.start("uv pip install", command, env=os.environ, log=layout.logs / "environment.log")


def start_training(tree: ProcessTree, site: Site) -> Child:
    """Begin to train and register both versions of the model."""
    command = [sys.executable, "-m", "muster.demo.training", str(site.layout.repository), site.tracking_uri]
    # Airflow starts on the other core meanwhile: two OpenMP threads on one core spin ten times as long as one works.
    quiet = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "OMP_NUM_THREADS": "1",
    }
    env = {**os.environ, **quiet}
    return tree.start("training", command, env=env, log=site.layout.logs / "training.log")


def start_registry(tree: ProcessTree, site: Site) -> Child:
    """Begin to start the MLflow server over whatever its store holds; see `wait_for_registry`."""
    site.layout.artifacts.mkdir(parents=True, exist_ok=True)
    arguments = {
        "--backend-store-uri": site.layout.store_url,
        "--artifacts-destination": str(site.layout.artifacts),
        "--host": "127.0.0.1",
        "--port": str(site.port),
        "--workers": "1",
    }
    command = [sys.executable, "-m", "mlflow", "server", *(word for pair in arguments.items() for word in pair)]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return tree.start("mlflow server", command, env={**os.environ, **quiet}, log=site.layout.logs / "mlflow.log")


def wait_for_registry(server: Child, site: Site) -> None:
    """
    Wait until the MLflow server answers.

    :raises StoreUnavailable: if it ends, or does not answer in time; the message carries the end of its log
    """
    deadline = time.monotonic() + SERVER_S
    while time.monotonic() < deadline:
        server.check_alive()
        try:
            with urllib.request.urlopen(f"{site.tracking_uri}/health", timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.2)
    raise StoreUnavailable(
        f"MLflow at {site.tracking_uri} does not answer after {SERVER_S:.0f} s", f"read {server.log}"
    )


def deploy_configuration(site: Site) -> None:
    """Put the service's configuration where the service reads it: a file, a variable, and its secrets."""
    folder = site.layout.configuration
    folder.mkdir(parents=True)
    folder.chmod(0o700)
    shutil.copy(PROJECT / "include" / "deploy" / WORKLOAD / "service.yaml", folder)
    (folder / "environment.env").write_text("FLIGHT_DELAYS_LATE_MINUTES=15\n")
    (folder / "secrets.json").touch(0o600)
    kept = {"conn:mlflow_store": site.layout.store_url, "env:FLIGHT_DELAYS_TOKEN": site.token}
    (folder / "secrets.json").write_text(json.dumps(kept))
