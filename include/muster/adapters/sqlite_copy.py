"""The copy of an SQLite store that others write to meanwhile."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from muster.adapters.beside import StillWanted
from muster.errors import SourceInvalid, StoreUnavailable

LOCK_WAIT = 60.0
"""Seconds for which a locked SQLite file is waited for."""
_LOOK_AGAIN = 0.5
"""Seconds after which it is seen whether to wait any longer."""


def copy_sqlite(source: Path, copy: Path, wanted: StillWanted) -> None:
    """
    Copy one moment of an MLflow store that others may write to.

    :param source: the file of the store
    :param copy: a new file
    :raises CancelledError: when it is not wanted any more
    :raises SourceInvalid: if there is no such file
    :raises StoreUnavailable: if it stays locked for `LOCK_WAIT`
    """
    if not source.is_file():
        raise SourceInvalid(f"there is no MLflow store {source}", "see which file `mlflow server` was given")
    deadline = time.monotonic() + LOCK_WAIT

    def give_up(status: int, _remaining: int, _total: int) -> None:
        wanted.check()
        if status != sqlite3.SQLITE_DONE and time.monotonic() > deadline:
            raise StoreUnavailable(f"{source} stayed locked for {LOCK_WAIT:.0f} s", "see who writes to it so long")

    address = f"{source.as_uri()}?mode=ro"
    with (
        closing(sqlite3.connect(address, uri=True, timeout=_LOOK_AGAIN)) as opened,
        closing(sqlite3.connect(copy)) as target,
    ):
        target.execute("PRAGMA synchronous = OFF")  # nobody needs it after us
        opened.backup(target, progress=give_up)
