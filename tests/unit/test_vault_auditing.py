"""Whatever is done to an audit trail is found, and said: in the trail itself, by what names its records, by copies and other vaults."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from fakes import FrozenClock, MemoryStore
from muster.domain.content import TreeRef
from muster.domain.recovery_point import Mark
from muster.errors import IntegrityError
from muster.ports import BlobInfo, BlobStore
from muster.vault.anchors import Anchor
from muster.vault.audit import AuditTrail
from muster.vault.auditing import ANCHOR, ANCHORED, AuditReport
from muster.vault.vault import Vault
from vaults import ACTOR, POINT, flip, make_vault, reopen, seal, store_tree


@pytest.fixture
def store() -> MemoryStore:
    """A vault with a sealed point amid what was done before and after it."""
    store, clock = MemoryStore(), FrozenClock()
    vault, _ = make_vault(store, clock)
    for number in range(3):
        vault.record("act", str(number), "ok")
    seal(vault, tree_of(vault))
    for number in range(3, 6):
        vault.record("act", str(number), "ok")
    return store


def tree_of(vault: Vault) -> TreeRef:
    return store_tree(vault, {"a": b"content"})


def records(store: MemoryStore) -> list[str]:
    """The objects of the trail, oldest first."""
    return sorted(key for key in store.objects if key.startswith("audit/"))


def check(store: MemoryStore, **asked: object) -> AuditReport:
    return reopen(store).auditing.check(**asked)  # type: ignore[arg-type]


def said(report: AuditReport) -> str:
    return "\n".join(str(finding) for finding in report.findings)


def copy_of(store: MemoryStore) -> MemoryStore:
    copy = MemoryStore()
    copy.objects = dict(store.objects)
    return copy


def test_a_whole_trail_is_whole(store: MemoryStore) -> None:
    """Nothing is found, and it is told how many documents agree."""
    report = check(store)
    assert report.findings == report.notices == ()
    assert len(report.records) == report.anchor.count == 8
    assert report.anchor.heads == (report.records[-1].digest,)
    assert report.anchors == 1


def test_a_record_removed_from_the_middle_is_missed(store: MemoryStore) -> None:
    """The record that follows it is named."""
    gone = records(store)[2]
    del store.objects[gone]
    assert f"the record {gone.rpartition('-')[2][:-5]} that it follows is missing" in said(check(store))


def test_the_first_record_is_missed(store: MemoryStore) -> None:
    del store.objects[records(store)[0]]
    assert "does not begin with the creation of this vault" in said(check(store))


def test_a_trail_cut_off_before_a_point_is_found_by_its_manifest(store: MemoryStore) -> None:
    """What is left is whole in itself; the manifest says how many records there were, and which was newest."""
    newest = records(store)[3].rpartition("-")[2][:-5]
    for key in records(store)[3:]:
        del store.objects[key]
    report = check(store)
    assert said(report) == (
        f"points/flights/{POINT}0.json: the audit record {newest}, newest of 4 when it was written, is gone, and 3 are there: "
        f"the trail was cut off; points: {POINT}0"
    )
    assert said(report) in "\n".join(str(f) for f in reopen(store).verify().findings)


def test_a_trail_cut_off_before_a_mark_is_found_by_the_mark(store: MemoryStore) -> None:
    """Marks are newer than their points, and each names what was newest when it was written; its point stays a good one."""
    vault = reopen(store)
    vault.mark(Mark("flights", f"{POINT}0", "verified", FrozenClock().now()))
    for key in records(store)[-2:]:
        del store.objects[key]
    report = check(store)
    assert [finding.object.partition("/")[0] for finding in report.findings] == ["marks"]
    assert "newest of 8 when it was written, is gone, and 7 are there: the trail was cut off" in said(report)
    assert report.findings[0].points == ()


def test_a_trail_cut_off_before_a_rotation_is_found_by_the_rotation() -> None:
    """A generation of keys names the newest record before it."""
    store = MemoryStore()
    vault, _ = make_vault(store)
    vault.record("act", "x", "ok")
    vault.rotate(vault.rotation.plan((), ()))
    for key in records(store)[1:]:
        del store.objects[key]
    report = check(store)
    assert "generations/0001.json: the audit record" in said(report)
    assert "the trail was cut off" in said(report)


def test_marks_of_one_process_do_not_list_the_trail_once_more_each(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a process wrote last is an anchor as good as any: one listing for each record, and one before the first."""
    vault, listed = reopen(store), []
    listing = MemoryStore.list
    monkeypatch.setattr(
        MemoryStore,
        "list",
        lambda self, prefix="": listed.append(prefix) or listing(self, prefix),  # type: ignore[func-returns-value]
    )
    for _ in range(3):
        vault.mark(Mark("flights", f"{POINT}0", "verified", FrozenClock().advance(1)))
    assert listed.count("audit/") == 4


