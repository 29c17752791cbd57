"""
A thief of the signing key alone, who may add to the store: docs/threat-model.md names each test. What follows a rotation stands in
tests/unit/test_vault_stolen_keys.py.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from faults.attackers import FIRST, SECOND, THEIRS, Site, assert_content_safe, named, restored
from muster.domain.content import ContentRef, TreeRef
from muster.domain.recovery_point import Mark, MarkKind
from muster.errors import IntegrityError, WrongKey
from muster.vault.anchors import Anchor
from muster.vault.audit import AuditTrail
from muster.vault.envelope import SigningKey
from muster.vault.generations import NewGeneration, first_generation, make_generation
from muster.vault.header import read_header
from muster.vault.holders import generate_recovery_key
from muster.vault.keys import MasterKey
from muster.vault.layout import digest
from muster.vault.points import Points
from muster.vault.rolls import make_roll
from muster.vault.slots import SlotMaker, slot_key
from muster.vault.vault import Vault
from vaults import ACTOR, CHEAP, POINT, store_tree


@dataclass
class Thief:
    """Whoever has the private signing key and no master key: they open nothing, and sign what they can read in the store."""

    site: Site
    key: SigningKey

    @property
    def vault(self) -> str:
        return read_header(self.site.store.objects["vault.json"]).id

    @property
    def points(self) -> Points:
        return Points(self.site.store, self.key, self.vault)

    def record(self, action: str, subject: str, details: dict[str, str]) -> None:
        header = read_header(self.site.store.objects["vault.json"])
        trail = AuditTrail(self.site.store, self.key, header)
        trail.append(self.site.clock.advance(1), ACTOR, action, subject, "done", details)

    def mark(self, kind: MarkKind, number: int, summary: dict[str, str]) -> None:
        at = self.site.clock.advance(1)
        self.points.write_mark(Mark("flights", f"{POINT}{number}", kind, at, summary))  # type: ignore[arg-type]


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def thief(site: Site) -> Thief:
    return Thief(site, SigningKey(site.open()._authority.signer.private))


def test_the_signing_key_is_nowhere_without_the_master_key(site: Site, thief: Thief) -> None:
    """In the store it lies sealed, before a rotation and after: it is stolen from a process that has the vault open, or not at all."""
    vault = site.open()
    vault.rotate(vault.rotation.plan((), ()))
    everything = b"".join(site.store.objects.values())
    for key in (thief.key, site.open()._authority.signer):
        raw = key.private.private_bytes_raw()
        assert raw not in everything
        assert raw.hex().encode() not in everything


def test_an_old_content_can_be_passed_off_as_the_latest(site: Site, thief: Thief) -> None:
    """A new manifest over what an old one names is believed, and restores. The trail does not tell of it: a verification says so."""
    old = thief.points.read(site.keys("points/")[0])[0]
    thief.points.write(replace(old, point=f"{POINT}8"), thief.points.read(site.keys("points/")[1])[1])
    latest = site.open().point("latest").point
    assert latest.point == f"{POINT}8"
    assert restored(site.open(), 8) == FIRST
    report = site.open().verify()
    assert report.ok
    assert [notice.object for notice in report.notices] == [f"points/flights/{POINT}8.json"]


def test_no_content_of_their_own_can_be_put_into_a_point(site: Site, thief: Thief) -> None:
    """Chunks are sealed under the master key: packs of any other are not read, and a manifest that names them restores nothing."""
    own = Vault.create(type(site.store)(), THEIRS, clock=site.clock, actor=ACTOR, cost=CHEAP)[0]
    poison = store_tree(own, {"model.pkl": b"poison"})
    for key, data in own._store.objects.items():  # type: ignore[attr-defined]
        if key.startswith(("packs/", "indexes/")):
            site.store.put(key, data)
    old = thief.points.read(site.keys("points/")[0])[0]
    made_up = TreeRef(ContentRef(5, digest(b"aaaaa"), ("ab" * 32,)), 1, 1, 5)
    for number, tree in ((7, poison), (8, made_up)):
        component = replace(old.components[0], tree=tree)
        thief.points.write(replace(old, point=f"{POINT}{number}", components=(component,)), Anchor(("0" * 64,)))
        assert "is in no pack" in str(restored(site.open(), number))
        assert f"points/flights/{POINT}{number}.json" in named(site.open().verify())
    assert_content_safe(site)


def test_marks_can_be_forged_for_and_against_points(site: Site, thief: Thief) -> None:
    """A good point made suspect, or a hold released: believed. The trail does not tell of them: a verification says so."""
    (hold,) = site.open().point(f"{POINT}1").holds
    thief.mark("suspect", 0, {"reason": "forged"})
    thief.mark("released", 1, {"reason": "forged", "holds": [hold.at.isoformat()]})  # type: ignore[dict-item]
    first, second = site.open().points()
    assert first.suspect
    assert not second.holds
    noticed = {notice.object for notice in site.open().verify().notices}
    assert {key for key in site.keys("marks/") if b"forged" in _payload(site.store.objects[key])} == noticed


def test_records_can_be_forged_and_none_removed(site: Site, thief: Thief) -> None:
    """The trail tells then what never was; what was is still told."""
    before = site.open().audit()
    thief.record("expire", f"points/flights/{POINT}0.json", {})
    after = site.open().audit()
    assert after[:-1] == before
    assert restored(site.open(), 0) == FIRST
    assert [notice.object for notice in site.open().verify().notices] == [f"points/flights/{POINT}0.json"]


def test_a_forged_holder_gets_the_next_master_key_unless_the_plan_is_read(site: Site, thief: Thief) -> None:
    """
    For a recovery key its public part is enough, so a slot for their own and a signed record of it make the thief a holder: of nothing
    now, and of everything at the next rotation. The plan names the holder; left out, it stays without.
    """
    mine = generate_recovery_key()
    rubbish = MasterKey.generate()
    slot = SlotMaker(rubbish, thief.vault, "2026-11-23T02:00:00Z").recovery("spare", mine.private().public_key())
    site.store.put(slot_key(slot), slot)
    thief.record("keys.add", slot_key(slot), {"name": "spare", "sha256": digest(slot)})
    with pytest.raises(IntegrityError):
        site.open(mine)
    listed = {holder.slot.name: holder.proven_at for holder in site.open().holders.current()}
    assert listed == {"first": listed["first"], "recovery": listed["recovery"], "spare": None}
    vault = site.open()
    assert "spare" in {holder.name for holder in vault.rotation.plan((), ()).holders}
    careful = dict(site.store.objects)
    vault.rotate(vault.rotation.plan((), ()))
    assert restored(site.open(mine), 1) == SECOND
    site.store.objects = careful
    vault = site.open()
    vault.rotate(vault.rotation.plan((), ["spare"]))
    with pytest.raises(IntegrityError):
        site.open(mine)


def test_a_forged_rotation_ends_all_writing_and_no_reading(site: Site, thief: Thief) -> None:
    """It takes place: from then on our keys read what was there, and nothing that we sign counts. A new vault is needed."""
    before = first_generation(site.store.objects["vault.json"])
    master, signer = MasterKey.generate().successor(), SigningKey(Ed25519PrivateKey.generate())
    roll_key, roll = make_roll(
        signer, thief.vault, 1, site.clock.now(), [digest(d) for d in site.store.objects.values()]
    )
    new = NewGeneration(master, signer, site.clock.now(), ACTOR, (), digest(roll), "0" * 64)
    site.store.put(roll_key, roll)
    site.store.put("generations/0001.json", make_generation(before, thief.key, new))
    vault = site.open()
    assert vault.outdated
    assert [restored(vault, number) for number in (0, 1)] == [FIRST, SECOND]
    with pytest.raises(WrongKey, match="were rotated"):
        store_tree(vault, {"x": b"x"})


def _payload(data: bytes) -> bytes:
    return base64.b64decode(json.loads(data)["payload"])
