"""
What lies in the workspace of a DVC repository, and whether it is what DVC has recorded.

A file counts as unchanged if DVC's own state database has an MD5 for its path under the same inode, modification time and
size: this is what `dvc status` trusts, and nothing more is. Any other file is read and hashed, and the state is told.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from muster.adapters.dvc_objects_map import hash_files
from muster.adapters.dvc_repository import Output
from muster.batches import batched
from muster.errors import SourceChanged, SourceInvalid

SHOWN = 5
LOT = 8192
"""Files that are looked at at a time: what DVC's state and the system say of one takes kilobytes."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """By what a change of a file is noticed: inode, size in bytes, modification time in ns since the epoch."""

    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> Stamp:
        return cls(found.st_ino, found.st_size, found.st_mtime_ns)

    @classmethod
    def now(cls, path: str) -> Stamp | None:
        """The stamp of what is there now, links followed; None if that is nothing."""
        try:
            return cls.of(os.stat(path))  # noqa: PTH116
        except OSError:
            return None


@dataclass(frozen=True, slots=True)
class WorkspaceFile:
    """A tracked file; `link` is the target of a symbolic link that leads to a tracked file of the same output."""

    path: str
    md5: str
    mode: int
    stamp: Stamp
    link: str | None = None


@dataclass(slots=True)
class Workspace:
    """
    What lies below one output, ignored files left out.

    :param files: relative path (empty for an output that is a file) to file
    :param folders: relative path to permission bits, of all folders
    :param links: relative path to target, of links that DVC does not follow: those to folders
    """

    files: dict[str, WorkspaceFile] = field(default_factory=dict)
    folders: dict[str, int] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)

    @property
    def digests(self) -> dict[str, str]:
        return {path: file.md5 for path, file in self.files.items()}

    @property
    def every_link(self) -> dict[str, str]:
        """Relative path to target, of links to files and to folders."""
        return self.links | {path: file.link for path, file in self.files.items() if file.link is not None}

    @property
    def empty_folders(self) -> list[str]:
        """Folders that hold nothing at all, which DVC would drop."""
        inhabited = {os.path.dirname(path) for path in (*self.files, *self.folders, *self.links) if path}  # noqa: PTH120
        return sorted(set(self.folders) - inhabited)


def scan(repo: Any, output: Output) -> Workspace:
    """
    Everything below an output, each file with its MD5.

    :raises SourceInvalid: if the output is not in the workspace, or something in it cannot be read
    :raises SourceChanged: if a file changes while it is being hashed
    """
    top = Path(repo.root_dir, output.path)
    if not top.exists():
        raise SourceInvalid(
            f"{output.path} is tracked by DVC but is not in the workspace {repo.root_dir}",
            f"run: dvc checkout {output.path} (or dvc pull); or let the catalog say source: remote",
        )
    workspace = Workspace()
    found = _walk(repo, str(top), workspace) if top.is_dir() else [("", str(top))]
    for lot in batched(found, LOT):
        stats = {path: _stat(path) for _, path in lot}
        digests = _digests(repo, stats)
        for name, path in lot:
            mode, stamp = stat.S_IMODE(stats[path].st_mode), Stamp.of(stats[path])
            workspace.files[name] = WorkspaceFile(path, digests[path], mode, stamp, _link(path))
    linked = {name: file for name, file in workspace.files.items() if file.link is not None}
    regular = workspace.files.keys() - linked.keys() if linked else ()
    for name, file in linked.items():
        workspace.files[name] = replace(file, link=_kept_link(name, file.link or "", regular))
    return workspace


def check_clean(root: Path, output: Output, expected: Mapping[str, str], workspace: Workspace) -> None:
    """
    Refuse a workspace that is not the version that DVC has recorded.

    :param expected: relative path to MD5, as recorded
    :raises SourceInvalid: naming what was added, changed and deleted
    """
    actual = workspace.digests
    changes = [
        *(f"{_shown(output, path)} (added)" for path in sorted(actual.keys() - expected.keys())),
        *(
            f"{_shown(output, path)} (changed)"
            for path in sorted(actual)
            if expected.get(path, actual[path]) != actual[path]
        ),
        *(f"{_shown(output, path)} (deleted)" for path in sorted(expected.keys() - actual.keys())),
    ]
    if changes:
        more = f" and {len(changes) - SHOWN} more" if len(changes) > SHOWN else ""
        raise SourceInvalid(
            f"the workspace {root} is not the version that DVC has recorded: {', '.join(changes[:SHOWN])}{more}",
            f"run: dvc add {output.path} (dvc commit for a pipeline's output) to keep the changes, or dvc checkout to drop them",
        )


