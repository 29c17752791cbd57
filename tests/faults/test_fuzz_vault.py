"""Anything in the place of any object of a vault: whoever comes anew gets what was stored, or an error of ours, and a report."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import FrozenClock, MemoryStore
from faults.fuzzing import bounded, documents, mutated, ours, signed
from faults.snapshots import FILES, contents, grown_vault, plain_vault, point_id
from muster.domain.recovery_point import Mark
from muster.domain.retention import RetentionPolicy, judge
from muster.errors import MusterError
from muster.operations.expire import expire_points
from muster.vault.envelope import SigningKey
from muster.vault.findings import VerifyReport
from muster.vault.layout import digest
from muster.vault.vault import Vault
from vaults import memory_file, reopen

NAMED = ("keys/", "packs/", "indexes/", "condemned/", "damaged/")
PLAIN = ("vault.json", "RESTORE.md", "keys/", "packs/", "indexes/", "points/", "marks/", "audit/")
GROWN = ("condemned/", "damaged/", "generations/", "rolls/", "points/", "audit/")
POLICIES = {"flights": RetentionPolicy(daily=1)}
LATER = FrozenClock(FrozenClock().now() + timedelta(days=9))
CHANGES = st.integers(0, 3)
SIGNED = ("points/", "marks/", "audit/", "condemned/", "damaged/", "generations/", "rolls/")


@functools.cache
def snapshot_of(grown: bool) -> MemoryStore:
    """A vault that tests copy and never change, with a mark of every kind that is read for what it says."""
    store = grown_vault() if grown else plain_vault()
    if not grown:
        vault, clock = reopen(store), FrozenClock()
        clock.advance(1)
        for kind, summary in (
            ("held", {"reason": "audit"}),
            ("released", {"holds": []}),
            ("suspect", {"cause": "verification", "damaged_packs": ["ab" * 32]}),
            ("verified", {"answers": [clock.now().isoformat()]}),
        ):
            vault.mark(Mark("flights", point_id(0), kind, clock.now(), summary))
        vault.holders.test([])
    return store


def copy_of(store: MemoryStore) -> MemoryStore:
    """A store with the same objects, which may be changed."""
    copy = MemoryStore(FrozenClock())
    copy.objects = dict(store.objects)
    return copy


def key_of(kind: str, good: str, data: bytes, misnamed: bool) -> str:
    """Where an object goes that somebody writes: in the place of a good one, or under the name that its own digest gives."""
    name = digest(data)
    if misnamed or kind not in (*NAMED, "audit/", "rolls/"):
        return good
    if kind == "packs/":
        return f"{kind}{name[:2]}/{name}"
    prefix = good.rpartition("-")[0] + "-" if kind in ("audit/", "rolls/") else kind
    return f"{prefix}{name}" if kind == "indexes/" else f"{prefix}{name}.json"


def readings(vault: Vault) -> list[Callable[[], object]]:
    """How people look at a vault."""
    return [
        vault.points,
        lambda: [(s.suspect, s.doubts, s.holds, s.damage, s.accepted) for s in vault.readable_points()],
        lambda: judge(vault.readable_points(), POLICIES["flights"], LATER.now()),
        lambda: vault.point("latest"),
        vault.audit,
        vault.holders.all,
        vault.holders.warnings,
        vault.holders.slots,
        vault.healing.noted,
        lambda: expire_points(vault, POLICIES, LATER, apply=False),
    ]


def changes(vault: Vault, store: MemoryStore) -> list[Callable[[], object]]:
    """What people and DAGs do to a vault."""
    return [
        lambda: vault.record("test", "it", "ok"),
        lambda: store_more(vault),
        lambda: expire_points(reopen(store, clock=LATER), POLICIES, LATER, apply=True),
        lambda: [vault.rotation.late(), vault.rotate(vault.rotation.plan((), ()))],
    ]


def store_more(vault: Vault) -> None:
    """What a snapshot does."""
    with vault.writer() as writer:
        writer.store_tree([memory_file("more", b"more"), memory_file("text", FILES["folder/text"])])


def assert_ends_well(store: MemoryStore, change: int) -> dict[str, bytes] | MusterError:
    """Everything ends with a result or an error of ours; a verification of a vault that opens reports; what is restored is right."""
    vault = ours(lambda: reopen(store))
    if not isinstance(vault, Vault):
        assert isinstance(vault, MusterError)
        return vault
    assert isinstance(vault.verify(files=True), VerifyReport)
    restored = ours(lambda: contents(vault, vault.point(point_id(0), "flights").point))
    assert isinstance(restored, dict | MusterError)
    for use in (*readings(vault), changes(vault, store)[change]):
        ours(use)
    return restored


def good_keys(grown: bool, kind: str) -> list[str]:
    """In the order in which they were written: that of their names is another one in each run."""
    return [key for key in snapshot_of(grown).objects if key.startswith(kind)]


@pytest.mark.parametrize(("grown", "kind"), [*((False, kind) for kind in PLAIN), *((True, kind) for kind in GROWN)])
def test_any_bytes_in_the_place_of_an_object_do_no_harm(grown: bool, kind: str) -> None:
    """Nobody's key is needed for that. What is restored all the same is what was stored."""
    keys = good_keys(grown, kind)

    @given(st.data())
    @bounded(10)
    def run(data: st.DataObject) -> None:
        good = data.draw(st.sampled_from(keys))
        whole = snapshot_of(grown).objects[good]
        words = documents(json.loads(whole)) if good.endswith(".json") else mutated(whole) | st.binary(max_size=100)
        found = data.draw(words)
        store = copy_of(snapshot_of(grown))
        if data.draw(st.booleans()):
            del store.objects[good]
        store.objects[key_of(kind, good, found, data.draw(st.booleans()))] = found
        restored = assert_ends_well(store, data.draw(CHANGES))
        assert restored == FILES or isinstance(restored, MusterError)

    run()


def signer_of(grown: bool, kind: str) -> SigningKey:
    """The key that signs objects of a kind: a generation is signed with the key of the one before it."""
    vault = reopen(snapshot_of(grown))
    if kind != "generations/":
        return vault._authority.signer
    from muster.vault.header import open_signing_key

    found = open_signing_key(snapshot_of(grown).objects["vault.json"], vault._master.first())
    assert found
    return found


@pytest.mark.parametrize(
    ("grown", "kind"),
    [(False, "points/"), (False, "marks/"), (False, "audit/"), *((True, kind) for kind in SIGNED if kind != "marks/")],
)
def test_any_words_under_a_good_signature_do_no_harm(grown: bool, kind: str) -> None:
    """Somebody stole the signing key, or a program of ours was wrong: every document may say anything."""
    from base64 import b64decode

    keys, signer = good_keys(grown, kind), signer_of(grown, kind)

    @given(st.data())
    @bounded(20)
    def run(data: st.DataObject) -> None:
        good = data.draw(st.sampled_from(keys))
        envelope = json.loads(snapshot_of(grown).objects[good])
        payload = json.loads(b64decode(envelope["payload"]))
        found = signed(signer, envelope["payloadType"], data.draw(documents(payload)))
        store = copy_of(snapshot_of(grown))
        store.objects[key_of(kind, good, found, data.draw(st.integers(0, 4)) == 0)] = found
        assert_ends_well(store, data.draw(CHANGES))

    run()
