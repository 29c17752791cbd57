"""Artifact folders: what lies in them, read and written without ever holding a file in memory."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol

from muster.adapters.made_folders import missing_folders, take_back
from muster.adapters.restore_claim import RestoreClaim, claim, leftovers, vacant
from muster.adapters.source_folders import is_folder, status
from muster.domain.content import EntryKind, TreeEntry
from muster.errors import SourceChanged, SourceInvalid, StoreUnavailable
from muster.ports import TreeReader


@dataclass(frozen=True, slots=True)
class Artifact:
    """
    A file (or an empty folder) below a root.

    :param path: relative to the root
    :param version: what changes when the content does: the ETag on S3 and Azure, the generation on Google Cloud Storage; on disk inode and
        ctime, which nobody sets, whereas MLflow gives a file that it logs the mtime of the one that it was copied from
    :param ctime_ns: on disk, when the file was last changed in any way
    """

    path: str
    size: int
    mtime_ns: int
    mode: int | None = None
    version: str = ""
    kind: EntryKind = "file"
    ctime_ns: int = 0


class ArtifactFolder(Protocol):
    """A root, opened."""

    def below(self, named: Sequence[str]) -> Iterator[Artifact]:
        """All files and empty folders below the named folders, each once, sorted by path within a named folder."""

    def is_empty(self) -> bool:
        """Whether there is nothing at all below this root, or no such root. What killed restores left behind is nothing."""

    def open(self, artifact: Artifact) -> BinaryIO:
        """
        A stream of its content.

        :raises SourceChanged: if it is not there any more, or was replaced
        """

    def unchanged(self, artifacts: Sequence[Artifact]) -> str | None:
        """The path of the first artifact that is not as it was, or None."""

    def receive(self, wanted: Sequence[tuple[TreeEntry, str]], tree: TreeReader) -> None:
        """Put entries of a stored tree below this root, which is empty; remove them again if that fails."""

    def keep(self) -> None:
        """What was received stands from now on; until then it is nobody's, should we be killed."""

    def give_back(self) -> None:
        """Remove what was received."""


class LocalFolder:
    """A root on disk. Links are followed; what is neither file nor folder is refused."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._received: list[str] = []
        self._made: list[Path] = []
        self._claim: RestoreClaim | None = None

    def below(self, named: Sequence[str]) -> Iterator[Artifact]:
        for relative in sorted(named):
            start, inner = self.root / relative, PurePosixPath(relative).as_posix()
            inner = "" if inner == "." else inner
            if is_folder(start):
                yield from self._walk(str(start), inner, ())
            elif status(start) is not None:
                yield self._artifact(str(start), inner)

    def _walk(self, folder: str, relative: str, parents: tuple[tuple[int, int], ...]) -> Iterator[Artifact]:
        """
        :param parents: device and inode of the folders above, by which a way back into one is noticed
        """
        try:
            state = Path(folder).stat()
            with os.scandir(folder) as found:
                children = sorted(found, key=attrgetter("name"))
        except FileNotFoundError:
            raise SourceChanged(f"the artifact folder {folder} vanished", "take the snapshot again") from None
        except OSError as error:
            raise SourceInvalid(
                f"the artifact folder {folder} cannot be read: {error.strerror}", "see its permissions"
            ) from None
        here = (state.st_dev, state.st_ino)
        if here in parents:
            raise SourceInvalid(f"the artifact folder {folder} links to a folder above itself", "remove the link")
        if not children and parents:
            yield self._artifact(folder, relative, "dir")
        for child in children:
            inner = f"{relative}/{child.name}" if relative else child.name
            if self._claim is not None and child.path == str(self._claim.path):
                continue
            if _is_folder(child):
                yield from self._walk(child.path, inner, (*parents, here))
            else:
                yield self._artifact(child.path, inner)

    def _artifact(self, path: str, relative: str, kind: EntryKind = "file") -> Artifact:
        found = status(path)
        if found is None:
            if Path(path).is_symlink():
                raise SourceInvalid(f"the artifact {path} is a link to nothing", "mend or remove the link")
            raise SourceChanged(f"the artifact {path} vanished", "take the snapshot again")
        if kind == "file" and not stat.S_ISREG(found.st_mode):
            raise SourceInvalid(f"the artifact {path} is neither a file nor a folder", "remove it")
        mode, changed = stat.S_IMODE(found.st_mode), found.st_ctime_ns
        if kind == "dir":
            return Artifact(relative, 0, found.st_mtime_ns, mode, kind="dir")
        return Artifact(relative, found.st_size, found.st_mtime_ns, mode, _version(found), ctime_ns=changed)

    def is_empty(self) -> bool:
        return vacant(self.root, leftovers(self.root, self.root))

    def open(self, artifact: Artifact) -> BinaryIO:
        try:
            return (self.root / artifact.path).open("rb")
        except FileNotFoundError:
            raise SourceChanged(f"the artifact {self.root / artifact.path} vanished", "take it again") from None
        except OSError as error:
            raise SourceInvalid(
                f"the artifact {self.root / artifact.path} cannot be read: {error.strerror}", "see its permissions"
            ) from None

    def unchanged(self, artifacts: Sequence[Artifact]) -> str | None:
        for artifact in artifacts:
            try:
                found = (self.root / artifact.path).stat()
            except OSError:
                return str(self.root / artifact.path)
            # not ctime: another link to the file, made or removed meanwhile, changes that
            if artifact.kind == "file" and (found.st_size, found.st_mtime_ns) != (artifact.size, artifact.mtime_ns):
                return str(self.root / artifact.path)
        return None

    def receive(self, wanted: Sequence[tuple[TreeEntry, str]], tree: TreeReader) -> None:
        """Files appear below the root by renames, when all of them are whole."""
        self._made = missing_folders(self.root)
        try:
            with disk_errors(self.root):
                self.root.mkdir(parents=True, exist_ok=True)
                self._claim = claim(self.root, self.root)
                staging = self._claim.scratch(self.root, self.root)
                tree.extract((entry, f"{staging}/{relative}") for entry, relative in wanted)
                for child in sorted(staging.iterdir()):
                    self._received.append(child.name)
                    self._claim.place(child, self.root / child.name)
                staging.rmdir()
        except BaseException:
            self.give_back()
            raise

    def keep(self) -> None:
        self._received.clear()
        self._release()

    def give_back(self) -> None:
        for name in self._received:
            path = self.root / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        self._received.clear()
        self._release()
        take_back(self._made)

    def _release(self) -> None:
        if self._claim is not None:
            self._claim.release()
            self._claim = None


def _version(found: os.stat_result) -> str:
    return f"{found.st_ino}-{found.st_ctime_ns}"


def _is_folder(child: os.DirEntry[str]) -> bool:
    """Whether it leads to one, as by `is_folder`; most need not be asked for that."""
    try:
        if not child.is_symlink():
            return child.is_dir()
    except OSError:
        """Asked anew, it is said what is wrong."""
    return is_folder(child.path)


@contextmanager
def disk_errors(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(
            f"artifacts cannot be written below {root}: {error.strerror}", "see its space and permissions"
        ) from None
