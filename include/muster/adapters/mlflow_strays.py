"""What lies at the places of a point's artifacts and does not belong there: files more, and files where folders were or the reverse."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from muster.adapters.mlflow_artifacts import Artifact, ArtifactFolder, LocalFolder
from muster.adapters.mlflow_missing import LOADED_META, MLMODEL
from muster.adapters.restore_claim import leftovers
from muster.adapters.source_folders import is_folder
from muster.domain.content import TreeEntry

CLAIM = "rollback"
Wanted = tuple[TreeEntry, str]
"""An entry of the stored tree, and its path below a root."""


def inside(path: str, named: Collection[str]) -> bool:
    """Whether a path is one of those that are named, or lies below one."""
    parts = path.split("/")
    return any("/".join(parts[:n]) in named for n in range(len(parts) + 1))


@dataclass(slots=True)
class Bar:
    """
    Something that lies where something of another kind was.

    :param paths: of what cannot be put because of it
    """

    what: str
    paths: list[str] = field(default_factory=list)


def barred(wanted: Sequence[Wanted], there: Mapping[str, Artifact], amiss: Collection[str]) -> dict[str, Bar]:
    """
    By path, what bars entries of a point: a file where a folder was, or a folder where a file was.

    :param amiss: paths where something lies that is no folder, and is not listed either
    """
    stored = {path for _, path in wanted}
    files = {path for path, artifact in there.items() if artifact.kind == "file" and path not in stored} | set(amiss)
    folders = {above for path in there.keys() - stored for above in _above(path)}
    found: dict[str, Bar] = {}
    for entry, path in wanted:
        way = _way(entry, path, there.get(path), files, folders)
        if way is not None:
            kind = "file" if way == path and entry.kind == "file" else "folder"
            found.setdefault(way, Bar(f"is no {kind} any more")).paths.append(path)
    return found


def _way(entry: TreeEntry, path: str, now: Artifact | None, files: set[str], folders: set[str]) -> str | None:
    """The path of what bars an entry, its own or one above it."""
    if now is not None:
        return path if now.kind != entry.kind else None
    if entry.kind == "file" and path in folders:
        return path
    return next((one for one in (*_above(path), path) if one in files), None)


def in_the_way(folder: ArtifactFolder, named: Iterable[str]) -> set[str]:
    """Paths at or above named places where something lies that is no folder. A bucket has no folders that it could stand for."""
    if not isinstance(folder, LocalFolder):
        return set()
    paths = {above for path in named for above in (path, *_above(path))}
    return {path for path in paths if os.path.lexists(folder.root / path) and not is_folder(folder.root / path)}


def left_behind(folder: ArtifactFolder) -> set[str]:
    """What killed rollbacks have left below a root, and the next one removes."""
    if not isinstance(folder, LocalFolder):
        return set()
    root = Path(os.path.abspath(folder.root))  # noqa: PTH100 - as claims list it: links are not followed
    left = leftovers(folder.root / CLAIM, folder.root)
    return {path.relative_to(root).as_posix() for path in left if path.is_relative_to(root)}


def _above(path: str) -> list[str]:
    """The folders above a path, the root itself first."""
    parts = path.split("/") if path else []
    return ["/".join(parts[:n]) for n in range(len(parts))]


def surplus(there: Mapping[str, Artifact], stored: Collection[str], closed: Collection[str]) -> Iterator[str]:
    """Files that a point has not where it has all that there was, but for those that come of loading a model."""
    for path, artifact in there.items():
        if artifact.kind == "file" and path not in stored and inside(path, closed) and not _of_loading(path, stored):
            yield path


def _of_loading(path: str, stored: Collection[str]) -> bool:
    """Whether MLflow wrote this file beside an `MLmodel`, or Python beside its source, when the model was loaded from its place."""
    folder, name = posixpath.split(path)
    if name == LOADED_META:
        return posixpath.join(folder, MLMODEL) in stored
    above, cache = posixpath.split(folder)
    source = posixpath.join(above, f"{name.partition('.')[0]}.py")
    return cache == "__pycache__" and name.endswith(".pyc") and source in stored
