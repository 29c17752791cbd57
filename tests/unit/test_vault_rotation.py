"""Rotation: new keys for those who stay, everything old stays readable, and nothing is lost to a race or a kill."""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from fakes import Fault, FaultyStore, FrozenClock, MemoryStore
from faults.snapshots import FILES, examined, take
from kms import Kms
from muster.adapters.local_store import LocalStore
from muster.domain.recovery_point import Mark
from muster.errors import IntegrityError, KeysRotated, MusterError, NotFound, Refused, StoreUnavailable, WrongKey
from muster.operations.heal import Help, heal
from muster.vault.holders import RecoveryKey, Secret, Shares, generate_recovery_key
from muster.vault.keys import MasterKey
from muster.vault.rotation import RotationPlan
from muster.vault.slots import SlotMaker, slot_key
from muster.vault.vault import Passphrase, Vault
from vault_snapshots import in_child
from vaults import CHEAP, PASSPHRASE, POINT, extract, flip, make_vault, memory_file, noise, reopen, seal, store_tree

NIGHT = Passphrase("of the night shift")
OLD = {"old": noise(300_000, 5), "both": b"kept " * 500}
NEW = {"new": noise(200_000, 6), "both": b"kept " * 500}


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def made(store: MemoryStore) -> tuple[Vault, RecoveryKey]:
    """A vault with a point, a mark, and a third holder."""
    vault, recovery = make_vault(store)
    seal(vault, store_tree(vault, OLD), number=0)
    vault.mark(Mark("flights", f"{POINT}0", "verified", FrozenClock().now()))
    vault.add_passphrase("night shift", NIGHT, cost=CHEAP)
    return vault, recovery


@pytest.fixture
def vault(made: tuple[Vault, RecoveryKey]) -> Vault:
    return made[0]


@pytest.fixture
def recovery(made: tuple[Vault, RecoveryKey]) -> RecoveryKey:
    return made[1]


def rotate(vault: Vault, *secrets: Secret, without: tuple[str, ...] = ()) -> RotationPlan:
    plan = vault.rotation.plan(secrets, without)
    vault.rotate(plan)
    return plan


def assert_whole(vault: Vault) -> None:
    report = vault.verify()
    assert report.ok, [str(finding) for finding in report.findings]


def files_of(vault: Vault, number: int, folder: Path) -> dict[str, bytes]:
    (component,) = vault.point(f"{POINT}{number}").point.components
    return extract(vault, component.tree, folder)


# --- what a rotation does ---------------------------------------------------------------------------------------------


def test_old_points_stay_readable_and_new_ones_are_sealed_with_the_new_key(
    store: MemoryStore, vault: Vault, recovery: RecoveryKey, tmp_path: Path
) -> None:
    """Whoever stays reads both, also through another process and with the recovery key, whose secret nobody gave."""
    before = vault.signing_fingerprint
    rotate(vault, NIGHT)
    seal(vault, store_tree(vault, NEW), number=1)
    assert vault.signing_fingerprint != before
    for number, secret in enumerate((PASSPHRASE, NIGHT, recovery)):
        opened = reopen(store, secret)
        assert not opened.outdated
        assert files_of(opened, 0, tmp_path / f"{number}/old") == OLD
        assert files_of(opened, 1, tmp_path / f"{number}/new") == NEW
        assert [status.point.point for status in opened.points()] == [f"{POINT}0", f"{POINT}1"]
        assert [opened.holders.sealed_with(status.point).number for status in opened.points()] == [0, 1]
        assert opened.point(f"{POINT}0").marks[0].kind == "verified"
    assert_whole(reopen(store))


def test_what_is_stored_is_found_again_after_a_rotation(store: MemoryStore, vault: Vault) -> None:
    """Chunk ids stay what they were, so a snapshot of the same files stores none of them again."""
    rotate(vault)
    opened = reopen(store)
    with opened.writer() as writer:
        writer.store_tree([memory_file(*item) for item in OLD.items()])
        stats = writer.stats
    assert stats.new_chunks == 0
    assert stats.reused_chunks > 0


def test_new_packs_and_indexes_name_the_generation_of_their_key(store: MemoryStore, vault: Vault) -> None:
    """By the first bytes of their salt; those of before do not."""
    before = {key for key in store.objects if key.startswith(("packs/", "indexes/"))}
    rotate(vault)
    store_tree(vault, NEW)
    key_id = vault._master.key_id
    new = {key for key in store.objects if key.startswith(("packs/", "indexes/"))} - before
    assert len(new) >= 2
    assert all(store.objects[key][8:16] == key_id for key in new)
    assert not any(store.objects[key][8:16] == key_id for key in before)


