"""
Look through the folders of a living source.

`Path.glob` and `Path.rglob` pass over folders that they may not read; a capture that did so would be short of files, and look whole.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from muster.errors import SourceChanged, SourceInvalid

WILD = frozenset("*?[")
ANY_DEPTH = "**"


def status(path: str | Path) -> os.stat_result | None:
    """
    What a path leads to, links followed; None if that is nothing.

    :raises SourceInvalid: if it cannot be looked at
    """
    try:
        return Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _error(error, str(path)) from error


def is_folder(path: str | Path) -> bool:
    """
    Whether a path leads to a folder.

    :raises SourceInvalid: if it cannot be looked at
    """
    found = status(path)
    return found is not None and stat.S_ISDIR(found.st_mode)


def below(folder: Path, without: Collection[Path] = ()) -> list[Path]:
    """
    All that is no folder, sorted. Links are given, not followed.

    :param without: what is left out, folders with all that is in them
    :raises SourceInvalid: if a folder cannot be read
    :raises SourceChanged: if one vanishes meanwhile
    """
    found: list[Path] = []
    for top, folders, files in os.walk(folder, onerror=_refuse):
        above = Path(top)
        found += [above / name for name in files]
        with readable(above):
            found += [above / name for name in folders if (above / name).is_symlink()]
        folders[:] = [name for name in folders if above / name not in without]
    return sorted(path for path in found if path not in without)


def matching(root: Path, pattern: str) -> list[Path]:
    """
    Files and folders below `root` that a glob pattern names, sorted; ``**`` is any number of folders, links not followed.

    :raises SourceInvalid: if a folder in which something could match cannot be read
    :raises SourceChanged: if one vanishes meanwhile
    """
    return sorted(set(_matching(root, PurePosixPath(pattern).parts)))


def _matching(folder: Path, parts: Sequence[str]) -> Iterator[Path]:
    if not parts:
        yield folder
        return
    inner = (folder, *_folders_below(folder)) if parts[0] == ANY_DEPTH else _named(folder, parts[0])
    for path in inner:
        yield from _matching(path, parts[1:])


def _folders_below(folder: Path) -> Iterator[Path]:
    for child in _children(folder):
        if is_folder(child) and not child.is_symlink():
            yield child
            yield from _folders_below(child)


def _named(folder: Path, name: str) -> list[Path]:
    if WILD.isdisjoint(name):
        return [folder / name] if _exists(folder / name) else []
    return [child for child in _children(folder) if fnmatchcase(child.name, name)]


def _children(folder: Path) -> list[Path]:
    if not is_folder(folder):
        return []
    with readable(folder):
        return sorted(folder.iterdir())


def _exists(path: Path) -> bool:
    return status(path) is not None or path.is_symlink()


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Translate what the system says of a path."""
    try:
        yield
    except OSError as error:
        raise _error(error, str(path)) from error


def _refuse(error: OSError) -> None:
    raise _error(error, str(error.filename)) from error


def _error(error: OSError, path: str) -> SourceChanged | SourceInvalid:
    if isinstance(error, FileNotFoundError):
        return SourceChanged(f"{path} vanished while it was being captured", "take the snapshot again")
    return SourceInvalid(
        f"{path} cannot be read: {error.strerror}", "see to its permissions, or leave it out of the catalog"
    )
