"""A vault's store in Google Cloud Storage: what is asked of the service, word by word, and what its answers become."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, quote

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from cloud_servers import GcsServer
from muster.adapters.bucket_store import BucketLocks, BucketStore
from muster.adapters.gcs_location import GcsLocation
from muster.adapters.gcs_store import gcs_store
from muster.adapters.stores import open_store
from muster.errors import AlreadyExists, IntegrityError, NotFound, Refused, StoreUnavailable
from muster.loopback import free_port
from muster.ports import LockMode, Proof
from relay import Answer, Asked, Relay
from servers import LossyLine

pytestmark = pytest.mark.servers

PACK = bytes(range(256)) * 4096
METAGENERATION = 2  # of an object that the emulator has just been given
SOON = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)


@pytest.fixture
def bucket(gcs: GcsServer) -> str:
    return gcs.make_bucket()


@pytest.fixture
def store(gcs: GcsServer, bucket: str) -> BucketStore:
    return gcs_store(gcs.location(bucket, "team/vault", lock="compliance"), retries=1)


def locks_of(store: BucketStore) -> BucketLocks:
    locks = store.locks()
    assert locks is not None
    return locks


def rfc3339(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def asked(gcs: GcsServer, method: str) -> list[Asked]:
    return [request for request in gcs.relay.asked if request.method == method]


def test_a_put_demands_that_there_is_nothing(store: BucketStore, gcs: GcsServer) -> None:
    """One request creates an object, and it carries the precondition and a checksum that the service compares."""
    store.put("packs/aa/1", b"123456789")
    (request,) = asked(gcs, "POST")
    assert request.query == {"uploadType": "multipart", "ifGenerationMatch": "0"}
    about = json.loads(request.body.split(b"\r\n\r\n", 2)[1].split(b"\r\n")[0])
    # The check value of CRC-32C: https://reveng.sourceforge.io/crc-catalogue/all.htm#crc.cat.crc-32-iscsi is 0xe3069283.
    assert (about["name"], about["crc32c"]) == ("team/vault/packs/aa/1", "4waSgw==")


def test_a_key_of_ones_own_is_asked_for(gcs: GcsServer, bucket: str) -> None:
    """With a KMS key in the address every new object is put under it."""
    key = "projects/p/locations/eu/keyRings/r/cryptoKeys/k"
    open_store(f"{gcs.address(bucket, 'v')}&kms_key={quote(key, safe='')}").put("a", b"x")
    assert asked(gcs, "POST")[0].query["kmsKeyName"] == key


@pytest.mark.parametrize(("lock", "mode"), [("compliance", "Locked"), ("governance", "Unlocked")])
def test_a_retention_is_set_in_the_words_of_the_service(gcs: GcsServer, bucket: str, lock: LockMode, mode: str) -> None:
    """Mode and end are patched onto the object, on the condition that nobody changed it meanwhile."""
    store = gcs_store(gcs.location(bucket, "v", lock=lock))
    store.put("packs/aa/1", b"x")
    assert locks_of(store).extend(["packs/aa/1"], SOON) == 1
    (request,) = asked(gcs, "PATCH")
    assert request.path == f"/storage/v1/b/{bucket}/o/v/packs/aa/1"
    assert request.query["ifMetagenerationMatch"] == str(METAGENERATION)
    assert "overrideUnlockedRetention" not in request.query
    assert request.json["retention"]["mode"] == mode
    assert datetime.fromisoformat(request.json["retention"]["retainUntilTime"]) == SOON
    found = locks_of(store).of("packs/aa/1")
    assert (found.until, found.mode, found.held) == (SOON, lock, False)


def test_retentions_only_grow(store: BucketStore, gcs: GcsServer) -> None:
    """A sooner end changes nothing and sends nothing; a later one is set; a part of a second is rounded up."""
    store.put("a", b"x")
    locks = locks_of(store)
    assert locks.extend(["a"], SOON) == 1
    assert locks.extend(["a"], SOON - timedelta(days=1)) == 0
    assert len(asked(gcs, "PATCH")) == 1
    assert locks.extend(["a"], SOON + timedelta(microseconds=1)) == 1
    assert locks.of("a").until == SOON + timedelta(seconds=1)


def test_a_retention_that_may_be_lifted_becomes_one_that_may_not(gcs: GcsServer, bucket: str) -> None:
    """In compliance mode an unlocked retention is locked, and does not end sooner for that."""
    lax = gcs_store(gcs.location(bucket, lock="governance"))
    lax.put("a", b"x")
    locks_of(lax).extend(["a"], SOON + timedelta(days=1))
    strict = gcs_store(gcs.location(bucket, lock="compliance"))
    assert locks_of(strict).extend(["a"], SOON) == 1
    found = locks_of(strict).of("a")
    assert (found.until, found.mode) == (SOON + timedelta(days=1), "compliance")
    assert asked(gcs, "PATCH")[-1].query["overrideUnlockedRetention"].lower() == "true"


def test_anothers_change_between_look_and_patch_is_looked_at(store: BucketStore, gcs: GcsServer) -> None:
    """When the metadata changed after they were read, they are read again, and the longer retention stays."""
    store.put("a", b"x")
    later = SOON + timedelta(days=9)
    gate, overtaken = gcs.gate, False

    def overtake(request: Asked, ask: Any) -> Answer:
        nonlocal overtaken
        if request.method == "PATCH" and not overtaken:
            overtaken = True
            gate.locks["team/vault/a"] = {
                "metageneration": "7",
                "retention": {"mode": "Locked", "retainUntilTime": rfc3339(later)},
            }
        return gate(request, ask)

    with closing(Relay(gcs.emulator, overtake, at_once=1)) as relay:
        location = replace(gcs.location(store.url.split("/")[2], "team/vault"), endpoint=relay.endpoint)
        assert locks_of(gcs_store(location)).extend(["a"], SOON) == 0
    assert overtaken
    assert locks_of(store).of("a").until == later


def test_a_policy_of_the_bucket_counts(store: BucketStore, gcs: GcsServer) -> None:
    """What the bucket's own retention policy keeps for longer needs no retention of its own; it binds us only if it is locked."""
    store.put("a", b"x")
    later = SOON + timedelta(days=300)
    gcs.gate.locks["team/vault/a"] = {"metageneration": "1", "retentionExpirationTime": rfc3339(later)}
    assert locks_of(store).of("a").mode == "governance"
    gcs.gate.settings["retentionPolicy"] = {"retentionPeriod": "31536000", "isLocked": True}
    found = locks_of(store).of("a")
    assert (found.until, found.mode) == (later, "compliance")
    assert locks_of(store).extend(["a"], SOON) == 0
    with pytest.raises(Refused, match="locked until"):
        store.delete("a")


