"""What the settings of a Google Cloud Storage bucket promise. A bucket is here the client's own, with its metadata loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from muster.adapters.bucket_proofs import transport
from muster.ports import Guarantees, Proof

_OF_OLD_VERSIONS = {"daysSinceNoncurrentTime", "noncurrentTimeBefore"}
"""Conditions that no live object meets (Google Cloud Storage, "Object Lifecycle Management")."""


def allowed_by(bucket: Any) -> Guarantees:
    """The guarantees of a bucket: it locks if objects can be retained one by one, or if its own policy is locked."""
    return Guarantees(
        immutable=bucket.object_retention_mode == "Enabled" or bool(bucket.retention_policy_locked),
        conditional_put=True,
        versioned=bool(bucket.versioning_enabled),
    )


def proofs_of(bucket: Any, endpoint: str, kms_key: str | None) -> Iterator[Proof]:
    """What can be told only from the settings."""
    yield transport(endpoint)
    key = kms_key or bucket.default_kms_key_name
    yield Proof("what is stored is encrypted", "kept", f"by Google, with {key or 'keys of its own'}")
    yield _lifecycle(bucket)


def _lifecycle(bucket: Any) -> Proof:
    """A rule that deletes live objects would take packs from under their points."""
    guarantee = "nothing but expiry removes objects"
    harmful = [
        rule
        for rule in bucket.lifecycle_rules
        if rule["action"]["type"] == "Delete" and not _spares_live(rule.get("condition", {}))
    ]
    if not harmful:
        return Proof(guarantee, "kept", "no lifecycle rule of the bucket deletes live objects")
    return Proof(
        guarantee,
        "broken",
        f"a lifecycle rule of the bucket deletes live objects: {dict(harmful[0])}",
        "limit the rule to noncurrent versions, or remove it",
    )


def _spares_live(condition: Mapping[str, Any]) -> bool:
    """Whether one of the conditions, all of which must hold, is met by no live object."""
    newer = int(condition.get("numNewerVersions") or 0)
    return condition.get("isLive") is False or newer > 0 or bool(_OF_OLD_VERSIONS & set(condition))
