"""
Where catalog, connections, adapters and operations meet: the shared half of the two composition roots.

Airflow's hook and the command line differ only in how they resolve ``conn:`` names and in who acts; both build a `Platform`.
"""

from muster.bootstrap.platform import Platform

__all__ = ["Platform"]
