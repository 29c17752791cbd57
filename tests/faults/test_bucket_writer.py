"""An attacker who may add objects to the vault's store, and may neither overwrite nor delete: docs/threat-model.md names each test."""

from __future__ import annotations

from datetime import timedelta

import pytest

from expiring import expire, files_of, nightly, packs, sealed
from fakes import FrozenClock, MemoryStore
from faults.attackers import THEIRS, Site, assert_content_safe, named, noticed, own_vault, restored
from muster.domain.retention import RetentionPolicy
from muster.errors import AlreadyExists, IntegrityError, WrongKey
from muster.operations.expire import expire_points
from muster.ports import BlobInfo
from muster.vault.layout import LARGEST_SMALL, pack_key
from muster.vault.vault import Vault
from vaults import ACTOR, CHEAP, PASSPHRASE, POINT, make_vault, memory_file, reopen, store_tree

LATE = "points/flights/20991231T235959Z-ffffffff.json"


@pytest.fixture
def site() -> Site:
    return Site()


def plant(site: Site, objects: dict[str, bytes]) -> set[str]:
    """Put what can be put: a name that is taken stays what it is."""
    free = objects.keys() - site.store.objects.keys()
    for key in free:
        site.store.put(key, objects[key])
    return free


# --- forged, and genuine in a wrong place -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    ["points/", "marks/", "packs/", "indexes/", "keys/", "audit/", "damaged/", "condemned/", "generations/", "rolls/"],
)
def test_nothing_that_another_vaults_keys_made_counts(site: Site, kind: str) -> None:
    """
    Whole, well-signed objects under the names that they would have here. A verification names every one, no content, holder, mark,
    point or decision comes of any, and the next snapshot is taken and restored.
    """
    before = site.open().holders.current()
    planted = plant(site, {key: data for key, data in own_vault(site).objects.items() if key.startswith(kind)})
    vault = site.open()
    report = vault.verify()
    assert planted
    assert planted <= named(report) | noticed(report)
    assert (planted <= named(report)) == (kind not in ("keys/", "rolls/", "indexes/"))
    if kind == "keys/":
        assert all("of another vault" in notice.what for notice in report.notices)
    assert_content_safe(site)
    vault = site.open()
    assert vault.holders.current() == before
    assert not vault.holders.generation
    assert not vault.healing.noted()
    assert not vault._condemned.packs()
    assert f"{POINT}9" not in {status.point.point for status in vault.readable_points()}
    assert "forged" not in {mark.summary.get("reason") for status in vault.readable_points() for mark in status.marks}
    with pytest.raises((WrongKey, IntegrityError)):
        site.open(THEIRS)


@pytest.mark.parametrize(
    ("kind", "copy"),
    [
        ("points/", f"points/flights/{POINT}9.json"),
        ("points/", f"points/trains/{POINT}0.json"),
        ("marks/", f"marks/{POINT}0/held-20991231T235959.000000Z.json"),
        ("audit/", f"audit/00000099-{'a' * 64}.json"),
        ("indexes/", f"indexes/{'b' * 64}"),
        ("packs/", f"packs/cc/{'c' * 64}"),
    ],
)
def test_what_is_genuine_in_one_place_is_nothing_in_another(site: Site, kind: str, copy: str) -> None:
    """A manifest of another point or workload, a mark of another point, a record, index or pack of another name: each is named."""
    site.store.put(copy, site.store.objects[site.keys(kind)[-1]])
    report = site.open().verify()
    assert copy in (noticed(report) if kind == "indexes/" else named(report))
    assert_content_safe(site)
    assert len(site.open().readable_points()) == 3
    assert not site.open().readable_points()[0].holds


# --- what stands in the way -------------------------------------------------------------------------------------------


def test_a_planted_latest_point_is_never_restored_and_hides_no_other(site: Site) -> None:
    """It sorts last: ``latest`` fails and names it, points by their ids come back, and with it gone all is as before."""
    site.store.put(LATE, site.store.objects[site.keys("points/")[0]])
    with pytest.raises(IntegrityError, match="20991231T235959Z-ffffffff"):
        site.open().point("latest", "flights")
    assert isinstance(restored(site.open(), 0), dict)
    site.take(LATE)
    assert site.open().point("latest", "flights").point.point == f"{POINT}0"


def test_a_planted_mark_bars_its_point_until_it_is_removed(site: Site) -> None:
    """Nobody can tell rubbish from a mark that spoke against the point and was damaged: it is named, and the point is not given."""
    rubbish = f"marks/{POINT}0/suspect-20261124T000000.000000Z.json"
    site.store.put(rubbish, b"{}")
    with pytest.raises(IntegrityError, match=rubbish):
        site.open().point(f"{POINT}0")
    assert rubbish in named(site.open().verify(share=0.0))
    assert isinstance(restored(site.open(), 1), dict)
    site.take(rubbish)
    assert isinstance(restored(site.open(), 0), dict)


@pytest.mark.parametrize(
    "key", [LATE, f"marks/{POINT}0/held-20261124T000000.000000Z.json", f"audit/00000099-{'a' * 64}.json"]
)
def test_what_cannot_be_read_stops_every_expiry(site: Site, key: str) -> None:
    """It might have been a hold, or need anything: nothing is removed, and the object is named."""
    site.store.put(key, b"{}")
    there = dict(site.store.objects)
    with pytest.raises(IntegrityError, match=key):
        expire_points(site.open(), {"flights": RetentionPolicy(last=1)}, site.clock, apply=True)
    assert {name for name in there if name not in site.store.objects} == set()


