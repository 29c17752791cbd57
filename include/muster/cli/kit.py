"""The command that makes a rescue kit."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from muster.cli.session import Session
from muster.errors import NotFound

LOCK = "requirements-rescue.txt"


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--without-wheels", is_flag=True, help="Leave them out: then whoever uses it needs a package index.")
@click.option("--lock", type=click.Path(path_type=Path), help=f"The pins to take.  [{LOCK} of Muster's sources]")
@click.pass_obj
def kit(session: Session, out: Path, without_wheels: bool, lock: Path | None) -> None:
    """Write a rescue kit to keep beside the recovery key.

    OUT, such as restore.pyz, is one file that brings this command line back on a machine of this kind (system, processor, version of
    Python) that has nothing else: with it, a vault and a key no more is needed. Make a new one whenever Muster is upgraded.
    """
    from muster.adapters.rescue_kit import PACKAGE, write_kit

    pins = lock or next((p for p in (PACKAGE.parents[1] / LOCK, Path(LOCK)) if p.is_file()), None)
    if pins is None:
        raise NotFound(f"there is no {LOCK} here", "name the one of Muster's sources with --lock FILE")
    written = write_kit(out, pins, wheels=not without_wheels)
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    session.screen.result(
        {"kit": str(out), "size": written.size, "sha256": written.sha256, "wheels": written.wheels},
        f"wrote {out}: {written.size / 1e6:.0f} MB, {written.wheels} wheels for Python {python}",
        f"sha256 {written.sha256}",
        f"Keep the file and this digest beside the recovery key. On an empty machine: python3 {out.name} FOLDER",
    )
