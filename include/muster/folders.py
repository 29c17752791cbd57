"""Remove what is our own, whole."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from muster.errors import MusterError


def remove_any(path: Path) -> None:
    """
    Remove a file, a link, or a folder with all that is in it. What is not there is no error.

    :raises MusterError: if something of a folder is still there
    """
    if path.is_dir() and not path.is_symlink():
        remove_folder(path)
    else:
        path.unlink(missing_ok=True)


def remove_folder(folder: Path) -> None:
    """
    Remove a folder with all that is in it, whatever modes its folders have. One that is not there is no error.

    :raises MusterError: if something of it is still there
    """
    if folder.is_dir() and not folder.is_symlink():
        for below, folders, _ in os.walk(folder):
            for name in folders:
                if not (path := Path(below, name)).is_symlink():
                    path.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)
    if os.path.lexists(folder):
        raise MusterError(
            f"{folder} could not be removed", f"see who holds files in it, then remove it: rm -r {folder}"
        )
