"""MLflow's REST API: where a server is, who we are there, how a request is sent, and what its refusal means."""

from __future__ import annotations

import base64
import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from muster.adapters.addresses import Form, checked_transport
from muster.adapters.bulk import REQUESTS_AT_ONCE
from muster.adapters.retries import Postponed, retry_after, tried
from muster.errors import MusterError, NotFound, Refused, SourceInvalid, StoreUnavailable, UsageError

if TYPE_CHECKING:
    import requests

Json = Any
RETRIES = 4
_CONNECT_S, _ANSWER_S = 20, 120
_DETAIL = 300
_BLOCK = 1 << 20
_FORM = Form(
    "MLflow",
    "server",
    re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\])(?::\d{1,5})?"),
    "http(s)://[user:password@]host[:port][/path][?workspace=name][&insecure=true]",
    ("insecure", "workspace"),
)
_WORKSPACE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class RestServer:
    """
    An MLflow server, as its API is reached.

    :param url: without credentials, without a slash at its end
    :param authorization: value of the header that says who we are; None for a server that asks nobody
    :param workspace: the one in which everything is read and made; None for the server's default one
    """

    url: str
    authorization: str | None = field(default=None, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    workspace: str | None = None

    @staticmethod
    def parse(address: str, token: str | None = None, *, insecure: bool = False) -> RestServer:
        """
        The server of a tracking URI ``http(s)://[user:password@]host[:port][/path][?workspace=name][&insecure=true]``.

        :param token: sent as a bearer token, in the place of user and password
        :param insecure: consent to plain http to another machine
        :raises UsageError: if the address is another one, or would send secrets in the clear; no message shows credentials
        """
        scheme = address.partition("://")[0]
        if scheme not in ("http", "https"):
            raise _FORM.broken()
        parts = _FORM.taken_apart(address)
        if "@" in parts.path:  # a slash within a password, and so a piece of it where the server should be
            raise _FORM.broken()
        url = f"{scheme}://{parts.place}" + (f"/{parts.path}" if parts.path else "")
        consent = insecure or parts.one_of("insecure", ("true", "false")) == "true"
        checked_transport(url, insecure=consent)
        workspace = parts.options.get("workspace")
        if workspace is not None and not _WORKSPACE.fullmatch(workspace):
            raise UsageError(f"{url} is given a workspace that cannot be", "give the name of one that is there")
        if parts.credentials is None:
            return RestServer(url, f"Bearer {token}" if token else None, (token,) if token else (), workspace)
        if token:
            raise UsageError(f"{url} is given a token, and a user and password as well", "give one of the two")
        user, colon, password = parts.credentials.partition(":")
        if not (user and colon and password):
            raise _FORM.broken()
        pair = f"{unquote(user)}:{unquote(password)}"
        basic = base64.b64encode(pair.encode()).decode()
        return RestServer(url, f"Basic {basic}", (basic, unquote(password), password), workspace)

    @property
    def place(self) -> str:
        """Whose registry it is, without credentials: the server's, or that of a workspace on it."""
        return f"{self.url}?workspace={self.workspace}" if self.workspace else self.url

    def without_secrets(self, text: str) -> str:
        """Foreign words, fit to be shown."""
        for secret in self.secrets:
            text = text.replace(secret, "…")
        return text


class MlflowApi:
    """
    Sends requests to one server. Many threads use it at once.

    A request that may be sent any number of times is tried again here, and nowhere else, if the server does not answer it. One that the
    server puts off is sent again in any case, when the server wants it.

    :param retries: how often a request without an answer is sent again
    """

    def __init__(self, server: RestServer, retries: int = RETRIES) -> None:
        self.server = server
        self._retries = retries

    @cached_property
    def _session(self) -> requests.Session:
        import requests
        from requests.adapters import HTTPAdapter

        session = requests.Session()
        session.mount("http://", HTTPAdapter(pool_maxsize=2 * REQUESTS_AT_ONCE))
        session.mount("https://", HTTPAdapter(pool_maxsize=2 * REQUESTS_AT_ONCE))
        session.auth = self._addressed  # set also where nobody is asked, so that no ~/.netrc is looked into
        return session

    def _addressed(self, request: Any) -> Any:
        if self.server.authorization:
            request.headers["Authorization"] = self.server.authorization
        if self.server.workspace:
            request.headers["X-MLFLOW-WORKSPACE"] = self.server.workspace
        return request

    def require_workspace(self) -> str:
        """
        See that the workspace is there; give its own artifact root, empty if it has none.

        An older server takes no notice of the one that requests name, and would give another one's registry.

        :raises SourceInvalid: if it is not
        """
        if (name := self.server.workspace) is None:
            return ""
        there: dict[str, Json] = {}
        with contextlib.suppress(NotFound):
            if self.get("3.0/mlflow/server-info").get("workspaces_enabled"):
                there = self.get(f"3.0/mlflow/workspaces/{quote(name)}")["workspace"]
        if not there:
            raise SourceInvalid(
                f"{self.server.url} has no workspace {name}",
                "create it there, or name another one; only a server that runs with --enable-workspaces has any",
            )
        return str(there.get("default_artifact_root") or "")

    def get(self, path: str, **query: Json) -> Json:
        """
        What the API has under a path below ``/api``.

        :raises NotFound: if it says that there is no such thing
        :raises Refused: if it wants to know who we are, or we may not
        :raises SourceInvalid: if the request makes no sense to it
        :raises StoreUnavailable: if it does not answer
        """
        return self.ask("GET", f"/api/{path}", query=query)

    def post(self, path: str, body: Json, *, once: bool = False) -> Json:
        """
        The same, asked with a body.

        :param once: never to be sent a second time if it may have been processed, since it makes something new each time
        """
        return self.ask("POST", f"/api/{path}", body=body, once=once)

    def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Json] | None = None,
        body: Json = None,
        once: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> Json:
        """Any request whose answer is JSON, or nothing."""

        def sent() -> Json:
            with self._sent(method, path, params=query, json=body, headers=headers) as answer:
                return self._document(path, answer)

        return tried(sent, 0 if once else self._retries)

    def content(self, path: str, /, **query: Json) -> bytes:
        """A short answer, as it comes."""

        def sent() -> bytes:
            with self._sent("GET", path, params=query) as answer, self._translated("GET", path):
                return answer.content

        return tried(sent, self._retries)

    def pages(self, path: str, key: str, body: Mapping[str, Json], *, method: str = "POST") -> Iterator[Json]:
        """
        All items of a list that comes in pages, to the last one.

        :param key: of the items in each page
        :raises SourceInvalid: if the server gives the same page again
        """
        token, tokens = None, set[str]()
        while True:
            asked = {**body, **({"page_token": token} if token else {})}
            query, content = (asked, None) if method == "GET" else (None, asked)
            page = self.ask(method, f"/api/{path}", query=query, body=content)
            yield from page.get(key) or ()
            token = page.get("next_page_token")
            if not token:
                return
            if token in tokens:
                raise SourceInvalid(f"{self.server.place} gives one page of {path} again and again", "see its version")
            tokens.add(token)

    def download(self, path: str, query: Mapping[str, str], file: Path, size: int) -> None:
        """
        Bring content of a known size to a file.

        :raises StoreUnavailable: if another number of bytes came
        """

        def sent() -> None:
            answer = self._sent("GET", path, params=query, stream=True)
            with answer, self._translated("GET", path), file.open("wb") as output:
                for block in answer.iter_content(_BLOCK):
                    output.write(block)
            if (found := file.stat().st_size) != size:
                raise StoreUnavailable(
                    f"{self.server.place} gave {found} bytes of {unquote(path)} instead of {size}",
                    "see whether it is being written",
                )

        tried(sent, self._retries)

    def upload(self, path: str, file: Path) -> None:
        """Send a file's content; a second time writes the same again."""

        def sent() -> None:
            with file.open("rb") as stream:
                # An empty stream would be sent in chunks, without a length.
                self._sent("PUT", path, data=stream if file.stat().st_size else b"").close()

        tried(sent, self._retries)

    def _sent(self, method: str, path: str, **options: Any) -> requests.Response:
        with self._translated(method, path):
            url, timeout = f"{self.server.url}{path}", (_CONNECT_S, _ANSWER_S)
            answer = self._session.request(method, url, timeout=timeout, allow_redirects=False, **options)
        if answer.status_code >= HTTPStatus.MULTIPLE_CHOICES:
            with answer:
                raise self._refusal(method, path, answer)
        return answer

    def _translated(self, method: str, path: str) -> _Translated:
        return _Translated(f"{self.server.place} does not answer {method} {unquote(path)}")

    def _document(self, path: str, answer: requests.Response) -> Json:
        if not answer.content or "json" not in answer.headers.get("content-type", "json"):
            return {}
        try:
            return json.loads(answer.content)
        except (ValueError, RecursionError):
            raise SourceInvalid(
                f"{self.server.place} answers {path} with something that is no JSON", "see that it is an MLflow server"
            ) from None

    def _refusal(self, method: str, path: str, answer: requests.Response) -> MusterError:
        status = answer.status_code
        said = f"{self.server.place} answers {method} {unquote(path)} with {status}: {self._words(answer)}"
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return Refused(said, "look at user, password or token, and at the permissions that they have there")
        if status == HTTPStatus.NOT_FOUND:
            return NotFound(said, "see that it is there, and that this is an MLflow server")
        if status < HTTPStatus.BAD_REQUEST:
            return SourceInvalid(
                said, "give the address that it points to: credentials are not sent after redirections"
            )
        later = answer.headers.get("retry-after")
        if status == HTTPStatus.TOO_MANY_REQUESTS or (status == HTTPStatus.SERVICE_UNAVAILABLE and later is not None):
            hint = "try again later, or have its limit raised for this user"
            return Postponed(said, hint, retry_after(later or ""))
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.REQUEST_TIMEOUT:
            return StoreUnavailable(said, "look at the server and its log, then try again")
        return SourceInvalid(said, "compare the versions of MLflow there and here")

    def _words(self, answer: requests.Response) -> str:
        try:
            document = json.loads(answer.content)
            words = f"{document['error_code']}: {document['message']}"
        except (ValueError, TypeError, KeyError, RecursionError, OSError):
            words = answer.reason or "no reason"
        return self.server.without_secrets(words)[:_DETAIL]


class _Translated:
    """Turns what the HTTP client throws into an error of ours; from None, since its words repeat headers and addresses."""

    def __init__(self, said: str) -> None:
        self._said = said

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: Any, error: BaseException | None, _trace: Any) -> None:
        import requests

        if isinstance(error, requests.RequestException):
            raise StoreUnavailable(
                f"{self._said}: {type(error).__name__}", "look at server and network, then try again"
            ) from None


def proxied_path(relative: str) -> str:
    """The path of an artifact that the server passes on, below its artifact root."""
    return f"/api/2.0/mlflow-artifacts/artifacts/{quote(relative)}"
