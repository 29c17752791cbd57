"""
What Azure Blob Storage answers where its emulator says "not implemented": versions, immutability policies and legal holds.

A `Relay` with this rule stands before Azurite, which keeps the blobs and checks signatures and conditions. It answers as the
service's reference says, and only to a request that says what the reference asks for:

* https://learn.microsoft.com/rest/api/storageservices/set-blob-immutability-policy
* https://learn.microsoft.com/rest/api/storageservices/set-blob-legal-hold
* https://learn.microsoft.com/rest/api/storageservices/delete-blob: without ``versionid`` a blob becomes a version of itself
* https://learn.microsoft.com/azure/storage/blobs/immutable-version-level-worm-policies

Nothing here shows what the service itself does: docs/stores.md calls it unverified.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from relay import Answer, Asked

VERSION = "2026-11-24T02:00:00.0000000Z"
"""The id of the one version that every blob has here."""

_UNTIL, _MODE, _HOLD = "x-ms-immutability-policy-until-date", "x-ms-immutability-policy-mode", "x-ms-legal-hold"

Ask = Callable[[Asked], Answer]


class AzureGate:
    """
    The rule. `locks` holds the headers that tell of a blob's locks, by its path; `hidden` the paths of which only a version is left.

    :param versions: whether the container was made for version-level immutability
    """

    def __init__(self, *, versions: bool = True) -> None:
        self.versions = versions
        self.locks: dict[str, dict[str, str]] = {}
        self.hidden: set[str] = set()
        self._turn = threading.Lock()

    def __call__(self, asked: Asked, ask: Ask) -> Answer:
        with self._turn:
            kind = asked.query.get("comp")
            if kind == "immutabilityPolicies":
                return self._set_policy(asked)
            if kind == "legalhold":
                return self._set_hold(asked)
            if kind == "list":
                return self._list(asked, ask)
            if asked.method == "DELETE":
                return self._delete(asked, ask)
            answer = ask(asked)
            return self._described(asked, answer) if asked.method == "HEAD" or _is_container(asked) else answer

    def _set_policy(self, asked: Asked) -> Answer:
        assert asked.method == "PUT"
        until, mode = parsedate_to_datetime(asked.headers[_UNTIL]), asked.headers[_MODE]
        assert mode in ("Locked", "Unlocked")
        refusal = self._refused(asked.path)
        if refusal:
            return refusal
        if until <= datetime.now(UTC):
            return _error(400, "InvalidHeaderValue")
        before = self.locks.setdefault(asked.path, {})
        if before.get(_MODE) == "locked" and (mode != "Locked" or until < parsedate_to_datetime(before[_UNTIL])):
            return _error(409, "BlobImmutableDueToPolicy")
        before |= {_UNTIL: asked.headers[_UNTIL], _MODE: mode.lower()}
        return Answer(200, dict(before))

    def _set_hold(self, asked: Asked) -> Answer:
        assert asked.method == "PUT"
        assert asked.headers[_HOLD] in ("true", "false")
        refusal = self._refused(asked.path)
        if refusal:
            return refusal
        self.locks.setdefault(asked.path, {})[_HOLD] = asked.headers[_HOLD]
        return Answer(200, {_HOLD: asked.headers[_HOLD]})

    def _refused(self, path: str) -> Answer | None:
        """409 if the container was not made for this, 404 if there is no such blob."""
        if not self.versions:
            return _error(409, "BlobImmutableStorageWithVersioningNotEnabled")
        return _error(404, "BlobNotFound") if path in self.hidden else None

    def _delete(self, asked: Asked, ask: Ask) -> Answer:
        if "versionid" not in asked.query:
            answer = ask(asked)
            if self.versions and answer.status == 202:
                self.hidden.add(asked.path)
            return answer
        assert asked.query["versionid"] == VERSION
        assert asked.path in self.hidden, "a version of today cannot be deleted by its id"
        if self._is_locked(asked.path):
            return _error(409, "BlobImmutableDueToPolicy")
        self.hidden.discard(asked.path)
        self.locks.pop(asked.path, None)
        return Answer(202)

    def _is_locked(self, path: str) -> bool:
        lock = self.locks.get(path, {})
        return lock.get(_HOLD) == "true" or (_UNTIL in lock and parsedate_to_datetime(lock[_UNTIL]) > datetime.now(UTC))

    def _list(self, asked: Asked, ask: Ask) -> Answer:
        """The emulator knows no versions, and lists blobs as if it had not been asked for them."""
        answer = ask(asked)
        if "versions" not in asked.query.get("include", ""):
            return answer
        version = f"<VersionId>{VERSION}</VersionId>".encode()
        answer.body = re.sub(rb"(<Name>[^<]+</Name>)", rb"\1" + version, answer.body)
        gone = b"".join(
            b"<Blob><Name>%s</Name>%s<Properties><Content-Length>0</Content-Length><BlobType>BlockBlob</BlobType></Properties></Blob>"
            % (name, version)
            for path in sorted(self.hidden)
            if (name := path.removeprefix(f"{asked.path}/").encode()) != path.encode()
        )
        answer.body = answer.body.replace(b"<Blobs/>", b"<Blobs></Blobs>").replace(b"</Blobs>", gone + b"</Blobs>")
        return answer

    def _described(self, asked: Asked, answer: Answer) -> Answer:
        if answer.status != 200:
            return answer
        if _is_container(asked):
            answer.headers["x-ms-immutable-storage-with-versioning-enabled"] = str(self.versions).lower()
        else:
            answer.headers |= self.locks.get(asked.path, {}) | ({"x-ms-version-id": VERSION} if self.versions else {})
        return answer


def _is_container(asked: Asked) -> bool:
    return asked.query.get("restype") == "container" and "comp" not in asked.query


def _error(status: int, code: str) -> Answer:
    body = f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>{code} from the gate.</Message></Error>'
    return Answer(status, {"x-ms-error-code": code, "content-type": "application/xml"}, body.encode())
