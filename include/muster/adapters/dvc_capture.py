"""One cut of a DVC repository; `muster.adapters.dvc_datasets` says how its tree is laid out."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from muster.adapters.dvc_known import DATA, OBJECTS, Before
from muster.adapters.dvc_object_copies import ObjectCopies, Side
from muster.adapters.dvc_objects_map import read_folder_object
from muster.adapters.dvc_project_files import Project, ProjectFiles, document
from muster.adapters.dvc_repository import Output, describe_remote
from muster.adapters.dvc_workspace import Workspace, WorkspaceFile, check_clean, scan
from muster.errors import SourceChanged
from muster.ports import Json, SourceFile, TreeReader


@dataclass(frozen=True, slots=True)
class Tracked:
    """
    An output as it was recorded, and as it was found.

    :param files: relative path (empty for an output that is a file) to MD5
    :param folder_object: the bytes of the ``.dir`` object, for a folder
    :param workspace: what lies in the workspace; None if that is not read
    """

    output: Output
    files: Mapping[str, str]
    folder_object: bytes | None
    workspace: Workspace | None

    @property
    def folders(self) -> int:
        """How many folders a restore makes: those of the workspace, or those that the files need."""
        if self.workspace is not None:
            return len(self.workspace.folders)
        return len({str(above) for path in self.files if path for above in PurePosixPath(path).parents})

    def found(self, path: str) -> WorkspaceFile | None:
        """The file of the workspace."""
        return self.workspace.files[path] if self.workspace else None

    def path(self, path: str) -> str:
        """The file's path in the component's tree."""
        return f"{DATA}{self.output.path}/{path}" if path else f"{DATA}{self.output.path}"


class DvcCapture:
    """
    A `Capture` of a DVC repository. What is tracked is settled when it is made; later changes do not get into it.

    :param living: `dvc.repo.Repo` of the workspace: its cache, state and remote
    """

    def __init__(
        self, project: Project, living: Any, side: Side, cut_at: datetime, previous: TreeReader | None
    ) -> None:
        self._project = project
        self._living = living
        self._side = side
        self._cut_at = cut_at
        self._before = Before(previous)
        self._copies = ObjectCopies(living, side)
        self._description = ProjectFiles(project, self._before)
        self._tracked = [self._track(output) for output in project.version.outputs if output.cached]
        self._outputs: list[dict[str, Json]] = []
        self._shared: set[str] = set()
        self._choosing = threading.Lock()

    @property
    def cut_at(self) -> datetime:
        return self._cut_at

    @property
    def method(self) -> str:
        version = f"Git revision {self._project.rev}" if self._project.rev else "the workspace's DVC version"
        if self._side == "remote":
            return f"{version}, objects from the DVC remote"
        return f"{version}, objects by MD5" if self._project.rev else f"{version}, to which the workspace was equal"

    def files(self) -> Iterator[SourceFile]:
        yield from self._description.files()
        needed = {md5 for one in self._tracked for md5 in one.files.values()}
        self._copies.prepare(md5 for md5 in needed if not self._before.has(md5))
        for tracked in self._tracked:
            yield from self._output(tracked)

    def details(self) -> dict[str, Json]:
        from dvc import __version__

        git = self._description.git
        workspaces = [one.workspace for one in self._tracked if one.workspace]
        objects = {oid for one in self._tracked for oid in (one.output.oid, *one.files.values())}
        return {
            "dvc": __version__,
            "scm": "git" if git else "none",
            "source": self._side,
            "revision": git.revision if git else None,
            "branch": git.branch if git else None,
            "not_in_git_bundle": self._description.outside,
            "object_format": git.format if git else None,
            "targets": list(self._project.version.targets),
            "outputs": self._outputs,
            "files": sum(output["nfiles"] for output in self._outputs),
            "bytes": sum(output["size"] for output in self._outputs),
            "objects": len(objects),
            "folders": sum(one.folders for one in self._tracked),
            "empty_folders": sum(len(workspace.empty_folders) for workspace in workspaces),
            "links": sum(len(workspace.every_link) for workspace in workspaces),
            "metafiles": self._description.count,
            "absent_metafiles": self._description.absent,
            "remote": describe_remote(self._living),
            "named_remotes": sorted({one.output.remote for one in self._tracked if one.output.remote}),
        }

    def confirm(self) -> None:
        self._description.confirm()
        if changed := self._copies.changed():
            raise SourceChanged(f"{changed[0]} changed while it was being captured", "take the snapshot again")

    def explain(self) -> None:
        """
        Say what is behind a mismatch, if it is damage.

        :raises IntegrityError: naming the damaged object
        """
        self._copies.explain()

    def _track(self, output: Output) -> Tracked:
        reads_workspace = self._side == "workspace" and self._project.rev is None
        workspace = scan(self._living, output) if reads_workspace else None
        content = self._copies.folder_object(output, workspace) if output.folder else None
        files = {"": output.oid} if content is None else read_folder_object(output.oid, content)
        if workspace is not None:
            check_clean(self._project.root, output, files, workspace)
            files = workspace.digests  # the same, of which there need not be two
        return Tracked(output, files, content, workspace)

    def _output(self, tracked: Tracked) -> Iterator[SourceFile]:
        output, size = tracked.output, 0
        links = tracked.workspace.every_link if tracked.workspace else {}
        if tracked.folder_object is not None and output.oid not in self._shared:
            self._shared.add(output.oid)  # two folders of the same content share their list
            yield document(f"{OBJECTS}{output.oid}", tracked.folder_object, 0o444)
        for path, md5 in sorted(tracked.files.items()):
            if path in links and (found := tracked.found(path)):
                size += found.stamp.size
                continue
            file = self._file(tracked, path, md5)
            size += file.size or 0
            yield file
        for path, mode in sorted(tracked.workspace.folders.items()) if tracked.workspace else ():
            yield SourceFile(tracked.path(path), kind="dir", mode=mode)
        for path, link in sorted(links.items()):
            yield SourceFile(tracked.path(path), kind="link", link=link)
        self._outputs.append({"path": output.path, "md5": output.oid, "nfiles": len(tracked.files), "size": size})

    def _file(self, tracked: Tracked, path: str, md5: str) -> SourceFile:
        found = tracked.found(path)
        mode = found.mode if found else (0o755 if tracked.output.executable else 0o644)
        mtime = found.stamp.mtime_ns if found else None
        name, known = tracked.path(path), self._before.content(md5)
        if known is not None and (found is None or found.stamp.size == known.size):
            opener = functools.partial(self._open_copy, md5, name, found, tracked.output.remote)
            return SourceFile(name, opener, size=known.size, md5=md5, mode=mode, mtime_ns=mtime, known=known)
        copy = self._copies.choose(md5, name, found, tracked.output.remote)
        return SourceFile(name, copy.open, size=copy.size, md5=md5, mode=mode, mtime_ns=mtime)

    def _open_copy(self, md5: str, name: str, found: WorkspaceFile | None, remote: str | None) -> BinaryIO:
        """For content that the point before has and the vault has lost; called from threads of the writer."""
        with self._choosing:
            copy = self._copies.choose(md5, name, found, remote)
        return copy.open()
