"""What describes a DVC version: Git history, metafiles, and the files of the project that its pipelines read."""

from __future__ import annotations

import functools
import io
import logging
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from muster.adapters.dvc_known import Before
from muster.adapters.dvc_objects_map import ObjectFile, open_file
from muster.adapters.dvc_repository import Version, is_metafile
from muster.adapters.dvc_workspace import Stamp, WorkspaceFile, changed_files
from muster.adapters.git_history import GitState, committed_files, read_state, write_bundle
from muster.adapters.git_outside import outside_bundle
from muster.adapters.source_folders import below, is_folder, status
from muster.domain.content import ContentRef
from muster.errors import SourceChanged, SourceInvalid
from muster.ports import SourceFile

logger = logging.getLogger(__name__)

REPO = "repo/"
OWN = (".git", ".dvc")
BUNDLE, REFS = "git/history.bundle", "git/refs"
ATTEMPT_AGAIN = "take the snapshot again"


@dataclass(frozen=True, slots=True)
class Project:
    """
    Where a version's description is read.

    :param repo: `dvc.repo.Repo` whose metafiles are read: of the workspace, or of the Git revision `rev`
    :param scratch: a folder that is removed after the capture
    """

    root: Path
    repo: Any
    version: Version
    rev: str | None
    git: bool
    scratch: Path


class ProjectFiles:
    """The description of a version, settled when this is made."""

    def __init__(self, project: Project, before: Before) -> None:
        self._project = project
        self._before = before
        self.git: GitState | None = read_state(project.root, project.rev) if project.git else None
        self._metafiles = {name: self._read(name) for name in project.version.metafiles}
        self._others: list[WorkspaceFile] = []
        self._links: dict[Path, str] = {}
        self.absent = self._absent()
        self.outside = outside_bundle(project.root, self.git) if self.git else []
        for told in self.outside:
            logger.warning("the Git history of %s is captured without %s", project.root, told)
        self._check_cut()

    @property
    def count(self) -> int:
        """How many files below ``repo/`` were captured."""
        return len(self._metafiles) + len(self._others) + len(self._links)

    def files(self) -> Iterator[SourceFile]:
        """History first, then metafiles and other files."""
        if self.git is not None and self.git.refs:
            yield self._bundle(self.git)
            yield document(REFS, _refs(self.git), 0o644)
        for name, content in self._metafiles.items():
            yield document(f"{REPO}{name}", content, 0o644)
        if self._project.rev is None:
            yield from self._dependencies()

    def confirm(self) -> None:
        """
        :raises SourceChanged: if anything of this is not what it was
        """
        root = self._project.root
        moved = [str(root / name) for name, content in self._metafiles.items() if self._read_again(name) != content]
        moved += changed_files(self._others)
        moved += [str(path) for path, link in self._links.items() if _link(path) != link]
        moved += [str(root / name) for name in sorted({*self.absent} ^ {*self._absent()})]
        if moved:
            raise SourceChanged(f"{moved[0]} changed while the dataset was being captured", ATTEMPT_AGAIN)
        if self.git is not None and read_state(root, self._project.rev) != self.git:
            raise SourceChanged(f"the Git repository {root} moved while it was being captured", ATTEMPT_AGAIN)

    def _check_cut(self) -> None:
        """The metafiles as kept must name the version as DVC read it a moment before."""
        text = b"".join(self._metafiles.values())
        late = [output.path for output in self._project.version.outputs if output.oid.encode() not in text]
        if late:
            raise SourceChanged(f"{late[0]} got another version while it was being captured", ATTEMPT_AGAIN)

    def _absent(self) -> list[str]:
        """Metafiles of the commit that the workspace has not: removed, and not committed."""
        if self.git is None or self.git.revision is None or self._project.rev is not None:
            return []
        root = self._project.root
        described = filter(is_metafile, committed_files(root, self.git.revision))
        return [name for name in described if not os.path.lexists(root / name)]

    def _bundle(self, git: GitState) -> SourceFile:
        known = self._unchanged_bundle(git)
        if known is not None:  # without its size: written anew, the same history may be packed in another way
            return SourceFile(BUNDLE, functools.partial(self._open_bundle, git), mode=0o644, known=known)
        self._write_bundle(git)
        size = self._bundled.stat().st_size
        return SourceFile(BUNDLE, ObjectFile(str(self._bundled)), size=size, mode=0o644)

    @property
    def _bundled(self) -> Path:
        return self._project.scratch / "history.bundle"

    def _open_bundle(self, git: GitState) -> BinaryIO:
        self._write_bundle(git)
        return open_file(str(self._bundled))

    def _write_bundle(self, git: GitState) -> None:
        write_bundle(self._project.root, self._bundled, git)

    def _unchanged_bundle(self, git: GitState) -> ContentRef | None:
        return self._before.history(BUNDLE) if self._before.read_history(REFS) == _refs(git) else None

    def _read(self, name: str) -> bytes:
        repo = self._project.repo
        try:
            with repo.fs.open(repo.fs.join(repo.root_dir, *name.split("/")), "rb") as stream:
                return bytes(stream.read())
        except FileNotFoundError as error:
            raise SourceChanged(f"{self._project.root / name} was removed meanwhile", ATTEMPT_AGAIN) from error
        except OSError as error:
            raise SourceInvalid(
                f"{self._project.root / name} cannot be read: {error}", "see to its permissions"
            ) from error

    def _read_again(self, name: str) -> bytes | None:
        try:
            return self._read(name)
        except SourceChanged:
            return None

    def _dependencies(self) -> Iterator[SourceFile]:
        root, version = self._project.root, self._project.version
        kept = [root / output.path for output in version.outputs if output.cached]
        found: dict[Path, None] = {}
        for name in version.dependencies:
            _find(root, root / name, kept, found)
        for path in found:
            if (relative := path.relative_to(root).as_posix()) not in self._metafiles:
                yield self._other(relative, path)

    def _other(self, name: str, path: Path) -> SourceFile:
        if link := _link(path):
            self._links[path] = link
            return SourceFile(f"{REPO}{name}", kind="link", link=link)
        found = status(path)
        if found is None:
            raise SourceChanged(f"{path} was removed while it was being captured", ATTEMPT_AGAIN)
        self._others.append(WorkspaceFile(str(path), "", found.st_mode, Stamp.of(found)))
        opener, mode = ObjectFile(str(path)), stat.S_IMODE(found.st_mode)
        return SourceFile(f"{REPO}{name}", opener, size=found.st_size, mode=mode, mtime_ns=found.st_mtime_ns)


