"""Recovery points, read-only, as JSON, for whoever may see the workload's snapshots."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import Receive, Scope, Send

    from muster.bootstrap import Platform
    from muster.catalog import Workload
    from muster.domain.recovery_point import PointStatus


async def points_app(scope: Scope, receive: Receive, send: Send) -> None:
    """The application, built at the first request: every Airflow process loads the plugin, and only one of them serves it."""
    await build_app()(scope, receive, send)


@cache
def build_app() -> FastAPI:
    """
    ``GET /points`` for all workloads that the user may see. Nothing here answers anybody who is not signed in.

    A mounted application does not inherit Airflow's authentication, and its documentation pages would be public.
    """
    from airflow.api_fastapi.core_api.security import get_user
    from fastapi import Depends, FastAPI

    app = FastAPI(title="Muster", docs_url=None, redoc_url=None, openapi_url=None, dependencies=[Depends(get_user)])

    @app.get("/points")
    def points(user: Any = Depends(get_user)) -> dict[str, Any]:  # noqa: B008 - FastAPI's way
        return {"workloads": visible_points(user)}

    return app


def visible_points(user: Any) -> list[dict[str, Any]]:
    """For each workload whose snapshot DAG the user may read: its points, newest first, or why they cannot be read."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.models.resource_details import DagDetails

    from muster_airflow.hooks.recovery import RecoveryHook

    platform, manager = RecoveryHook().platform, get_auth_manager()
    return [
        _listed(platform, workload)
        for name, workload in platform.catalog.workloads.items()
        if manager.is_authorized_dag(method="GET", details=DagDetails(id=f"snapshot__{name}"), user=user)
    ]


def _listed(platform: Platform, workload: Workload) -> dict[str, Any]:
    from muster.errors import MusterError

    try:
        statuses = platform.vault_of(workload).points(workload.workload)
    except MusterError as error:
        return {"workload": workload.workload, "points": [], "error": {"message": error.message, "hint": error.hint}}
    return {"workload": workload.workload, "points": [_row(status) for status in reversed(statuses)], "error": None}


def _row(status: PointStatus) -> dict[str, Any]:
    point = status.point
    return {
        "point": point.point,
        "taken_at": point.taken_at.isoformat(),
        "sealed_at": point.sealed_at.isoformat(),
        "suspect": status.suspect,
        "components": [component.label for component in point.components],
        "size": sum(component.tree.size for component in point.components),
        "marks": [{"kind": mark.kind, "at": mark.at.isoformat()} for mark in status.marks],
    }
