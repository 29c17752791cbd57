"""Fixtures that several test modules share."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite(
    "contract.blob_store", "faults.comparing", "faults.kills", "faults.killed_expiries", "faults.killed_snapshots"
)

pytest_plugins = [
    "cloud_servers",
    "dvc_repositories",
    "environments",
    "kms",
    "live_registries",
    "mysql",
    "postgres",
    "registry_seed",
    "rest_registries",
    "servers",
]
