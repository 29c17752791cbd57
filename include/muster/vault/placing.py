"""Put a file under its name when it is whole, not before, and never in the place of another."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from muster.nameless import give_name, name_once, open_nameless


class Placement:
    """
    Creates files. May be used from several threads.

    A file is written without a name (``O_TMPFILE``) and then linked to its own: one entry of a folder is made, where a temporary
    name costs three, and a process that is killed leaves nothing behind. Where the file system has no such files, the
    temporary name is the way, and a killed process leaves one that begins with ``.muster-``.
    """

    def __init__(self) -> None:
        self._nameless = True

    def create(self, path: str, parts: Iterable[bytes], mode: int | None, mtime_ns: int | None) -> int:
        """
        A new file of these parts; its folder is there. Return its size.

        If `parts` raises, there is no file.

        :param mode: its permission bits; None for those of any new file
        :param mtime_ns: its time of modification in nanoseconds since the epoch; None for now
        :raises FileExistsError: with the path, if something has that name
        """
        handle = self._opened(folder_of(path), mode)
        if handle is None:
            return _create_by_a_name(path, parts, mode, mtime_ns)
        try:
            size = _fill(handle, parts, mode, mtime_ns)
            give_name(handle, path)
        except FileExistsError:
            raise _taken(path) from None
        finally:
            os.close(handle)
        return size

    def _opened(self, folder: str, mode: int | None) -> int | None:
        handle = open_nameless(folder, _first_mode(mode)) if self._nameless else None
        self._nameless = handle is not None
        return handle


def _create_by_a_name(path: str, parts: Iterable[bytes], mode: int | None, mtime_ns: int | None) -> int:
    partial = f"{folder_of(path)}/.muster-{os.getpid()}-{secrets.token_hex(8)}.part"
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _first_mode(mode))
    try:
        try:
            size = _fill(handle, parts, mode, mtime_ns)
        finally:
            os.close(handle)
        name_once(partial, path)
    except FileExistsError:
        raise _taken(path) from None
    finally:
        Path(partial).unlink(missing_ok=True)
    return size


def remove_partials(process: int, folders: Iterable[str]) -> None:
    """Remove what a process that was killed had not yet given a name to."""
    for folder in folders:
        for partial in Path(folder).glob(f".muster-{process}-*.part"):
            partial.unlink(missing_ok=True)


def _fill(handle: int, parts: Iterable[bytes], mode: int | None, mtime_ns: int | None) -> int:
    size = 0
    for part in parts:
        size += _write_all(handle, part)
    if mode is not None:
        os.fchmod(handle, mode & 0o7777)
    if mtime_ns is not None:
        os.utime(handle, ns=(mtime_ns, mtime_ns))
    return size


def _write_all(handle: int, part: bytes) -> int:
    written = os.write(handle, part)
    while written < len(part):
        written += os.write(handle, memoryview(part)[written:])
    return written


def folder_of(path: str) -> str:
    """The folder that a path lies in."""
    folder, slash, _ = path.rpartition("/")
    return folder or slash or "."


def name_of(path: str) -> str:
    """Its last part."""
    return path.rpartition("/")[2]


def _first_mode(mode: int | None) -> int:
    """What a file is opened with: never more than it will have."""
    return 0o666 if mode is None else mode & 0o777


def _taken(path: str) -> FileExistsError:
    return FileExistsError(errno.EEXIST, "it is there already", path)