def test_the_trail_goes_on_and_tells_of_the_rotation(store: MemoryStore, vault: Vault) -> None:
    """Its records are whole across the change of keys, and the last names who was left out."""
    rotate(vault)
    trail = reopen(store).audit()
    assert [record.action for record in trail] == ["create", "seal", "mark", "keys.add", "keys.rotate"]
    assert trail[-1].subject == "generations/0001.json"
    assert trail[-1].details["left_out"] == ["night shift"]


def test_a_plan_stores_nothing_and_names_who_is_left_out(store: MemoryStore, vault: Vault) -> None:
    """Before anything is done, so that it can be prevented."""
    before = dict(store.objects)
    plan = vault.rotation.plan((), ())
    assert store.objects == before
    assert plan.generation == 1
    assert [slot.name for slot in plan.holders] == ["first", "recovery"]
    assert [(one.slot.name, one.why) for one in plan.left_out] == [("night shift", "their passphrase was not given")]
    assert "master" not in repr(plan)


def test_shares_and_kms_keys_are_taken_along(store: MemoryStore, vault: Vault, kms: Kms) -> None:
    """Shares without being brought together, a KMS key by being asked; a KMS key that is not named is left out."""
    one, two = kms.new_key(), kms.new_key()
    vault.holders.add_kms("cloud", one)
    vault.holders.add_kms("other cloud", two)
    _, shares = vault.holders.add_shares("board", 2, 3)
    plan = rotate(vault, NIGHT, one)
    assert {slot.name for slot in plan.holders} == {"first", "recovery", "night shift", "board", "cloud"}
    assert [line.slot.name for line in plan.left_out] == ["other cloud"]
    for secret in (one, Shares((shares[0].text, shares[2].text))):
        assert not reopen(store, secret).outdated
    assert reopen(store, two).outdated


def test_somebody_is_left_out_on_demand(store: MemoryStore, vault: Vault, recovery: RecoveryKey) -> None:
    """Even one whose public key is known."""
    plan = rotate(vault, without=("recovery",))
    assert [slot.name for slot in plan.holders] == ["first"]
    assert reopen(store, recovery).outdated
    with pytest.raises(NotFound, match="nobody"):
        vault.rotation.plan((), ("nobody",))


def test_whoever_rotates_stays(vault: Vault) -> None:
    """A rotation after which nobody at hand could open the vault is refused."""
    with pytest.raises(Refused, match="whoever opened the vault would not hold the new keys"):
        vault.rotation.plan((), ("first",))


def test_a_holder_who_was_left_out_is_added_again(store: MemoryStore, vault: Vault, tmp_path: Path) -> None:
    """Under the old name, with the old passphrase: then they read everything."""
    rotate(vault)
    seal(vault, store_tree(vault, NEW), number=1)
    assert reopen(store, NIGHT).outdated
    vault.add_passphrase("night shift", NIGHT, cost=CHEAP)
    opened = reopen(store, NIGHT)
    assert files_of(opened, 0, tmp_path / "old") == OLD
    assert files_of(opened, 1, tmp_path / "new") == NEW
    assert_whole(opened)


def test_rotations_follow_each_other(store: MemoryStore, vault: Vault, recovery: RecoveryKey, tmp_path: Path) -> None:
    """After three of them every point of every generation is read and counts."""
    for number in range(1, 4):
        rotate(vault)
        seal(vault, store_tree(vault, NEW | {"number": b"%d" % number}), number=number)
    opened = reopen(store, recovery)
    assert opened._authority.chain.newest.number == 3
    assert files_of(opened, 0, tmp_path / "0") == OLD
    for number in range(1, 4):
        assert files_of(opened, number, tmp_path / str(number)) == NEW | {"number": b"%d" % number}
    assert_whole(opened)


# --- who was left out -------------------------------------------------------------------------------------------------


