"""
How the cost of the vault grows: time, processor, memory, requests and stored bytes over the number and the size of files.

    vault_growth.py [--shape 10000x1KiB --shape 100000x1KiB … --shape 16x64MiB …] [--work DIR]

Every step is a process of its own over a local folder; one run each, so the times are only good for seeing how they grow.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from measuring import UNITS, Cost, Shape, check_equal, environment, folder_size, make_data, timed

STEPS = Path(__file__).with_name("vault_steps.py")
DEFAULT = ("10000x1KiB", "100000x1KiB", "1000000x1KiB", "16x64MiB", "64x64MiB", "256x64MiB")
HEAD = (
    "| shape | step | wall s | CPU s | peak MiB | requests | sent MiB | received MiB | index MiB |\n"
    "|---|---|---:|---:|---:|---|---:|---:|---:|"
)


def measure(shape: Shape, work: Path | None) -> list[str]:
    """Rows of the table for one shape."""
    with tempfile.TemporaryDirectory(prefix="muster-growth-", dir=work) as name:
        folder = Path(name)
        data, vault, back = folder / "data", folder / "vault", folder / "back"
        make_data(data, shape, 0.0)
        known = environment(folder / "home")

        def step(*arguments: str | Path) -> Cost:
            return timed([sys.executable, str(STEPS), *map(str, arguments)], folder, known)

        step("create", vault)
        rows = [_row(shape, "first snapshot", step("snapshot", vault, data), vault)]
        rows.append(_row(shape, "nothing changed", step("snapshot", vault, data), vault))
        rows.append(_row(shape, "verify all data", step("verify", vault), vault))
        rows.append(_row(shape, "restore", step("restore", vault, back), vault))
        check_equal(data, back)
        shutil.rmtree(back)
    return rows


def _row(shape: Shape, step: str, cost: Cost, vault: Path) -> str:
    counted = json.loads(cost.output.splitlines()[-1])
    requests = ", ".join(f"{count} {what}" for what, count in sorted(counted["requests"].items()))
    mib = UNITS["MiB"]
    cells = [
        f"{cost.wall:.1f}",
        f"{cost.processor:.1f}",
        f"{cost.memory / mib:.0f}",
        requests,
        f"{counted['sent'] / mib:,.1f}",
        f"{counted['received'] / mib:,.1f}",
        f"{folder_size(vault / 'indexes') / mib:.2f}",
    ]
    return f"| {shape.name} | {step} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().partition("\n")[0])
    parser.add_argument("--shape", type=Shape.parse, action="append", help="COUNTxSIZE; may be given several times")
    parser.add_argument("--work", type=Path, help="folder on the disk to measure; needs about four times the data")
    options = parser.parse_args()
    if options.work:
        options.work.mkdir(parents=True, exist_ok=True)
    print(HEAD)
    for shape in options.shape or [Shape.parse(text) for text in DEFAULT]:
        print(*measure(shape, options.work), sep="\n", flush=True)


if __name__ == "__main__":
    main()
