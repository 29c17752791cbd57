"""A vault's store in Azure Blob Storage: what is asked of the service, word by word, and what its answers become."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any

import pytest

from cloud_servers import ACCOUNT, ACCOUNT_KEY, AzureServer
from muster.adapters.azure_store import azure_store
from muster.adapters.bucket_store import BucketLocks, BucketStore
from muster.adapters.stores import open_store
from muster.errors import AlreadyExists, IntegrityError, NotFound, Refused, StoreUnavailable
from muster.loopback import free_port
from muster.ports import LockMode
from relay import Answer, Asked, Relay
from servers import LossyLine

pytestmark = pytest.mark.servers

PACK = bytes(range(256)) * 4096
SOON = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
UNTIL, MODE = "x-ms-immutability-policy-until-date", "x-ms-immutability-policy-mode"


@pytest.fixture
def container(azure: AzureServer) -> str:
    return azure.make_container()


@pytest.fixture
def store(azure: AzureServer, container: str) -> BucketStore:
    return azure_store(azure.location(container, "team/vault", lock="compliance"), retries=1)


def locks_of(store: BucketStore) -> BucketLocks:
    locks = store.locks()
    assert locks is not None
    return locks


def asked(azure: AzureServer, method: str, comp: str | None = None) -> list[Asked]:
    return [request for request in azure.relay.asked if request.method == method and request.query.get("comp") == comp]


def test_a_put_demands_that_there_is_nothing(store: BucketStore, azure: AzureServer) -> None:
    """One request creates a blob, however large, and it carries the condition."""
    store.put("packs/aa/1", bytes(65 * 1024 * 1024))
    (request,) = asked(azure, "PUT")
    assert request.headers["if-none-match"] == "*"
    assert request.headers["x-ms-blob-type"] == "BlockBlob"
    assert request.path.endswith("/team/vault/packs/aa/1")


def test_a_scope_of_ones_own_is_asked_for(azure: AzureServer, container: str) -> None:
    """With an encryption scope in the address every new blob is put under it."""
    scopes = []

    def note(request: Asked, ask: Any) -> Answer:
        scopes.append(request.headers.get("x-ms-encryption-scope"))
        return Answer(201, {"etag": '"1"', "last-modified": format_datetime(SOON, usegmt=True)})

    with closing(Relay(azure.emulator, note)) as relay:
        address = azure.address(container, "v").replace(azure.relay.endpoint, relay.endpoint)
        open_store(f"{address}&encryption_scope=vaults").put("a", b"x")
    assert scopes == ["vaults"]


@pytest.mark.parametrize(("lock", "mode"), [("compliance", "Locked"), ("governance", "Unlocked")])
def test_a_retention_is_set_in_the_words_of_the_service(
    azure: AzureServer, container: str, lock: LockMode, mode: str
) -> None:
    """Mode and end go in the two headers of Set Blob Immutability Policy."""
    store = azure_store(azure.location(container, "v", lock=lock))
    store.put("packs/aa/1", b"x")
    assert locks_of(store).extend(["packs/aa/1"], SOON) == 1
    (request,) = asked(azure, "PUT", "immutabilityPolicies")
    assert request.path == f"/{ACCOUNT}/{container}/v/packs/aa/1"
    assert request.headers[MODE] == mode
    assert parsedate_to_datetime(request.headers[UNTIL]) == SOON
    found = locks_of(store).of("packs/aa/1")
    assert (found.until, found.mode, found.held) == (SOON, lock, False)


def test_retentions_only_grow(store: BucketStore, azure: AzureServer) -> None:
    """A sooner end changes nothing and sends nothing; a later one is set; a part of a second is rounded up."""
    store.put("a", b"x")
    locks = locks_of(store)
    assert locks.extend(["a"], SOON) == 1
    assert locks.extend(["a"], SOON - timedelta(days=1)) == 0
    assert len(asked(azure, "PUT", "immutabilityPolicies")) == 1
    assert locks.extend(["a"], SOON + timedelta(microseconds=1)) == 1
    assert locks.of("a").until == SOON + timedelta(seconds=1)


def test_a_retention_that_may_be_lifted_becomes_one_that_may_not(azure: AzureServer, container: str) -> None:
    """In compliance mode an unlocked retention is locked, and does not end sooner for that."""
    lax = azure_store(azure.location(container, lock="governance"))
    lax.put("a", b"x")
    locks_of(lax).extend(["a"], SOON + timedelta(days=1))
    strict = azure_store(azure.location(container, lock="compliance"))
    assert locks_of(strict).extend(["a"], SOON) == 1
    found = locks_of(strict).of("a")
    assert (found.until, found.mode) == (SOON + timedelta(days=1), "compliance")


def test_anothers_sooner_end_set_after_ours_is_noticed(azure: AzureServer, container: str) -> None:
    """Where nothing forbids it, another who saw the same may set a sooner end after us; then ours is set again."""
    store = azure_store(azure.location(container))
    store.put("a", b"x")
    gate, overtaken = azure.gate, False

    def overtake(request: Asked, ask: Any) -> Answer:
        nonlocal overtaken
        answer = gate(request, ask)
        if request.query.get("comp") == "immutabilityPolicies" and not overtaken:
            overtaken = True
            gate.current[request.path].locks[UNTIL] = format_datetime(SOON - timedelta(days=9), usegmt=True)
        return answer

    with closing(Relay(azure.emulator, overtake)) as relay:
        location = replace(azure.location(container), endpoint=f"{relay.endpoint}/{ACCOUNT}")
        assert locks_of(azure_store(location)).extend(["a"], SOON) == 1
    assert overtaken
    assert locks_of(store).of("a").until == SOON


def test_what_is_locked_is_not_deleted(store: BucketStore, azure: AzureServer) -> None:
    """A retained or held blob is refused before anything is sent; when both have ended it goes, with its versions."""
    for key in ("retained", "held", "free"):
        store.put(key, b"x")
    locks = locks_of(store)
    locks.extend(["retained"], SOON)
    locks.hold(["held"], held=True)
    assert asked(azure, "PUT", "legalhold")[-1].headers["x-ms-legal-hold"] == "true"
    for key, word in (("retained", "locked until"), ("held", "legal hold")):
        with pytest.raises(Refused, match=word):
            store.delete(key)
    assert asked(azure, "DELETE") == []
    locks.hold(["held"], held=False)
    for key in ("held", "free"):
        store.delete(key)
    assert not any(azure.gate.old.values())
    assert [info.key for info in store.list()] == ["retained"]


def test_what_is_hidden_is_seen_and_uncovered(store: BucketStore, azure: AzureServer, container: str) -> None:
    """A deleted blob and one that another was laid over are named, and come back, also from under a cover that is locked."""
    from azure.storage.blob import BlobServiceClient

    for key in ("deleted", "covered", "left"):
        store.put(key, b"ours")
    locks_of(store).extend(["deleted", "covered"], SOON)
    versions = store.versions()
    assert versions is not None
    assert list(versions.hidden()) == []
    client = BlobServiceClient(azure.endpoint, credential=ACCOUNT_KEY).get_container_client(container)
    client.delete_blob("team/vault/deleted")
    client.upload_blob("team/vault/covered", b"theirs", overwrite=True).set_legal_hold(True)
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


def test_every_failure_in_bulk_is_told(store: BucketStore) -> None:
    """One missing blob among many fails the call, and the others are retained all the same."""
    keys = [f"packs/aa/{n}" for n in range(20)]
    for key in keys:
        store.put(key, b"x")
    with pytest.raises(NotFound, match=r"no packs/aa/no-1 .*1 more of 22"):
        locks_of(store).extend([*keys, "packs/aa/no-1", "packs/aa/no-2"], SOON)
    assert all(locks_of(store).of(key).until == SOON for key in keys)


def test_a_container_without_version_level_immutability_has_no_locks(store: BucketStore, azure: AzureServer) -> None:
    """A container that was not made for it promises nothing, and says so."""
    azure.gate.versions = False
    assert store.locks() is None
    assert not store.guarantees().immutable


@pytest.mark.parametrize("lock", ["compliance", "governance"])
def test_proofs_of_a_container_that_keeps_its_word(azure: AzureServer, container: str, lock: LockMode) -> None:
    """
    Overwriting, deleting and shortening are tried; the settings are told; the vault's blobs are left alone.

    In governance whoever may set a policy may shorten it, our own credentials too: that is no lock, and said.
    """
    store = azure_store(azure.location(container, lock=lock))
    store.put("vault.json", b"{}")
    verdicts = {proof.guarantee: proof.verdict for proof in store.prove()}
    assert verdicts == {
        "an object is never overwritten": "kept",
        "a locked object cannot be deleted": "kept",
        "a retention cannot be shortened": "kept" if lock == "compliance" else "broken",
        "an object under a legal hold cannot be deleted": "kept",
        "nobody at all can lift a lock before its end": "kept" if lock == "compliance" else "absent",
        "what is sent is encrypted": "absent",
        "what is stored is encrypted": "kept",
        "nobody without credentials can read": "kept",
        "what is deleted can be had back": "kept",
    }
    assert store.get("vault.json") == b"{}"
    (left,) = (info.key for info in store.list() if info.key != "vault.json")
    assert not locks_of(store).of(left).held
    assert not any(version.locks.get("x-ms-legal-hold") == "true" for old in azure.gate.old.values() for version in old)


def test_proofs_of_a_plain_container(azurite: str, azure: AzureServer, container: str) -> None:
    """Straight over Azurite, which keeps conditions and knows no locks, the proofs say just that."""
    store = azure_store(replace(azure.location(container), endpoint=f"{azurite}/{ACCOUNT}"))
    verdicts = {proof.guarantee: proof.verdict for proof in store.prove()}
    assert verdicts["an object is never overwritten"] == "kept"
    assert verdicts["a locked object cannot be deleted"] == "absent"


def test_proofs_see_through_a_container_that_only_nods(azure: AzureServer, container: str) -> None:
    """A server that takes a policy and then deletes the version all the same is found out."""

    def nod(request: Asked, ask: Any) -> Answer:
        if "versionid" in request.query:
            azure.gate.old[request.path][0].locks.clear()
        return azure.gate(request, ask)

    with closing(Relay(azure.emulator, nod)) as relay:
        store = azure_store(replace(azure.location(container), endpoint=f"{relay.endpoint}/{ACCOUNT}"))
        verdicts = {proof.guarantee: proof.verdict for proof in store.prove()}
    assert verdicts["a locked object cannot be deleted"] == "broken"


def test_a_put_whose_answer_is_lost_succeeds(store: BucketStore, azure: AzureServer, container: str) -> None:
    """The second attempt finds the blob of the first, knows it for its own, and says so; that of another it does not."""
    line = LossyLine(azure.relay.endpoint)
    location = replace(azure.location(container, "team/vault"), endpoint=f"{line.endpoint}/{ACCOUNT}")
    lossy = azure_store(location, retries=2)
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


def test_what_the_service_says_becomes_our_own_errors(azure: AzureServer, container: str) -> None:
    """Busy is tried again, rights and rules are refusals, an absent container is named; a hidden range is damage."""
    said = [503, 500]

    def busy(request: Asked, ask: Any) -> Answer:
        return Answer(said.pop(0), {}, b"") if said else azure.gate(request, ask)

    with closing(Relay(azure.emulator, busy)) as relay:
        location = replace(azure.location(container), endpoint=f"{relay.endpoint}/{ACCOUNT}")
        store = azure_store(location, retries=2)
        store.put("a", b"x")
        said += [403]
        with pytest.raises(Refused, match="refuses b"):
            store.put("b", b"x")
        said += [503] * 3
        with pytest.raises(StoreUnavailable):
            store.get("a")
        with pytest.raises(IntegrityError):
            store.get_range("a", 5, 1)
    with pytest.raises(NotFound, match="no container muster-nowhere"):
        azure_store(azure.location("muster-nowhere"), retries=0).get("a")


def test_a_wrong_key_is_refused_and_not_shown(azure: AzureServer, container: str) -> None:
    """The server tells a wrong key; the message says so, and neither key is in it."""
    wrong = ACCOUNT_KEY.replace("Eby8", "XXXX")
    store = azure_store(replace(azure.location(container), key=wrong))
    with pytest.raises(Refused, match="refuses a") as caught:
        store.put("a", b"x")
    assert wrong not in str(caught.value)
    assert caught.value.__cause__ is None
    assert wrong not in store.url + repr(store)


def test_a_server_that_is_away_is_named_soon(azure: AzureServer) -> None:
    """Nobody at the port: the call says so within seconds, with the address."""
    location = replace(azure.location("nowhere", "vault"), endpoint=f"http://127.0.0.1:{free_port()}/{ACCOUNT}")
    begun = time.monotonic()
    with pytest.raises(StoreUnavailable, match=f"azure://{ACCOUNT}/nowhere/vault"):
        azure_store(location, retries=1).get("a")
    assert time.monotonic() - begun < 60