def test_the_newest_records_are_missed_by_whoever_saw_them(store: MemoryStore) -> None:
    """Nothing in the vault names them; a note of the newest elsewhere does."""
    seen = check(store).anchor.head
    del store.objects[records(store)[-1]]
    assert check(store).ok
    assert f"the record {seen}, which was seen here earlier, is gone" in said(check(store, heads=[seen]))


@pytest.mark.parametrize(
    ("at", "told"), [(5, "is not as it was written"), (300, "does not carry a valid signature of this vault")]
)
def test_an_edited_record_is_named(store: MemoryStore, at: int, told: str) -> None:
    """One bit anywhere: in the envelope, in what was signed."""
    key = records(store)[4]
    store.objects[key] = flip(store.objects[key], at)
    report = check(store)
    assert told in {finding.object: finding.what for finding in report.findings}[key]


def test_records_in_another_order_are_named(store: MemoryStore) -> None:
    """Two that change places: each says which number it has."""
    one, two = records(store)[4:6]
    first, second = one.replace("00000004", "00000005"), two.replace("00000005", "00000004")
    store.objects[first], store.objects[second] = store.objects.pop(one), store.objects.pop(two)
    found = {finding.object: finding.what for finding in check(store).findings}
    for key in (first, second):
        assert "it is not the record that its name says" in found[key]


def test_a_record_of_another_vault_is_named(store: MemoryStore) -> None:
    """Signed by somebody else."""
    other = make_vault(stranger := MemoryStore())[0]
    other.record("act", "x", "ok")
    store.objects[records(stranger)[-1]] = stranger.objects[records(stranger)[-1]]
    report = check(store)
    assert [finding.object for finding in report.findings] == [records(stranger)[-1]]
    assert "it is signed with another key" in said(report)


def test_an_object_that_no_record_can_be_is_noticed(store: MemoryStore) -> None:
    """It harms nothing, and is no part of the trail."""
    store.objects["audit/readme.txt"] = b"hello"
    report = check(store)
    assert report.ok
    assert [notice.object for notice in report.notices] == ["audit/readme.txt"]


def test_a_fork_signed_with_a_replaced_key_is_named(store: MemoryStore) -> None:
    """Whoever stole the key before the rotation adds a record after it: it is on no roll."""
    old = reopen(store)
    old_signer = old._authority.signer
    vault = reopen(store)
    vault.rotate(vault.rotation.plan((), ()))
    forged = AuditTrail(store, old_signer, old._header).append(
        FrozenClock().now(), ACTOR, "expire", "points/flights/x.json", "removed", {}
    )
    report = check(store)
    assert [finding.object for finding in report.findings] == [forged.key]
    assert "was signed with the key of generation 0, which was replaced" in said(report)


def test_newer_records_written_anew_by_whoever_has_the_key_are_found_by_the_manifest(store: MemoryStore) -> None:
    """The thief of a key removes what tells of them and signs another story of the same length: the manifest names the true one."""
    for key in records(store)[3:]:
        del store.objects[key]
    thief = reopen(store)
    for number in range(5):
        thief.record("act", f"innocent {number}", "ok")
    report = check(store)
    assert [finding.object for finding in report.findings] == [f"points/flights/{POINT}0.json"]
    assert "the trail was cut off" in said(report)


