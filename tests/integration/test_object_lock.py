"""A bucket with Object Lock under attack: by somebody who has stolen our credentials, and by the server's own gaps."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from muster.adapters.object_store import S3Store
from muster.adapters.stores import open_store
from muster.adapters.system_clock import SystemClock
from muster.errors import AlreadyExists, NotFound, Refused
from muster.ports import PROBES, Hidden, Proof
from servers import LossyLine, S3Server
from vaults import make_vault, noise, point_over, reopen, store_tree

pytestmark = pytest.mark.servers
KEY = "packs/aa/1"
HOUR = timedelta(hours=1)


class Attacker:
    """Whoever has all rights in the bucket, and no vault."""

    def __init__(self, server: S3Server, bucket: str) -> None:
        self.client, self.bucket = server.client, bucket

    def hide(self, key: str) -> None:
        """Delete an object as most tools do."""
        self.client.delete_object(Bucket=self.bucket, Key=key)

    def cover(self, key: str, data: bytes) -> None:
        """Write over an object."""
        self.client.put_object(Bucket=self.bucket, Key=key, Body=data)

    def versions(self, key: str = "") -> list[dict[str, Any]]:
        """Everything in the bucket whose key begins so, markers included."""
        found = self.client.list_object_versions(Bucket=self.bucket, Prefix=key)
        return [*found.get("Versions", ()), *found.get("DeleteMarkers", ())]

    def default_retention(self, mode: str) -> None:
        """Have every new object locked for a day."""
        rule = {"DefaultRetention": {"Mode": mode, "Days": 1}}
        configuration = {"ObjectLockEnabled": "Enabled", "Rule": rule}
        self.client.put_object_lock_configuration(Bucket=self.bucket, ObjectLockConfiguration=configuration)

    def policy(self, effect: str, action: str) -> None:
        """Allow or deny something to everybody."""
        places = [f"arn:aws:s3:::{self.bucket}", f"arn:aws:s3:::{self.bucket}/*"]
        statement = {"Effect": effect, "Principal": {"AWS": ["*"]}, "Action": [action], "Resource": places}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self.client.put_bucket_policy(Bucket=self.bucket, Policy=policy)


@pytest.fixture
def bucket(ceph_s3: S3Server) -> str:
    return ceph_s3.make_bucket(lock=True)


@pytest.fixture
def attacker(ceph_s3: S3Server, bucket: str) -> Attacker:
    return Attacker(ceph_s3, bucket)


@pytest.fixture
def store(ceph_s3: S3Server, bucket: str) -> S3Store:
    return S3Store(replace(ceph_s3.location(bucket), lock="compliance"))


def locked(store: S3Store, key: str = KEY, data: bytes = b"ours") -> None:
    """An object that is retained for an hour."""
    store.put(key, data)
    locks = store.locks()
    assert locks
    locks.extend([key], datetime.now(UTC) + HOUR)


def hidden(store: S3Store, prefix: str = "") -> dict[str, str]:
    """What is covered, and by what."""
    versions = store.versions()
    assert versions
    found: list[Hidden] = list(versions.hidden(prefix))
    return {each.key: each.by for each in found}


def uncover(store: S3Store, key: str = KEY) -> None:
    versions = store.versions()
    assert versions
    versions.uncover(key)


def proved(store: S3Store, verdict: str) -> dict[str, Proof]:
    """The proofs that ended so."""
    return {proof.guarantee: proof for proof in store.prove() if proof.verdict == verdict}


# --- what is hidden ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attack", "by"),
    [
        (lambda attacker: attacker.hide(KEY), "delete marker"),
        (lambda attacker: attacker.cover(KEY, b"theirs"), "version"),
        (lambda attacker: (attacker.cover(KEY, b"theirs"), attacker.hide(KEY)), "delete marker"),
        (lambda attacker: (attacker.hide(KEY), attacker.cover(KEY, b"theirs")), "version"),
        (lambda attacker: [attacker.hide(KEY) for _ in range(3)], "delete marker"),
    ],
    ids=["hidden", "covered", "covered and hidden", "hidden and covered", "hidden often"],
)
def test_what_is_laid_over_an_object_is_seen_and_taken_away(
    store: S3Store, attacker: Attacker, attack: Callable[[Attacker], object], by: str
) -> None:
    """However an attacker hides a locked object: it is named, it comes back, and its lock is as it was."""
    locked(store)
    store.put("packs/aa/12", b"another")
    attack(attacker)
    assert hidden(store) == hidden(store, "packs/aa/1") == {KEY: by}
    assert hidden(store, "packs/b") == {}
    uncover(store)
    assert store.get(KEY) == b"ours"
    assert hidden(store) == {}
    assert len(attacker.versions(KEY)) == 2  # ours, and the other
    with pytest.raises(Refused):
        store.delete(KEY)


@pytest.mark.parametrize("mode", ["GOVERNANCE", "COMPLIANCE"])
def test_a_cover_that_is_locked_itself_is_covered_in_turn(store: S3Store, attacker: Attacker, mode: str) -> None:
    """Where the bucket locks everything by default, so that nothing can be taken away, a copy of ours comes on top, as locked."""
    locked(store)
    attacker.default_retention(mode)
    attacker.cover(KEY, b"theirs")
    uncover(store)
    assert store.get(KEY) == b"ours"
    assert hidden(store) == {}
    locks = store.locks()
    assert locks
    lock = locks.of(KEY)
    assert lock.mode == "compliance"
    assert lock.until is not None
    assert lock.until > datetime.now(UTC) + HOUR / 2


def test_nothing_is_hidden_in_a_bucket_of_many(store: S3Store, attacker: Attacker) -> None:
    """More objects than a page of the server holds, one of them hidden: that one is named."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: store.put(f"packs/{n:04}", b"x"), range(700)))
    attacker.hide("packs/0350")
    for _ in range(3):
        attacker.cover("packs/0351", b"theirs")
        attacker.hide("packs/0352")
    assert hidden(store) == {
        "packs/0350": "delete marker",
        "packs/0351": "version",
        "packs/0352": "delete marker",
    }


