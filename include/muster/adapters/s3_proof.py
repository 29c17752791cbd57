"""What a bucket of S3 promises, tried: on objects of the trial's own, with all the rights that our credentials have."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from muster.adapters.bucket_proofs import SOONER, Attempt, transport
from muster.adapters.s3_admin import S3Admin
from muster.adapters.s3_locks import S3Locks
from muster.adapters.s3_settings import settings_of
from muster.adapters.s3_versions import S3Versions
from muster.errors import AlreadyExists, NotFound, Refused
from muster.ports import PROBES, BlobStore, Proof

_BYPASS: dict[str, Any] = {"BypassGovernanceRetention": True}
_MEND = "take s3:BypassGovernanceRetention from these credentials, or say lock=compliance in the address"
_FIRST, _SECOND = b"first", b"second"


class S3Trial:
    """
    Everything that is tried on one bucket.

    An attempt goes past the store, straight to the server, as somebody would who has stolen our credentials.
    """

    def __init__(self, store: BlobStore, admin: S3Admin) -> None:
        self._store, self._admin = store, admin
        self._locks, self._versions = S3Locks(admin), S3Versions(admin)

    # --- what a lock must refuse --------------------------------------------------------------------------------------

    def attempts(self, key: str) -> Iterator[Attempt]:
        """Every way past a retention; the way that would remove the object, if it were open, comes last."""
        lock = self._locks.of(key)
        if lock.until is None or lock.mode is None:
            return
        sooner = {"Mode": lock.mode.upper(), "RetainUntilDate": lock.until - SOONER}
        yield Attempt("a retention cannot be shortened", self._retain(key, sooner, {}))
        yield Attempt(
            "a retention cannot be shortened by bypassing governance", self._retain(key, sooner, _BYPASS), _MEND
        )
        if lock.mode == "compliance":
            weaker = {"Mode": "GOVERNANCE", "RetainUntilDate": lock.until}
            yield Attempt("compliance cannot be turned into governance", self._retain(key, weaker, _BYPASS))
        yield Attempt("a locked version cannot be deleted", self._remove(key, {}))
        yield Attempt("a locked version cannot be deleted by bypassing governance", self._remove(key, _BYPASS), _MEND)

    def removal(self, key: str) -> Callable[[], None]:
        return self._remove(key, _BYPASS)

    def _retain(self, key: str, retention: dict[str, Any], more: dict[str, Any]) -> Callable[[], None]:
        def attempt() -> None:
            self._admin.ask("put_object_retention", key, Key=self._path(key), Retention=retention, **more)

        return attempt

    def _remove(self, key: str, more: dict[str, Any]) -> Callable[[], None]:
        newest = self._versions.layers(key)[0]

        def attempt() -> None:
            self._admin.ask("delete_object", key, Key=self._path(key), VersionId=newest.version, **more)

        return attempt

    # --- what else can be told ----------------------------------------------------------------------------------------

    def settings(self) -> Iterator[Proof]:
        """Conditions, versions, encryption, and who gets in."""
        facts = self._admin.facts()
        yield self._condition()
        if facts.versioning == "Enabled":
            yield from self._covered()
        else:
            yield _no_versions(facts.versioning)
        yield transport(self._admin.location.endpoint or "https://s3.amazonaws.com")
        yield self._encryption()
        yield self._stranger()
        yield from settings_of(self._admin, self._locks.mode)

    def _condition(self) -> Proof:
        guarantee = "the server heeds If-None-Match"
        with self._probe() as key:
            try:
                self._write(key, _SECOND, IfNoneMatch="*")
            except AlreadyExists:
                return Proof(guarantee, "kept", "a second write of one name was refused by the server itself")
        if self._admin.facts().versioning == "Enabled":
            return Proof(
                guarantee,
                "absent",
                "the server ignored it and laid a second version over the first; which of two writers was first is told by the "
                "order of their versions instead, by one more request a write",
                "use a newer server, if there is one: until then a writer that dies within a write may cover an object, "
                "which is seen and can be uncovered",
            )
        return Proof(
            guarantee,
            "broken",
            "the server ignored it, and the second of two writes replaced the first",
            "put the vault elsewhere: here two writers damage it",
        )

    def _covered(self) -> Iterator[Proof]:
        """A delete marker and a second version hide what lies beneath; both must be seen, and undone."""
        with self._probe() as key:
            self._admin.ask("delete_object", key, Key=self._path(key))
            yield self._uncovered(key, "what is deleted can be had back", "a delete marker")
            self._write(key, _SECOND)
            yield self._uncovered(key, "what is replaced can be had back", "a second version")

    def _uncovered(self, key: str, guarantee: str, cover: str) -> Proof:
        seen = [hidden.key for hidden in self._versions.hidden(key)] == [key]
        self._versions.uncover(key)
        with suppress(NotFound):
            if seen and self._store.get(key) == _FIRST:
                return Proof(guarantee, "kept", f"{cover} was laid over an object, was seen there, and was taken away")
        return Proof(
            guarantee,
            "broken",
            f"{cover} was laid over an object, and {'could not be taken away' if seen else 'was not seen there'}",
            "allow s3:ListBucketVersions and s3:DeleteObjectVersion, or put the vault elsewhere",
        )

    def _encryption(self) -> Proof:
        guarantee, location = "what is stored is encrypted", self._admin.location
        with self._probe() as key:
            facts = self._admin.ask("head_object", key, Key=self._path(key))
        found, found_key = facts.get("ServerSideEncryption"), str(facts.get("SSEKMSKeyId", ""))
        asked = " ".join(self._admin.encryption().values())
        if location.sse and (found != location.sse or not found_key.endswith(location.kms_key or "")):
            return Proof(
                guarantee,
                "broken",
                f"{asked} was asked for, and the store says of the object: {found or 'nothing'} {found_key}".strip(),
                "look at the key and at the bucket's encryption; the vault's own encryption does not depend on it",
            )
        if found:
            return Proof(guarantee, "kept", f"the store says of a new object: {found} {found_key}".strip())
        return Proof(
            guarantee,
            "absent",
            "the store adds no encryption of its own to the vault's",
            "if it should, set a default encryption of the bucket, or sse=aws:kms in the address",
        )

    def _stranger(self) -> Proof:
        """Ask as somebody without credentials."""
        guarantee, stranger = "nobody without credentials can read", self._admin.unsigned()
        with self._probe() as key:
            try:
                stranger.ask("get_object", key, Key=self._path(key))
            except Refused as refusal:
                return Proof(guarantee, "kept", f"it was tried, and refused: {refusal.message}")
        return Proof(
            guarantee,
            "broken",
            "an object was read without any credentials",
            "close the bucket to the public; what is in it is sealed, but manifests, names and sizes are told",
        )

    # --- tools --------------------------------------------------------------------------------------------------------

    @contextmanager
    def _probe(self) -> Iterator[str]:
        """A new object of the trial; it goes when the trial is over, unless the bucket's default retention keeps it."""
        key = f"{PROBES}{secrets.token_hex(16)}"
        self._store.put(key, _FIRST)
        try:
            yield key
        finally:
            with suppress(NotFound, Refused):
                self._store.delete(key)

    def _path(self, key: str) -> str:
        return self._admin.location.path(key)

    def _write(self, key: str, data: bytes, **conditions: Any) -> None:
        self._admin.ask("put_object", key, Key=self._path(key), Body=data, **conditions, **self._admin.encryption())


def _no_versions(versioning: str | None) -> Proof:
    return Proof(
        "what is deleted can be had back",
        "absent",
        "the bucket keeps no versions" + (" any more" if versioning else ""),
        "switch versioning on, or make a bucket with Object Lock, which includes it",
    )
