"""Little that claims to be much, and little that is much: memory grows with what is read, not with what it says."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from fakes import MemoryStore
from faults.fuzzing import MERGES
from faults.sealing_lies import Lie, sealed_pack
from faults.snapshots import FILES, take
from muster.domain.content import ContentRef, TreeEntry
from muster.errors import IntegrityError, MusterError
from muster.secrets_file import SecretsFile
from muster.vault.keys import MasterKey
from muster.vault.layout import digest, pack_key, slot_object
from muster.vault.pack_proof import prove_pack
from muster.vault.packs import MAXIMUM
from muster.vault.reader import ChunkReader
from muster.vault.vault import Vault
from vaults import make_vault, memory_file, reopen

MIB = 1024 * 1024
ROOM = 48 * MIB
"""What reading something of a few kilobytes may take: a chunk twice over, threads, and what is loaded on the way."""


def peak_of(work: Callable[[], object]) -> int:
    """The most memory that Python's allocators gave out during a piece of work that ends with a result or an error of ours."""
    tracemalloc.start()
    try:
        work()
    except MusterError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


def claimed(size: int) -> bytes:
    """A frame of zstd that says so of its content, and has a few bytes."""
    return b"\x28\xb5\x2f\xfd\xe0" + size.to_bytes(8, "little") + b"\x01\x00\x00"


def with_pack(lie: Lie) -> tuple[MemoryStore, MasterKey]:
    """A store that holds one pack with one chunk, and whose seals are good."""
    master, store = MasterKey(bytes(32)), MemoryStore()
    data = sealed_pack(master, [lie])
    store.put(pack_key(digest(data)), data)
    return store, master


def read_all(store: MemoryStore, master: MasterKey) -> None:
    """Prove the pack; read its chunk."""
    from muster.vault.index import Index

    ((key, data),) = store.objects.items()
    name = key.rpartition("/")[2]
    proven = prove_pack(master, name, len(data), lambda start, length: store.get_range(key, start, length), None)
    assert proven.damage
    reader = ChunkReader(store, master, Index(store, master))
    reader.fetch([bytes(32)])


INFLATING = zstandard.ZstdCompressor(level=1).compress(bytes(300 * MIB))


@pytest.mark.parametrize(
    "lie",
    [
        Lie(INFLATING, 300 * MIB, 1, bytes(32)),
        Lie(INFLATING, 100, 1, bytes(32)),
        Lie(claimed(2**32 - 1), 2**32 - 1, 1, bytes(32)),
        Lie(claimed(2**62), 100, 1, bytes(32)),
        Lie(claimed(MAXIMUM), MAXIMUM, 1, bytes(32)),
        Lie(zstandard.ZstdCompressor(write_content_size=False).compress(bytes(300 * MIB)), 100, 1, bytes(32)),
        Lie(zstandard.ZstdCompressor().compress(b"x") * 100_000, 1, 1, bytes(32)),
    ],
    ids=[
        "inflates",
        "hides it",
        "claims 4 GiB",
        "claims exabytes",
        "claims a whole chunk",
        "says nothing",
        "many frames",
    ],
)
def test_a_chunk_takes_no_more_memory_than_a_chunk_can_have(lie: Lie) -> None:
    """Neither the directory's word nor the frame's makes room for more than 4 MiB."""
    assert peak_of(lambda: read_all(*with_pack(lie))) < ROOM + 4 * len(lie.payload)


def test_a_secrets_file_of_a_kilobyte_takes_no_more_memory_than_its_bytes(tmp_path: Path) -> None:
    """Mappings merged into mappings: nine each time, of which each has what the nine before have."""
    path = tmp_path / "secrets.yaml"
    path.write_text(MERGES)
    path.chmod(0o600)
    assert peak_of(lambda: SecretsFile(path).check()) < 4 * MIB


def vault_with_zeros() -> tuple[Vault, ContentRef, ContentRef]:
    """A vault with one full chunk of zeros, and a file of 64 MiB of noise-free chunks that are all different."""
    vault, _ = make_vault(MemoryStore())
    with vault.writer() as writer:
        lines = b"".join(b"%d" % (number // 4000) * 100 for number in range(200_000))
        tree = writer.store_tree([memory_file("a", bytes(MAXIMUM)), memory_file("b", lines)])
    zeros, many = (entry.content for entry in vault.tree(tree).entries())
    assert zeros
    assert many
    assert len(many.chunks) > 6
    return reopen(vault._store), zeros, many


@pytest.mark.parametrize("size", [1, 1000, 4 * MIB - 1, 4 * MIB])
def test_a_small_file_takes_no_more_memory_than_it_says(size: int, tmp_path: Path) -> None:
    """A list of entries can name one chunk a thousand times, or all there are, and call that a small file."""
    vault, zeros, many = vault_with_zeros()
    tree = vault.tree(take(vault, FILES).components[0].tree)
    tree.entries()
    for number, chunks in enumerate((zeros.chunks[:1] * 1000, many.chunks)):
        entry = TreeEntry("a", content=ContentRef(size, zeros.sha256, chunks))
        for work in (
            lambda entry=entry: tree.read(entry),
            lambda entry=entry, number=number: tree.extract([(entry, tmp_path / str(number))]),
        ):
            assert peak_of(work) < ROOM // 2
    assert not list(tmp_path.iterdir())


def test_a_large_file_writes_no_more_than_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends when it has more bytes than its entry says, not when all its chunks were written."""
    vault, zeros, _ = vault_with_zeros()
    tree = vault.tree(take(vault, FILES).components[0].tree)
    entry = TreeEntry("a", content=ContentRef(MAXIMUM + 1, zeros.sha256, zeros.chunks[:1] * 2000))
    written: list[int] = []
    monkeypatch.setattr(os, "write", lambda handle, part, write=os.write: written.append(n := write(handle, part)) or n)
    with pytest.raises(IntegrityError, match="does not match its digest"):
        tree.extract([(entry, tmp_path / "a")])
    assert sum(written) <= MAXIMUM + 1
    assert not list(tmp_path.iterdir())


LIMITED = """
import resource, sys
from muster.errors import IntegrityError
from muster.vault.holders import Passphrase
from muster.vault.slots import unwrap
data = sys.stdin.buffer.read()
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 200 * 2**20,) * 2)
try:
    unwrap(sys.argv[1], data, Passphrase("x"))
except IntegrityError as error:
    print(error.message)
"""


def test_a_key_slot_that_wants_more_memory_than_there_is_is_none() -> None:
    """Anybody who can write to the store can put a slot there that asks for up to 1 GiB; the others must still open the vault."""
    from muster.codec import canonical

    slot = {
        "created_at": "2026-11-23T02:00:00Z",
        "format": 1,
        "kind": "passphrase",
        "name": "x",
        "nonce": "00" * 12,
        "scrypt": {"n": 1 << 20, "p": 1, "r": 8, "salt": "00" * 32},
        "vault": "00" * 16,
        "wrapped": "00" * 48,
    }
    data = canonical(slot)
    command = [sys.executable, "-c", LIMITED, slot_object(digest(data))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run(command, input=data, capture_output=True, timeout=60, env=environment)
    assert b"memory" in ran.stdout.lower(), ran.stderr.decode()