def test_whoever_was_left_out_reads_the_old_and_not_the_new(store: MemoryStore, vault: Vault, tmp_path: Path) -> None:
    """In an emergency an old key still brings back old points; of the new ones it opens nothing."""
    rotate(vault)
    seal(vault, store_tree(vault, {"new": b"not for the night shift"}), number=1)
    left_out = reopen(store, NIGHT)
    assert left_out.outdated
    assert files_of(left_out, 0, tmp_path / "old") == OLD
    with pytest.raises(IntegrityError, match="stored after the keys were rotated, for holders of generation 1 alone"):
        files_of(left_out, 1, tmp_path / "new")
    assert read_anything(left_out, b"not for the night shift") is False


def read_anything(vault: Vault, plain: bytes) -> bool:
    """Whether the chunk of some content can be read with the keys that this vault was opened with."""
    chunk = vault._master.chunk_id(plain)
    try:
        return vault._reader.fetch([chunk])[chunk] == plain
    except IntegrityError:
        return False


def test_whoever_was_left_out_writes_nothing(store: MemoryStore, vault: Vault) -> None:
    """Neither content nor points, marks, records, holders or rotations; and it is said who rotated, and what to do."""
    rotate(vault)
    left_out = reopen(store, NIGHT)
    before = dict(store.objects)
    mark = Mark("flights", f"{POINT}0", "verified", FrozenClock().now())
    for work in (
        lambda: store_tree(left_out, NEW),
        lambda: left_out.mark(mark),
        lambda: left_out.record("a", "b", "c"),
        lambda: left_out.add_passphrase("again", NIGHT, cost=CHEAP),
        lambda: left_out.holders.add_recovery_key("again"),
        lambda: left_out.rotation.plan((), ()),
    ):
        with pytest.raises(WrongKey, match=r"rotated at .* by tester@localhost; .* signs nothing"):
            work()
    assert {key for key in store.objects if not key.startswith("marks/")} == {
        key for key in before if not key.startswith("marks/")
    }


def test_a_slot_that_somebody_planted_gets_no_new_key(store: MemoryStore, vault: Vault, recovery: RecoveryKey) -> None:
    """A writer of the store puts a slot with a public key of their own there: a rotation must not wrap the new key for it."""
    mallory = generate_recovery_key().private().public_key()
    planted = SlotMaker(MasterKey.generate(), vault.id, "2026-11-23T02:00:00Z").recovery("safe", mallory)
    store.put(slot_key(planted), planted)
    plan = rotate(vault)
    assert [slot.name for slot in plan.holders] == ["first", "recovery"]
    assert ("safe", "nothing says that this vault made their slot") in [
        (one.slot.name, one.why) for one in plan.left_out
    ]


def test_whoever_was_revoked_gets_no_new_key(vault: Vault, store: MemoryStore) -> None:
    """Also where a lock kept their slot, and although their passphrase is given."""
    slot = next(holder.slot for holder in vault.holders.current() if holder.slot.name == "night shift")
    data = store.objects[f"keys/{slot.slot}.json"]
    vault.holders.revoke("night shift")
    store.objects[f"keys/{slot.slot}.json"] = data
    plan = rotate(vault, NIGHT)
    assert [(one.slot.name, one.why) for one in plan.left_out] == [("night shift", "they were revoked")]
    assert reopen(store, NIGHT).outdated


# --- two at once ------------------------------------------------------------------------------------------------------


class Meanwhile(MemoryStore):
    """Does something else, once, right before or after it stores an object of a given kind."""

    def __init__(
        self, objects: dict[str, bytes], prefix: str, work: Callable[[], object], *, after: bool = False
    ) -> None:
        super().__init__()
        self.objects = objects
        self._prefix, self._work, self._after = prefix, work, after

    def put(self, key: str, data: bytes) -> None:
        work = self._work if key.startswith(self._prefix) else None
        if work:
            self._work = lambda: None
        if work and not self._after:
            work()
        super().put(key, data)
        if work and self._after:
            work()


def test_of_two_rotations_at_once_one_takes_place(store: MemoryStore, vault: Vault, recovery: RecoveryKey) -> None:
    """The other is told so, nothing of it counts, and everybody goes on with the one."""
    late = Meanwhile(store.objects, "generations/", lambda: rotate(vault))
    with pytest.raises(KeysRotated, match="at the same time; this rotation did not take place"):
        rotate(reopen(late, NIGHT), PASSPHRASE)
    assert not reopen(store).outdated
    assert not reopen(store, recovery).outdated
    assert reopen(store, NIGHT).outdated
    assert len(reopen(store)._authority.chain.generations) == 2
    assert_whole(reopen(store))


