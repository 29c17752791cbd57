"""What the doctor finds where a store or a schedule does not keep its promise."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fakes import FrozenClock, MemoryStore
from muster.adapters.object_store import S3Store
from muster.catalog import Catalog, VaultConfig
from muster.catalog.model import Dataset, Objectives, Retention, Workload
from muster.cli.doctor import LEAST_FREE_BYTES, examine
from muster.cli.screen import Screen
from muster.cli.session import Options, Session
from muster.domain.recovery_point import Component, RecoveryPoint
from muster.ports import BlobStore
from muster.vault.keys import ScryptCost
from muster.vault.sources import bytes_file
from muster.vault.vault import Actor, Passphrase, Vault
from servers import S3Server

ACTOR = Actor("ops", "host", "cli")


class CarelessStore(MemoryStore):
    """A store that lets anybody write over anything."""

    def put(self, key: str, data: bytes) -> None:
        self.objects[key] = data


class OneVault(Session):
    """A session whose only vault lies in a given store."""

    def __init__(self, store: BlobStore, vault: Vault, state: Path, lock: timedelta | None = None) -> None:
        super().__init__(Options(vault="primary", state=state), Screen(as_json=True))
        self._store, self._vault = store, vault
        self.catalog_directory = None
        self.catalog = Catalog(
            {
                "w": Workload(
                    workload="w",
                    owner="ops",
                    objectives=Objectives(rpo=timedelta(hours=1), rto=timedelta(hours=1)),
                    datasets=(Dataset(name="d", repo="nowhere"),),
                    vault="primary",
                    retention=Retention(daily=30, lock=lock) if lock else None,
                )
            },
            {"primary": VaultConfig(url="conn:v", passphrase="conn:p")},
        )

    def store(self, name: str) -> BlobStore:
        return self._store

    def vault(self, name: str) -> Vault:
        return self._vault


def a_session(
    tmp_path: Path,
    store: BlobStore,
    taken_at: datetime | None = None,
    wanted: timedelta | None = None,
    lock: timedelta | None = None,
) -> OneVault:
    """A vault with one point of workload w, or with none; the catalog wants a lock, and the point has one."""
    clock = FrozenClock(taken_at or datetime.now(UTC))
    vault, _ = Vault.create(store, Passphrase("x"), clock=clock, actor=ACTOR, cost=ScryptCost(n=2))
    if taken_at:
        with vault.writer() as writer:
            tree = writer.store_tree([bytes_file("a", b"a")])
        component = Component("dataset", "d", tree, taken_at, "held still")
        vault.seal(
            RecoveryPoint(
                1,
                vault.id,
                "w",
                "20261123T020000Z-00000000",
                taken_at,
                taken_at,
                None,
                (component,),
                (),
                {"rpo_s": 1.0, "rto_s": 1.0},
                {},
                "0",
            ),
            lock,
        )
    return OneVault(store, vault, tmp_path, wanted)


def found(session: Session) -> dict[str, tuple[bool, str]]:
    return {finding.check: (finding.ok, finding.found) for finding in examine(session)}


def test_a_store_that_lets_itself_be_written_over_is_found_out_unharmed(tmp_path: Path) -> None:
    """The promise is tried on an object of the doctor's own, which is removed again."""
    store = CarelessStore()
    session = a_session(tmp_path, store)
    before = dict(store.objects)
    check = "vault primary: an object is never overwritten"
    ok, told = found(session)[check]
    assert not ok
    assert "took the place of the first" in told
    assert store.objects == before
    assert found(a_session(tmp_path, MemoryStore()))[check][0]


def test_a_vault_that_one_key_opens_is_found_out(tmp_path: Path) -> None:
    """Two holders are well; one is a failure, as long as another can still be added; a proof that is old is told."""
    session = a_session(tmp_path, MemoryStore(), datetime.now(UTC))
    check = "vault primary holders"
    assert found(session)[check] == (True, "2 can open it: first, recovery")
    session.vault("primary").holders.revoke("recovery")
    ok, told = found(session)[check]
    assert not ok
    assert "only first can open this vault" in told
    old = a_session(tmp_path, MemoryStore())
    old.vault("primary")._clock.advance(100 * 86_400)  # type: ignore[attr-defined]
    (finding,) = [finding for finding in examine(old) if finding.check == check]
    assert (finding.verdict, finding.ok) == ("none", True)
    assert "for 100 days nobody has proven" in finding.found


