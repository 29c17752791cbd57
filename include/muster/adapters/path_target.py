"""One path of a component, put back as plain files: no repository, no registry, only what was asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from muster.adapters.made_folders import missing_folders
from muster.adapters.moved_aside import MovedPaths
from muster.adapters.restore_claim import claimed, leftovers, vacant
from muster.adapters.same_files import same_files
from muster.domain.content import TreeEntry
from muster.domain.restore_request import below
from muster.errors import NotFound, SourceInvalid, TargetNotEmpty
from muster.ports import Json, TreeReader

UNTRACKED = ".dvc/tmp/muster"
"""Where neither DVC nor Git looks."""


class PathTarget:
    """
    A place for a file or folder.

    :param kind: of the component
    :param path: what of it, as in `muster.domain.restore_request.RestoreRequest.only`
    :param place: where it goes; must be absent, or an empty folder
    :param repository: of DVC, that the place lies in, if there is one: what is moved aside does not get into what DVC tracks
    """

    def __init__(self, kind: str, path: str, place: Path, repository: Path | None = None) -> None:
        self._kind, self._path = kind, path
        self._place = place.absolute()
        self._repository = repository.absolute() if repository else None
        self._mode = 0o700 if kind == "configuration" else 0o777

    def check(self, details: Mapping[str, Json]) -> None:  # noqa: ARG002 - any machine can hold files
        if not vacant(self._place, leftovers(self._place, self._place.parent)):
            raise TargetNotEmpty(f"{self._place} is there already", "restore to a folder of its own")

    def holds(self, details: Mapping[str, Json], tree: TreeReader) -> dict[str, Json] | None:  # noqa: ARG002
        wanted = self._wanted(tree)
        there = sum(len(files) for _, _, files in os.walk(self._place)) if self._place.is_dir() else 1
        files = [entry for entry, _ in wanted if entry.kind != "dir"]
        if there != len(files) or not same_files((entry, self._place / name) for entry, name in wanted):
            return None
        return _facts(wanted)

    def can_tell(self, details: Mapping[str, Json]) -> bool:  # noqa: ARG002
        return True

    def aside(self) -> MovedPaths:
        own = self._repository / ".dvc" if self._repository else None
        if own is None or not own.is_dir() or self._place.is_relative_to(own):
            return MovedPaths((self._place,))
        above = self._place.parent
        if above.is_dir() and above.stat().st_dev != own.stat().st_dev:  # a mount, out of which nothing is moved
            return MovedPaths((self._place,))
        return MovedPaths((self._place,), self._repository, UNTRACKED)

    def restore(self, details: Mapping[str, Json], tree: TreeReader) -> dict[str, Json]:
        """
        :raises NotFound: if the component has nothing at this path
        """
        self.check(details)
        wanted = self._wanted(tree)
        try:
            for folder in reversed(missing_folders(self._place.parent)):
                folder.mkdir(self._mode)
            with claimed(self._place, self._place.parent) as held:
                staging = held.scratch(self._place, self._place.parent, self._mode) / "restored"
                tree.extract((entry, f"{staging}/{name}" if name else staging) for entry, name in wanted)
                if self._place.is_dir() and staging.is_file():
                    self._place.rmdir()
                held.place(staging, self._place)
        except OSError as error:
            raise SourceInvalid(
                f"{self._place} cannot be written: {error.strerror}", "see to permissions and space"
            ) from error
        return _facts(wanted)

    def _wanted(self, tree: TreeReader) -> list[tuple[TreeEntry, str]]:
        """Entries with their path below the place; empty for the one that is the place."""
        pairs = ((entry, below(self._kind, self._path, entry.path)) for entry in tree.stream())
        wanted = [(entry, name) for entry, name in pairs if name is not None]
        if not wanted:
            raise NotFound(f"the component has nothing at {self._path}", "list what it has with `muster show`")
        return wanted


def _facts(wanted: list[tuple[TreeEntry, str]]) -> dict[str, Json]:
    contents = [entry.content for entry, _ in wanted if entry.content is not None]
    return {"path_files": len(contents), "path_bytes": sum(content.size for content in contents)}
