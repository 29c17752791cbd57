"""A point that is sealed with a lock: what is locked, when, until when, and what happens if it cannot be."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import Fault, FaultyStore, FrozenClock, MemoryStore
from muster.domain.recovery_point import RecoveryPoint
from muster.errors import Refused, StoreUnavailable
from muster.ports import BlobStore
from muster.vault import locking
from muster.vault.layout import pack_key
from muster.vault.locking import STEPS, lock_end
from muster.vault.vault import Passphrase, Vault
from vaults import CHEAP, make_vault, noise, point_over, reopen, store_tree

DAY = timedelta(days=1)
LOCK = 30 * DAY
FILES = {"large": noise(3 << 20, 31), "small": b"s"}


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def memory(clock: FrozenClock) -> MemoryStore:
    return MemoryStore(clock, locking=True)


def sealed(vault: Vault, number: int = 0, files: dict[str, bytes] | None = None, **facts: object) -> RecoveryPoint:
    """A locked point over some files."""
    point = point_over(vault, store_tree(vault, files or FILES), number=number)
    return vault.seal(RecoveryPoint(**({name: getattr(point, name) for name in point.__slots__} | facts)), LOCK)


class Asked:
    """Notes the packs that a store is asked to extend."""

    def __init__(self, store: MemoryStore) -> None:
        self._locks = store.locks()
        self.packs: set[str] = set()

    def __enter__(self) -> Asked:
        self._extend = self._locks.extend  # type: ignore[union-attr]
        self._locks.extend = self._noted  # type: ignore[union-attr,method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        self._locks.extend = self._extend  # type: ignore[union-attr,method-assign]

    def _noted(self, keys: Iterable[str], until: datetime) -> int:
        wanted = list(keys)
        self.packs |= {key.rpartition("/")[2] for key in wanted if key.startswith("packs/")}
        return self._extend(wanted, until)


def locked(store: BlobStore, prefix: str = "") -> dict[str, datetime | None]:
    """Until when each object is retained."""
    locks = store.locks()
    assert locks
    return {info.key: locks.of(info.key).until for info in store.list(prefix)}


def test_all_that_a_way_back_needs_is_locked(memory: MemoryStore, clock: FrozenClock) -> None:
    """Packs, indexes, manifest, its audit record, key slots, vault.json and RESTORE.md: nothing else is there but older records."""
    vault, _ = make_vault(memory, clock)
    point = sealed(vault)
    assert point.locked_until is not None
    assert clock.now() + LOCK <= point.locked_until <= clock.now() + LOCK * (1 + 1 / STEPS)
    free = [key for key, until in locked(memory).items() if until != point.locked_until]
    assert [key.partition("-")[0] for key in free] == ["audit/00000000"]
    assert vault.point(point.point).point.locked_until == point.locked_until
    assert vault.audit()[-1].details["locked_until"] == f"{point.locked_until:%Y-%m-%dT%H:%M:%SZ}"


def test_packs_are_locked_before_the_manifest_and_documents_after(memory: MemoryStore, clock: FrozenClock) -> None:
    """No manifest is there before what it promises holds."""
    store = FaultyStore(memory)
    vault, _ = make_vault(store, clock)
    sealed(vault)
    steps = [call for call, key in store.calls if call == "extend" or (call == "put" and key.startswith("points/"))]
    assert steps == ["extend", "put", "extend"]


def test_a_seal_that_was_killed_before_its_record_records_the_lock(memory: MemoryStore, clock: FrozenClock) -> None:
    """Whoever seals it again writes the record, which says until when it is locked, as the first one would have."""
    store = FaultyStore(memory)
    vault, _ = make_vault(store, clock)
    store.faults.append(Fault("fail", "put", prefix="audit/"))
    with pytest.raises(StoreUnavailable):
        sealed(vault)
    point = sealed(reopen(store, clock=clock))
    record = vault.audit()[-1]
    assert (record.action, record.details["locked_until"]) == ("seal", f"{point.locked_until:%Y-%m-%dT%H:%M:%SZ}")


@pytest.mark.parametrize("kind", ["fail", "lose_answer"])
def test_what_cannot_be_locked_is_not_sealed(memory: MemoryStore, clock: FrozenClock, kind: str) -> None:
    """If the packs cannot be locked there is no manifest, and sealing again goes on."""
    store = FaultyStore(memory)
    vault, _ = make_vault(store, clock)
    store.faults.append(Fault(kind, "extend", prefix="packs/"))  # type: ignore[arg-type]
    with pytest.raises(StoreUnavailable):
        sealed(vault)
    assert not list(memory.list("points/"))
    point = sealed(vault)
    assert set(locked(memory, "packs/").values()) == {point.locked_until}


@pytest.mark.parametrize("fresh", [False, True], ids=["same process", "another process"])
def test_a_seal_whose_documents_could_not_be_locked_is_an_error_and_goes_on(
    memory: MemoryStore, clock: FrozenClock, fresh: bool
) -> None:
    """The message says that the point is sealed; sealing it again locks what was left, and records nothing twice."""
    store = FaultyStore(memory)
    vault, _ = make_vault(store, clock)
    store.faults.append(Fault("fail", "extend", prefix="points/"))
    with pytest.raises(StoreUnavailable, match="was sealed, but not everything of it is locked"):
        sealed(vault)
    assert list(memory.list("points/"))
    clock.advance(LOCK.total_seconds())
    point = sealed(reopen(store, clock=clock) if fresh else vault)
    assert sum(until != point.locked_until for until in locked(memory).values()) == 1  # the record of the creation
    assert [record.action for record in vault.audit()] == ["create", "seal"]


def test_time_passes_and_the_later_point_keeps_its_packs(memory: MemoryStore, clock: FrozenClock) -> None:
    """After the end of the first point's lock, what the second shares with it is refused by the store; what it does not, is not."""
    vault, _ = make_vault(memory, clock)
    only_first = {"only in the first": noise(1 << 20, 32)}
    first = sealed(vault, 1, only_first)
    first = sealed(vault, 2, FILES | only_first)
    clock.advance((LOCK / 2).total_seconds())
    second = sealed(vault, 3, FILES, previous=first.point)
    assert first.locked_until is not None
    assert second.locked_until is not None
    shared, left = set(first.packs) & set(second.packs), set(first.packs) - set(second.packs)
    assert shared
    assert left
    clock.advance((first.locked_until - clock.now()).total_seconds())
    for pack in left:
        memory.delete(pack_key(pack))
    for pack in shared:
        with pytest.raises(Refused):
            memory.delete(pack_key(pack))
    clock.advance((second.locked_until - clock.now()).total_seconds())
    for pack in shared:
        memory.delete(pack_key(pack))


