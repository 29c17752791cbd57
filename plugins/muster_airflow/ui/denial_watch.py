"""Sees what the API server answers to attempts at changing Muster's DAGs, and takes note of what it denies."""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import unquote

from muster_airflow.access import REFUSED, is_ours

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from muster_airflow.denials import Denials

logger = logging.getLogger(__name__)
NOBODY = "anonymous"
"""Who has not shown who he is; a token that is not valid shows nothing."""
_LONGEST = 300
_DENIED = (401, 403)
_CHANGES = ("POST", "PUT", "PATCH", "DELETE")
_DAG_ROUTE = re.compile(
    r"/api/v2/(?:dags/(?P<dag>[^/]+)(?:/dagRuns/(?P<run>[^/]+))?|dags$|backfills|assets/[^/]+/materialize$)"
)
_QUESTION = re.compile(r"^POST .*/list$")
"""What asks by POST, and changes nothing."""
_ATTEMPTS = (
    ("approve", "PATCH", re.compile(r".*/hitlDetails$")),
    ("trigger", "POST", re.compile(r".*/(dagRuns|backfills|materialize)$")),
    ("clear", "POST", re.compile(r".*/(clear|clearTaskInstances|clearDagRuns)$")),
    ("delete", "DELETE", re.compile(r".*")),
)


class DenialWatch:
    """
    ASGI middleware. Requests and answers go through as they are.

    :param denials: None for those of this process, which are written to the vaults of the catalog
    """

    def __init__(self, app: ASGIApp, denials: Denials | None = None) -> None:
        self._app, self._denials = app, denials or _of_this_process()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, and look at how it is answered."""
        route = _route(scope) if scope["type"] == "http" else None
        if route is None:
            return await self._app(scope, receive, send)
        status, refused = 0, set[str]()
        REFUSED.set(refused)

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        await self._app(scope, receive, watched)
        inside = [{"dag": dag} for dag in sorted(refused - {route.get("dag", "")})]
        if status in _DENIED or inside:
            for aimed_at in inside or [route]:
                await self._note(scope, aimed_at, status if status in _DENIED else 403)
        return None

    async def _note(self, scope: Scope, route: dict[str, str], status: int) -> None:
        from muster_airflow.denials import UNKNOWN_DAG, Denial

        try:
            method, path, now = scope["method"], scope["path"], datetime.now(UTC)
            denial = Denial(
                who=await _who(scope),
                attempt=next((name for name, verb, form in _ATTEMPTS if verb == method and form.match(path)), "change"),
                dag=route.get("dag", UNKNOWN_DAG),
                run=route.get("run", ""),
                method=method,
                path=path[:_LONGEST],
                status=status,
                host=str((scope.get("client") or ("unknown",))[0]),
                first=now,
                last=now,
            )
            self._denials.note(denial)
        except Exception:
            logger.exception("a denied attempt could not be noted")


def _route(scope: Scope) -> dict[str, str] | None:
    """DAG and run of a request that would change something of Muster's, or of DAGs that only its body names."""
    if scope["method"] not in _CHANGES or _QUESTION.search(f"{scope['method']} {scope['path']}"):
        return None
    found = _DAG_ROUTE.search(scope["path"])
    if found is None:
        return None
    named = {name: unquote(value)[:_LONGEST] for name, value in found.groupdict().items() if value}
    return named if named.get("dag", "~") == "~" or is_ours(named["dag"]) else None


async def _who(scope: Scope) -> str:
    """Who asks, by a token that is valid."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.base_auth_manager import COOKIE_NAME_JWT_TOKEN
    from starlette.requests import HTTPConnection

    request = HTTPConnection(scope)
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        token = request.cookies.get(COOKIE_NAME_JWT_TOKEN, "")
    if not token:
        return NOBODY
    try:
        user = await get_auth_manager().get_user_from_token(token)
    except Exception:  # noqa: BLE001 - expired, revoked, forged, of a user who is gone
        return NOBODY
    return str(user.get_name())


def _of_this_process() -> Denials:
    from muster_airflow.denials import Denials, known_dags, open_trails
    from muster_airflow.hooks.recovery import state_folder

    denials = Denials(state_folder() / "denied", open_trails, known_dags)
    denials.start()
    return denials
