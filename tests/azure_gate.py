"""
What Azure Blob Storage answers where its emulator says "not implemented": versions, immutability policies and legal holds.

A `Relay` with this rule stands before Azurite, which keeps the blobs and checks signatures and conditions. It answers as the
service's reference says, and only to a request that says what the reference asks for:

* https://learn.microsoft.com/rest/api/storageservices/set-blob-immutability-policy
* https://learn.microsoft.com/rest/api/storageservices/set-blob-legal-hold
* https://learn.microsoft.com/rest/api/storageservices/delete-blob: without ``versionid`` a blob becomes a version of itself
* https://learn.microsoft.com/rest/api/storageservices/list-blobs: ``include=versions``, and ``IsCurrentVersion`` of today's
* https://learn.microsoft.com/azure/storage/blobs/immutable-version-level-worm-policies

Nothing here shows what the service itself does: docs/stores.md calls it unverified.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

from relay import Answer, Asked

_UNTIL, _MODE, _HOLD = "x-ms-immutability-policy-until-date", "x-ms-immutability-policy-mode", "x-ms-legal-hold"

_NOW = format_datetime(datetime.now(UTC).replace(microsecond=0), usegmt=True)

Ask = Callable[[Asked], Answer]


@dataclass
class Version:
    """A version of a blob: its id, its bytes, and the headers that tell of its locks."""

    id: str
    body: bytes
    locks: dict[str, str] = field(default_factory=dict)

    @property
    def locked(self) -> bool:
        until = self.locks.get(_UNTIL)
        return self.locks.get(_HOLD) == "true" or bool(until and parsedate_to_datetime(until) > datetime.now(UTC))

    @property
    def headers(self) -> dict[str, str]:
        return self.locks | {"x-ms-version-id": self.id}


class AzureGate:
    """
    The rule. `current` holds the version of today of each blob, by its path, and `old` those that were laid over or deleted.

    :param versions: whether the container was made for version-level immutability
    """

    def __init__(self, *, versions: bool = True) -> None:
        self.versions = versions
        self.current: dict[str, Version] = {}
        self.old: dict[str, list[Version]] = {}
        self._turn = threading.Lock()
        self._ids = (f"2026-11-24T02:00:00.{n:07}Z" for n in itertools.count(1))

    def __call__(self, asked: Asked, ask: Ask) -> Answer:
        kind = asked.query.get("comp")
        if kind in ("immutabilityPolicies", "legalhold"):
            assert asked.method == "PUT"
            with self._turn:
                return self._refused(asked.path) or (self._set_hold if kind == "legalhold" else self._set_policy)(asked)
        if kind == "list":
            return self._list(asked, ask)
        if asked.method == "PUT":
            return self._put(asked, ask)
        if "versionid" in asked.query:
            return self._of_old(asked)
        answer = ask(asked)
        return self._described(asked, answer)

    def _refused(self, path: str) -> Answer | None:
        """409 if the container was not made for this, 404 if there is no such blob."""
        if not self.versions:
            return _error(409, "BlobImmutableStorageWithVersioningNotEnabled")
        return None if path in self.current else _error(404, "BlobNotFound")

    def _set_policy(self, asked: Asked) -> Answer:
        until, mode = parsedate_to_datetime(asked.headers[_UNTIL]), asked.headers[_MODE]
        assert mode in ("Locked", "Unlocked")
        if until <= datetime.now(UTC):
            return _error(400, "InvalidHeaderValue")
        locks = self.current[asked.path].locks
        if locks.get(_MODE) == "locked" and (mode != "Locked" or until < parsedate_to_datetime(locks[_UNTIL])):
            return _error(409, "BlobImmutableDueToPolicy")
        locks |= {_UNTIL: asked.headers[_UNTIL], _MODE: mode.lower()}
        return Answer(200, dict(locks))

    def _set_hold(self, asked: Asked) -> Answer:
        assert asked.headers[_HOLD] in ("true", "false")
        version = self.current[asked.path]
        if wanted := asked.query.get("versionid"):
            (version,) = (old for old in self.old[asked.path] if old.id == wanted)
        version.locks[_HOLD] = asked.headers[_HOLD]
        return Answer(200, {_HOLD: asked.headers[_HOLD]})

    def _put(self, asked: Asked, ask: Ask) -> Answer:
        answer = ask(asked)
        if answer.status == 201:
            with self._turn:
                self._lay_by(asked.path)
                self.current[asked.path] = Version(next(self._ids), asked.body)
        return answer

    def _lay_by(self, path: str) -> None:
        """Keep the version of today as an old one, if versions are kept."""
        version = self.current.pop(path, None)
        if version and self.versions:
            self.old.setdefault(path, []).append(version)

    def _of_old(self, asked: Asked) -> Answer:
        path, wanted = asked.path, asked.query["versionid"]
        assert path not in self.current or self.current[path].id != wanted, "a version of today has no business here"
        version = next((version for version in self.old.get(path, []) if version.id == wanted), None)
        if version is None:
            return _error(404, "BlobNotFound")
        if asked.method == "DELETE":
            if version.locked:
                return _error(409, "BlobImmutableDueToPolicy")
            self.old[path].remove(version)
            return Answer(202)
        size = len(version.body)
        headers = {"content-length": str(size), "x-ms-blob-type": "BlockBlob", "last-modified": _NOW, "etag": '"1"'}
        headers |= {"x-ms-creation-time": _NOW, "content-range": f"bytes 0-{size - 1}/{size}"} | version.headers
        return Answer(200, headers, version.body)

    def _list(self, asked: Asked, ask: Ask) -> Answer:
        """The emulator knows no versions, and lists blobs as if it had not been asked for them."""
        answer = ask(asked)
        if "versions" not in asked.query.get("include", ""):
            return answer
        beginning = f"{asked.path}/{asked.query.get('prefix', '')}"
        found = [(path, version, False) for path, versions in self.old.items() for version in versions]
        found += [(path, version, True) for path, version in self.current.items()]
        blobs = [
            _listed(path.removeprefix(f"{asked.path}/"), version if self.versions else None, version.body, live=live)
            for path, version, live in sorted(found, key=lambda item: (item[0], item[1].id))
            if path.startswith(beginning)
        ]
        answer.body = re.sub(r"(?s)<Blobs>.*</Blobs>|<Blobs */>", "<Blobs></Blobs>", answer.body.decode()).encode()
        answer.body = answer.body.replace(b"<Blobs></Blobs>", f"<Blobs>{''.join(blobs)}</Blobs>".encode())
        return answer

    def _described(self, asked: Asked, answer: Answer) -> Answer:
        if asked.method == "DELETE" and answer.status == 202:
            with self._turn:
                self._lay_by(asked.path)
        elif _is_container(asked):
            answer.headers["x-ms-immutable-storage-with-versioning-enabled"] = str(self.versions).lower()
        elif self.versions and answer.status == 200 and asked.path in self.current:
            answer.headers |= self.current[asked.path].headers
        return answer


def _listed(name: str, version: Version | None, body: bytes, *, live: bool) -> str:
    md5 = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
    of_version = f"<VersionId>{version.id}</VersionId>" if version else ""
    of_version += "<IsCurrentVersion>true</IsCurrentVersion>" if version and live else ""
    return (
        f"<Blob><Name>{name}</Name>{of_version}<Properties><Last-Modified>{_NOW}</Last-Modified><Content-MD5>{md5}</Content-MD5>"
        f"<Content-Length>{len(body)}</Content-Length><BlobType>BlockBlob</BlobType></Properties></Blob>"
    )


def _is_container(asked: Asked) -> bool:
    return asked.query.get("restype") == "container" and "comp" not in asked.query


def _error(status: int, code: str) -> Answer:
    body = f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>{code} from the gate.</Message></Error>'
    return Answer(status, {"x-ms-error-code": code, "content-type": "application/xml"}, body.encode())
