"""Recovery points as JSON and the reports on them as pages, read-only, for whoever may see the workload's snapshots."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import FastAPI, Response
    from starlette.types import Receive, Scope, Send

    from muster.bootstrap import Platform
    from muster.catalog import Workload
    from muster.domain.recovery_point import PointStatus

REPORT = "report.html"
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}
"""What a report says comes from a platform that has been attacked."""


async def points_app(scope: Scope, receive: Receive, send: Send) -> None:
    """The application, built at the first request: every Airflow process loads the plugin, and only one of them serves it."""
    await build_app()(scope, receive, send)


@cache
def build_app() -> FastAPI:
    """
    ``GET /points`` for all workloads that the user may see, ``GET /points/WORKLOAD/POINT/reports/TIME`` for the report of one recovery,
    and below that ``/NAME`` for a page beside it.
    Nothing here answers anybody who is not signed in.

    A mounted application does not inherit Airflow's authentication, and its documentation pages would be public.
    """
    from airflow.api_fastapi.core_api.security import get_user
    from fastapi import Depends, FastAPI

    app = FastAPI(title="Muster", docs_url=None, redoc_url=None, openapi_url=None, dependencies=[Depends(get_user)])

    @app.get("/points")
    def points(user: Any = Depends(get_user)) -> dict[str, Any]:  # noqa: B008 - FastAPI's way
        return {"workloads": visible_points(user)}

    @app.get("/points/{workload}/{point}/reports/{at}", response_model=None)
    def report(workload: str, point: str, at: str, user: Any = Depends(get_user)) -> Any:  # noqa: B008
        return _answered(workload, point, at, REPORT, user)

    @app.get("/points/{workload}/{point}/reports/{at}/{page}", response_model=None)
    def beside(workload: str, point: str, at: str, page: str, user: Any = Depends(get_user)) -> Any:  # noqa: B008
        return _answered(workload, point, at, page, user)

    return app


def _answered(workload: str, point: str, at: str, name: str, user: Any) -> Response:
    """A page that can load nothing and run nothing, or an error in words."""
    from fastapi import Response

    from muster.errors import MusterError, NotFound

    try:
        page = kept_report(workload, point, at, name, user)
    except MusterError as error:
        status = 404 if isinstance(error, NotFound) else 503
        return Response(f"{error.message}\n{error.hint}\n", status, media_type="text/plain")
    return Response(page, media_type="text/html", headers=PAGE_HEADERS)


def kept_report(workload: str, point: str, at: str, name: str, user: Any) -> bytes:
    """
    A page of the recovery from a point that ended at a time, out of the vault; what it calls by name beside it is linked.

    :param name: ``report.html``, or that of a fidelity report
    :raises NotFound: if there is none, or the user may not see the workload
    """
    from muster.domain.timing import stamp_of
    from muster.errors import NotFound
    from muster_airflow.hooks.recovery import RecoveryHook

    platform = RecoveryHook().platform
    missing = NotFound(f"there is no report of {workload} {point} {at}", "see the marks of the point: `muster points`")
    if workload not in platform.catalog.workloads or not _may_see(workload, user):
        raise missing
    vault = platform.vault_of(platform.catalog.workload(workload))
    for mark in vault.point(point, workload).marks:
        if mark.report and stamp_of(mark.at) == at:
            tree = vault.tree(mark.report)
            pages = {entry.path: entry for entry in tree.entries() if entry.path.endswith(".html")}
            if name not in pages:
                raise missing
            return _linked(tree.read(pages[name]), at, pages.keys() - {name})
    raise missing


def _linked(page: bytes, at: str, others: Iterable[str]) -> bytes:
    """A page whose address ends with its time, in which the names of others lead there."""
    for name in others:
        page = page.replace(f">{name} ".encode(), f'><a href="{at}/{name}">{name}</a> '.encode())
    return page


def visible_points(user: Any) -> list[dict[str, Any]]:
    """For each workload whose snapshot DAG the user may read: its points, newest first, or why they cannot be read."""
    from muster_airflow.hooks.recovery import RecoveryHook

    platform = RecoveryHook().platform
    return [
        _listed(platform, workload) for name, workload in platform.catalog.workloads.items() if _may_see(name, user)
    ]


def _may_see(workload: str, user: Any) -> bool:
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.models.resource_details import DagDetails

    details = DagDetails(id=f"snapshot__{workload}")
    return bool(get_auth_manager().is_authorized_dag(method="GET", details=details, user=user))


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