def test_what_was_never_there_cannot_be_uncovered(store: S3Store, attacker: Attacker) -> None:
    """A delete marker over nothing hides nothing."""
    attacker.hide(KEY)
    assert hidden(store) == {}
    with pytest.raises(NotFound, match=KEY):
        uncover(store)


# --- deleting and writing ---------------------------------------------------------------------------------------------


def test_a_removed_object_leaves_nothing(store: S3Store, attacker: Attacker) -> None:
    """Expiry frees the space: no version and no marker stays, whatever was laid over the object."""
    store.put(KEY, b"ours")
    attacker.cover(KEY, b"theirs")
    attacker.hide(KEY)
    store.delete(KEY)
    assert attacker.versions() == []
    with pytest.raises(NotFound):
        store.delete(KEY)


def test_a_refused_removal_changes_nothing(store: S3Store, attacker: Attacker) -> None:
    """The locked version is asked first, so no cover of it goes, and no marker comes."""
    locked(store)
    attacker.cover(KEY, b"theirs")
    before = attacker.versions()
    with pytest.raises(Refused, match="object lock"):
        store.delete(KEY)
    assert attacker.versions() == before


def test_a_key_below_a_delete_marker_is_free(store: S3Store, attacker: Attacker) -> None:
    """As on a server that heeds conditions: what an attacker hid can be written again, once."""
    locked(store)
    attacker.hide(KEY)
    store.put(KEY, b"ours")
    assert store.get(KEY) == b"ours"
    assert hidden(store) == {}
    with pytest.raises(AlreadyExists):
        store.put(KEY, b"other")
    assert store.get(KEY) == b"ours"


def test_a_lost_answer_is_told_from_another_writer(ceph_s3: S3Server, bucket: str, attacker: Attacker) -> None:
    """Where the server ignores conditions too: a put whose answer was lost succeeds, and leaves one version."""
    line = LossyLine(ceph_s3.endpoint)
    store = S3Store(replace(ceph_s3.location(bucket, retries=2), endpoint=line.endpoint))
    line.lose(1)
    store.put(KEY, b"ours")
    assert line.lost == 1
    line.lose(1)
    with pytest.raises(AlreadyExists):
        store.put(KEY, b"theirs")
    line.close()
    assert store.get(KEY) == b"ours"
    assert len(attacker.versions(KEY)) == 1


# --- modes and proofs -------------------------------------------------------------------------------------------------