def changed_files(files: Iterable[WorkspaceFile]) -> list[str]:
    """Those files that are not what they were when they were found."""
    return [file.path for file in files if Stamp.now(file.path) != file.stamp]


def _walk(repo: Any, top: str, workspace: Workspace) -> Iterator[tuple[str, str]]:
    """The files below a folder as DVC sees them; folders and links to folders go into `workspace`."""
    for folder, folders, files in repo.dvcignore.walk(repo.fs, top):
        below = folder[len(top) + 1 :]
        prefix = f"{below}/" if below else ""
        workspace.folders[below] = stat.S_IMODE(os.stat(folder).st_mode)  # noqa: PTH116
        for name in sorted(folders):
            if os.path.islink(path := f"{folder}/{name}"):  # noqa: PTH114
                workspace.links[f"{prefix}{name}"] = os.readlink(path)  # noqa: PTH115
        for name in sorted(files):
            yield f"{prefix}{name}", f"{folder}/{name}"


def _stat(path: str) -> os.stat_result:
    try:
        found = os.stat(path)  # noqa: PTH116
    except FileNotFoundError as error:
        if os.path.islink(path):  # noqa: PTH114
            raise SourceInvalid(
                f"{path} is a link that leads nowhere", "mend or remove the link, then dvc add"
            ) from error
        raise SourceChanged(f"{path} was removed while it was being captured", "take the snapshot again") from error
    except OSError as error:
        raise SourceInvalid(f"{path} cannot be read: {error.strerror}", "see to its permissions") from error
    if not stat.S_ISREG(found.st_mode):
        raise SourceInvalid(
            f"{path} is neither a file, nor a folder, nor a link to one", "DVC cannot track it: remove it"
        )
    return found


def _link(path: str) -> str | None:
    """The target of a symbolic link, as it stands; None if it is none."""
    return os.readlink(path) if os.path.islink(path) else None  # noqa: PTH114, PTH115


def _kept_link(name: str, target: str, regular: Container[str]) -> str | None:
    """Where a link leads, if to a plain file of the same output; any other link is taken for the file, as DVC does."""
    if not name:
        return None
    leads_to = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
    return target if leads_to in regular else None


def _digests(repo: Any, found: Mapping[str, os.stat_result]) -> dict[str, str]:
    known, unknown = trusted_digests(repo, found)
    if unknown:
        hashed = dict(zip(unknown, hash_files(unknown), strict=True))
        moved = [path for path in unknown if Stamp.now(path) != Stamp.of(found[path])]
        if moved:
            raise SourceChanged(f"{moved[0]} changed while it was being hashed", "take the snapshot again")
        remember_digests(repo, hashed, found)
        known |= hashed
    return known


def trusted_digests(repo: Any, found: Mapping[str, os.stat_result]) -> tuple[dict[str, str], list[str]]:
    """MD5s that DVC's state database vouches for, and the files for which it does not."""
    infos = {path: _info(path, one) for path, one in found.items()}
    known: dict[str, str] = {}
    unknown: list[str] = []
    for path, _, hashed in repo.state.get_many(list(infos), repo.fs, infos):
        if hashed is not None and hashed.name == "md5" and hashed.value:
            known[path] = hashed.value.removesuffix(".dir")
        else:
            unknown.append(path)
    return known, unknown


def remember_digests(repo: Any, digests: Mapping[str, str], found: Mapping[str, os.stat_result]) -> None:
    """Tell DVC's state database what was hashed, as `dvc status` does."""
    from dvc_data.hashfile.hash_info import HashInfo

    items = [(path, HashInfo("md5", md5), _info(path, found[path])) for path, md5 in digests.items()]
    if items:
        repo.state.save_many(items, repo.fs)


def _info(path: str, found: os.stat_result) -> dict[str, Any]:
    """The keys of `dvc_data.fsutils._localfs_info` that the state's checksum is made of."""
    return {
        "name": path,
        "type": "file",
        "size": found.st_size,
        "mode": found.st_mode,
        "mtime": found.st_mtime,
        "ino": found.st_ino,
        "nlink": found.st_nlink,
    }


def _shown(output: Output, path: str) -> str:
    return f"{output.path}/{path}" if path else output.path
