"""What the benchmarks share: shapes of data, timed processes, medians and rows of a table."""

from __future__ import annotations

import argparse
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
UNITS = {"KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
FOLDERS_OF = 1000


@dataclass(frozen=True)
class Shape:
    """So many files of so many bytes each."""

    count: int
    size: int
    name: str

    @classmethod
    def parse(cls, text: str) -> Shape:
        """``16x64MiB``."""
        match = re.fullmatch(r"(\d+)x(\d+)(KiB|MiB|GiB)", text)
        if not match or not int(match[1]) or not int(match[2]):
            raise argparse.ArgumentTypeError(f"{text!r} is no shape: write COUNTxSIZE, as in 16x64MiB or 10000x10KiB")
        return cls(int(match[1]), int(match[2]) * UNITS[match[3]], text)

    @property
    def total(self) -> int:
        return self.count * self.size


@dataclass(frozen=True)
class Cost:
    """What a step took: seconds of wall clock, seconds of processor, most resident memory of one process in bytes."""

    wall: float
    processor: float
    memory: int
    output: str = ""

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.wall + other.wall, self.processor + other.processor, max(self.memory, other.memory))


Round = dict[str, Cost]


def timed(command: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> Cost:
    """Run a command alone, with nothing of the step before waiting to be written to disk."""
    os.sync()
    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=cwd, env=environment, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        said = output.read().decode(errors="replace")
        if process.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{said}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, said)


def environment(home: Path) -> dict[str, str]:
    """The caller's environment, with homes of its own for DVC, and our packages on the path, compiled as installed ones are."""
    home.mkdir(parents=True)
    own = {
        name: str(home / name.lower())
        for name in ("DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR", "DVC_SITE_CACHE_DIR")
    }
    ours = own | {"DVC_NO_ANALYTICS": "1", "PYTHONPATH": str(ROOT / "include")}
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | ours


def make_data(folder: Path, shape: Shape, compressible: float) -> None:
    """Files without any repetition, the same in every run; the given share of each is text of four bits in a byte."""
    source = random.Random(shape.name)
    for number in range(shape.count):
        path = folder / f"part-{number // FOLDERS_OF:03}" / f"{number:06}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            left = shape.size
            while left:
                block = min(left, UNITS["MiB"])
                text = int(block * compressible)
                file.write(source.randbytes((text + 1) // 2).hex().encode()[:text] + source.randbytes(block - text))
                left -= block


def check_equal(original: Path, restored: Path) -> None:
    """End the run if two folders do not hold the same files, byte by byte."""
    names, found = sorted(_files(original)), sorted(_files(restored))
    if names != found:
        sys.exit(f"{restored} is not what was protected: {len(names)} files went in, {len(found)} came out")
    for name in names:
        with (original / name).open("rb") as before, (restored / name).open("rb") as after:
            while (block := before.read(UNITS["MiB"])) == after.read(UNITS["MiB"]):
                if not block:
                    break
            else:
                sys.exit(f"{restored / name} is not what was protected")


def _files(folder: Path) -> Iterator[str]:
    """All files below a folder, by their paths in it."""
    for parent, _, names in os.walk(folder):
        yield from (os.path.relpath(os.path.join(parent, name), folder) for name in names)  # noqa: PTH118  a million of them


def folder_size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def spread(costs: Sequence[Cost]) -> str:
    """``median (fastest–slowest)`` in seconds of wall clock."""
    walls = [cost.wall for cost in costs]
    return f"{statistics.median(walls):.2f} ({min(walls):.2f}–{max(walls):.2f})"


def processor_and_memory(costs: Sequence[Cost]) -> str:
    """``median processor seconds, peak MiB``."""
    seconds = statistics.median(cost.processor for cost in costs)
    return f"{seconds:.2f}, {max(cost.memory for cost in costs) / UNITS['MiB']:.0f}"