def test_the_mode_is_the_addresss_or_the_buckets_or_governance(
    ceph_s3: S3Server, bucket: str, attacker: Attacker
) -> None:
    """Compliance cannot be undone by anybody, so it is never chosen unasked."""

    def mode(options: str) -> str | None:
        store = open_store(ceph_s3.address(bucket) + options)
        key = f"packs/{time.monotonic_ns()}"
        store.put(key, b"x")
        locks = store.locks()
        assert locks
        locks.extend([key], datetime.now(UTC) + 30 * HOUR)
        return locks.of(key).mode

    assert mode("") == mode("&lock=governance") == "governance"
    assert mode("&lock=compliance") == "compliance"
    attacker.default_retention("COMPLIANCE")
    assert mode("") == "compliance"
    assert mode("&lock=governance") == "compliance"  # an object keeps the stronger one that it was born with


def test_every_guarantee_of_a_bucket_in_compliance_mode_is_proved(store: S3Store, attacker: Attacker) -> None:
    """Nothing is broken, each way past a lock was tried and refused, and what is left is one locked object for a minute."""
    assert proved(store, "broken") == {}
    kept = proved(store, "kept")
    tried = {guarantee for guarantee, proof in kept.items() if "tried, and refused" in proof.found}
    assert tried >= {
        "a retention cannot be shortened",
        "a retention cannot be shortened by bypassing governance",
        "compliance cannot be turned into governance",
        "a locked version cannot be deleted",
        "a locked version cannot be deleted by bypassing governance",
        "an object under a legal hold cannot be deleted",
        "nobody without credentials can read",
    }
    assert {"what is deleted can be had back", "what is replaced can be had back"} <= set(kept)
    left = attacker.versions()
    assert {version["Key"].startswith(PROBES) for version in left} == {True}
    assert len(left) == 2  # of two trials
    locks = store.locks()
    assert locks
    ends = [locks.of(version["Key"]).until for version in left]
    assert all(end and end < datetime.now(UTC) + timedelta(minutes=2) for end in ends)


def test_a_server_that_ignores_conditions_is_named(store: S3Store) -> None:
    """It is no failure, since the order of versions tells writers apart, and it is said."""
    assert "ignored it" in proved(store, "absent")["the server heeds If-None-Match"].found


def test_governance_that_our_own_credentials_may_bypass_is_no_lock(
    ceph_s3: S3Server, bucket: str, attacker: Attacker
) -> None:
    """The owner of the account can lift it: that is broken. When a policy forbids that, it is kept."""
    store = S3Store(ceph_s3.location(bucket))
    ways = {
        "a retention cannot be shortened by bypassing governance",
        "a locked version cannot be deleted by bypassing governance",
    }
    broken = proved(store, "broken")
    assert set(broken) == ways
    assert all("s3:BypassGovernanceRetention" in proof.mend for proof in broken.values())
    attacker.policy("Deny", "s3:BypassGovernanceRetention")
    assert ways <= set(proved(store, "kept"))


def test_a_vault_that_comes_to_ask_for_compliance_goes_on(ceph_s3: S3Server, bucket: str) -> None:
    """What is locked in governance is locked for longer in governance, since more would be to bypass it; what is new, in compliance."""
    before = S3Store(replace(ceph_s3.location(bucket), lock="governance"))
    after = S3Store(replace(ceph_s3.location(bucket), lock="compliance"))
    now = datetime.now(UTC)
    before.put(KEY, b"old")
    first, locks = before.locks(), after.locks()
    assert first
    assert locks
    first.extend([KEY], now + HOUR)
    after.put(f"{KEY}2", b"new")
    assert locks.extend([KEY, f"{KEY}2"], now + 2 * HOUR) == 2
    for key, mode in ((KEY, "governance"), (f"{KEY}2", "compliance")):
        lock = locks.of(key)
        assert lock.mode == mode
        assert lock.until
        assert lock.until >= now + 2 * HOUR


def test_a_default_of_governance_defeats_compliance(store: S3Store, attacker: Attacker) -> None:
    """Objects born under governance cannot be made compliant: the doctor says so before a snapshot fails of it."""
    attacker.default_retention("GOVERNANCE")
    assert "born under" in proved(store, "broken")["nobody at all can lift a lock before its end"].found


def test_a_public_bucket_is_found_out(ceph_s3: S3Server) -> None:
    """By reading it as a stranger, and by its policy."""
    bucket = ceph_s3.make_bucket()
    Attacker(ceph_s3, bucket).policy("Allow", "s3:GetObject")
    broken = proved(S3Store(ceph_s3.location(bucket)), "broken")
    assert set(broken) == {"nobody without credentials can read", "no policy of the bucket makes it public"}


