"""
The catalog: what is protected, where it is kept, and what was promised. Read and checked without Airflow and without a network.

``load_catalog`` reads ``vaults.yaml``, ``workloads/*.yaml`` and ``alerts.yaml``; a catalog that contradicts itself is never
returned.
"""

from muster.catalog.load import load_catalog, project_of, read_catalog
from muster.catalog.model import (
    AlertConfig,
    Anomaly,
    Canary,
    Catalog,
    Configuration,
    CutOver,
    Dataset,
    Environment,
    Objectives,
    Registry,
    Residency,
    Retention,
    SmokeTest,
    TargetConfig,
    TargetRegistry,
    VaultConfig,
    Workload,
)

__all__ = [
    "AlertConfig",
    "Anomaly",
    "Canary",
    "Catalog",
    "Configuration",
    "CutOver",
    "Dataset",
    "Environment",
    "Objectives",
    "Registry",
    "Residency",
    "Retention",
    "SmokeTest",
    "TargetConfig",
    "TargetRegistry",
    "VaultConfig",
    "Workload",
    "load_catalog",
    "project_of",
    "read_catalog",
]