def document(path: str, content: bytes, mode: int) -> SourceFile:
    """Bytes in memory as a file of a tree."""
    return SourceFile(path, functools.partial(io.BytesIO, content), size=len(content), mode=mode)


def _refs(git: GitState) -> bytes:
    return git.refs.encode(errors="surrogateescape")


def _find(root: Path, path: Path, kept: Sequence[Path], found: dict[Path, None]) -> None:
    """
    Put what lies at and below a path into `found`: plain files, and links as such with what they lead to in the repository.

    As for DVC, a folder ends where a link in it leads to another; a path does go through links.

    :param kept: what is captured by itself
    """
    inside = path.relative_to(root).parts
    if not inside or inside[0] in OWN or any(path.is_relative_to(one) for one in kept):
        return
    there = status(path)
    if link := _first_link(root, inside):
        found[link] = None
        leads_to = Path(os.path.normpath(link.parent / link.readlink()), path.relative_to(link))
        if leads_to.is_relative_to(root):
            _find(root, leads_to, kept, found)
    elif is_folder(path):
        _find_below(root, path, kept, found)
    elif _is_plain(there):
        found[path] = None


def _find_below(root: Path, folder: Path, kept: Sequence[Path], found: dict[Path, None]) -> None:
    for path in below(folder, kept):
        plain, link = _is_plain(status(path)), path.is_symlink()
        if plain and link:
            _find(root, path, kept, found)
        elif plain or link:
            found[path] = None


def _first_link(root: Path, inside: Sequence[str]) -> Path | None:
    for end in range(1, len(inside) + 1):
        if (path := root.joinpath(*inside[:end])).is_symlink():
            return path
    return None


def _link(path: Path) -> str | None:
    """Where a link leads, as it stands; None if it is none."""
    return str(path.readlink()) if path.is_symlink() else None


def _is_plain(found: os.stat_result | None) -> bool:
    return found is not None and stat.S_ISREG(found.st_mode)
