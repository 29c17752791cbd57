"""Small vaults for tests: cheap keys, made-up trees, points over them."""

from __future__ import annotations

import functools
import hashlib
import io
import os
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from fakes import FrozenClock
from muster.domain.content import ContentRef, TreeEntry, TreeRef
from muster.domain.recovery_point import Component, PointStatus, RecoveryPoint
from muster.operations.verify import Thoroughness, damaged, examine
from muster.ports import BlobStore, Clock, SourceFile
from muster.vault.keys import ScryptCost
from muster.vault.trees import checked_rows, encode_rows, row_of
from muster.vault.vault import Actor, Passphrase, RecoveryKey, Vault, VerifyReport

ACTOR = Actor("tester", "localhost", "pytest")
PASSPHRASE = Passphrase("correct horse battery staple")
CHEAP = ScryptCost(n=16)
POINT = "20261123T020000Z-0000000"


def make_vault(store: BlobStore, clock: Clock | None = None) -> tuple[Vault, RecoveryKey]:
    """A new vault whose passphrase is cheap to try."""
    return Vault.create(store, PASSPHRASE, clock=clock or FrozenClock(), actor=ACTOR, cost=CHEAP)


def reopen(store: BlobStore, secret: Passphrase | RecoveryKey = PASSPHRASE, clock: Clock | None = None) -> Vault:
    """The same vault as another process would see it."""
    return Vault.open(store, secret, clock=clock or FrozenClock(), actor=ACTOR)


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes that do not compress, the same for the same seed."""
    return random.Random(seed).randbytes(size)


def memory_file(path: str, content: bytes, **facts: object) -> SourceFile:
    """A file that is in memory, of which size and MD5 are known."""
    facts = {"size": len(content), "md5": hashlib.md5(content).hexdigest()} | facts
    return SourceFile(path, functools.partial(io.BytesIO, content), **facts)


def disk_file(path: Path, name: str | None = None) -> SourceFile:
    """A file on disk, with nothing known of it but its name."""
    return SourceFile(name or path.name, functools.partial(path.open, "rb"))


def store_tree(vault: Vault, files: Mapping[str, bytes] | Iterable[SourceFile]) -> TreeRef:
    """Store files and close the writer."""
    sources = [memory_file(*item) for item in files.items()] if isinstance(files, Mapping) else files
    with vault.writer() as writer:
        return writer.store_tree(sources)


def component(tree: TreeRef, name: str = "flights", clock: Clock | None = None) -> Component:
    """A dataset over a tree."""
    return Component("dataset", name, tree, (clock or FrozenClock()).now(), "test")


def summarise(root: ContentRef, entries: Sequence[TreeEntry]) -> TreeRef:
    """The reference to a list of entries that is stored as `root`."""
    sizes = [entry.content.size for entry in entries if entry.content]
    return TreeRef(root, len(sizes), len(entries), sum(sizes))


def read_entries(data: bytes, ref: TreeRef) -> list[TreeEntry]:
    """The entries of a whole list, checked as those of any tree."""
    return [row.entry() for rows in checked_rows([data], ref) for row in rows]


def write_entries(entries: Iterable[TreeEntry]) -> bytes:
    """A whole list, of entries that are in order."""
    return encode_rows([row_of(entry, entry.content) for entry in entries])


def point_over(vault: Vault, *trees: TreeRef, number: int = 0, workload: str = "flights") -> RecoveryPoint:
    """A point that is not sealed yet; each tree is a dataset of it."""
    now = FrozenClock().now()
    components = tuple(component(tree, f"d{n}") for n, tree in enumerate(trees))
    return RecoveryPoint(
        1, vault.id, workload, f"{POINT}{number}", now, now, None, components, (), {"rpo_s": 60.0}, {}, "0"
    )


def seal(vault: Vault, *trees: TreeRef, number: int = 0, workload: str = "flights") -> RecoveryPoint:
    """A sealed point."""
    return vault.seal(point_over(vault, *trees, number=number, workload=workload))


def extract(vault: Vault, tree: TreeRef, folder: Path) -> dict[str, bytes]:
    """Restore a whole tree into a folder and read back its files."""
    reader = vault.tree(tree)
    reader.extract([(entry, folder / entry.path) for entry in reader.entries()])
    return read_folder(folder)


def read_folder(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def flip(data: bytes, at: int) -> bytes:
    """The same bytes with one bit wrong."""
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def listing(folder: Path) -> set[str]:
    """Names of everything below a folder, hidden or not."""
    return {os.path.relpath(Path(top) / name, folder) for top, dirs, files in os.walk(folder) for name in dirs + files}


def verify_points(
    vault: Vault, statuses: Sequence[PointStatus], share: float | Thoroughness, clock: Clock
) -> VerifyReport:
    """Verify and mark points; IntegrityError if anything was found. `share` is that of the packs, or all that there is to say."""
    report = examine(vault, statuses, share if isinstance(share, Thoroughness) else Thoroughness(share), clock)
    if not report.ok:
        raise damaged(vault, report)
    return report
