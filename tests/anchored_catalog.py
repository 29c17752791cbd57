"""A catalog of a vault that has a copy, and whose audit trail is anchored in another vault."""

from __future__ import annotations

from pathlib import Path

VAULTS = """
vaults:
  primary: {url: "conn:primary", passphrase: "conn:words", anchored_in: [witness]}
  frankfurt: {url: "conn:frankfurt", passphrase: "conn:words"}
  witness: {url: "conn:witness", passphrase: "conn:words"}
"""
WORKLOAD = """
workload: flights
owner: ops
objectives: {rpo: 1d, rto: 15m}
datasets: [{name: d0, repo: numbers, targets: [data]}]
vault: primary
replicas: [frankfurt]
"""


def write_anchored_catalog(folder: Path) -> Path:
    """Write it into a new folder below this one; where the vaults lie, and the words that open them, is up to who resolves ``conn:``."""
    catalog = folder / "catalog"
    (catalog / "workloads").mkdir(parents=True)
    (catalog / "vaults.yaml").write_text(VAULTS)
    (catalog / "workloads" / "flights.yaml").write_text(WORKLOAD)
    return catalog