def test_a_manifest_that_cannot_be_read_leaves_the_trail_unproved(store: MemoryStore) -> None:
    """Otherwise damaging a manifest would be as good as removing what it names."""
    key = f"points/flights/{POINT}0.json"
    store.objects[key] = flip(store.objects[key], 300)
    assert f"{key}: what it says of the trail cannot be known" in said(check(store))


# --- copies -----------------------------------------------------------------------------------------------------------


def test_what_was_cut_off_here_is_in_the_copy(store: MemoryStore) -> None:
    """Each record that the copy has more is named, with what it tells."""
    copy = copy_of(store)
    gone = records(store)[-2:]
    for key in gone:
        del store.objects[key]
    report = check(store, copies=[copy])
    assert sorted(finding.object for finding in report.findings) == gone
    assert "has it and the vault has not (act 5 by tester on 2026-11-23" in said(report)


def test_an_older_copy_is_no_finding(store: MemoryStore) -> None:
    """It lags behind, and is told to."""
    copy = copy_of(store)
    reopen(store).record("act", "later", "ok")
    report = check(store, copies=[copy])
    assert report.ok
    assert [notice.what for notice in report.notices] == [f"the copy {copy.url} lacks 1 of 9 records: it is older"]


@pytest.mark.parametrize(
    ("tamper", "told"),
    [
        (lambda copy, key: copy.objects.update({key: flip(copy.objects[key], 5)}), "is not as it was written"),
        (lambda copy, key: copy.objects.update({key: flip(copy.objects[key], 300)}), "valid signature of this vault"),
    ],
)
def test_a_copy_that_was_tampered_with_is_named(
    store: MemoryStore, tamper: Callable[[MemoryStore, str], object], told: str
) -> None:
    """The finding says that it is the copy's."""
    copy = copy_of(store)
    tamper(copy, records(copy)[3])
    report = check(store, copies=[copy])
    assert told in said(report)
    assert all(finding.object.startswith(copy.url) for finding in report.findings)


class Busy(MemoryStore):
    """A place in which something happens just before it is listed."""

    def __init__(self, objects: dict[str, bytes], before: Callable[[], None]) -> None:
        super().__init__(name="busy")
        self.objects, self.before = objects, before

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        self.before()
        return super().list(prefix)


def test_what_is_written_and_copied_while_a_trail_is_compared_was_not_removed(store: MemoryStore) -> None:
    """The vault is read before the copy; what the copy has more is looked for in the vault once more."""

    def work_goes_on() -> None:
        reopen(store).record("act", "meanwhile", "ok")
        copy.objects = dict(store.objects)

    copy = Busy(dict(store.objects), work_goes_on)
    report = check(store, copies=[copy])
    assert (report.findings, report.notices) == ((), ())


def test_what_the_copy_has_more_is_told_unless_it_is_whole_in_the_vault(store: MemoryStore) -> None:
    """A record that was removed, and one that was damaged, are looked for once more as well, and not found."""
    copy = copy_of(store)
    gone, hurt = records(store)[-2:]
    del store.objects[gone]
    store.objects[hurt] = flip(store.objects[hurt], 300)
    report = check(store, copies=[copy])
    told = {finding.object for finding in report.findings if "has it and the vault has not" in finding.what}
    assert told == {gone, hurt}


@pytest.mark.parametrize("late", [[0], [3], [2, 3, 4]])
def test_records_that_reach_a_copy_after_those_that_follow_them_are_noticed(
    store: MemoryStore, late: list[int]
) -> None:
    """A bucket is copied in any order; what the vault has is not lost."""
    copy = copy_of(store)
    for number in late:
        del copy.objects[records(store)[number]]
    del copy.objects[records(store)[-1]]
    report = check(store, copies=[copy])
    assert report.ok
    lacks = f"it lacks {len(late)} records that others in it follow"
    assert [lacks in report.notices[-1].what, "lacks 1 of 8 records" in report.notices[0].what] == [True, True]


def test_a_record_that_neither_the_vault_nor_the_copy_has_is_missed_in_both(store: MemoryStore) -> None:
    """Then nothing says that it is on its way."""
    del store.objects[records(store)[3]]
    copy = copy_of(store)
    report = check(store, copies=[copy])
    told = [finding.object for finding in report.findings if "that it follows is missing" in finding.what]
    assert told == ["audit/", f"{copy.url} audit/"]


