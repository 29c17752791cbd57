"""A platform that protects an MLflow registry alone, over a vault in a folder."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from muster.bootstrap import Platform
from muster.catalog import load_catalog
from muster.domain.recovery_point import PointStatus
from muster.domain.recovery_report import RecoveryReport
from muster.domain.restore_request import RestoreRequest
from muster.errors import NotFound
from muster.operations.conclude import Incident
from muster.ports import Clock
from vaults import ACTOR, CHEAP

WORKLOAD = """\
workload: models
owner: ops
objectives: {{rpo: 1d, rto: 15m}}
registry: {{store: "{store}", artifacts: "{artifacts}"{more}}}
vault: primary
targets:
  bench:
    registry: {{store: "sqlite:///{bench}/mlflow.db", artifacts: "{bench}/artifacts", auth_store: "sqlite:///{bench}/who.db"}}
    configuration: "{bench}/configuration"
"""


def platform_of(
    folder: Path, store: str, artifacts: Path, more: str = "", clock: Clock | None = None, rest: str = ""
) -> Platform:
    """
    A platform with an empty vault. `more` goes into the registry of the catalog, `rest` beside it; `bench` is a place to restore to.
    """
    catalog = folder / "include" / "catalog"
    (catalog / "workloads").mkdir(parents=True)
    (catalog / "vaults.yaml").write_text("vaults:\n  primary: {url: conn:vault, passphrase: conn:passphrase}\n")
    text = WORKLOAD.format(store=store, artifacts=artifacts, bench=folder / "bench", more=more)
    (catalog / "workloads" / "models.yaml").write_text(text + rest)
    places = {"conn:vault": (folder / "vault").as_uri(), "conn:passphrase": "correct horse battery staple"}

    def resolve(reference: str) -> str:
        if reference.startswith("env:") and reference[4:] not in os.environ:
            raise NotFound(f"{reference[4:]} is not set", "set it")
        return os.environ[reference[4:]] if reference.startswith("env:") else places.get(reference, reference)

    platform = Platform(load_catalog(catalog), resolve, state=folder / "state", actor=ACTOR, clock=clock)
    platform.create_vault("primary", cost=CHEAP)
    return platform


def restored(platform: Platform, status: PointStatus, to: str, lost_at: datetime | None = None) -> RecoveryReport:
    """Restore a point to a place of the catalog. `lost_at` is now, unless it is given."""
    workload, started = platform.catalog.workload("models"), lost_at or platform.clock.now()
    target = platform.target(workload, status, to)
    request = RestoreRequest("restore", started, override="it was just sealed")
    return platform.restore(platform.vault("primary"), status, target, Incident("restore", started, started), request)
