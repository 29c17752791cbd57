"""The audit trail: nothing that was done can be taken out of it unseen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from fakes import FrozenClock, MemoryStore
from muster.domain.content import TreeRef
from muster.errors import IntegrityError
from muster.ports import BlobInfo
from muster.vault.vault import Vault
from vaults import flip, make_vault, noise, reopen, seal, store_tree


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def vault(store: MemoryStore, clock: FrozenClock) -> Vault:
    return make_vault(store, clock)[0]


@pytest.fixture
def tree(vault: Vault) -> TreeRef:
    return store_tree(vault, {"a": b"content", "b": noise(3_000_000)})


def test_the_trail_tells_who_did_what_from_where(vault: Vault, tree: TreeRef, clock: FrozenClock) -> None:
    """Creation and sealing are recorded by the vault itself, everything else by who does it."""
    seal(vault, tree)
    clock.advance(5)
    vault.record("restore", "flights", "failed", {"why": "test"})
    trail = vault.audit()
    assert [record.action for record in trail] == ["create", "seal", "restore"]
    assert [record.seq for record in trail] == [0, 1, 2]
    last = trail[-1]
    assert (last.actor.name, last.outcome, last.details, last.at) == ("tester", "failed", {"why": "test"}, clock.now())


class LateStore(MemoryStore):
    """Lists the audit trail as it was a moment ago."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        super().__init__()
        self.objects = objects
        self.seen: list[BlobInfo] = []

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        return iter(self.seen) if prefix == "audit/" else super().list(prefix)


def test_two_machines_that_append_at_once_fork_the_trail_and_the_next_record_joins_it(store: MemoryStore) -> None:
    """Neither record is lost, and both are behind the next."""
    one, _ = make_vault(store)
    late = LateStore(store.objects)
    two = reopen(late)
    late.seen = list(store.list("audit/"))
    one.record("a", "x", "ok")
    two.record("b", "x", "ok")
    assert len([key for key in store.objects if key.startswith("audit/00000001")]) == 2
    one.record("c", "x", "ok")
    trail = one.audit()
    assert [record.action for record in trail][-1] == "c"
    assert len(trail[-1].parents) == 2
    assert (trail[-1].seq, trail[-1].before) == (2, 3)
    assert one.verify().ok


def test_a_record_that_is_removed_is_missed(vault: Vault, tree: TreeRef, store: MemoryStore) -> None:
    """The first, one in the middle, and the last before a sealed point."""
    for number in range(3):
        vault.record("act", str(number), "ok")
    seal(vault, tree)
    keys = sorted(key for key in store.objects if key.startswith("audit/"))
    for key in keys[:-1]:
        data = store.objects.pop(key)
        with pytest.raises(IntegrityError, match="audit trail"):
            vault.audit()
        assert not vault.verify().ok
        store.objects[key] = data
    cut = {key: store.objects.pop(key) for key in keys[3:]}
    assert vault.audit()
    assert "the trail was cut off" in str(vault.verify().findings[0])
    store.objects.update(cut)
    assert vault.verify().ok


def test_a_forged_record_is_named(vault: Vault, store: MemoryStore) -> None:
    """A record altered, renamed, or signed by another vault is not part of this trail."""
    vault.record("act", "x", "ok")
    key = max(key for key in store.objects if key.startswith("audit/"))
    data = store.objects.pop(key)
    other, _ = make_vault(stranger := MemoryStore())
    other.record("act", "x", "ok")
    foreign = max(item for item in stranger.objects.items() if item[0].startswith("audit/"))
    for name, content in [(key, flip(data, 300)), (key.replace("00000001", "00000007"), data), foreign]:
        store.objects[name] = content
        with pytest.raises(IntegrityError, match=name.rpartition("-")[0]):
            reopen(store).audit()
        del store.objects[name]


def test_a_damaged_record_does_not_keep_from_recording(vault: Vault, store: MemoryStore) -> None:
    """Also the newest: work goes on, the damage stays named, and no other record is blamed."""
    for number in range(2):
        vault.record("act", str(number), "ok")
        key = max(key for key in store.objects if key.startswith("audit/"))
        store.objects[key] = flip(store.objects[key], 300)
        again = reopen(store)
        again.record("after", "x", "ok")
        assert [finding.object for finding in again.verify().findings] == [key]
        with pytest.raises(IntegrityError, match=key):
            again.audit()
        del store.objects[key]
        assert again.verify().ok


def test_a_trail_of_which_nothing_is_left_begins_anew_and_that_is_noticed(
    vault: Vault, tree: TreeRef, store: MemoryStore
) -> None:
    """The first record follows from vault.json; the sealed point knows that there was more."""
    vault.record("act", "x", "ok")
    seal(vault, tree)
    for key in [key for key in store.objects if key.startswith("audit/")]:
        del store.objects[key]
    again = reopen(store)
    again.record("act", "y", "ok")
    assert [record.action for record in again.audit()] == ["create", "act"]
    (finding,) = again.verify().findings
    assert "the trail was cut off" in finding.what


def _forged_trail(store: MemoryStore, **changed: object) -> None:
    """Sign one more record, as whoever has the key could, that does not fit."""
    vault = reopen(store)
    vault.record("act", "x", "ok")
    trail = vault._trail
    last = trail.records()[-1]
    trail._put(
        replace(
            last, **{"parents": (last.digest,), "seq": last.seq + 1, "before": last.seq + 1, "digest": ""} | changed
        )
    )


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({}, None),
        ({"before": 7}, "it follows 7 records, and 2 are there"),
        ({"seq": 9}, "its number does not follow"),
        ({"parents": ("ab" * 32,)}, "that it follows is missing"),
        ({"parents": (), "seq": 0, "before": 0, "subject": "second"}, "it follows 0 records|does not begin"),
    ],
)
def test_a_record_that_does_not_fit_breaks_the_trail(
    vault: Vault, store: MemoryStore, changed: dict[str, object], why: str | None
) -> None:
    """Every record follows its parents, has the number after theirs, and counts all that is behind it; one is the first."""
    _forged_trail(store, **changed)
    if why is None:
        assert len(vault.audit()) == 3
        return
    with pytest.raises(IntegrityError, match=why):
        vault.audit()
    assert "audit/" in {finding.object for finding in vault.verify().findings}


def test_the_trail_of_another_vault_is_refused(store: MemoryStore, vault: Vault) -> None:
    """A first record that does not follow from vault.json."""
    first = vault.audit()[0]
    del store.objects[first.key]
    vault._trail._put(replace(first, subject="another", digest=""))
    with pytest.raises(IntegrityError, match="does not begin with the creation of this vault"):
        vault.audit()
    assert not vault.verify().ok