# --- other vaults -----------------------------------------------------------------------------------------------------


@pytest.fixture
def other() -> MemoryStore:
    """Another vault, at another place."""
    other = MemoryStore()
    make_vault(other)
    return other


def anchor(store: BlobStore, other: BlobStore) -> Anchor:
    return reopen(store).auditing.anchor_in(reopen(other).auditing)


def test_a_trail_that_is_cut_off_is_found_by_the_vault_in_which_it_was_anchored(
    store: MemoryStore, other: MemoryStore
) -> None:
    """Although every document of its own that named the records is gone with them."""
    newest = anchor(store, other).head
    assert check(store, others=[reopen(other).auditing]).ok
    for key in [key for key in store.objects if key.startswith(("points/", "marks/"))] + records(store)[3:]:
        del store.objects[key]
    assert check(store).ok
    report = check(store, others=[reopen(other).auditing])
    assert f"the audit record {newest}, newest of 8 when it was written, is gone, and 3 are there" in said(report)
    assert other.url in said(report)


def test_each_vault_proves_the_other(store: MemoryStore, other: MemoryStore) -> None:
    """The anchored vault names the record of its anchor, so that this is missed as well."""
    anchor(store, other)
    del other.objects[records(other)[-1]]
    report = check(store, others=[reopen(other).auditing])
    assert "that it names: that trail was cut off" in said(report)


def test_a_broken_trail_of_the_other_vault_is_told(store: MemoryStore, other: MemoryStore) -> None:
    """It proves nothing then."""
    anchor(store, other)
    reopen(other).record("act", "x", "ok")
    del other.objects[records(other)[1]]
    assert "that it follows is missing" in said(check(store, others=[reopen(other).auditing]))


def test_damage_in_the_other_vault_is_told_with_its_place(store: MemoryStore, other: MemoryStore) -> None:
    """It is no damage of this one."""
    place = MemoryStore(name="elsewhere")
    place.objects = other.objects
    anchor(store, place)
    hurt = records(place)[-1]
    place.objects[hurt] = flip(place.objects[hurt], 300)
    place.objects["audit/readme.txt"] = b"hello"
    report = check(store, others=[reopen(place).auditing])
    bare = [finding for finding in report.findings if not finding.object.startswith("memory://elsewhere ")]
    assert ["that trail was cut off" in finding.what for finding in bare] == [True]
    assert f"memory://elsewhere {hurt}" in {finding.object for finding in report.findings}
    assert "memory://elsewhere audit/readme.txt" in {notice.object for notice in report.notices}


def test_an_anchor_that_cannot_be_read_is_a_finding(store: MemoryStore, other: MemoryStore) -> None:
    """Whatever is in the other vault, the check comes to its end."""
    strange = reopen(other).record(ANCHOR, reopen(store).id, "anchored", {"trail": {"heads": 7}})
    report = check(store, others=[reopen(other).auditing])
    assert f"{other.url} {strange.key}: what it says of this trail cannot be known" in said(report)


def test_an_anchor_set_while_a_trail_is_checked_is_no_finding(store: MemoryStore, other: MemoryStore) -> None:
    """It names records that came after this trail was read, or is named by one that came after the other trail was."""

    def work_goes_on() -> None:
        theirs.before, ours.before = quiet, work_still_goes_on
        reopen(store).record("act", "meanwhile", "ok")
        anchor(store, other)

    def work_still_goes_on() -> None:
        ours.before = quiet
        anchor(store, other)

    def quiet() -> None:
        pass

    ours, theirs = Busy(store.objects, quiet), Busy(other.objects, quiet)
    one, another = reopen(ours).auditing, reopen(theirs).auditing
    theirs.before = work_goes_on
    report = one.check(others=[another])
    assert (said(report), report.anchors) == ("", 2)
    assert [record.action for record in reopen(store).audit()][-3:] == ["act", ANCHORED, ANCHORED]


def test_another_vault_that_knows_nothing_is_noticed(store: MemoryStore, other: MemoryStore) -> None:
    report = check(store, others=[reopen(other).auditing])
    assert report.ok
    assert "knows nothing of this vault" in str(report.notices[0])