def test_a_bucket_without_locks_promises_none(ceph_s3: S3Server) -> None:
    """It is told that there are no locks and no versions; that is no failure, and nothing is left behind."""
    store = S3Store(ceph_s3.location(ceph_s3.make_bucket()))
    assert store.locks() is None
    assert store.versions() is None
    guarantees = store.guarantees()
    assert (guarantees.immutable, guarantees.versioned, guarantees.conditional_put) == (False, False, True)
    absent = proved(store, "absent")
    assert {"a locked object cannot be deleted", "what is deleted can be had back"} <= set(absent)
    assert proved(store, "broken") == {}
    assert list(store.list()) == []


def test_settings_that_may_not_be_seen_are_untold(ceph_s3: S3Server) -> None:
    """Neither well nor amiss; the line says what was refused."""
    bucket = ceph_s3.make_bucket()
    Attacker(ceph_s3, bucket).policy("Deny", "s3:GetLifecycleConfiguration")
    untold = proved(S3Store(ceph_s3.location(bucket)), "untold")
    assert "AccessDenied" in untold["nothing but expiry removes objects"].found


# --- encryption by the store ------------------------------------------------------------------------------------------


def test_every_object_is_encrypted_as_the_address_asks(ceph_s3: S3Server, bucket: str, attacker: Attacker) -> None:
    """Each put asks for it, a copy on top of a cover too, and the proof says under which key."""
    store = open_store(ceph_s3.address(bucket) + "&lock=compliance&sse=aws:kms&kms_key=testkey")
    assert isinstance(store, S3Store)
    locked(store)
    attacker.default_retention("COMPLIANCE")
    attacker.cover(KEY, b"theirs")
    uncover(store)
    head = attacker.client.head_object(Bucket=bucket, Key=KEY)
    assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", "testkey")
    assert "aws:kms testkey" in proved(store, "kept")["what is stored is encrypted"].found


def test_a_server_that_takes_the_wish_and_does_not_encrypt_is_found_out(ceph_s3: S3Server, bucket: str) -> None:
    """This one answers sse=AES256 with success, and stores in the clear."""
    store = open_store(ceph_s3.address(bucket) + "&lock=compliance&sse=AES256")
    assert isinstance(store, S3Store)
    broken = proved(store, "broken")
    assert set(broken) == {"what is stored is encrypted"}
    assert "AES256 was asked for" in broken["what is stored is encrypted"].found


# --- a vault ----------------------------------------------------------------------------------------------------------


def test_time_passes_and_the_later_point_keeps_its_packs(store: S3Store, attacker: Attacker) -> None:
    """In real seconds: what the second point shares with the first is refused after the first one's end, by the server."""
    vault, _ = make_vault(store, SystemClock())
    shared, alone = {"shared": noise(1 << 20, 41)}, {"alone": noise(1 << 20, 42)}
    store_tree(vault, shared)
    lock = timedelta(seconds=4)
    first = vault.seal(point_over(vault, store_tree(vault, shared | alone), number=1), lock)
    assert first.locked_until is not None
    time.sleep(max(0.0, (first.locked_until - datetime.now(UTC)).total_seconds() - 1.5))
    second = vault.seal(
        replace(point_over(vault, store_tree(vault, shared), number=2), previous=first.point), 15 * lock
    )
    assert second.locked_until is not None
    time.sleep(max(0.0, (first.locked_until - datetime.now(UTC)).total_seconds()) + 1.0)
    packs = {pack: f"packs/{pack[:2]}/{pack}" for pack in (*first.packs, *second.packs)}
    free, kept = set(first.packs) - set(second.packs), set(first.packs) & set(second.packs)
    assert free
    assert kept
    for pack in kept:
        with pytest.raises(Refused):
            store.delete(packs[pack])
        (version,) = attacker.versions(packs[pack])
        with pytest.raises(attacker.client.exceptions.ClientError, match="object lock"):
            attacker.client.delete_object(
                Bucket=attacker.bucket,
                Key=packs[pack],
                VersionId=version["VersionId"],
                BypassGovernanceRetention=True,
            )
    for pack in free:
        store.delete(packs[pack])
    assert datetime.now(UTC) < second.locked_until
    assert reopen(store, clock=SystemClock()).point(second.point).point == second
