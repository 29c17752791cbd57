"""
DVC datasets as components: a cut of a repository, and the repository back.

The tree of a cut:

=========================  ==========================================================================================
``repo/<path>``            metafiles (.dvc, dvc.yaml, dvc.lock, .dvcignore, .gitignore, .dvc/config), and files of the
                           project on which the outputs' pipelines depend; never .dvc/config.local, which may hold
                           credentials
``data/<path>``            what is tracked, at its path in the workspace: files with their MD5, mode and time; folders
                           and links, which DVC would drop
``objects/<md5>.dir``      DVC's list of files of a tracked folder
``git/history.bundle``     all refs of the Git repository, if it is one
``git/refs``               what they pointed to, as ``git show-ref --head`` says
=========================  ==========================================================================================

A link to a plain file of the same output is kept as a link, any other link to a file as the file, as DVC itself does.
What a pipeline reads that Git keeps is as Git has it: links are links, and what they lead to in the repository is kept beside them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from muster.adapters.dvc_capture import DvcCapture
from muster.adapters.dvc_object_copies import Side
from muster.adapters.dvc_place import Place
from muster.adapters.dvc_project_files import Project
from muster.adapters.dvc_repository import check_git, dvc_errors, open_repository, read_version
from muster.adapters.dvc_restore import rebuild, standing
from muster.adapters.moved_aside import MovedPaths
from muster.cycles import no_collecting
from muster.domain.recovery_point import ComponentKind
from muster.errors import SourceChanged, UsageError
from muster.ports import Json, TreeReader
from muster.scratch import scratch_folder


class DvcSource:
    """
    A living DVC repository.

    :param repo: its root folder, with or without Git
    :param targets: tracked paths or .dvc files, relative to it; none for all that is tracked
    :param source: ``workspace`` requires the workspace to be the recorded version, and reads cache, workspace or remote;
        ``remote`` reads all objects from the remotes and needs no data in the workspace
    :param rev: a Git revision to capture instead of the workspace's version
    """

    def __init__(
        self, name: str, repo: Path, *, targets: Sequence[str] = (), source: Side = "workspace", rev: str | None = None
    ) -> None:
        if source not in ("workspace", "remote"):
            raise UsageError(f"dataset {name}: there is no source {source!r}", "it is workspace or remote")
        self._name = name
        self._repo = repo.absolute()
        self._targets = tuple(targets)
        self._side: Side = source
        self._rev = rev

    @property
    def kind(self) -> ComponentKind:
        return "dataset"

    @property
    def name(self) -> str:
        return self._name

    @contextmanager
    def capture(self, previous: TreeReader | None) -> Iterator[DvcCapture]:
        """
        Open a cut of the version that is recorded now.

        :raises SourceInvalid: if this is no DVC repository, a target is not tracked, the workspace is not the recorded version
            (naming up to five files), or an object is nowhere (naming it)
        :raises IntegrityError: if an object has only damaged copies
        :raises SourceChanged: if it moves while it is being looked at
        """
        cut_at = datetime.now(UTC)
        with ExitStack() as stack:
            with no_collecting():
                cut = self._open(stack, cut_at, previous)
            try:
                yield cut
            except SourceChanged:
                cut.explain()
                raise

    def _open(self, stack: ExitStack, cut_at: datetime, previous: TreeReader | None) -> DvcCapture:
        living = stack.enter_context(open_repository(self._repo))
        described = stack.enter_context(open_repository(self._repo, self._rev)) if self._rev else living
        scratch = stack.enter_context(scratch_folder("dataset"))
        with dvc_errors(self._repo):
            git = check_git(self._repo, living)
            project = Project(self._repo, described, read_version(described, self._targets), self._rev, git, scratch)
            return DvcCapture(project, living, self._side, cut_at, previous)


class DvcTarget:
    """
    A place for a restored DVC repository.

    :param directory: its root folder; must be absent or empty
    :param remote: where its default remote shall lie, a path or a URL that DVC knows; must be absent or empty. None puts it beside
        the repository, at ``<directory>.remote``
    """

    def __init__(self, name: str, directory: Path, *, remote: str | None = None) -> None:
        self._name = name
        self._place = Place(directory.absolute(), remote or f"{directory.absolute()}.remote")

    def check(self, details: Mapping[str, Json]) -> None:
        self._place.check(details)

    def holds(self, details: Mapping[str, Json], tree: TreeReader) -> dict[str, Json] | None:
        """What was measured, if the very repository and its remote are there; a remote on a server is not looked at: None."""
        return standing(self._place, details, tree)

    def can_tell(self, details: Mapping[str, Json]) -> bool:  # noqa: ARG002
        return self._place.remote_folder is not None

    def aside(self) -> MovedPaths:
        remote = self._place.remote_folder
        inside = remote is None or remote.is_relative_to(self._place.directory)
        return MovedPaths((self._place.directory,) if inside or remote is None else (self._place.directory, remote))

    def restore(self, details: Mapping[str, Json], tree: TreeReader) -> dict[str, Json]:
        """
        Put the repository back as it was, with workspace, cache and remote filled, and Git at the same commit and branch.

        The repository's remote is set in .dvc/config.local, unless .dvc/config names the very place already: so no tracked file
        differs. Nothing appears at the place before everything was checked.

        :raises TargetNotEmpty: if the folder or the remote holds anything
        :raises IntegrityError: if an object is not what its MD5 says, or anything differs from `details`
        """
        self._place.check(details)
        return rebuild(self._place, details, tree)