def test_what_is_locked_is_not_deleted(store: BucketStore, gcs: GcsServer) -> None:
    """A retained or held object is refused before anything is sent; when both have ended it goes, generation by generation."""
    for key in ("retained", "held", "free"):
        store.put(key, b"x")
    locks = locks_of(store)
    locks.extend(["retained"], SOON)
    locks.hold(["held"], held=True)
    assert asked(gcs, "PATCH")[-1].json == {"temporaryHold": True}
    for key, word in (("retained", "locked until"), ("held", "legal hold")):
        with pytest.raises(Refused, match=word):
            store.delete(key)
    assert asked(gcs, "DELETE") == []
    locks.hold(["held"], held=False)
    for key in ("held", "free"):
        store.delete(key)
    assert all(request.query["generation"].isdigit() for request in asked(gcs, "DELETE"))
    assert [info.key for info in store.list()] == ["retained"]


def test_what_is_hidden_is_seen_and_uncovered(store: BucketStore, gcs: GcsServer, bucket: str) -> None:
    """A deleted object and one that another was laid over are named, and come back, also from under a cover that is locked."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud.storage import Client

    gcs.gate.settings["versioning"] = {"enabled": True}
    for key in ("deleted", "covered", "left"):
        store.put(key, b"ours")
    locks_of(store).extend(["deleted", "covered"], SOON)
    versions = store.versions()
    assert versions is not None
    assert list(versions.hidden()) == []
    theirs = Client("p", AnonymousCredentials(), client_options={"api_endpoint": gcs.relay.endpoint}).bucket(bucket)
    theirs.blob("team/vault/deleted").delete()
    cover = theirs.blob("team/vault/covered")
    cover.upload_from_string(b"theirs")
    cover.temporary_hold = True
    cover.patch()
    assert [(hidden.key, hidden.by) for hidden in versions.hidden()] == [
        ("covered", "version"),
        ("deleted", "delete marker"),
    ]
    with pytest.raises(NotFound):
        store.get("deleted")
    with pytest.raises(Refused, match="locked until"):
        store.delete("covered")  # by the version that is ours
    for key in ("covered", "deleted"):
        versions.uncover(key)
        assert store.get(key) == b"ours"
        lock = locks_of(store).of(key)
        assert (lock.until, lock.mode) == (SOON, "compliance")
    assert list(versions.hidden()) == []
    with pytest.raises(NotFound):
        versions.uncover("never")


def test_a_bucket_that_keeps_no_versions_says_so(store: BucketStore) -> None:
    """Without versioning there is nothing to uncover, and the store does not pretend."""
    assert store.versions() is None
    assert not store.guarantees().versioned


def test_every_failure_in_bulk_is_told(store: BucketStore) -> None:
    """One missing object among many fails the call, and the others are retained all the same."""
    keys = [f"packs/aa/{n}" for n in range(20)]
    for key in keys:
        store.put(key, b"x")
    with pytest.raises(NotFound, match=r"no packs/aa/no-1 .*1 more of 22"):
        locks_of(store).extend([*keys, "packs/aa/no-1", "packs/aa/no-2"], SOON)
    assert all(locks_of(store).of(key).until == SOON for key in keys)


def test_a_bucket_without_retention_has_no_locks(store: BucketStore, gcs: GcsServer) -> None:
    """A bucket that was not made for object retention promises nothing, and says so."""
    gcs.gate.retention = False
    assert store.locks() is None
    assert not store.guarantees().immutable


@pytest.mark.parametrize("versioned", [True, False], ids=["with versions", "without"])
def test_proofs_of_a_bucket_that_keeps_its_word(store: BucketStore, gcs: GcsServer, versioned: bool) -> None:
    """Overwriting, deleting and shortening are tried and refused; the settings are told; the vault's objects are left alone."""
    gcs.gate.settings["versioning"] = {"enabled": versioned}
    gcs.gate.settings["iamConfiguration"] = {"publicAccessPrevention": "enforced"}
    store.put("vault.json", b"{}")
    verdicts = {proof.guarantee: proof.verdict for proof in store.prove()}
    assert verdicts == {
        "an object is never overwritten": "kept",
        "a locked object cannot be deleted": "kept",
        "a retention cannot be shortened": "kept",
        "a retention cannot be shortened by overriding it": "kept",
        "an object under a legal hold cannot be deleted": "kept",
        "nobody at all can lift a lock before its end": "kept",
        "what is sent is encrypted": "absent",
        "what is stored is encrypted": "kept",
        "nobody without credentials can read": "kept",
        "nothing but expiry removes objects": "kept",
        "what is deleted can be had back": "kept" if versioned else "absent",
    } | ({} if versioned else {"a locked object cannot be overwritten": "kept"})
    assert store.get("vault.json") == b"{}"
    left = [info.key for info in store.list() if info.key != "vault.json"]
    assert len(left) == 1  # locked for a minute
    assert not locks_of(store).of(left[0]).held


