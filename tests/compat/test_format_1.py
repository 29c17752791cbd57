"""Format 1 stays readable: by this Muster, and by a reader that knows nothing of it but docs/format.md."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from compat.make_vault import FILES, PASSPHRASE, POINTS
from fakes import FrozenClock
from muster.adapters.local_store import LocalStore
from muster.vault.chunking import Cutting
from muster.vault.index import Index
from muster.vault.index_merge import MOST
from muster.vault.keys import MasterKey, ScryptCost, derive
from muster.vault.slots import unwrap
from muster.vault.vault import Passphrase, RecoveryKey, Vault
from muster.vault.writer import PAGED_FROM
from vaults import ACTOR, extract, make_vault, memory_file, noise, read_folder, seal
from vaults import PASSPHRASE as CHEAP

HERE = Path(__file__).parent
COMMITTED = HERE / "format-1"
READER = HERE / "minimal_reader.py"
KEYS = json.loads((HERE / "format-1.keys.json").read_text())
MTIME = 1_795_399_200_123_456_789


def committed() -> Vault:
    return Vault.open(LocalStore(COMMITTED), Passphrase(PASSPHRASE), clock=FrozenClock(), actor=ACTOR)


def vectors() -> dict[str, Any]:
    text = (HERE.parents[1] / "docs" / "format.md").read_text()
    block, _ = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    return dict(json.loads(block))


def read_minimally(vault: Path, key: str, point: str, to: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", str(READER), str(vault), point, str(to)]
    return subprocess.run(command, env={"MUSTER_KEY": key, "PATH": os.environ["PATH"]}, capture_output=True, text=True)


def assert_restored(folder: Path, files: dict[str, bytes]) -> None:
    assert read_folder(folder) == files
    assert (folder / "nothing in it").is_dir()
    assert (folder / "link").readlink() == Path("data/empty")
    status = (folder / "data/numbers.csv").stat()
    assert (status.st_mode & 0o777, status.st_mtime_ns) == (0o640, MTIME)


def test_the_committed_vault_opens_is_whole_and_restores(tmp_path: Path) -> None:
    """With the passphrase: points, marks, audit trail and every byte are as they were when format 1 was fixed."""
    vault = committed()
    assert vault.id == "2993a68a9b654b93b8a142f6c982e373"
    assert [status.point.point for status in vault.points()] == list(POINTS)
    assert vault.point("latest").point.point == POINTS[0]
    assert vault.point(POINTS[1]).suspect
    assert [record.action for record in vault.audit()] == ["create", "seal", "mark", "seal", "mark"]
    report = vault.verify()
    assert report.ok, [str(finding) for finding in report.findings]
    (component,) = vault.point(POINTS[1]).point.components
    extract(vault, component.tree, tmp_path)
    assert_restored(tmp_path, FILES | {"new": b"since yesterday"})


def test_the_committed_vault_opens_with_its_recovery_key() -> None:
    """The other way in leads to the same vault."""
    opened = Vault.open(LocalStore(COMMITTED), RecoveryKey(KEYS["recovery_key"]), clock=FrozenClock(), actor=ACTOR)
    assert (opened.id, opened.signing_fingerprint) == (committed().id, committed().signing_fingerprint)


def test_this_muster_goes_on_in_a_vault_of_format_1(tmp_path: Path) -> None:
    """A new point in a copy of the committed vault stores nothing that is there."""
    shutil.copytree(COMMITTED, tmp_path / "vault")
    vault = Vault.open(LocalStore(tmp_path / "vault"), Passphrase(PASSPHRASE), clock=FrozenClock(), actor=ACTOR)
    with vault.writer() as writer:
        tree = writer.store_tree([memory_file(path, content) for path, content in FILES.items()])
        assert writer.stats.reused_chunks == 3
    seal(vault, tree)
    assert vault.verify().ok


@pytest.mark.parametrize(("made", "pieces"), [("before", 9), ("now", 8)])
def test_a_vault_is_cut_as_it_says_for_good(tmp_path: Path, made: str, pieces: int) -> None:
    """By another algorithm hardly a chunk of the committed vault would be found again; that of new vaults finds other cuts in this file."""
    if made == "before":
        shutil.copytree(COMMITTED, tmp_path / "vault")
        vault = Vault.open(LocalStore(tmp_path / "vault"), Passphrase(PASSPHRASE), clock=FrozenClock(), actor=ACTOR)
    else:
        vault, _ = make_vault(LocalStore(tmp_path / "vault"))
    with vault.writer() as writer:
        writer.store_tree([memory_file("large", random.Random(20261123).randbytes(8 << 20))])
    assert writer.stats.new_chunks == pieces + 1  # the list of files is one


@pytest.mark.parametrize("unknown", [{"algorithm": "of-2031"}, {"average": 2 << 20}])
def test_a_vault_that_is_cut_in_an_unknown_way_takes_points_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, unknown: dict[str, Any]
) -> None:
    """They are whole, and take more room, which is said."""
    monkeypatch.setattr("muster.vault.header.Cutting", lambda: Cutting(**unknown))
    vault, _ = make_vault(LocalStore(tmp_path / "vault"))
    with vault.writer() as writer:
        tree = writer.store_tree([memory_file("large", noise(3 << 20))])
    assert "it will store again what it reads" in caplog.text
    seal(vault, tree)
    assert vault.verify().ok
    assert extract(vault, tree, tmp_path / "back") == {"large": noise(3 << 20)}


def test_the_minimal_reader_knows_nothing_of_muster() -> None:
    """Less than 200 lines; imports of the standard library and three packages."""
    source = READER.read_text()
    assert len(source.splitlines()) < 200
    imported = {
        name.partition(".")[0]
        for node in ast.walk(ast.parse(source))
        for name in ([a.name for a in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", None)])
        if isinstance(node, ast.Import | ast.ImportFrom) and name
    }
    assert imported - sys.stdlib_module_names == {"cryptography", "blake3", "zstandard"}


@pytest.mark.parametrize("key", ["passphrase", "recovery_key"])
def test_the_minimal_reader_restores_the_committed_vault(tmp_path: Path, key: str) -> None:
    """From docs/format.md alone, with either key."""
    done = read_minimally(COMMITTED, KEYS[key], POINTS[1], tmp_path)
    assert done.returncode == 0, done.stderr
    assert_restored(tmp_path / "dataset/squares", FILES | {"new": b"since yesterday"})


def test_the_minimal_reader_restores_what_is_written_today(tmp_path: Path) -> None:
    """Many chunks, several packs, several components: the description holds for all that this Muster writes."""
    vault, recovery = make_vault(LocalStore(tmp_path / "vault"))
    vault.add_passphrase("night shift", Passphrase("second"), cost=ScryptCost(n=16))
    large = {"large": noise(36 << 20, 3), "zeros": bytes(5 << 20)}
    small = {"s": b"text " * 1000, "\u00fc/e": b""}
    with vault.writer() as writer:
        trees = [writer.store_tree([memory_file(*item) for item in files.items()]) for files in (large, small)]
    point = seal(vault, *trees)
    for number, key in enumerate((CHEAP.text, recovery.text, "second")):
        to = tmp_path / f"to{number}"
        done = read_minimally(tmp_path / "vault", key, point.point, to)
        assert done.returncode == 0, done.stderr
        assert (read_folder(to / "dataset/d0"), read_folder(to / "dataset/d1")) == (large, small)


def test_the_minimal_reader_reads_a_list_of_pages(tmp_path: Path) -> None:
    """A tree of so many files that its list is stored in pieces, of which the manifest names only the table."""
    vault, _ = make_vault(LocalStore(tmp_path / "vault"))
    files = {f"{number % 50}/{number:05}": b"%d" % number for number in range(PAGED_FROM)}
    with vault.writer() as writer:
        tree = writer.store_tree([memory_file(*item) for item in files.items()])
    assert tree.paged
    assert len(tree.root.chunks) == 1
    done = read_minimally(tmp_path / "vault", CHEAP.text, seal(vault, tree).point, tmp_path / "to")
    assert done.returncode == 0, done.stderr
    assert read_folder(tmp_path / "to/dataset/d0") == files


def test_the_minimal_reader_reads_a_vault_whose_indexes_were_merged(tmp_path: Path) -> None:
    """After so many snapshots that one index stands for others, points of every age are restored."""
    store = LocalStore(tmp_path / "vault")
    vault, _ = make_vault(store)
    points = []
    for number in range(MOST + 2):
        vault = Vault.open(store, CHEAP, clock=FrozenClock(), actor=ACTOR)
        with vault.writer() as writer:
            tree = writer.store_tree([memory_file("own", noise(5000, number))])
        points.append(seal(vault, tree, number=number).point)
    sizes = sorted(path.stat().st_size for path in (tmp_path / "vault/indexes").iterdir())
    assert sizes[-1] > (MOST - 1) * sizes[0]
    for number in (0, MOST + 1):
        done = read_minimally(tmp_path / "vault", CHEAP.text, points[number], tmp_path / f"to{number}")
        assert done.returncode == 0, done.stderr
        assert read_folder(tmp_path / f"to{number}/dataset/d0") == {"own": noise(5000, number)}


def test_the_minimal_reader_notices_damage(tmp_path: Path) -> None:
    """One wrong bit in pack, manifest, key slot or header, and it stops."""
    for number, pattern in enumerate(("packs/*/*", f"points/*/{POINTS[1]}.json", "keys/*", "vault.json")):
        copy = tmp_path / f"vault{number}"
        shutil.copytree(COMMITTED, copy)
        path = min(copy.glob(pattern))
        data = path.read_bytes()
        path.chmod(0o600)
        path.write_bytes(data[:300] + bytes([data[300] ^ 1]) + data[301:])
        assert read_minimally(copy, PASSPHRASE, POINTS[1], tmp_path / f"to{number}").returncode != 0, pattern


def test_the_vectors_of_the_description_are_true() -> None:
    """Every key, id and row that docs/format.md states follows from the committed vault."""
    said = vectors()
    store = LocalStore(COMMITTED)
    for slot, secret in (
        (said["passphrase_slot"], Passphrase(said["passphrase"])),
        (said["recovery_slot"], RecoveryKey(said["recovery_key"])),
    ):
        key = f"keys/{slot}.json"
        master = unwrap(key, store.get(key), secret)
        assert master is not None
        assert master.chunk_id(said["chunk_plain"].encode()).hex() == said["chunk_id"]
    scrypt = json.loads(store.get(f"keys/{said['passphrase_slot']}.json"))["scrypt"]
    cost = {"n": scrypt["n"], "r": scrypt["r"], "p": scrypt["p"], "maxmem": 1 << 28}
    words = said["passphrase"].encode()
    wrapping = hashlib.scrypt(words, salt=bytes.fromhex(scrypt["salt"]), dklen=32, **cost)
    assert wrapping.hex() == said["passphrase_wrapping_key"]
    raw = bytes.fromhex(said["master_key"])
    assert derive(raw, "muster chunk id v1").hex() == said["chunk_id_key"]
    assert derive(raw, "muster pack v1", bytes.fromhex(said["pack_salt"])).hex() == said["pack_key"]
    index = Index(store, MasterKey(raw))
    index.refresh()
    pack = index.packs()[said["pack"]]
    assert pack.salt.hex() == said["pack_salt"]
    rows = [entry._asdict() | {"chunk": entry.chunk.hex()} for entry in pack.entries()]
    assert rows == said["pack_rows"]
    assert committed().audit()[0].digest == said["first_audit_record"]


def test_the_first_audit_record_follows_from_the_header(tmp_path: Path) -> None:
    """A copy without its trail writes the same first record, byte by byte."""
    shutil.copytree(COMMITTED, tmp_path / "vault")
    shutil.rmtree(tmp_path / "vault/audit")
    vault = Vault.open(LocalStore(tmp_path / "vault"), Passphrase(PASSPHRASE), clock=FrozenClock(), actor=ACTOR)
    vault.record("begin", "again", "ok")
    assert vault.audit()[0].digest == vectors()["first_audit_record"]
