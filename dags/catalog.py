"""
Shows what is wrong with the catalog, as an import error of this file: file, line, field and the mend.

The DAGs of all other workloads are not touched by a mistake in one. This file makes no DAG of its own.
"""

import airflow.sdk  # noqa: F401 - a file is looked at only if it speaks of dag and airflow

from muster_airflow.workloads import check_catalog

check_catalog()