def test_governance_that_our_own_credentials_may_override_is_no_lock(gcs: GcsServer, bucket: str) -> None:
    """With the right to override an unlocked retention can be shortened: that is broken. Without it, it is kept."""
    way = "a retention cannot be shortened by overriding it"
    store = gcs_store(gcs.location(bucket, lock="governance"))
    told = {proof.guarantee: proof for proof in store.prove()}
    assert told[way].verdict == "broken"
    assert "storage.objects.overrideUnlockedRetention" in told[way].mend
    assert told["a retention cannot be shortened"].verdict == "kept"
    assert told["nobody at all can lift a lock before its end"].verdict == "absent"
    gcs.gate.may_override = False
    assert {proof.guarantee: proof.verdict for proof in store.prove()}[way] == "kept"


def test_a_hold_is_lifted_from_what_lies_beneath_too(store: BucketStore, gcs: GcsServer, bucket: str) -> None:
    """A held object that was covered and brought to light is two held versions; a release frees both, and it can be removed."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud.storage import Client

    gcs.gate.settings["versioning"] = {"enabled": True}
    store.put("a", b"ours")
    locks, versions = locks_of(store), store.versions()
    assert versions is not None
    locks.hold(["a"], held=True)
    theirs = Client("p", AnonymousCredentials(), client_options={"api_endpoint": gcs.relay.endpoint}).bucket(bucket)
    theirs.blob("team/vault/a").upload_from_string(b"theirs")
    versions.uncover("a")
    assert (store.get("a"), locks.of("a").held) == (b"ours", True)
    locks.hold(["a"], held=False)
    store.delete("a")
    assert list(store.list()) == []


def test_proofs_of_a_bucket_that_does_not(gcs_emulator: str, gcs: GcsServer, bucket: str) -> None:
    """Straight over the emulator, which ignores preconditions and drops locks, the proofs say so."""
    gcs.gate.settings["lifecycle"] = {"rule": [{"action": {"type": "Delete"}, "condition": {"age": 30}}]}
    store = gcs_store(replace(gcs.location(bucket), endpoint=gcs_emulator))
    verdicts = {proof.guarantee: proof.verdict for proof in store.prove()}
    assert verdicts["an object is never overwritten"] == "broken"
    assert verdicts["a locked object cannot be deleted"] == "absent"
    told = {proof.guarantee: proof for proof in gcs_store(gcs.location(bucket)).prove()}
    assert told["nothing but expiry removes objects"].verdict == "broken"


@pytest.mark.parametrize(
    ("condition", "verdict"),
    [
        ({"age": 30}, "broken"),
        ({"age": 30, "isLive": True}, "broken"),
        ({"age": 30, "numNewerVersions": 0}, "broken"),
        ({"age": 30, "isLive": False}, "kept"),
        ({"numNewerVersions": 1}, "kept"),
        ({"daysSinceNoncurrentTime": 7}, "kept"),
        ({"noncurrentTimeBefore": "2026-01-01"}, "kept"),
    ],
)
def test_a_rule_is_harmless_if_no_live_object_meets_it(
    gcs: GcsServer, bucket: str, condition: dict[str, Any], verdict: str
) -> None:
    """A condition of old versions is not met by live objects, and one that says live is met by nothing else."""
    gcs.gate.settings["lifecycle"] = {"rule": [{"action": {"type": "Delete"}, "condition": condition}]}
    told = {proof.guarantee: proof.verdict for proof in gcs_store(gcs.location(bucket)).prove()}
    assert told["nothing but expiry removes objects"] == verdict


def test_proofs_see_through_a_bucket_that_only_nods(gcs: GcsServer, bucket: str) -> None:
    """A server that takes a retention and then deletes all the same is found out."""

    def nod(request: Asked, ask: Any) -> Answer:
        if request.method == "DELETE":
            gcs.gate.locks.clear()
        return gcs.gate(request, ask)

    with closing(Relay(gcs.emulator, nod, at_once=1)) as relay:
        store = gcs_store(replace(gcs.location(bucket), endpoint=relay.endpoint))
        verdicts = {proof.guarantee: proof.verdict for proof in store.prove()}
    assert verdicts["a locked object cannot be deleted"] == "broken"


def test_a_put_whose_answer_is_lost_succeeds(store: BucketStore, gcs: GcsServer, bucket: str) -> None:
    """The second attempt finds the object of the first, knows it for its own, and says so; that of another it does not."""
    line = LossyLine(gcs.relay.endpoint)
    lossy = gcs_store(replace(gcs.location(bucket, "team/vault"), endpoint=line.endpoint), retries=2)
    line.lose(1)
    lossy.put("points/w/p.json", PACK)
    assert store.get("points/w/p.json") == PACK
    store.put("points/w/q.json", b"of another")
    line.lose(1)
    with pytest.raises(AlreadyExists):
        lossy.put("points/w/q.json", PACK)
    assert line.lost == 2
    line.lose(2)
    assert lossy.get("points/w/p.json") == PACK
    line.break_off(after=len(PACK) // 8)
    with pytest.raises(StoreUnavailable):
        lossy.get("points/w/p.json")
    with pytest.raises(StoreUnavailable):
        lossy.get_range("points/w/p.json", 0, len(PACK))
    line.close()


def test_what_the_service_says_becomes_our_own_errors(gcs: GcsServer, bucket: str) -> None:
    """Busy is tried again, rights and rules are refusals, an absent bucket is named; a hidden range is damage."""
    said = [503, 429, 200]

    def busy(request: Asked, ask: Any) -> Answer:
        status = said.pop(0) if said else 200
        return gcs.gate(request, ask) if status == 200 else Answer(status, {}, b"{}")

    with closing(Relay(gcs.emulator, busy, at_once=1)) as relay:
        store = gcs_store(replace(gcs.location(bucket), endpoint=relay.endpoint), retries=2)
        store.put("a", b"x")
        assert said == []
        said += [403]
        with pytest.raises(Refused, match="refuses b"):
            store.put("b", b"x")
        said += [503] * 3
        with pytest.raises(StoreUnavailable):
            store.get("a")
        with pytest.raises(IntegrityError):
            store.get_range("a", 5, 1)
    with pytest.raises(NotFound):
        gcs_store(gcs.location("muster-nowhere"), retries=0).get("a")


def test_a_server_that_is_away_is_named_soon() -> None:
    """Nobody at the port: the call says so within seconds, with the address."""
    store = open_store(f"gs://anonymous@bucket/vault?endpoint=http://127.0.0.1:{free_port()}")
    begun = time.monotonic()
    with pytest.raises(StoreUnavailable, match="gs://bucket/vault"):
        gcs_store(GcsLocation("bucket", "vault", store.url.partition("endpoint=")[2], anonymous=True), 1).get("a")
    assert time.monotonic() - begun < 60


class TestServiceAccounts:
    """The key of a service account in the address, and a token server that knows it."""

    @pytest.fixture
    def tokens(self) -> Iterator[Relay]:
        """Gives a token for every assertion, as https://oauth2.googleapis.com/token does for those that it believes."""

        def give(request: Asked, ask: Any) -> Answer:
            form = dict(parse_qsl(request.body.decode()))
            assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
            body = {"access_token": "token-of-the-test", "expires_in": 3600, "token_type": "Bearer"}
            return Answer(200, {"content-type": "application/json"}, json.dumps(body).encode())

        with closing(Relay("http://127.0.0.1:9", give)) as relay:
            yield relay

    def key(self, tokens: Relay) -> str:
        private = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return json.dumps(
            {
                "type": "service_account",
                "private_key": private.decode(),
                "client_email": "writer@project.iam.gserviceaccount.com",
                "token_uri": f"{tokens.endpoint}/token",
            }
        )

    def test_requests_are_signed_by_the_key_of_the_address(
        self, gcs: GcsServer, bucket: str, tokens: Relay, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The token that the key was exchanged for goes with every request; nothing of the environment is asked."""
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere")
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
        store = open_store(f"gs://{quote(self.key(tokens), safe='')}@{bucket}/v?endpoint={gcs.relay.endpoint}")
        store.put("a", b"x")
        assert store.get("a") == b"x"
        assert len(tokens.asked) == 1
        assert {request.headers.get("authorization") for request in gcs.relay.asked} == {"Bearer token-of-the-test"}
        assert "private" not in store.url + repr(store)

    def test_a_bucket_that_gives_to_strangers_is_found_out(self, gcs: GcsServer, bucket: str, tokens: Relay) -> None:
        """An object is asked for without credentials; prevention that is not enforced is said even where that is refused."""
        gcs.gate.settings["iamConfiguration"] = {"publicAccessPrevention": "inherited"}
        address = f"gs://{quote(self.key(tokens), safe='')}@{bucket}/v?endpoint={gcs.relay.endpoint}"

        def told() -> Proof:
            proofs = {proof.guarantee: proof for proof in open_store(address).prove()}
            return proofs["nobody without credentials can read"]

        assert (told().verdict, told().found) == ("broken", "an object was read without any credentials")
        gcs.gate.private = True
        assert told().verdict == "absent"
        assert "tried, and refused" in told().found
        gcs.gate.settings["iamConfiguration"] = {"publicAccessPrevention": "enforced"}
        assert told().verdict == "kept"

    def test_a_key_that_is_refused_is_not_shown(self, gcs: GcsServer, bucket: str) -> None:
        """A token server that does not believe the key is a refusal, without a word of the key."""

        def disbelieve(request: Asked, ask: Any) -> Answer:
            return Answer(400, {}, json.dumps({"error": "invalid_grant", "error_description": "no such key"}).encode())

        with closing(Relay("http://127.0.0.1:9", disbelieve)) as tokens:
            key = self.key(tokens)
            store = open_store(f"gs://{quote(key, safe='')}@{bucket}/v?endpoint={gcs.relay.endpoint}")
            with pytest.raises(Refused, match="invalid_grant") as caught:
                store.put("a", b"x")
        shown = "".join(traceback.format_exception(caught.value))
        assert "PRIVATE KEY" not in shown
        assert json.loads(key)["private_key"].splitlines()[1] not in shown
