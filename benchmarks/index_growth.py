"""
What the index of a vault costs as it grows: ``python benchmarks/index_growth.py --chunks 10000 --chunks 1000000``.

Index objects are written as writers write them, over packs whose chunks have random ids: packs of 32 chunks as of large files, and of
3200 as of files of 10 KiB. A process of its own reads them and looks chunks up; its processor seconds and its memory are shown.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "include")]

from muster.adapters.local_store import LocalStore  # noqa: E402
from muster.vault.index import Index  # noqa: E402
from muster.vault.index_objects import IndexObjects  # noqa: E402
from muster.vault.keys import MasterKey  # noqa: E402
from muster.vault.packs import ENTRY, Pack  # noqa: E402

KEY = bytes(range(32))
SHAPES = {"1 MiB chunks": 32, "10 KiB files": 3200}
LOOKUPS = 100_000
ROUNDS = 3


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, action="append", help="how many; may be given several times")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(Path(given.measure))))
        return
    print(
        "| chunks | shape | index objects | load, CPU s | found, µs | not found, µs | located, µs | bytes a chunk | peak, MiB |"
    )
    print("|---:|---|---:|---:|---:|---:|---:|---:|---:|")
    for chunks in given.chunks or [10_000, 100_000, 1_000_000]:
        for shape, per_pack in SHAPES.items():
            print(row(chunks, shape, per_pack), flush=True)


def row(chunks: int, shape: str, per_pack: int) -> str:
    """One line of the table."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), chunks, per_pack)
        sizes = [path.stat().st_size for path in (Path(folder) / "indexes").iterdir()]
        command = [sys.executable, __file__, "--measure", folder]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    objects = f"{len(sizes)}, {sum(sizes) / 1024**2:.1f} MiB"
    return (
        f"| {chunks:,} | {shape} | {objects} | {found['load']:.2f} | {found['hit']:.1f} | {found['miss']:.1f} "
        f"| {found['locate']:.1f} | {found['memory'] / chunks:.0f} | {found['peak'] / 1024**2:.0f} |"
    )


def write(folder: Path, chunks: int, per_pack: int) -> None:
    """Index objects over packs of made-up chunks."""
    objects = IndexObjects(LocalStore(folder), MasterKey(KEY))
    for done in range(0, chunks, 320_000):
        count = min(320_000, chunks - done)
        packs = [made_up(min(per_pack, count - first)) for first in range(0, count, per_pack)]
        objects.write(packs)


def made_up(count: int) -> Pack:
    """A pack of so many chunks, which nobody will read."""
    rows = b"".join(ENTRY.pack(os.urandom(32), 40, 1000, 1000, 0) for _ in range(count))
    return Pack(os.urandom(32).hex(), os.urandom(32), 1, rows)


def measure(folder: Path) -> dict[str, float]:
    """Load the index of a folder, and ask it for chunks that are there and for such as are not."""
    index = Index(LocalStore(folder), MasterKey(KEY))
    before = resident()
    load = seconds(index.refresh)
    memory, peak = resident() - before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    packs = list(index.packs().values())
    chosen = random.Random(1)
    there = [chosen.choice(packs).directory for _ in range(LOOKUPS)]
    hits = [rows[at : at + 32] for rows in there for at in (chosen.randrange(len(rows) // 45) * 45,)]
    assert all(index.holds(chunk) for chunk in hits)
    misses = [os.urandom(32) for _ in range(LOOKUPS)]
    assert not any(index.holds(chunk) for chunk in misses)
    return {
        "load": load,
        "memory": memory,
        "peak": peak,
        "hit": asked(index.holds, hits),
        "miss": asked(index.holds, misses),
        "locate": asked(index.locations, hits),
    }


def asked(ask: Callable[[bytes], object], chunks: Sequence[bytes]) -> float:
    """Microseconds of processor a question, the least of a few rounds."""

    def all_of_them() -> None:
        for chunk in chunks:
            ask(chunk)

    return min(seconds(all_of_them) for _ in range(ROUNDS)) / len(chunks) * 1e6


def seconds(work: Callable[[], object]) -> float:
    """Seconds of processor, of all threads."""
    started = time.process_time()
    work()
    return time.process_time() - started


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    main()