def test_a_rotation_planned_before_another_is_refused(store: MemoryStore, vault: Vault) -> None:
    """Its slots are for keys that would come second."""
    other = reopen(store)
    plan = other.rotation.plan((), ())
    rotate(vault)
    with pytest.raises(KeysRotated):
        other.rotate(plan)
    assert_whole(reopen(store))


@pytest.mark.parametrize("prefix", ["rolls/", "keys/", "generations/"])
def test_a_point_sealed_while_the_keys_are_rotated_counts(
    store: MemoryStore, vault: Vault, prefix: str, tmp_path: Path
) -> None:
    """Whoever was told that a point is sealed has it, even if it was sealed after the roll was taken."""
    writer = reopen(store)

    def work() -> None:
        seal(writer, store_tree(writer, NEW), number=1)
        writer.mark(Mark("flights", f"{POINT}1", "verified", FrozenClock().now()))

    rotate(reopen(Meanwhile(store.objects, prefix, work)))
    opened = reopen(store)
    assert files_of(opened, 1, tmp_path / "new") == NEW
    assert opened.point(f"{POINT}1").marks[0].kind == "verified"
    assert_whole(opened)


def test_a_writer_that_is_outrun_by_a_rotation_is_told(store: MemoryStore, vault: Vault) -> None:
    """Before it stores content, before it seals, and before it records: nothing counts of which it does not learn."""
    writer = reopen(store)
    tree = store_tree(writer, NEW)
    rotate(vault)
    for work in (
        lambda: store_tree(writer, {"more": b"x"}),
        lambda: seal(writer, tree, number=1),
        lambda: writer.record("a", "b", "c"),
    ):
        with pytest.raises(KeysRotated, match="rotated by tester@localhost while it was open"):
            work()
    assert [status.point.point for status in reopen(store).points()] == [f"{POINT}0"]
    again = reopen(store)
    seal(again, store_tree(again, NEW), number=1)
    assert_whole(again)


@pytest.mark.parametrize("after", [False, True])
def test_a_manifest_written_in_the_moment_of_a_rotation_is_never_half_believed(
    store: MemoryStore, vault: Vault, after: bool, tmp_path: Path
) -> None:
    """
    The rotation comes between a writer's last look and its record: the writer fails. If the manifest came too late for the roll it does
    not count, is named, and counts when somebody adopts it.
    """
    late = Meanwhile(store.objects, "points/", lambda: rotate(vault), after=after)
    writer = reopen(late)
    tree = store_tree(writer, NEW)
    with pytest.raises(KeysRotated):
        seal(writer, tree, number=1)
    opened = reopen(store)
    if not after:
        with pytest.raises(
            IntegrityError, match=rf"points/flights/{POINT}1.json was signed with the key of generation 0"
        ):
            opened.points()
    found = opened.rotation.late()
    assert [verdict.key for verdict in found] == ([] if after else [f"points/flights/{POINT}1.json"])
    opened.rotation.adopt(found)
    opened = reopen(store)
    assert files_of(opened, 1, tmp_path) == NEW
    assert opened.rotation.late() == []
    assert_whole(opened)


# --- killed and damaged -----------------------------------------------------------------------------------------------


def puts_of_a_rotation() -> int:
    probe = MemoryStore()
    vault, _ = make_vault(probe)
    seal(vault, store_tree(vault, OLD), number=0)
    counting = FaultyStore(probe)
    rotate(reopen(counting))
    return sum(operation == "put" for operation, _ in counting.calls)


@pytest.mark.parametrize("kind", ["fail", "lose_answer"])
def test_a_rotation_that_ends_anywhere_loses_nothing(kind: str, tmp_path: Path) -> None:
    """
    At each of its writes: every holder opens the vault, every point is read, and it can be rotated again. It has either taken place or
    not, for everybody.
    """
    for number in range(1, puts_of_a_rotation() + 1):
        store = MemoryStore()
        vault, recovery = make_vault(store)
        seal(vault, store_tree(vault, OLD), number=0)
        faulty = FaultyStore(store, Fault(kind, "put", at=number))  # type: ignore[arg-type]
        first: Vault = reopen(faulty)
        plan = first.rotation.plan((), ())
        with contextlib.suppress(StoreUnavailable):
            first.rotate(plan)
        opened = {reopen(store, secret)._authority.own.number for secret in (PASSPHRASE, recovery)}
        assert opened in ({0}, {1})
        again = reopen(store)
        assert files_of(again, 0, tmp_path / kind / str(number)) == OLD
        assert_whole(again)
        rotate(again)
        seal(again, store_tree(again, NEW), number=1)
        assert_whole(reopen(store, recovery))


