"""A small protected platform for drills: a real vault with a copy, a real dataset with expectations, points of two nights."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_site import LOCK, SEED_MODEL, commit_dataset, make_dataset, run
from muster.bootstrap import Platform
from muster.catalog import load_catalog
from muster.domain.recovery_report import RecoveryReport
from muster.drills.circumstances import reach_of
from muster.drills.rehearsal import Wanted, rehearse
from muster.vault.vault import Actor
from vaults import CHEAP

PASSPHRASE = "correct horse battery staple"
VAULTS = """
vaults:
  primary: {url: "conn:vault", passphrase: "conn:passphrase"}
  copy: {url: "conn:copy", passphrase: "conn:passphrase"}
"""
LEDGER = """
workload: ledger
owner: finance
objectives: {rpo: 1d, rto: 15m}
datasets: [{name: entries, repo: entries, targets: [data], expectations: entries.json}]
configuration: {files: ["conf/*.yaml"], secrets: ["env:TOKEN"]}
vault: primary
replicas: [copy]
"""
MODELS = """
workload: models
owner: biology
objectives: {rpo: 1d, rto: 15m}
registry: {store: "conn:store", artifacts: "conn:artifacts"}
environment: {lock: model-environment.lock, python: "3.11"}
smoke: [{model: "models:/penguin-mass@champion"}]
vault: primary
"""
SUITE = {
    "name": "ledger.entries",
    "meta": {"muster": {"files": "*.csv"}},
    "expectations": [
        {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "mass"}},
        {"type": "expect_column_values_to_be_between", "kwargs": {"column": "mass", "min_value": 0}},
    ],
}


@dataclass(frozen=True)
class DrillSite:
    """A folder with everything: sources, catalog, the vault and its copy, the state folder."""

    folder: Path
    workload: str = "ledger"
    places: dict[str, str] = field(default_factory=dict)

    @property
    def vault_folder(self) -> Path:
        return self.folder / "vault"

    @property
    def copy_folder(self) -> Path:
        return self.folder / "copy"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def sandboxes(self) -> list[Path]:
        return sorted((self.state / "drills").glob("*"))

    def resolve(self, reference: str) -> str:
        known = {"conn:vault": self.vault_folder.as_uri(), "conn:copy": self.copy_folder.as_uri()}
        known |= {"conn:passphrase": PASSPHRASE, "env:TOKEN": "hunter2"} | self.places
        return known.get(reference, reference)

    def platform(self) -> Platform:
        """Opened anew, as every command and every task does."""
        catalog = load_catalog(self.folder / "include" / "catalog")
        return Platform(catalog, self.resolve, state=self.state, actor=Actor("tester", "localhost", "pytest"))

    def points(self) -> list[str]:
        return [status.point.point for status in self.platform().vault("primary").points(self.workload)]

    def snapshot(self) -> str:
        platform = self.platform()
        return platform.snapshot(platform.catalog.workload(self.workload)).point.point

    def replicate(self) -> None:
        """Let the copy be what the vault is now, as replication of a bucket does."""
        shutil.rmtree(self.copy_folder, ignore_errors=True)
        shutil.copytree(self.vault_folder, self.copy_folder)

    def drill(self, fault: str = "none", seed: int | None = None, point: str = "latest") -> RecoveryReport:
        """A drill to its end."""
        platform = self.platform()
        vault = platform.vault("primary")
        status = vault.point(point, self.workload)
        return rehearse(platform, vault, status, Wanted(fault, seed), reach_of(platform, "primary"))

    @property
    def options(self) -> list[str]:
        """What stands before a command of the command line."""
        places = {"catalog": "include/catalog", "secrets": "secrets.yaml", "state": "state"}
        return [word for name, path in places.items() for word in (f"--{name}", str(self.folder / path))]

    def write_secrets(self) -> None:
        """The file by which the command line resolves ``conn:`` names."""
        file = self.folder / "secrets.yaml"
        file.write_text(f"vault: {self.vault_folder}\ncopy: {self.copy_folder}\npassphrase: {PASSPHRASE}\n")
        file.chmod(0o600)

    def reported(self) -> dict[str, Any]:
        """The newest report below the state folder."""
        newest = max((self.state / "reports").rglob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        return json.loads(newest.read_text())


def digests(*folders: Path) -> dict[str, str]:
    """Every file below folders, by its bytes."""
    files = [p for folder in folders for p in sorted(folder.rglob("*")) if p.is_file() and not p.is_symlink()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def make_drill_site(folder: Path) -> DrillSite:
    """The ledger with two points, and a copy of its vault."""
    site = DrillSite(folder)
    write_catalog(folder, {"ledger": LEDGER}, {"ledger": {"entries": SUITE}})
    (folder / "conf").mkdir()
    (folder / "conf" / "limits.yaml").write_text("limit: 4200\n")
    make_dataset(folder / "entries", "data", {f"2026-0{month}.csv": rows(month) for month in range(1, 4)})
    site.platform().create_vault("primary", cost=CHEAP)
    site.snapshot()
    (folder / "entries" / "data" / "2026-04.csv").write_text(rows(4))
    commit_dataset(folder / "entries", "data", "second")
    site.snapshot()
    site.replicate()
    return site


def make_model_site(folder: Path, wheels: Path) -> DrillSite:
    """A registry with a model that answers, its environment, and a point; no copy of the vault."""
    store = {"conn:store": f"sqlite:///{folder}/mlflow.db", "conn:artifacts": f"{folder}/artifacts"}
    site = DrillSite(folder, "models", store)
    write_catalog(folder, {"models": MODELS}, {})
    (folder / "model-environment.lock").write_bytes(LOCK.read_bytes())
    (folder / "artifacts").mkdir()
    run([sys.executable, "-c", SEED_MODEL, *store.values()], folder)
    shutil.copytree(wheels, site.state / "wheels", copy_function=os.link)
    site.platform().create_vault("primary", cost=CHEAP)
    site.snapshot()
    return site


def write_catalog(folder: Path, workloads: dict[str, str], suites: dict[str, dict[str, Any]]) -> None:
    """A catalog of two vaults."""
    catalog = folder / "include" / "catalog"
    (catalog / "workloads").mkdir(parents=True)
    (catalog / "vaults.yaml").write_text(VAULTS)
    for name, text in workloads.items():
        write_workload(folder, name, text)
    for name, expectations in suites.items():
        (catalog.parent / "expectations" / name).mkdir(parents=True)
        for dataset, suite in expectations.items():
            (catalog.parent / "expectations" / name / f"{dataset}.json").write_text(json.dumps(suite))


def write_workload(folder: Path, name: str, text: str) -> None:
    """One more workload of the catalog."""
    (folder / "include" / "catalog" / "workloads" / f"{name}.yaml").write_text(text)


def rows(seed: int) -> str:
    return "id,mass\n" + "".join(f"{n},{3000 + seed * 100 + n * 7}\n" for n in range(400))
