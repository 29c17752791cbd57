"""
A folder, protected by Muster's vault, by restic, by DVC, and by tar and zstd: side by side in one run.

    vault_vs_peers.py [--shape 64x64MiB --shape 100000x10KiB] [--rounds 3] [--work DIR] [--s3] [--restic PROGRAM] [--sides …]

Rounds go side by side in turn (A B C D A B C D …); every step is a process of its own, timed from start to end; medians are printed
as a Markdown table. README.md says what each side does in each row. Each restored folder is compared with the original byte by
byte: a side that is fast and wrong ends the run.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from measuring import (
    ROOT,
    UNITS,
    Round,
    Shape,
    check_equal,
    environment,
    make_data,
    processor_and_memory,
    spread,
)
from peers import SIDES, Restic

CHANGED_SHARE = 0.01
MANY_FILES = 10_000
"""
From so many on, what a round has made is removed when all rounds are over: ext4 does not use an inode again for minutes after its file
was removed, but looks at it whenever it makes one, so that after many were removed making as many takes several times as long.
"""
SERVER_BYTES = 8 * UNITS["GiB"]
"""Room for all sides; when it is full, the server no longer answers."""
FIRST, AGAIN, CHANGED, INSERTED, RESTORE, VERIFY = (
    "first snapshot",
    "nothing changed",
    "1 % of the files changed",
    "1 % inserted in one file",
    "restore",
    "verify all data",
)


class Bench:
    """One shape of data, and all sides in turn."""

    def __init__(self, folder: Path, shape: Shape, compressible: float, server: Server | None) -> None:
        self.folder, self.shape, self.server = folder, shape, server
        self.original = folder / "original"
        make_data(self.original, shape, compressible)
        self.stored: dict[str, dict[str, int | None]] = {}
        self._numbers = itertools.count(1)

    def round(self, name: str) -> Round:
        """All steps of one side; of large files nothing is left."""
        place = self.folder / f"{name}-{next(self._numbers)}"
        place.mkdir()
        try:
            return self._steps(name, place)
        finally:
            if self.shape.count < MANY_FILES:
                shutil.rmtree(place)

    def _steps(self, name: str, place: Path) -> Round:
        # Links, since nobody writes into a file: what changes is a new file of the old name.
        shutil.copytree(self.original, place / "data", copy_function=os.link)
        remote = self.server.remote(name) if self.server else None
        side = SIDES[name](
            place, environment(place / "home") | (self.server.environment if self.server else {}), remote
        )
        side.prepare()
        took = {FIRST: side.snapshot()}
        sizes = {FIRST: side.stored()}
        took[AGAIN] = side.snapshot()
        sizes[AGAIN] = side.stored()
        change_files(side.data)
        took[CHANGED] = side.snapshot()
        sizes[CHANGED] = side.stored()
        if self.shape.size >= UNITS["MiB"]:
            insert(side.data)
            took[INSERTED] = side.snapshot()
            sizes[INSERTED] = side.stored()
        if checked := side.verify():
            took[VERIFY] = checked
        took[RESTORE] = side.restore(place / "back")
        check_equal(side.data, place / "back")
        self.stored[name] = sizes
        return took


def change_files(folder: Path) -> None:
    """New content of the same size in one file of a hundred, spread over all; at least one."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    source = random.Random(len(paths))
    for path in source.sample(paths, max(1, round(len(paths) * CHANGED_SHARE))):
        size = path.stat().st_size
        path.unlink()
        path.write_bytes(source.randbytes(size))


