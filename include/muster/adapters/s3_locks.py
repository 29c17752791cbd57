"""Retentions and legal holds of the objects of a bucket with Object Lock."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from muster.adapters.blob_keys import checked_key
from muster.adapters.bulk import in_bulk
from muster.adapters.s3_admin import NO_LOCK, S3Admin
from muster.adapters.s3_versions import S3Versions
from muster.ports import Lock, LockMode


class S3Locks:
    """
    The `muster.ports.Locks` of a bucket. All calls are about the newest version of an object; a hold is lifted from all of them.

    Extending costs one question an object, and one request more for each whose retention is too short. A governance is never
    bypassed, and a compliance never asked to be less. What is locked in governance stays so until that lock has ended, also where the
    address has come to ask for compliance: to change the mode of a lock that holds would be to bypass it.
    """

    def __init__(self, admin: S3Admin) -> None:
        self._admin = admin

    @property
    def mode(self) -> LockMode:
        """Of the retentions that are set here: what the address says, or the bucket's default, or governance."""
        return self._admin.location.lock or self._admin.facts().default_lock or "governance"

    def of(self, key: str) -> Lock:
        retention = self._retention(key)
        held = self._admin.ask("get_object_legal_hold", key, none=NO_LOCK, Key=self._path(key)) or {}
        return Lock(retention.until, retention.mode, held.get("LegalHold", {}).get("Status") == "ON")

    def extend(self, keys: Iterable[str], until: datetime) -> int:
        return sum(in_bulk(lambda key: self._extend(key, until), keys))

    def hold(self, keys: Iterable[str], *, held: bool) -> None:
        in_bulk(lambda key: self._hold(key, held), keys)

    def _path(self, key: str) -> str:
        return self._admin.location.path(checked_key(key))

    def _retention(self, key: str) -> Lock:
        answer = self._admin.ask("get_object_retention", key, none=NO_LOCK, Key=self._path(key)) or {}
        found = answer.get("Retention", {})
        if "RetainUntilDate" not in found:
            return Lock()
        return Lock(found["RetainUntilDate"].astimezone(UTC), found["Mode"].lower())

    def _extend(self, key: str, until: datetime) -> bool:
        there = self._retention(key)
        if there.until and there.until >= until:
            return False
        holds = there.until is not None and there.until > datetime.now(UTC)
        mode = there.mode if there.mode and (holds or there.mode == "compliance") else self.mode
        retention = {"Mode": mode.upper(), "RetainUntilDate": _whole_second(until)}
        self._admin.ask("put_object_retention", key, Key=self._path(key), Retention=retention)
        return True

    def _hold(self, key: str, held: bool) -> None:
        status = {"Status": "ON" if held else "OFF"}
        self._admin.ask("put_object_legal_hold", key, Key=self._path(key), LegalHold=status)
        if not held:  # also of what lies beneath: an uncovering may have written a held version anew
            for layer in S3Versions(self._admin).layers(key):
                if not layer.marker and not layer.newest:
                    about = f"version {layer.version} of {key}"
                    self._admin.ask(
                        "put_object_legal_hold", about, Key=layer.path, VersionId=layer.version, LegalHold=status
                    )


def _whole_second(until: datetime) -> datetime:
    """Not before `until`: servers differ in what they make of a fraction."""
    return until if not until.microsecond else until.replace(microsecond=0) + timedelta(seconds=1)
