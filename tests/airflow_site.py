"""A small AI platform that is real in every part, catalogued for Airflow: Git and DVC, MLflow, Great Expectations, wheels, secrets."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import muster.demo
from muster.bootstrap import Platform
from muster.catalog import load_catalog
from muster.vault.vault import Actor
from vaults import CHEAP

PROJECT = Path(__file__).resolve().parents[1]
LOCK = Path(muster.demo.__file__).parent / "model-environment.lock"
MODEL = "models:/penguin-mass@champion"

VAULTS = """
vaults:
  primary: {url: "conn:primary_vault", passphrase: "conn:primary_passphrase"}
  spare: {url: "conn:spare_vault", passphrase: "env:SPARE_PASSPHRASE"}
"""
PENGUINS = """
workload: penguins
owner: biology
objectives: {rpo: 24h, rto: 15m}
strategy: hot
schedule: "0 2 * * *"
datasets:
  - {name: birds, repo: "conn:birds_repo", targets: [data/birds], expectations: birds.json}
registry: {store: "conn:mlflow_store", artifacts: "conn:mlflow_artifacts", webhook: "env:PENGUIN_WEBHOOK"}
environment: {lock: model-environment.lock, python: "3.11"}
configuration: {files: ["conf/*.yaml"], env: [PENGUIN_LIMIT], secrets: ["conn:warehouse", "env:PENGUIN_TOKEN"]}
smoke: [{model: "models:/penguin-mass@champion"}]
canary: {every: 12h}
vault: primary
targets: {standby: {directory: "conn:standby"}}
"""
LEDGER = """
workload: ledger
owner: finance
objectives: {rpo: 1h, rto: 5m}
datasets:
  - {name: entries, repo: ledger, targets: [data/entries], expectations: entries.json}
  - {name: notes, repo: notes}
configuration: {files: ["conf/*.yaml"], secrets: ["env:PENGUIN_TOKEN"]}
vault: spare
approvers: [lead, recovery-lead]
"""
SEED_MODEL = """
import sys
import mlflow, numpy as np
from sklearn.linear_model import LinearRegression

store, artifacts = sys.argv[1:]
mlflow.set_tracking_uri(store)
mlflow.set_experiment(experiment_id=mlflow.create_experiment("penguins", artifacts + "/1"))
rows = np.array([[181.0, 39.1], [186.0, 39.5], [195.0, 40.3], [193.0, 36.7]])
model = LinearRegression().fit(rows, [3750.0, 3800.0, 3250.0, 3450.0])
with mlflow.start_run():
    mlflow.sklearn.log_model(model, name="model", registered_model_name="penguin-mass", input_example=rows[:2],
                             pip_requirements=["scikit-learn"])