def insert(folder: Path) -> None:
    """One file becomes 1 % longer, in its middle."""
    path = min(path for path in folder.rglob("*") if path.is_file())
    content = path.read_bytes()
    middle = len(content) // 2
    path.unlink()
    path.write_bytes(content[:middle] + random.Random(middle).randbytes(len(content) // 100) + content[middle:])


class Server:
    """The S3 server of the tests, with a bucket for each round of each side."""

    def __init__(self, endpoint: str, access: str, secret: str) -> None:
        self.endpoint, self.access, self.secret = endpoint, access, secret
        self.environment = {
            "AWS_ACCESS_KEY_ID": access,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        self._buckets = 0

    def remote(self, side: str) -> str:
        """The address of a new bucket, as the side wants it."""
        import boto3

        self._buckets += 1
        bucket = f"bench-{os.getpid()}-{self._buckets}"
        keys = {"aws_access_key_id": self.access, "aws_secret_access_key": self.secret}
        boto3.client("s3", endpoint_url=self.endpoint, region_name="us-east-1", **keys).create_bucket(Bucket=bucket)
        forms = {
            "muster": f"s3://{self.access}:{self.secret}@{bucket}/vault?endpoint={self.endpoint}&region=us-east-1",
            "restic": f"s3:{self.endpoint}/{bucket}",
            "dvc": f"s3://{bucket}/remote",
        }
        return forms[side]


@contextlib.contextmanager
def s3_server() -> Iterator[Server]:
    """Ceph's RGW on loopback, as the tests start it, with more memory to keep objects in: needs root and `make test-servers`' packages."""
    os.environ["S3_SERVER_BYTES"] = str(SERVER_BYTES)
    sys.path.insert(0, str(ROOT / "tests"))
    from servers import running_ceph

    with running_ceph() as server:
        yield Server(server.endpoint, server.access_key, server.secret_key)


def measure(shape: Shape, options: argparse.Namespace, server: Server | None) -> list[str]:
    """Rows of the table for one shape."""
    if options.work:
        options.work.mkdir(parents=True, exist_ok=True)
    took: dict[str, list[Round]] = {side: [] for side in options.sides}
    with tempfile.TemporaryDirectory(prefix="muster-bench-", dir=options.work) as folder:
        bench = Bench(Path(folder), shape, options.compressible, server)
        for number in range(1, options.rounds + 1):
            for side in options.sides:
                print(f"{shape.name}: round {number} of {options.rounds}, {side}", file=sys.stderr, flush=True)
                took[side].append(bench.round(side))
                print(f"  { ({step: round(cost.wall, 2) for step, cost in took[side][-1].items()}) }", file=sys.stderr)
    return _rows(shape, options.sides, took) + _sizes(shape, options.sides, bench.stored)


def _rows(shape: Shape, sides: list[str], took: dict[str, list[Round]]) -> list[str]:
    rows = []
    for step in (FIRST, AGAIN, CHANGED, INSERTED, RESTORE, VERIFY):
        costs = {side: [one[step] for one in took[side] if step in one] for side in sides}
        if not costs["muster"]:
            continue
        ours = statistics.median(cost.wall for cost in costs["muster"])
        ratios = [
            f"{statistics.median(cost.wall for cost in costs[side]) / ours:.2f}" if costs[side] else "–"
            for side in sides
            if side != "muster"
        ]
        walls = [spread(costs[side]) if costs[side] else "–" for side in sides]
        rows.append(
            f"| {shape.name} | {step} | {' | '.join(walls + ratios)} | {processor_and_memory(costs['muster'])} |"
        )
    return rows


def _sizes(shape: Shape, sides: list[str], stored: dict[str, dict[str, int | None]]) -> list[str]:
    """What each step added to the store, in MiB."""
    rows = []
    steps = list(stored[sides[0]])
    for before, step in zip([None, *steps], steps, strict=False):
        cells = []
        for side in sides:
            now, then = stored[side][step], stored[side][before] if before else 0
            cells.append("–" if now is None or then is None else f"{(now - then) / UNITS['MiB']:,.1f} MiB")
        rows.append(f"| {shape.name} | stored by: {step} | {' | '.join(cells)} |{' |' * len(sides)}")
    return rows


def _head(sides: list[str]) -> str:
    cells = ["shape", "step", *(f"{side}, s" for side in sides), *(f"{side} ÷ muster" for side in sides[1:])]
    return f"| {' | '.join([*cells, 'muster: CPU s, peak MiB'])} |\n|---|---|{'---:|' * (2 * len(sides))}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().partition("\n")[0])
    parser.add_argument("--shape", type=Shape.parse, action="append", help="COUNTxSIZE; may be given several times")
    parser.add_argument("--rounds", type=int, default=3, help="of each side")
    parser.add_argument(
        "--work",
        type=Path,
        help="folder on the disk to measure; needs about seven times the data, of many files for each round",
    )
    parser.add_argument("--compressible", type=float, default=0.0, help="share of each file that zstd can halve")
    parser.add_argument("--s3", action="store_true", help="store on the S3 server of the tests instead of in a folder")
    parser.add_argument("--restic", default="restic", help="the restic to measure")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES), help="muster must be the first")
    options = parser.parse_args()
    if options.rounds < 1 or not 0 <= options.compressible <= 1 or options.sides[0] != "muster":
        parser.error("--rounds is at least 1, --compressible from 0 to 1, and the first side is muster")
    if options.s3:
        options.sides = [side for side in options.sides if side != "floor"]
    return options


def main() -> None:
    options = _arguments()
    Restic.program = options.restic
    shapes = options.shape or [Shape.parse("64x64MiB"), Shape.parse("100000x10KiB")]
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(s3_server()) if options.s3 else None
        rows = [row for shape in shapes for row in measure(shape, options, server)]
    restic = subprocess.run([options.restic, "version"], capture_output=True, text=True, check=False).stdout.strip()
    print(
        f"Medians of {options.rounds} rounds (fastest–slowest), {restic}, DVC {version('dvc')}, Python {platform.python_version()}, "
        f"{os.cpu_count()} processors, {options.compressible:.0%} of the data compressible, "
        f"{'S3 server on loopback' if options.s3 else 'local folder'}.\n"
    )
    print(_head(options.sides), *rows, sep="\n")


if __name__ == "__main__":
    main()