def test_a_broken_trail_is_not_anchored(store: MemoryStore, other: MemoryStore) -> None:
    """Nobody vouches for what is not whole; nothing is written to either vault."""
    del store.objects[records(store)[2]]
    before = dict(store.objects), dict(other.objects)
    with pytest.raises(IntegrityError, match="is missing"):
        anchor(store, other)
    assert (store.objects, other.objects) == before


# --- what is written --------------------------------------------------------------------------------------------------


def test_a_manifest_of_a_forked_trail_names_every_end(store: MemoryStore) -> None:
    """Cutting off either branch is noticed."""
    vault = reopen(store)
    last = vault.audit()[-1]
    vault.record("act", "one branch", "ok")
    vault._trail._put(replace(last, parents=(last.digest,), seq=last.seq + 1, before=8, subject="other", digest=""))
    ends = vault._trail.anchor()
    assert (len(ends.heads), ends.count) == (2, 10)
    seal(vault, tree_of(vault), number=1)
    for end in ends.heads:
        (key,) = (key for key in records(store) if end in key)
        data = store.objects.pop(key)
        assert f"points/flights/{POINT}1.json: the audit record {end}" in said(check(store))
        store.objects[key] = data
    assert check(store).ok


def test_a_lost_record_that_only_a_mark_names_comes_back_from_a_copy(store: MemoryStore) -> None:
    """Healing brings back what signed documents speak of."""
    vault = reopen(store)
    vault.mark(Mark("flights", f"{POINT}0", "verified", FrozenClock().now()))
    copy = copy_of(store)
    for key in records(store)[-2:]:
        del store.objects[key]
    reopen(store).healing.put_back(copy)
    assert said(check(store)) == ""


def test_the_newest_records_are_read_without_the_whole_trail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a time and later, and the last before them."""
    store, clock = MemoryStore(), FrozenClock()
    vault, _ = make_vault(store, clock)
    for number in range(40):
        clock.advance(10)
        vault.record("act", str(number), "ok")
    at = clock.advance(10)
    vault.record("act", "now", "ok")
    again, read = reopen(store), []
    getting = MemoryStore.get
    monkeypatch.setattr(MemoryStore, "get", lambda self, key: read.append(key) or getting(self, key))  # type: ignore[func-returns-value]
    since, proof = again.auditing.since(at)
    assert [record.subject for record in since] == ["now"]
    assert proof.complete
    assert (proof.count, proof.records, proof.heads) == (42, 1, (since[0].digest,))
    assert (proof.before,) == since[0].parents
    assert len([key for key in read if key.startswith("audit/")]) < 20
    del store.objects[max(key for key in records(store) if proof.before in key)]
    assert not reopen(store).auditing.since(at)[1].complete


def test_a_run_with_a_record_that_cannot_be_read_is_not_proved() -> None:
    """Nobody knows what it told; that its name is there proves nothing."""
    store, clock = MemoryStore(), FrozenClock()
    vault, _ = make_vault(store, clock)
    at = clock.advance(10)
    for number in range(20):
        vault.record("act", str(number), "ok")
    assert reopen(store).auditing.since(at)[1].complete
    for hurt in (records(store)[1], records(store)[-1]):
        whole = store.objects[hurt]
        store.objects[hurt] = flip(whole, 300)
        since, proof = reopen(store).auditing.since(at)
        assert (len(since), proof.complete) == (19, False)
        store.objects[hurt] = whole


def test_a_vault_was_made_during_a_run_only_if_its_first_record_is_one_of_the_run() -> None:
    """That none before it can be read is something else."""
    store, clock = MemoryStore(), FrozenClock()
    vault, _ = make_vault(store, clock)
    begin, at = clock.now(), clock.advance(10)
    vault.record("act", "x", "ok")
    assert reopen(store).auditing.since(begin)[1].made
    first = records(store)[0]
    store.objects[first] = flip(store.objects[first], 300)
    proof = reopen(store).auditing.since(at)[1]
    assert (proof.before, proof.made, proof.complete) == ("", False, False)