def test_reused_packs_are_extended_once_a_step(
    memory: MemoryStore, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A night within the same eighth of the lock asks nothing but a few locks; the first night of the next extends them all."""
    monkeypatch.setattr(locking, "LOOKED_AT", 1)
    vault, _ = make_vault(memory, clock)
    files = {str(n): noise(1000, n) for n in range(4)}
    for name, data in files.items():  # each in a pack of its own
        store_tree(vault, {name: data})
    last = sealed(vault, 0, files)
    assert len(last.packs) > 4
    extended = []
    for night in range(1, 9):
        clock.advance(DAY.total_seconds())
        with Asked(memory) as asked:
            point = sealed(vault, night, files, previous=last.point)
        extended.append(point.locked_until != last.locked_until)
        assert len(asked.packs & set(last.packs)) == (len(last.packs) if extended[-1] else 1)
        assert point.locked_until is not None
        assert all(until and until >= point.locked_until for until in locked(memory, "packs/").values())
        last = point
    assert sum(extended) == 2


def test_locks_that_somebody_lifted_are_set_again(memory: MemoryStore, clock: FrozenClock) -> None:
    """The manifest of the point before is not believed when a look at the store says otherwise."""
    vault, _ = make_vault(memory, clock)
    first = sealed(vault, 0)
    memory.locks().by_key.clear()  # type: ignore[union-attr]
    second = sealed(vault, 1, previous=first.point)
    assert first.locked_until == second.locked_until
    assert set(locked(memory, "packs/").values()) == {second.locked_until}


def test_a_damaged_point_before_saves_nothing(memory: MemoryStore, clock: FrozenClock) -> None:
    """A manifest that cannot be read is no proof of a lock: the packs are asked about."""
    store = FaultyStore(memory)
    vault, _ = make_vault(store, clock)
    last = sealed(vault, 0)
    key = f"points/flights/{last.point}.json"
    memory.objects[key] = memory.objects[key][:-1]
    store.calls.clear()
    sealed(vault, 1, previous=last.point)
    assert any(call == "extend" and key.startswith("packs/") for call, key in store.calls)


def test_a_longer_lock_stays(memory: MemoryStore, clock: FrozenClock) -> None:
    """A point with a shorter lock shortens nothing that it shares."""
    vault, _ = make_vault(memory, clock)
    long = sealed(vault, 0)
    short = vault.seal(point_over(vault, store_tree(vault, FILES), number=1), DAY)
    assert short.locked_until is not None
    assert long.locked_until is not None
    assert short.locked_until < long.locked_until
    assert {locked(memory)[pack_key(pack)] for pack in short.packs} == {long.locked_until}
    assert locked(memory)["vault.json"] == long.locked_until
    assert locked(memory)[f"points/flights/{short.point}.json"] == short.locked_until


def test_the_slot_of_whom_was_revoked_is_left_to_its_end(memory: MemoryStore, clock: FrozenClock) -> None:
    """It cannot be removed while it is locked, and no later point locks it longer; those of the holders are."""
    vault, _ = make_vault(memory, clock)
    vault.add_passphrase("leaver", Passphrase("x"), cost=CHEAP)
    first = sealed(vault, 0)
    slots = set(locked(memory, "keys/"))
    ((slot, gone),) = vault.holders.revoke("leaver").items()
    assert not gone
    clock.advance((LOCK / 2).total_seconds())
    second = sealed(vault, 1, previous=first.point)
    ends = locked(memory, "keys/")
    assert set(ends) == slots
    assert ends.pop(f"keys/{slot}.json") == first.locked_until
    assert set(ends.values()) == {second.locked_until}


def test_a_store_without_locks_takes_the_point_and_says_so(clock: FrozenClock) -> None:
    """The point is there, promises nothing, and the audit trail says that a lock was wanted."""
    store = MemoryStore(clock)
    vault, _ = make_vault(store, clock)
    point = sealed(vault)
    assert point.locked_until is None
    assert vault.audit()[-1].details["locked_until"] is None


def test_without_a_wish_nothing_is_locked(memory: MemoryStore, clock: FrozenClock) -> None:
    """No lock in the catalog, no lock in the store, and no word of it in the trail."""
    vault, _ = make_vault(memory, clock)
    vault.seal(point_over(vault, store_tree(vault, FILES)))
    assert set(locked(memory).values()) == {None}
    assert "locked_until" not in vault.audit()[-1].details


@given(
    st.timedeltas(timedelta(), 30_000 * DAY).map(lambda since: datetime(2020, 1, 1, tzinfo=UTC) + since),
    st.timedeltas(timedelta(seconds=1), timedelta(days=3650)),
)
def test_a_lock_is_never_shorter_than_asked(now: datetime, lock: timedelta) -> None:
    """It ends at the wanted time or up to an eighth later, at a whole second, and never earlier for a later point."""
    end = lock_end(now, lock)
    assert timedelta() <= end - (now + lock) <= lock / STEPS + timedelta(seconds=1)
    assert end.microsecond == 0
    assert lock_end(now + timedelta(seconds=1), lock) >= end


def test_an_index_object_that_an_expiry_elsewhere_removed_is_not_asked_for(
    memory: MemoryStore, clock: FrozenClock
) -> None:
    """A program that has had the vault open since then knows it still; its point is sealed and all that is there of it locked."""
    vault, _ = make_vault(memory, clock)
    store_tree(vault, FILES)
    (before,) = (key for key in memory.objects if key.startswith("indexes/"))
    other = reopen(memory, clock=clock)
    other._index.refresh()
    other._index.save(list(other._index.packs().values()))  # another object that says the same
    del memory.objects[before]
    sealed(vault)
    locks = memory.locks()
    assert locks
    assert all(locks.of(key).until for key in memory.objects if key.startswith("indexes/"))
