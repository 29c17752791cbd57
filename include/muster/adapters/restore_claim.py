"""
What a restore makes and has not finished, written down beside it, so that one who is killed bars nobody's way.

A claim is a file ``.<name>.restoring-<8 hex digits>``, locked as long as the restore lives. It lists, a line each and before the
fact, the scratch folders that are made and what is renamed to its final place. When all is whole the claim is removed: that is the
moment from which the restored counts. A claim that nobody holds belongs to a restore that was killed; what it lists is removed by
the next one, unless somebody has worked with it since.
"""

from __future__ import annotations

import fcntl
import glob
import json
import os
import secrets
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from muster.errors import MusterError
from muster.folders import remove_any

MARK = "restoring"


@dataclass(slots=True)
class RestoreClaim:
    """A claim that is held."""

    path: Path
    _handle: int
    _scratch: list[Path] = field(default_factory=list)

    def scratch(self, final: Path, within: Path, mode: int = 0o777) -> Path:
        """A new folder within another, to prepare there what will be `final`; gone when the claim is given up."""
        folder = within / f".{final.name}.{MARK}-{secrets.token_hex(4)}.d"
        self._write("scratch", folder, 0)
        self._scratch.append(folder)
        folder.mkdir(mode)
        return folder

    def place(self, prepared: Path, final: Path) -> None:
        """Rename something to its final place."""
        self._write("placed", final, prepared.lstat().st_ino)
        prepared.rename(final)

    def release(self) -> None:
        """Remove what is left of the scratch folders, then the claim: what was placed stands from now on."""
        for folder in self._scratch:
            _remove(folder)
        self.path.unlink(missing_ok=True)
        os.close(self._handle)

    def _write(self, what: str, path: Path, inode: int) -> None:
        os.write(self._handle, f"{json.dumps([what, os.path.abspath(path), inode])}\n".encode())  # noqa: PTH100


def claim(final: Path, within: Path) -> RestoreClaim:
    """
    Remove what killed restores to this place left behind, and claim it.

    :param within: an existing folder that the claim's file is put into: always the same one for the same place
    """
    for abandoned in _abandoned(final, within):
        for path in abandoned.leftovers():
            _remove(path)
    while True:
        path = within / f".{final.name}.{MARK}-{secrets.token_hex(4)}"
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        with suppress(OSError):  # a file system without locks: then no claim on it is ever taken for abandoned
            fcntl.flock(handle, fcntl.LOCK_EX)
        if path.exists():  # else another restore took it for abandoned before it was locked
            return RestoreClaim(path, handle)
        os.close(handle)


@contextmanager
def claimed(final: Path, within: Path) -> Iterator[RestoreClaim]:
    """A claim for as long as the context lasts. Whoever fails takes back what was placed before the context is left."""
    held = claim(final, within)
    try:
        yield held
    finally:
        held.release()


def leftovers(final: Path, within: Path) -> set[Path]:
    """Everything that killed restores to this place left behind, as it stands in their claims; nothing is changed."""
    return {path for abandoned in _abandoned(final, within) for path in abandoned.leftovers()}


def claims_on(final: Path) -> list[Path]:
    """Every claim to a place, held or left behind, that lies beside it or in it."""
    name = f".{glob.escape(final.name)}.{MARK}-????????"
    return sorted(path for within in (final.parent, final) for path in within.glob(name))


def vacant(folder: Path, left: Collection[Path]) -> bool:
    """Whether there is nothing at a place, or an empty folder, apart from what was left behind."""
    folder = Path(os.path.abspath(folder))  # noqa: PTH100 - links are not followed
    if not os.path.lexists(folder) or folder in left:
        return True
    return folder.is_dir() and all(child in left for child in folder.iterdir())


@dataclass(frozen=True, slots=True)
class _Abandoned:
    path: Path
    lines: tuple[tuple[str, str, int], ...]
    written_ns: int

    def leftovers(self) -> Iterator[Path]:
        """What the claim lists and is there, untouched; the claim itself last."""
        for what, listed, inode in self.lines:
            path = Path(listed)
            if what == "scratch" or self._untouched(path, inode):
                yield path
        yield self.path

    def _untouched(self, path: Path, inode: int) -> bool:
        with suppress(OSError):
            if path.lstat().st_ino != inode:
                return False
            below = (Path(folder, name) for folder, folders, files in os.walk(path) for name in (*folders, *files))
            return all(one.lstat().st_mtime_ns <= self.written_ns for one in (path, *below))
        return False


def _abandoned(final: Path, within: Path) -> Iterator[_Abandoned]:
    """Claims to this place that nobody holds, each locked while it is looked at."""
    for path in sorted(Path(os.path.abspath(within)).glob(f".{glob.escape(final.name)}.{MARK}-????????")):  # noqa: PTH100
        with suppress(OSError):
            handle = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield _Abandoned(path, tuple(_lines(path)), path.stat().st_mtime_ns)
            finally:
                os.close(handle)


def _lines(path: Path) -> Iterator[tuple[str, str, int]]:
    for line in path.read_text().splitlines():
        with suppress(ValueError):  # the last line of one who was killed while writing it: nothing was done yet
            what, listed, inode = json.loads(line)
            yield what, listed, inode


def _remove(path: Path) -> None:
    with suppress(OSError, MusterError):
        remove_any(path)
