"""
What Google Cloud Storage answers where its emulator only nods: preconditions of uploads, retentions and holds of objects.

A `Relay` with this rule stands before the emulator, which keeps the objects. It answers as the service's reference says, and
only to a request that says what the reference asks for, so a client that leaves anything out is found out:

* https://cloud.google.com/storage/docs/request-preconditions: ``ifGenerationMatch=0`` is 412 if there is a live object, and of a
  read another number than that of the live object is
* https://cloud.google.com/storage/docs/json_api/v1/objects/patch: ``retention``, ``temporaryHold``, ``overrideUnlockedRetention``
* https://cloud.google.com/storage/docs/object-lock: what Locked and Unlocked forbid; a bucket must be made for it
* https://cloud.google.com/storage/docs/object-versioning: a deletion without ``generation`` only makes an object noncurrent
* https://cloud.google.com/storage/docs/json_api/v1/status-codes: 403 ``retentionPolicyNotMet``, ``objectUnderActiveHold``

Nothing here shows what the service itself does: docs/stores.md calls it unverified.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from relay import Answer, Asked

_UPLOAD = re.compile(r"/upload/storage/v1/b/(?P<bucket>[^/]+)/o")
_LIST = re.compile(r"/storage/v1/b/[^/]+/o")
_OBJECT = re.compile(r"(?:/download)?(?P<path>/storage/v1/b/[^/]+/o/(?P<name>.+))")
_BUCKET = re.compile(r"/storage/v1/b/(?P<bucket>[^/]+)")

Ask = Callable[[Asked], Answer]


@dataclass
class Old:
    """A noncurrent version: its metadata, with its locks, and its bytes."""

    about: dict[str, Any]
    body: bytes


class GcsGate:
    """
    The rule. `locks` holds the metadata of objects that the emulator would drop, by their names; `live` the paths of objects; `old`
    the versions that are noncurrent, by path and generation.

    Where it is `private`, whoever sends no credentials is answered by 401; where `may_override`, our own may lift what is Unlocked.

    :param retention: whether buckets are made for object retention
    :param settings: metadata of buckets that the emulator does not know; ``versioning={"enabled": True}`` makes them keep versions
    """

    def __init__(self, *, retention: bool = True, **settings: Any) -> None:
        self.retention = retention
        self.private = False
        self.may_override = True
        self.settings = settings
        self.locks: dict[str, dict[str, Any]] = {}
        self.live: set[str] = set()
        self.old: dict[tuple[str, str], Old] = {}
        self._turn = threading.Lock()

    def __call__(self, asked: Asked, ask: Ask) -> Answer:
        if self.private and "authorization" not in asked.headers:
            return _error(401, "required", "Anonymous caller does not have storage.objects.get access to the object.")
        if asked.method == "POST" and (found := _UPLOAD.fullmatch(asked.path)):
            return self._create(asked, ask, found["bucket"])
        if asked.method == "GET" and _LIST.fullmatch(asked.path):
            return self._list(asked, ask)
        if found := _OBJECT.fullmatch(asked.path):
            return self._object(asked, ask, found["path"], found["name"])
        answer = ask(asked)
        if asked.method == "GET" and answer.status == 200 and _BUCKET.fullmatch(asked.path):
            return _merged(answer, {"objectRetention": {"mode": "Enabled"}} if self.retention else {}, self.settings)
        return answer

    @property
    def versioned(self) -> bool:
        return bool(self.settings.get("versioning", {}).get("enabled"))

    def _create(self, asked: Asked, ask: Ask, bucket: str) -> Answer:
        name = _name(asked)
        path = f"/storage/v1/b/{bucket}/o/{name}"
        with self._turn:
            if path in self.live and asked.query.get("ifGenerationMatch") == "0":
                return _error(412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.")
            if path in self.live and self.versioned:
                self._make_noncurrent(path, name, ask)
            elif path in self.live and (refusal := _forbidden(self.locks.get(name, {}))):
                return refusal
            self.live.add(path)
        answer = ask(asked)
        if answer.status != 200:
            self.live.discard(path)
        return answer

    def _object(self, asked: Asked, ask: Ask, path: str, name: str) -> Answer:
        if asked.method == "PATCH" and (path, asked.query.get("generation", "")) not in self.old:
            with self._turn:
                return self._patch(asked, ask, name)
        if old := self.old.get((path, asked.query.get("generation", ""))):
            return self._of_old(asked, path, old)
        if asked.method == "DELETE":
            return self._delete(asked, ask, path, name)
        if asked.method == "GET" and (wanted := asked.query.get("ifGenerationMatch")):
            there = ask(Asked("GET", path.removesuffix(name) + quote(name, safe=""), {}, b""))
            if there.status == 200 and json.loads(there.body)["generation"] != wanted:
                return _error(412, "conditionNotMet", "The generation does not match.")
        answer, lock = ask(asked), self.locks.get(name, {})
        return _merged(answer, lock) if answer.status == 200 and asked.query.get("alt") != "media" else answer

    def _of_old(self, asked: Asked, path: str, old: Old) -> Answer:
        if asked.method == "DELETE":
            refusal = _forbidden(old.about)
            if not refusal:
                del self.old[path, old.about["generation"]]
            return refusal or Answer(204)
        if asked.method == "PATCH":
            assert set(asked.json) == {"temporaryHold"}
            old.about |= asked.json
        if asked.query.get("alt") == "media":
            return Answer(200, {"content-type": "application/octet-stream"}, old.body)
        return Answer(200, {"content-type": "application/json"}, json.dumps(old.about).encode())

    def _delete(self, asked: Asked, ask: Ask, path: str, name: str) -> Answer:
        if self.versioned and "generation" not in asked.query:
            self._make_noncurrent(path, name, ask)
        elif refusal := _forbidden(self.locks.get(name, {})):
            return refusal
        self.live.discard(path)
        self.locks.pop(name, None)
        return ask(asked)

    def _make_noncurrent(self, path: str, name: str, ask: Ask) -> None:
        target = path.removesuffix(name) + quote(name, safe="")
        about = json.loads(ask(Asked("GET", target, {}, b"")).body) | self.locks.pop(name, {})
        body = ask(Asked("GET", f"/download{target}?alt=media", {}, b"")).body
        about["timeDeleted"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        self.old[path, about["generation"]] = Old(about, body)

    def _list(self, asked: Asked, ask: Ask) -> Answer:
        answer = ask(asked)
        if asked.query.get("versions", "").lower() != "true":
            return answer
        body = json.loads(answer.body)
        beginning = f"{asked.path}/{asked.query.get('prefix', '')}"
        old = [old.about for (path, _), old in self.old.items() if path.startswith(beginning)]
        body["items"] = sorted(body.get("items", []) + old, key=lambda item: (item["name"], item["generation"]))
        return Answer(answer.status, answer.headers, json.dumps(body).encode())

    def _patch(self, asked: Asked, ask: Ask, name: str) -> Answer:
        there = ask(Asked("GET", asked.target.partition("?")[0], {}, b""))
        if there.status != 200:
            return there
        lock = self.locks.setdefault(name, {})
        lock.setdefault("metageneration", json.loads(there.body)["metageneration"])
        if asked.query.get("ifMetagenerationMatch", lock["metageneration"]) != lock["metageneration"]:
            return _error(412, "conditionNotMet", "The metageneration does not match.")
        wanted = asked.json
        if "retention" in wanted:
            refusal = self._retention_refused(lock.get("retention"), wanted["retention"], asked.query)
            if refusal:
                return refusal
        lock |= wanted | {"metageneration": str(int(lock["metageneration"]) + 1)}
        return _merged(there, lock)

    def _retention_refused(self, before: Any, wanted: Any, query: dict[str, str]) -> Answer | None:
        assert wanted["mode"] in ("Locked", "Unlocked")
        until = datetime.fromisoformat(wanted["retainUntilTime"])
        assert until.microsecond == 0
        if not self.retention:
            return _error(400, "invalid", "Object retention is not enabled on the bucket.")
        if not before or not before.get("mode"):
            return None
        shorter = until < datetime.fromisoformat(before["retainUntilTime"])
        if before["mode"] == "Locked" and (shorter or wanted["mode"] != "Locked"):
            return _error(403, "forbidden", "A Locked retention can only be extended.")
        overrides = query.get("overrideUnlockedRetention", "").lower() == "true"
        if (shorter or wanted["mode"] != before["mode"]) and not overrides:
            return _error(403, "forbidden", "overrideUnlockedRetention is needed to shorten or lock a retention.")
        if overrides and not self.may_override:
            return _error(403, "forbidden", "The caller lacks storage.objects.overrideUnlockedRetention.")
        return None


def _name(asked: Asked) -> str:
    """Of the object that an upload, or the first request of one, makes."""
    kind = asked.query["uploadType"]
    if kind == "media":
        return asked.query["name"]
    about = asked.body.split(b"\r\n\r\n", 2)[1].split(b"\r\n")[0] if kind == "multipart" else asked.body
    return str(json.loads(about)["name"])


def _forbidden(lock: dict[str, Any]) -> Answer | None:
    if lock.get("temporaryHold") or lock.get("eventBasedHold"):
        return _error(403, "objectUnderActiveHold", "Object is under active hold and cannot be deleted.")
    until = (lock.get("retention") or {}).get("retainUntilTime")
    if until and datetime.fromisoformat(until) > datetime.now(UTC):
        return _error(403, "retentionPolicyNotMet", f"Object is subject to a retention until {until}.")
    return None


def _merged(answer: Answer, *more: dict[str, Any]) -> Answer:
    body = json.loads(answer.body)
    for part in more:
        body |= part
    return Answer(answer.status, answer.headers, json.dumps(body).encode())


def _error(status: int, reason: str, message: str) -> Answer:
    error = {"code": status, "message": message, "errors": [{"reason": reason, "message": message}]}
    return Answer(status, {"content-type": "application/json"}, json.dumps({"error": error}).encode())