@pytest.mark.parametrize("kind", ["kill", "kill_after"])
def test_a_rotation_that_is_killed_anywhere_loses_nothing(kind: str, tmp_path: Path) -> None:
    """By SIGKILL, before and after each of its writes to a folder."""
    store = LocalStore(tmp_path / "made")
    vault, recovery = make_vault(store)
    seal(vault, store_tree(vault, OLD), number=0)
    for number in range(1, puts_of_a_rotation() + 1):
        folder = tmp_path / str(number)
        shutil.copytree(tmp_path / "made", folder)
        faulty = FaultyStore(LocalStore(folder), Fault(kind, "put", at=number))  # type: ignore[arg-type]
        assert in_child(partial(rotate, reopen(faulty))) == -signal.SIGKILL
        again = reopen(LocalStore(folder), recovery)
        assert files_of(again, 0, tmp_path / f"old-{number}") == OLD
        assert_whole(again)
        rotate(again, PASSPHRASE)
        seal(again, store_tree(again, NEW), number=1)
        assert_whole(reopen(LocalStore(folder)))


def test_an_object_in_the_place_of_a_generation_is_passed_over(store: MemoryStore, vault: Vault) -> None:
    """Whoever may only write to the store can neither stop a rotation nor make one."""
    for number in (1, 2, 4):
        store.put(f"generations/{number:04d}.json", b"mine")
    assert not reopen(store).outdated
    rotate(reopen(store))
    assert "generations/0003.json" in store.objects
    opened = reopen(store)
    assert opened._authority.own.object == "generations/0003.json"
    assert opened._authority.chain.foreign == tuple(f"generations/{n:04d}.json" for n in (1, 2, 4))
    rotate(opened)
    assert reopen(store)._authority.own.object == "generations/0005.json"


def test_an_object_that_is_no_generation_stops_no_writer(store: MemoryStore, vault: Vault) -> None:
    """One that appears while the vault is open is looked at once, and passed over."""
    store.put("generations/0001.json", b"mine")
    seal(vault, store_tree(vault, NEW), number=1)
    rotate(vault)
    assert not reopen(store).outdated


def test_a_lost_generation_is_named_by_whoever_has_only_its_key(store: MemoryStore, vault: Vault) -> None:
    """A vault that was put back to before its rotation does not open with a key that was made after it."""
    rotate(vault)
    _, safe = vault.holders.add_recovery_key("safe")
    kept = store.objects.pop("generations/0001.json")
    with pytest.raises(IntegrityError, match=r"key of generation 1 .* is gone, damaged or another"):
        reopen(store, safe)
    for at in range(0, len(kept), 97):
        store.objects["generations/0001.json"] = flip(kept, at)
        with pytest.raises(IntegrityError):
            reopen(store, safe)


def test_a_lost_generation_is_noticed_by_whoever_held_a_key_before(store: MemoryStore, vault: Vault) -> None:
    """They read as if it had never been, and write nothing: what they would write would not count, and thieves could read it."""
    rotate(vault)
    seal(vault, store_tree(vault, NEW), number=1)
    copy = MemoryStore()
    copy.objects = dict(store.objects)
    del store.objects["generations/0001.json"]
    opened = reopen(store)
    for look in (opened.audit, opened.points):
        with pytest.raises(IntegrityError, match="does not carry a valid signature of this vault"):
            look()
    assert not opened.verify().ok
    before = dict(store.objects)
    for write in (lambda: store_tree(opened, NEW), lambda: opened.record("a", "b", "c"), lambda: rotate(opened)):
        with pytest.raises(IntegrityError, match="the object that tells of generation 1 of the keys"):
            write()
    assert store.objects == before
    healed = heal(opened, Help([copy]), FrozenClock())
    assert healed.left.ok
    assert store.objects["generations/0001.json"] == copy.objects["generations/0001.json"]
    assert len(reopen(store).points()) == 2