@pytest.mark.parametrize(
    "key",
    [
        "points/junk",
        "points/flights/readme.txt",
        "points/flights/deeper/x.json",
        f"marks/{POINT}0/suspect.txt",
        f"marks/{POINT}0/suspect-now.json",
        "audit/zzz",
        f"packs/zz/{'d' * 64}",
        "keys/readme.txt",
        "generations/one.json",
        "condemned/all.json",
        "damaged/all",
        "rolls/0001",
        "anything/else",
    ],
)
def test_names_that_no_vault_has_stand_in_nobodys_way(site: Site, key: str) -> None:
    """Wherever it lies: points, trail, holders, snapshot and expiry go on; a verification tells of it."""
    site.store.put(key, b"?" * 1000)
    vault = site.open()
    assert vault.point("latest").point.point == f"{POINT}0"
    assert len(vault.points()) == 2
    assert vault.audit()
    report = vault.verify()
    assert report.ok, [str(finding) for finding in report.findings]
    assert key in noticed(report)
    assert_content_safe(site)
    expire_points(site.open(), {"flights": RetentionPolicy(last=9)}, site.clock, apply=True)


@pytest.mark.parametrize("key", [f"keys/{'e' * 64}.json", "generations/0001.json"])
def test_an_object_of_any_size_among_the_keys_bars_nobody(key: str) -> None:
    """Nobody who opens the vault reads it, however large: a verification names it."""

    class Large(MemoryStore):
        def list(self, prefix: str = "") -> object:  # type: ignore[override]
            return (BlobInfo(i.key, 1 << 42 if i.key == key else i.size, i.modified) for i in super().list(prefix))

        def get(self, wanted: str) -> bytes:
            assert wanted != key, "four TiB would be read into memory"
            return super().get(wanted)

    store = Large()
    vault, recovery = make_vault(store)
    store.put(key, b"")
    assert max(len(data) for name, data in store.objects.items() if name.startswith("keys/")) * 100 < LARGEST_SMALL
    assert [holder.slot.name for holder in reopen(store, recovery).holders.all()] == ["first", "recovery"]
    assert named(reopen(store).verify()) == {key}
    vault.rotate(vault.rotation.plan((), ()))
    assert not reopen(store).outdated


def test_a_store_filled_with_rubbish_is_told_and_costs_nothing_but_room(site: Site) -> None:
    """Foreign objects by the hundred: all are listed by a verification; below ``probe/`` nothing is, for that is the doctor's."""
    rubbish = {f"backup/{number:03}.tar" for number in range(200)}
    plant(site, dict.fromkeys([*rubbish, "probe/hidden"], b"x" * 10_000))
    report = site.open().verify()
    assert report.ok
    assert noticed(report) == rubbish
    assert_content_safe(site)


# --- names before their writers ---------------------------------------------------------------------------------------


def test_nobody_can_name_a_pack_before_it_is_written() -> None:
    """The same files in the same vault twice give other packs, indexes and slots: no name can be taken before its writer comes."""
    store = MemoryStore()
    make_vault(store)
    twin = MemoryStore()
    twin.objects = dict(store.objects)
    for place in (store, twin):
        store_tree(reopen(place), {"a": b"a" * 1000})
        reopen(place).add_passphrase("new", PASSPHRASE, cost=CHEAP)
    for kind in ("packs/", "indexes/", "keys/"):
        ours, theirs = ({key for key in place.objects if key.startswith(kind)} for place in (store, twin))
        assert len(ours) == len(theirs) > 0
        assert len(ours & theirs) == (2 if kind == "keys/" else 0), "those of its creation"


def test_the_name_of_a_removed_pack_cannot_be_squatted() -> None:
    """
    Expiry removed a pack that an index still names. Rubbish of its size under its name is not built upon: what it held is stored anew.
    """
    clock = FrozenClock()
    store = MemoryStore(clock)
    make_vault(store, clock)
    nightly(reopen(store, clock=clock), clock, 1)
    once = {pack: len(store.objects[pack_key(pack)]) for pack in packs(store)}
    nightly(reopen(store, clock=clock), clock, 3, first=1)
    for key in [key for key in store.objects if key.startswith("indexes/")]:
        del store.objects[key]
    store_tree(reopen(store, clock=clock), {"makes": b"one index over all packs"})
    for _ in range(3):
        expire(store, clock)
        clock.advance(timedelta(days=4).total_seconds())
    (gone,) = once.keys() - packs(store)
    store.put(pack_key(gone), bytes(once[gone]))
    writer = reopen(store, clock=clock)
    own = "night-0"
    tree = store_tree(writer, [memory_file(own, files_of(0)[own])])
    point = sealed(writer, clock, tree)
    assert gone not in point.packs
    reader = reopen(store, clock=clock)
    assert reader.tree(tree).read(next(iter(reader.tree(tree).entries()))) == files_of(0)[own]
    assert pack_key(gone) in named(reader.verify())
    expire(store, clock)
    assert gone not in packs(store), "it was condemned long ago"


def test_a_vault_cannot_be_made_where_somebody_was_first(site: Site) -> None:
    """Nor over what is left of one: whoever lays a ``vault.json`` there first only keeps a vault from being made."""
    taken = MemoryStore()
    taken.put("vault.json", b"{}")
    for place in (taken, site.store):
        with pytest.raises(AlreadyExists):
            Vault.create(place, PASSPHRASE, clock=site.clock, actor=ACTOR, cost=CHEAP)
    assert taken.objects == {"vault.json": b"{}"}