mlflow.MlflowClient().set_registered_model_alias("penguin-mass", "champion", "1")
"""


@dataclass(frozen=True)
class AirflowSite:
    """
    The platform's folder, and everything that has an address or a secret in it.

    ``penguins`` is a whole workload. ``ledger`` has only data and configuration, two datasets of which one has no expectations,
    and a vault of its own: it is quick, and there to be damaged.
    """

    folder: Path
    passphrases: Mapping[str, str] = field(
        default_factory=lambda: {name: secrets.token_urlsafe(20) for name in ("primary", "spare")}, repr=False
    )
    token: str = field(default_factory=lambda: secrets.token_urlsafe(20), repr=False)
    webhook: str = field(default_factory=lambda: secrets.token_urlsafe(20), repr=False)
    database_password: str = field(default_factory=lambda: "p/" + secrets.token_urlsafe(20), repr=False)

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def catalog(self) -> Path:
        return self.folder / "include" / "catalog"

    @cached_property
    def connections(self) -> dict[str, dict[str, object]]:
        """Airflow connections by name, in several of the forms that are understood."""
        return {
            "birds_repo": {"conn_type": "fs", "extra": {"path": str(self.folder / "birds")}},
            "mlflow_store": {"conn_type": "sqlite", "host": str(self.folder / "mlflow.db")},
            "mlflow_artifacts": {"conn_type": "generic", "password": str(self.folder / "artifacts")},
            "primary_vault": {"conn_type": "generic", "extra": {"url": (self.folder / "vault-primary").as_uri()}},
            "spare_vault": {"conn_type": "generic", "password": (self.folder / "vault-spare").as_uri()},
            "primary_passphrase": {"conn_type": "generic", "password": self.passphrases["primary"]},
            "warehouse": {
                "conn_type": "postgres",
                "host": "warehouse.example",
                "login": "reader",
                "password": self.database_password,
                "schema": "birds",
            },
            "standby": {"conn_type": "fs", "extra": {"path": str(self.folder / "standby")}},
        }

    @cached_property
    def environment(self) -> dict[str, str]:
        """What an Airflow process finds in its environment."""
        return {
            "MUSTER_CATALOG": str(self.catalog),
            "MUSTER_STATE": str(self.state),
            "SPARE_PASSPHRASE": self.passphrases["spare"],
            "PENGUIN_TOKEN": self.token,
            "PENGUIN_WEBHOOK": self.webhook,
            "PENGUIN_LIMIT": "4200",
            **{f"AIRFLOW_CONN_{name.upper()}": json.dumps(value) for name, value in self.connections.items()},
        }

    @property
    def secret_values(self) -> tuple[str, ...]:
        """What must be nowhere outside of the vaults and this process."""
        return (*self.passphrases.values(), self.token, self.webhook, self.database_password)

    def platform(self) -> Platform:
        """The site without Airflow, for looking at what its tasks did."""
        places = {
            "conn:primary_vault": (self.folder / "vault-primary").as_uri(),
            "conn:spare_vault": (self.folder / "vault-spare").as_uri(),
            "conn:primary_passphrase": self.passphrases["primary"],
            "env:SPARE_PASSPHRASE": self.passphrases["spare"],
        }
        actor = Actor("tester", "localhost", "pytest")
        return Platform(load_catalog(self.catalog), lambda r: places.get(r, r), state=self.state, actor=actor)


def make_site(folder: Path) -> AirflowSite:
    """Build the whole platform in a new folder, and its two vaults."""
    site = AirflowSite(folder)
    _write_catalog(site)
    birds = {f"{island}.csv": _rows(n) for n, island in enumerate(("biscoe", "dream", "torgersen"))}
    make_dataset(folder / "birds", "data/birds", birds)
    make_dataset(folder / "ledger", "data/entries", {"2026-01.csv": _rows(7)})
    make_dataset(folder / "notes", "text", {"readme.txt": "kept by hand\n", "empty.txt": ""})
    for name in ("limits.yaml", "labels.yaml"):
        (folder / "conf").mkdir(exist_ok=True)
        (folder / "conf" / name).write_text(f"# {name}\nlimit: 4200\n")
    (folder / "model-environment.lock").write_bytes(LOCK.read_bytes())
    store, artifacts = f"sqlite:///{folder / 'mlflow.db'}", folder / "artifacts"
    artifacts.mkdir()
    run([sys.executable, "-c", SEED_MODEL, store, str(artifacts)], folder)
    platform = site.platform()
    for name in ("primary", "spare"):
        platform.create_vault(name, cost=CHEAP)
    return site


def make_dataset(repository: Path, data: str, files: Mapping[str, str]) -> None:
    """A Git repository with one tracked folder and a local DVC remote, pushed and clean."""
    (repository / data).mkdir(parents=True)
    for name, content in files.items():
        (repository / data / name).write_text(content)
    remote = repository.with_name(f"{repository.name}-remote")
    remote.mkdir()
    run(["git", "init", "--quiet", "--initial-branch", "main"], repository)
    dvc("init", "--quiet", at=repository)
    dvc("remote", "add", "--quiet", "--default", "store", str(remote), at=repository)
    commit_dataset(repository, data, "first")


def commit_dataset(repository: Path, data: str, message: str) -> None:
    """Make what lies in the workspace the dataset's newest version."""
    dvc("add", "--quiet", data, at=repository)
    run(["git", "add", "."], repository)
    run(["git", "commit", "--quiet", "--message", message], repository)
    dvc("push", "--quiet", at=repository)


def dvc(*arguments: str, at: Path) -> None:
    """Run DVC's own command line."""
    run([sys.executable, "-m", "dvc", *arguments], at)


def run(command: list[str], folder: Path) -> None:
    """Run a program to its end, as nobody in particular; its output is shown if it fails."""
    environment = {
        **os.environ,
        **{f"GIT_{who}_{what}": "tester@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "DVC_NO_ANALYTICS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command[:4])}: {done.stdout}{done.stderr}"


def _write_catalog(site: AirflowSite) -> None:
    workloads, expectations = site.catalog / "workloads", site.catalog.parent / "expectations"
    workloads.mkdir(parents=True)
    (site.catalog / "vaults.yaml").write_text(VAULTS)
    for name, text in {"penguins": PENGUINS, "ledger": LEDGER}.items():
        (workloads / f"{name}.yaml").write_text(text)
    for workload, dataset in (("penguins", "birds"), ("ledger", "entries")):
        (expectations / workload).mkdir(parents=True)
        (expectations / workload / f"{dataset}.json").write_text(json.dumps(_suite(f"{workload}.{dataset}")))


def _suite(name: str) -> dict[str, object]:
    return {
        "name": name,
        "meta": {"muster": {"files": "*.csv"}},
        "expectations": [
            {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "mass"}},
            {"type": "expect_column_values_to_be_between", "kwargs": {"column": "mass", "min_value": 0}},
        ],
    }


def _rows(seed: int) -> str:
    return "id,mass\n" + "".join(f"{n},{3000 + seed * 100 + n * 7}\n" for n in range(40))
