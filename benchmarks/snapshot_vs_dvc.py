"""
Snapshot, unchanged snapshot and restore of a DVC dataset: Muster against DVC itself, side by side in one run.

    snapshot_vs_dvc.py [--shape 16x64MiB --shape 10000x10KiB] [--rounds 3] [--work DIR]

Rounds go DVC, Muster, DVC, Muster, …; every step is a process of its own, timed from start to end; medians are printed as a Markdown
table. What each side does in each row is written in README.md. After every round both restored datasets are compared with the
original, byte by byte: a side that is fast and wrong ends the run.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from measuring import (
    UNITS,
    Cost,
    Round,
    Shape,
    check_equal,
    environment,
    folder_size,
    make_data,
    processor_and_memory,
    spread,
    timed,
)

STEPS = Path(__file__).with_name("muster_steps.py")
MIN_ROUNDS = 3


class Bench:
    """One shape of data in a folder of its own, and the two ways to protect it."""

    def __init__(self, folder: Path, shape: Shape, compressible: float) -> None:
        self.folder = folder
        self.shape = shape
        self.original = folder / "original"
        make_data(self.original, shape, compressible)
        self.stored: dict[str, int] = {}
        self._environment = environment(folder / "home")

    def dvc_round(self) -> Round:
        """DVC: add and push, both again, pull into a fresh clone."""
        with self._place("dvc") as place:
            repository = self._repository(place)
            add, push = self._dvc(repository, "add", "data"), self._dvc(repository, "push")
            self.stored["DVC"] = folder_size(place / "remote")
            again = self._dvc(repository, "add", "data") + self._dvc(repository, "push")
            clone = place / "clone"
            _clone(repository, clone)
            pull = self._dvc(clone, "pull")
            check_equal(self.original, clone / "data")
            return {"add": add, "first": push, "again": again, "restore": pull}

    def muster_round(self) -> Round:
        """Muster: snapshot of what DVC has added, once more, restore to a new place."""
        with self._place("muster") as place:
            repository, vault = self._repository(place), str(place / "vault")
            add = self._dvc(repository, "add", "data")
            self._muster("create", vault)
            first = self._muster("snapshot", vault, str(repository))
            self.stored["Muster"] = folder_size(Path(vault))
            again = self._muster("snapshot", vault, str(repository))
            back = self._muster("restore", vault, str(place / "back"))
            check_equal(self.original, place / "back" / "data")
            return {"add": add, "first": first, "again": again, "restore": back}

    def _repository(self, place: Path) -> Path:
        """A DVC repository with the data in its workspace, not yet tracked, and an empty remote beside it."""
        repository = place / "repository"
        repository.mkdir()
        shutil.copytree(self.original, repository / "data")
        for command in (
            ("init", "--quiet", "--no-scm"),
            ("remote", "add", "--quiet", "--default", "backup", str(place / "remote")),
        ):
            self._dvc(repository, *command)
        return repository

    def _dvc(self, repository: Path, *arguments: str) -> Cost:
        return timed([str(Path(sys.executable).with_name("dvc")), *arguments], repository, self._environment)

    def _muster(self, *arguments: str) -> Cost:
        return timed([sys.executable, str(STEPS), *arguments], self.folder, self._environment)

    @contextmanager
    def _place(self, side: str) -> Iterator[Path]:
        place = self.folder / side
        place.mkdir()
        yield place
        shutil.rmtree(place)


def measure(shape: Shape, rounds: int, work: Path | None, compressible: float) -> list[str]:
    """Rows of the table for one shape."""
    if work:
        work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="muster-bench-", dir=work) as folder:
        bench = Bench(Path(folder), shape, compressible)
        dvc: list[Round] = []
        muster: list[Round] = []
        for number in range(1, rounds + 1):
            for side, results, run in (("DVC", dvc, bench.dvc_round), ("Muster", muster, bench.muster_round)):
                print(f"{shape.name}: round {number} of {rounds}, {side}", file=sys.stderr, flush=True)
                results.append(run())
    rows = [_row(shape, label, of, dvc, muster) for label, of in ROWS]
    sizes = [f"{bench.stored[side] / UNITS['MiB']:,.1f} MiB" for side in ("DVC", "Muster")]
    ratio = bench.stored["DVC"] / bench.stored["Muster"]
    return [*rows, f"| {shape.name} | stored after the first | {sizes[0]} | {sizes[1]} | {ratio:.2f} | | |"]


ROWS: tuple[tuple[str, Callable[[Round], Cost]], ...] = (
    ("first snapshot", lambda took: took["first"]),
    ("first snapshot, with `dvc add`", lambda took: took["add"] + took["first"]),
    ("nothing changed", lambda took: took["again"]),
    ("restore", lambda took: took["restore"]),
)
HEAD = (
    "| shape | step | DVC, s | Muster, s | DVC ÷ Muster | DVC: CPU s, peak MiB | Muster: CPU s, peak MiB |\n"
    "|---|---|---:|---:|---:|---:|---:|"
)


def _row(shape: Shape, label: str, of: Callable[[Round], Cost], dvc: list[Round], muster: list[Round]) -> str:
    sides = [[of(took) for took in side] for side in (dvc, muster)]
    medians = [statistics.median(cost.wall for cost in side) for side in sides]
    cells = [*map(spread, sides), f"{medians[0] / medians[1]:.2f}", *map(processor_and_memory, sides)]
    return f"| {shape.name} | {label} | {' | '.join(cells)} |"


def _clone(repository: Path, clone: Path) -> None:
    """What a fresh checkout has: configuration and metafiles, no data and no cache."""
    (clone / ".dvc").mkdir(parents=True)
    for name in (".dvc/config", ".dvcignore", "data.dvc"):
        if (repository / name).exists():
            shutil.copy2(repository / name, clone / name)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().partition("\n")[0])
    parser.add_argument("--shape", type=Shape.parse, action="append", help="COUNTxSIZE; may be given several times")
    parser.add_argument("--rounds", type=int, default=MIN_ROUNDS, help=f"of each side; at least {MIN_ROUNDS}")
    parser.add_argument("--work", type=Path, help="folder on the disk to measure; needs about six times the data")
    parser.add_argument(
        "--compressible", type=float, default=0.5, help="share of each file that halves when compressed"
    )
    arguments = parser.parse_args()
    if arguments.rounds < MIN_ROUNDS or not 0 <= arguments.compressible <= 1:
        parser.error(f"--rounds is at least {MIN_ROUNDS}, --compressible from 0 to 1")
    return arguments


def main() -> None:
    arguments = _arguments()
    shapes = arguments.shape or [Shape.parse("16x64MiB"), Shape.parse("10000x10KiB")]
    rows = [row for shape in shapes for row in measure(shape, arguments.rounds, arguments.work, arguments.compressible)]
    print(
        f"Medians of {arguments.rounds} rounds (fastest–slowest), DVC {version('dvc')}, Python {platform.python_version()}, "
        f"{os.cpu_count()} processors, {arguments.compressible:.0%} of the data compressible.\n"
    )
    print(HEAD, *rows, sep="\n")


if __name__ == "__main__":
    main()
