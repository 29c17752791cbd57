"""An HTTP relay on loopback that keeps what was asked, and lets a rule answer in the place of the server behind it."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

# What belongs to one connection and not to the message (RFC 9110, section 7.6.1), and what the relay says anew.
_OF_THE_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "host", "content-length"}


@dataclass(frozen=True)
class Asked:
    """A request as it came. `path` has no percent signs left, `query` no second value of a name, `headers` have small letters."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return unquote(urlsplit(self.target).path)

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Answer:
    """What goes back. `headers` have small letters."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


Rule = Callable[[Asked, Callable[[Asked], Answer]], Answer]
"""Gives the answer to a request; may ask the server behind, with that request or with others, any number of times."""


class Relay:
    """
    A relay to a server, until it is closed.

    :param upstream: ``http://host:port`` of the server
    :param rule: without one all is passed on
    :param at_once: how many requests the server behind is asked at a time
    """

    def __init__(self, upstream: str, rule: Rule | None = None, at_once: int = 16) -> None:
        self._upstream = urlsplit(upstream)
        self._rule = rule or (lambda asked, ask: ask(asked))
        self._turns = threading.Semaphore(at_once)
        self.asked: list[Asked] = []
        self._server = _Server(self)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, asked: Asked) -> Answer:
        """Keep a request, and answer it."""
        self.asked.append(asked)
        return self._rule(asked, self.ask)

    def ask(self, asked: Asked) -> Answer:
        """What the server behind says."""
        connection = http.client.HTTPConnection(str(self._upstream.hostname), self._upstream.port, timeout=60)
        headers = {name: value for name, value in asked.headers.items() if name not in _OF_THE_HOP}
        with self._turns, contextlib.closing(connection):
            connection.request(asked.method, asked.target, asked.body, headers)
            answer = connection.getresponse()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, relay: Relay) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.relay = relay


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        assert isinstance(self.server, _Server)
        with contextlib.suppress(ConnectionError):  # who asked may have gone
            self._send(self.server.relay.answer(Asked(self.command, self.path, headers, body)))

    def _send(self, answer: Answer) -> None:
        length = answer.headers.get("content-length") if self.command == "HEAD" else None
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            if name not in _OF_THE_HOP:
                self.send_header(name, value)
        self.send_header("content-length", length or str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)
        self.wfile.flush()
