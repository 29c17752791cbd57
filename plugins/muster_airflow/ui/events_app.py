"""Where MLflow's webhooks arrive. Whoever calls is no user of Airflow: the signature alone lets an event in."""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING, Any

from muster.errors import MusterError, NotFound, Refused, UsageError

if TYPE_CHECKING:
    from fastapi import FastAPI, Request
    from starlette.types import Receive, Scope, Send

logger = logging.getLogger(__name__)
_STATUS: tuple[tuple[type[MusterError], int], ...] = ((NotFound, 404), (Refused, 401), (UsageError, 400))
_UNAVAILABLE, _TOO_LARGE = 503, 413


async def events_app(scope: Scope, receive: Receive, send: Send) -> None:
    """The application, built at the first request: every Airflow process loads the plugin, and only one of them serves it."""
    await build_app()(scope, receive, send)


@cache
def build_app() -> FastAPI:
    """``POST /mlflow/<workload>``: 202 if the event counts, and nothing about the workload otherwise."""
    import fastapi
    from starlette.concurrency import run_in_threadpool

    from muster_airflow.registry_events import RegistryEvents, publish_change

    app = fastapi.FastAPI(title="Muster events", docs_url=None, redoc_url=None, openapi_url=None)
    events = RegistryEvents(publish_change)

    async def receive(workload: str, request: Request) -> dict[str, Any]:
        body = await _body(request)
        try:
            event = await run_in_threadpool(events.take, workload, dict(request.headers), body)
        except MusterError as error:
            logger.warning("a webhook for %s was turned away: %s", workload, error.message)
            status = next((code for kind, code in _STATUS if isinstance(error, kind)), _UNAVAILABLE)
            raise fastapi.HTTPException(status, error.message) from None
        return {"delivery": event.delivery}

    receive.__annotations__["request"] = fastapi.Request  # FastAPI reads it, and only now is it imported
    app.post("/mlflow/{workload}", status_code=202)(receive)
    return app


async def _body(request: Request) -> bytes:
    from fastapi import HTTPException

    from muster.adapters.mlflow_webhooks import LONGEST_BODY

    body = b""
    async for part in request.stream():
        body += part
        if len(body) > LONGEST_BODY:
            raise HTTPException(_TOO_LARGE, "the webhook is too large to be one of MLflow")
    return body