def test_a_generation_comes_back_beside_what_lies_in_its_place(store: MemoryStore, vault: Vault) -> None:
    """Nothing is overwritten; it is believed by the signature of the one before, wherever it lies."""
    rotate(vault)
    rotate(vault)
    copy = MemoryStore()
    copy.objects = dict(store.objects)
    store.objects["generations/0001.json"] = flip(store.objects["generations/0001.json"], 40)
    del store.objects["generations/0002.json"]
    opened = reopen(store)
    assert opened.put_back_keys(copy) == ["generations/0002.json", "generations/0003.json"]
    assert len(opened.points()) == len(reopen(store).points()) == 1
    assert opened.holders.generation == 2


def test_a_rotation_that_was_cut_short_keeps_nobody_from_writing(store: MemoryStore, vault: Vault) -> None:
    """Slots of a generation that never was are no lost one: no record is signed with its key."""
    plan = vault.rotation.plan((), ())
    for slot in plan.slots:
        store.put(slot_key(slot), slot)
    opened = reopen(store)
    seal(opened, store_tree(opened, NEW), number=1)
    rotate(opened)
    assert len(reopen(store).points()) == 2


@pytest.mark.parametrize("late", [False, True])
def test_a_lost_roll_comes_back(store: MemoryStore, vault: Vault, late: bool) -> None:
    """That of the rotation, without which nothing can be told, and that of what came too late."""
    before = reopen(store)
    rotate(vault)
    if late:
        before._authority.confirm = lambda: None  # type: ignore[method-assign] - it has looked a moment before the rotation
        before.mark(Mark("flights", f"{POINT}0", "drilled", FrozenClock().now()))
        reopen(store).rotation.adopt(reopen(store).rotation.late())
    copy = MemoryStore()
    copy.objects = dict(store.objects)
    (_, *others) = rolls = sorted(key for key in store.objects if key.startswith("rolls/"))
    lost = {key for key in rolls if not late or store.objects[key] == min(map(store.objects.get, rolls), key=len)}  # type: ignore[arg-type]
    assert bool(others) == late
    for key in lost:
        del store.objects[key]
    if not late:
        with pytest.raises(
            IntegrityError, match=r"what was there when the keys were rotated cannot be told.*rolls/0001"
        ):
            reopen(store).points()
    assert heal(reopen(store), Help([copy]), FrozenClock()).left.ok
    assert {key: store.objects[key] for key in rolls} == {key: copy.objects[key] for key in rolls}


def test_a_lost_roll_is_named(store: MemoryStore, vault: Vault) -> None:
    """Without it nothing from before can be believed, and that is said, not passed over."""
    rotate(vault)
    (roll,) = [key for key in store.objects if key.startswith("rolls/")]
    kept = store.objects.pop(roll)
    with pytest.raises(MusterError, match=roll):
        reopen(store).points()
    store.objects[roll] = flip(kept, len(kept) // 2)
    with pytest.raises(IntegrityError, match=roll):
        reopen(store).points()


@pytest.mark.parametrize("prefix", ["points/", "audit/00000001", "audit/00000000"])
def test_what_was_damaged_during_the_rotation_counts_when_it_comes_back(
    store: MemoryStore, vault: Vault, prefix: str
) -> None:
    """The trail has the digest of a manifest, and each record those of the ones before: a replica's copy is believed."""
    (key,) = [key for key in store.objects if key.startswith(prefix)]
    kept = store.objects[key]
    store.objects[key] = flip(kept, 50)
    rotate(vault)
    store.objects[key] = kept
    assert [status.point.point for status in reopen(store).points()] == [f"{POINT}0"]
    assert_whole(reopen(store))


def test_a_rotated_vault_can_be_rotated_on_a_locked_store(recovery: RecoveryKey) -> None:
    """Nothing is overwritten or removed."""
    store = MemoryStore(locking=True)
    vault, key = make_vault(store)
    seen = FaultyStore(store)
    rotate(reopen(seen))
    assert not [call for call in seen.calls if call[0] == "delete"]
    assert not reopen(store, key).outdated
    assert vault.id == reopen(store).id


@pytest.mark.parametrize("name", ["packs/00", "packs/0", "packs/00/0", "indexes/00", "indexes/zz"])
def test_a_strangers_object_among_the_packs_does_not_spoil_a_rotation(name: str) -> None:
    """A name that is no digest is on no roll: one byte too many would make all digests after it others, and all points forgeries."""
    store = MemoryStore()
    vault, _ = make_vault(store)
    take(vault, FILES)
    store.objects[name] = bytes(99)
    vault.rotate(vault.rotation.plan((), ()))
    assert examined(store, 0) == ([], FILES)
