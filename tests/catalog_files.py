"""Catalogs on disk, right and wrong, and what is told of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from muster.catalog import load_catalog
from muster.errors import CatalogError

VAULTS = """\
vaults:
  primary: {url: conn:vault, passphrase: conn:passphrase, jurisdiction: EU}
  frankfurt: {url: "s3://bucket/muster?endpoint=http://127.0.0.1:9000", passphrase: env:PASSPHRASE, jurisdiction: EU}
  ohio: {url: conn:ohio, passphrase: conn:passphrase, jurisdiction: US}
  somewhere: {url: conn:somewhere, passphrase: conn:passphrase}
"""
FULL = """\
workload: flight_delays
owner: data-platform
objectives: {rpo: 24h, rto: 15m}
strategy: warm
schedule: "0 2 * * *"
datasets:
  - {name: flights, repo: conn:flights_repo, targets: [data/flights], expectations: flights.json}
registry: {store: conn:mlflow_store, artifacts: conn:mlflow_artifacts, models: ["flight-*"], auth_store: conn:mlflow_auth}
environment: {lock: requirements.lock, python: "3.11"}
configuration: {files: ["conf/*.yaml"], env: [MODEL_THRESHOLD], secrets: [conn:mlflow_store, env:KEK]}
smoke: [{model: "models:/flight-delay@champion", rtol: 1e-9}]
residency: {allow: [EU], classification: personal}
vault: primary
replicas: [frankfurt]
retention: {daily: 7, weekly: 5, monthly: 12, lock: 30d}
approvers: [recovery-lead]
targets:
  standby: {directory: /srv/standby}
  bench:
    datasets: {flights: /srv/bench/flights}
    registry: {store: conn:bench_store, artifacts: /srv/bench/artifacts}
"""
SMALL = """\
workload: small
owner: data-platform
objectives: {rpo: 1d, rto: 1h}
datasets:
  - name: flights
    repo: data
vault: primary
"""


def write(project: Path, *workloads: str, vaults: str = VAULTS) -> Path:
    """A project with a catalog; the first workload is in a.yaml, the next in b.yaml."""
    catalog = project / "include" / "catalog"
    (catalog / "workloads").mkdir(parents=True, exist_ok=True)
    (catalog / "vaults.yaml").write_text(vaults)
    suites = project / "include" / "expectations" / "flight_delays"
    suites.mkdir(parents=True, exist_ok=True)
    (suites / "flights.json").write_text("{}")
    for letter, text in zip("abc", workloads, strict=False):
        (catalog / "workloads" / f"{letter}.yaml").write_text(text)
    return catalog


def problems(project: Path, *workloads: str, vaults: str = VAULTS) -> list[str]:
    """The lines of the error, with the folder left out."""
    catalog = write(project, *workloads, vaults=vaults)
    with pytest.raises(CatalogError) as caught:
        load_catalog(catalog)
    assert caught.value.exit_code == 2
    assert "muster catalog check" in caught.value.hint
    first, *lines = caught.value.message.split("\n")
    assert first == f"the catalog {catalog} has {len(lines)} problem{'s' if len(lines) != 1 else ''}:"
    return [line.removeprefix(f"{catalog}/") for line in lines]
