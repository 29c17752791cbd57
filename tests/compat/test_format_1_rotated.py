"""Format 1 with generations stays readable: by this Muster with every kind of key, and by the reader that knows only docs/format.md."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from compat.make_rotated_vault import FILES, LEAVES, POINTS, STAYS
from compat.test_format_1 import read_minimally
from fakes import FrozenClock
from muster.adapters.local_store import LocalStore
from muster.errors import IntegrityError
from muster.vault.holders import RecoveryKey, Secret, Shares
from muster.vault.shares import Share
from muster.vault.slots import unwrap
from muster.vault.vault import Passphrase, Vault
from vaults import ACTOR, extract, read_folder

HERE = Path(__file__).parent
COMMITTED = HERE / "format-1-rotated"
KEYS = json.loads((HERE / "format-1-rotated.keys.json").read_text())
SECRETS: dict[str, Secret] = {
    "passphrase": Passphrase(STAYS),
    "recovery_key": RecoveryKey(KEYS["recovery_key"]),
    "shares": Shares((KEYS["shares"][0], KEYS["shares"][2])),
}


def committed(secret: Secret) -> Vault:
    return Vault.open(LocalStore(COMMITTED), secret, clock=FrozenClock(), actor=ACTOR)


def of_point(number: int) -> dict[str, bytes]:
    return FILES | {f"of generation {number}": b"%d" % number}


def vectors() -> dict[str, Any]:
    text = (HERE.parents[1] / "docs" / "format.md").read_text()
    _, block = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    return dict(json.loads(block))


@pytest.mark.parametrize("key", SECRETS)
def test_the_committed_vault_opens_with_every_kind_of_key_and_restores(tmp_path: Path, key: str) -> None:
    """Points of all three generations, whoever opens it."""
    vault = committed(SECRETS[key])
    assert (vault.holders.generation, vault.outdated) == (2, False)
    for number, status in enumerate(vault.points()):
        assert status.point.point == POINTS[number]
        assert vault.holders.sealed_with(status.point).number == number
        assert extract(vault, status.point.components[0].tree, tmp_path / str(number)) == of_point(number)
    report = vault.verify(files=True)
    assert report.ok, [str(finding) for finding in report.findings]
    assert not report.notices


def test_whoever_was_left_out_reads_what_was_stored_before(tmp_path: Path) -> None:
    """The old passphrase brings back the first point, and not the second."""
    vault = committed(Passphrase(LEAVES))
    assert vault.outdated
    first, second, _ = [status.point.components[0].tree for status in vault.points()]
    assert extract(vault, first, tmp_path / "0") == of_point(0)
    with pytest.raises(IntegrityError):
        extract(vault, second, tmp_path / "1")


@pytest.mark.parametrize("key", ["passphrase", "recovery_key"])
def test_the_minimal_reader_restores_every_generation(tmp_path: Path, key: str) -> None:
    """From docs/format.md alone."""
    for number, point in enumerate(POINTS):
        done = read_minimally(COMMITTED, KEYS[key], point, tmp_path / str(number))
        assert done.returncode == 0, done.stderr
        assert read_folder(tmp_path / str(number) / "dataset/cubes") == of_point(number)


def test_the_minimal_reader_restores_the_old_with_an_old_key(tmp_path: Path) -> None:
    """And stops at the new."""
    assert read_minimally(COMMITTED, LEAVES, POINTS[0], tmp_path / "0").returncode == 0
    assert read_folder(tmp_path / "0/dataset/cubes") == of_point(0)
    assert read_minimally(COMMITTED, LEAVES, POINTS[1], tmp_path / "1").returncode != 0


def test_the_minimal_reader_believes_no_old_signature_that_no_roll_names(tmp_path: Path) -> None:
    """Without the newest roll, what earlier keys signed does not count."""
    shutil.copytree(COMMITTED, tmp_path / "vault")
    for roll in (tmp_path / "vault/rolls").glob("0002-*"):
        roll.unlink()
    assert "signed after a rotation" in read_minimally(tmp_path / "vault", STAYS, POINTS[0], tmp_path / "0").stderr
    assert read_minimally(tmp_path / "vault", STAYS, POINTS[2], tmp_path / "2").returncode == 0


def test_this_muster_goes_on_in_the_committed_vault(tmp_path: Path) -> None:
    """A copy is rotated once more, and everything of it stays."""
    shutil.copytree(COMMITTED, tmp_path / "vault")
    vault = Vault.open(LocalStore(tmp_path / "vault"), SECRETS["shares"], clock=FrozenClock(), actor=ACTOR)
    vault.rotate(vault.rotation.plan((Passphrase(STAYS),), ()))
    again = Vault.open(LocalStore(tmp_path / "vault"), Passphrase(STAYS), clock=FrozenClock(), actor=ACTOR)
    assert [status.point.point for status in again.points()] == list(POINTS)
    assert again.verify(files=True).ok


def test_the_vectors_of_the_description_are_true() -> None:
    """Every key, id and digest that docs/format.md states of generations, rolls and shares follows from the committed vault."""
    said = vectors()
    store = LocalStore(COMMITTED)
    slot = f"keys/{said['slot']}.json"
    master = unwrap(slot, store.get(slot), RecoveryKey(said["recovery_key"]))
    assert master is not None
    assert master._keys[-1].hex() == said["master_key"]
    assert master.key_id.hex() == said["key_id"]
    vault = committed(RecoveryKey(said["recovery_key"]))
    assert [key.hex() for key in vault._master.earlier()] == said["earlier_master_keys"]
    newest = vault._authority.chain.newest
    assert (newest.object, newest.digest) == (said["generation"], said["generation_sha256"])
    assert newest.key.public.public_bytes_raw().hex() == said["signing_key"]
    roll = json.loads(base64.b64decode(json.loads(store.get(said["roll"]))["payload"]))
    digests = base64.b64decode(roll["digests"])
    assert len(digests) == 32 * said["roll_digests"]
    assert digests[:32].hex() == said["roll_first"]
    assert hashlib.sha256(store.get(said["roll"])).hexdigest() == newest.roll
    salt = store.get(said["pack"])[8:40]
    assert (salt.hex(), salt[:8].hex()) == (said["pack_salt"], said["key_id"])
    for text, value in zip(said["shares"], said["share_values"], strict=True):
        assert Share.read(text).value.hex() == value
    shared = Shares((said["shares"][0], said["shares"][1])).private()
    assert shared.private_bytes_raw().hex() == said["shared_private_key"]
    assert Share.read(said["shares"][0]).set.hex() == said["share_set"]
