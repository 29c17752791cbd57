"""
Folders for what is needed while something is done. What a killed process left of them is removed by the next one that needs the like.

They hold what nobody else may keep: rows of a registry, datasets, whole stores; and a worker that the system kills at night would
fill its disk with them.
"""

from __future__ import annotations

import fcntl
import glob
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from muster.errors import MusterError
from muster.folders import remove_folder

logger = logging.getLogger(__name__)


@contextmanager
def scratch_folder(purpose: str, parent: Path | None = None) -> Iterator[Path]:
    """
    A new empty folder that only its owner reads, gone afterwards, whatever happened.

    :param purpose: part of its name; abandoned folders of the same purpose are removed first
    :param parent: an existing folder that it lies in; that of the system for temporary files, if left out
    """
    parent, prefix = parent or Path(tempfile.gettempdir()), f"muster-scratch-{purpose}-"
    remove_abandoned(parent, prefix)
    with held_folder(parent, prefix) as folder:
        yield folder


@contextmanager
def held_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A new folder, locked as long as this process lives, gone afterwards if it is still there."""
    folder, handle = _made(parent, prefix)
    try:
        yield folder
    finally:
        try:
            remove_folder(folder)
        except MusterError as error:
            logger.warning("%s; whoever needs one like it tries again", error.message)
        finally:
            os.close(handle)


def _made(parent: Path, prefix: str) -> tuple[Path, int]:
    """The folder, and what holds its lock."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        with suppress(FileNotFoundError):
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            with suppress(OSError):  # a file system without locks: then none is ever taken for abandoned
                fcntl.flock(handle, fcntl.LOCK_EX)
            if folder.exists():
                return folder, handle
            os.close(handle)
        # somebody took it for abandoned before it was locked


def remove_abandoned(parent: Path, prefix: str) -> None:
    """Remove folders by `held_folder` whose processes were killed; the lock tells them from those that are in use."""
    for folder in parent.glob(f"{glob.escape(prefix)}*"):
        with suppress(OSError, MusterError):
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(handle).st_uid == os.geteuid():
                    remove_folder(folder)
            finally:
                os.close(handle)
