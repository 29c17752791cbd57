"""
Files that get their name when they are whole, and never that of another one. Those that have none until then (``O_TMPFILE``) leave nothing
if their writer is killed.
"""

from __future__ import annotations

import errno
import os
from functools import cache
from pathlib import Path

_FLAG: int = getattr(os, "O_TMPFILE", 0)
_NO_SUCH_FILES = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL)
_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS)
_OPEN_FILES = "/proc/self/fd"


def open_nameless(folder: str | Path, mode: int) -> int | None:
    """A new file in a folder, to be written and then given a name; None where there are no files without one."""
    if not _possible():
        return None
    try:
        return os.open(folder, _FLAG | os.O_WRONLY | os.O_CLOEXEC, mode)
    except OSError as error:
        if error.errno not in _NO_SUCH_FILES:
            raise
        return None


def give_name(handle: int, path: str | Path) -> None:
    """
    Link an open file without a name to its own.

    :raises FileExistsError: if something has that name
    :raises OSError: with the path, if it cannot be given
    """
    # Only `linkat` follows the link to the open file; Python calls that if it is given a folder, which is not looked at.
    try:
        os.link(f"{_OPEN_FILES}/{handle}", path, src_dir_fd=handle)
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None


def name_once(partial: str | Path, path: str | Path) -> None:
    """
    Link a file under a temporary name to its own; where there are no hard links, move it, as sure as can be.

    :raises FileExistsError: if something has that name
    """
    try:
        os.link(partial, path)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
        Path(partial).rename(path)


@cache
def _possible() -> bool:
    return bool(_FLAG) and Path(_OPEN_FILES).is_dir()
