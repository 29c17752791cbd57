"""The composition root of the tasks: catalog, connections and actor of a run, wired into one `Platform`."""

from __future__ import annotations

import os
import socket
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from airflow.sdk import BaseHook, Context

from muster_airflow.hooks.connections import resolve
from muster_airflow.workloads import catalog_folder, readable_catalog

if TYPE_CHECKING:
    from muster.bootstrap import Platform
    from muster.vault.vault import Actor


def state_folder() -> Path:
    """``MUSTER_STATE``, or ``muster`` below Airflow's home: our own folder, of things that can always be made again."""
    home = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()
    return Path(os.environ.get("MUSTER_STATE") or home / "muster").absolute()


class RecoveryHook(BaseHook):
    """
    The one way from Airflow to the core.

    :param context: of the running task; None where there is no run, as in the API server
    """

    def __init__(self, context: Context | None = None) -> None:
        super().__init__()
        self.context = context

    @cached_property
    def platform(self) -> Platform:
        """
        Everything that the catalog names, wired up.

        :raises CatalogError: if the catalog's vaults cannot be read; a broken workload does not hinder the others
        """
        from muster.bootstrap import Platform

        state = state_folder()
        state.mkdir(parents=True, exist_ok=True)
        catalog, _ = readable_catalog(catalog_folder())
        return Platform(catalog, resolve, state=state, actor=self.actor)

    @property
    def actor(self) -> Actor:
        """Who acts: whoever triggered the run, or the scheduler; through which run, on which host."""
        from muster.vault.vault import Actor

        host = socket.gethostname()
        if self.context is None:
            return Actor("airflow", host, "airflow")
        run = self.context["dag_run"]
        name = getattr(run, "triggering_user_name", None) or "airflow"
        return Actor(name, host, f"airflow {run.dag_id} {run.run_id}")
