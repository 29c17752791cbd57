"""
The catalog as DAG files and tasks see it: what is right in it is used, whatever is wrong with the rest.

A backup must not stop for all because one file was mistyped. The mistake itself is shown as the import error of ``dags/catalog.py``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from muster.catalog import Catalog, Workload, read_catalog
from muster.errors import CatalogError
from muster_airflow.alerts import check_alerts


def catalog_folder() -> Path:
    """``MUSTER_CATALOG``, or ``include/catalog`` of the project that these plugins belong to."""
    default = Path(__file__).resolve().parents[2] / "include" / "catalog"
    return Path(os.environ.get("MUSTER_CATALOG") or default)


def readable_catalog(directory: Path) -> tuple[Catalog, CatalogError | None]:
    """
    The catalog without the workloads that are wrong, and the error that tells of those.

    :raises CatalogError: if the vaults cannot be read, without which nothing can be protected
    """
    catalog, error = read_catalog(directory)
    if error is not None and not catalog.vaults:
        raise error
    return catalog, error


def protected_workloads() -> Sequence[Workload]:
    """The workloads that DAGs are made for. Reads a few small files; opens no connection."""
    catalog, _ = readable_catalog(catalog_folder())
    return list(catalog.workloads.values())


def check_catalog() -> None:
    """
    Say what is wrong with the catalog.

    :raises CatalogError: with all that is wrong: file, line, field, mend
    """
    catalog, error = readable_catalog(catalog_folder())
    if error is not None:
        raise error
    check_alerts(catalog.alerts)


def vault_names() -> Sequence[str]:
    """The vaults of the catalog, by name."""
    catalog, _ = readable_catalog(catalog_folder())
    return sorted(catalog.vaults)
