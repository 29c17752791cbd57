"""Tell people of a task that failed, by the notifiers that the catalog names: those of Airflow's providers, or anybody's."""

from __future__ import annotations

import importlib.util
import logging
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from muster.errors import CatalogError, MusterError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow.sdk.definitions.context import Context

    from muster.catalog import AlertConfig


def alert(context: Context) -> None:
    """
    Send what `told` says by every notifier; Airflow calls this when a task has failed for good.

    A notifier that fails is told in the log of the task, and keeps none of the others from being asked.
    """
    from muster_airflow.workloads import catalog_folder, readable_catalog

    catalog, error = readable_catalog(catalog_folder())
    if error is not None:
        logging.getLogger(__name__).warning("the catalog has mistakes, so an alert may be missing: %s", error.message)
    for config in catalog.alerts:
        try:
            notifier = resolve_name(config.notifier)(**config.arguments)
            notifier({**context, "alert": told(context)})
        except Exception:
            logging.getLogger(__name__).exception("%s could not be asked to tell of a failed task", config.notifier)


def told(context: Context) -> dict[str, str]:
    """
    What templates of a notifier find under ``alert``: ``subject``, ``reason``, ``hint``, ``log`` (an address), and all as ``text``.

    Errors of others are not told: what they say may hold a secret, and stands in the log, where Airflow masks it. It masks what is
    told, too: an error of ours may quote what a server said.
    """
    from airflow.sdk._shared.secrets_masker import redact

    task, error = context["ti"], context.get("exception")
    name = f"{task.dag_id} {task.task_id}"
    reason, hint = "it was killed or ran out of time, or its error is not one of ours", "see the log of the task"
    if isinstance(error, MusterError):
        reason, hint = error.message, error.hint
    found = {"subject": f"{name} failed", "reason": reason, "hint": hint, "log": str(getattr(task, "log_url", ""))}
    run = f"run {task.run_id}"
    text = "\n".join(filter(None, (f"{name} failed: {reason}", hint, run, found["log"])))
    return {key: str(redact(value)) for key, value in {**found, "text": text}.items()}


def check_alerts(alerts: Iterable[AlertConfig]) -> None:
    """
    Whether the modules of all notifiers are installed; only the packages above them are imported.

    :raises CatalogError: naming the first that is not
    """
    for config in alerts:
        if not _installed(config.notifier.rpartition(".")[0]):
            raise CatalogError(
                f"alerts.yaml: there is no module for {config.notifier}, so nobody would be told of a failure",
                "install its provider for Airflow, or mend the name",
            )


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