def test_a_store_that_removes_what_is_locked_is_found_out(tmp_path: Path) -> None:
    """A lock that is taken and not kept is named; one that is kept is well, and one that nobody promises is no failure."""
    check = "vault primary: a locked object cannot be deleted"
    verdicts = {
        "fail": MemoryStore(locking=True),
        "ok": MemoryStore(locking=True),
        "none": MemoryStore(),
    }
    verdicts["fail"].locks().forbid = lambda key: None  # type: ignore[union-attr,method-assign]
    for verdict, store in verdicts.items():
        (finding,) = [finding for finding in examine(a_session(tmp_path, store)) if finding.check == check]
        assert finding.verdict == verdict
        assert finding.ok == (verdict != "fail")
        assert bool(finding.mend) == (verdict != "ok")


@pytest.mark.parametrize(("locking", "says"), [(False, "cannot lock"), (True, "is not locked")])
def test_a_lock_that_is_wanted_and_not_there_is_found_out(tmp_path: Path, locking: bool, says: str) -> None:
    """The catalog asks for a lock: a store that cannot, and a point that was sealed without, are failures."""
    session = a_session(tmp_path, MemoryStore(locking=locking), datetime.now(UTC), wanted=timedelta(days=7))
    ok, told = found(session)["w lock"]
    assert not ok
    assert says in told


def test_locks_are_compared_with_what_the_point_promises(tmp_path: Path) -> None:
    """A point that is locked as it says is well; one of whose packs the lock was lifted is not."""
    store = MemoryStore(locking=True)
    session = a_session(tmp_path, store, datetime.now(UTC), wanted=timedelta(days=7), lock=timedelta(days=7))
    ok, told = found(session)["w lock"]
    assert ok
    assert "1 of 1 packs" in told
    (pack,) = store.list("packs/")
    del store.locks().by_key[pack.key]  # type: ignore[union-attr]
    ok, told = found(session)["w lock"]
    assert not ok
    assert f"{pack.key}: not locked" in told


@pytest.mark.servers
def test_what_somebody_has_hidden_is_found_out_and_uncovered(tmp_path: Path, ceph_s3: S3Server) -> None:
    """A delete marker over the vault's header is named; told to, the doctor takes it away and records that."""
    bucket = ceph_s3.make_bucket(lock=True)
    session = a_session(tmp_path, S3Store(ceph_s3.location(bucket)))
    check = "vault primary: nothing is hidden"
    assert found(session)[check][0]
    ceph_s3.client.delete_object(Bucket=bucket, Key="vault.json")
    ok, told = found(session)[check]
    assert not ok
    assert "vault.json under a delete marker" in told
    list(examine(session, uncover=True))
    assert found(session)[check] == (True, "no object lies under another or a delete marker")
    assert session.vault("primary").audit()[-1].subject == "vault.json"


def test_a_point_older_than_the_objective_is_found_out(tmp_path: Path) -> None:
    """What was promised is compared with the age of the latest good point."""
    old = datetime.now(UTC) - timedelta(hours=3)
    assert found(a_session(tmp_path, MemoryStore(), old))["w latest point"] == (
        False,
        "the latest good point is 3 h old; promised are 1 h",
    )
    fresh = datetime.now(UTC) - timedelta(minutes=3)
    assert found(a_session(tmp_path, MemoryStore(), fresh))["w latest point"][0]
    assert found(a_session(tmp_path, MemoryStore()))["w latest point"] == (False, "there is no good recovery point")


def test_a_broken_audit_chain_is_found_out(tmp_path: Path) -> None:
    """A record that is missing is told, and the other checks go on."""
    store = MemoryStore()
    session = a_session(tmp_path, store, datetime.now(UTC))
    first = min(key for key in store.objects if key.startswith("audit/"))
    del store.objects[first]
    findings = found(session)
    assert not findings["vault primary audit chain"][0]
    assert findings["w latest point"][0]


def test_a_source_that_is_not_there_is_found_out(tmp_path: Path) -> None:
    """Each component of each workload is opened for a cut."""
    ok, told = found(a_session(tmp_path, MemoryStore()))["w dataset/d can be cut"]
    assert not ok
    assert "nowhere" in told


def test_a_full_disk_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drills and environments need room; the folder is named."""
    usage = shutil.disk_usage(tmp_path)._replace(free=LEAST_FREE_BYTES - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    ok, told = found(a_session(tmp_path, MemoryStore()))["free space"]
    assert not ok
    assert f"1.0 GiB are left for {tmp_path}" in told
