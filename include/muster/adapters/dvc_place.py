"""The place of a restored DVC repository and its remote: empty before, whole after, and nothing in between."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from muster.adapters.git_history import check_installed
from muster.adapters.made_folders import missing_folders, take_back
from muster.adapters.restore_claim import RestoreClaim, claim, leftovers, vacant
from muster.domain.restore_plan import without_secrets
from muster.errors import SourceInvalid, TargetNotEmpty, UsageError
from muster.folders import remove_any, remove_folder
from muster.ports import Json


@dataclass(frozen=True, slots=True)
class Place:
    """
    Where a repository and its default remote shall be.

    :param remote: a path, a ``file://`` URL, or any other URL that DVC knows
    """

    directory: Path
    remote: str

    @property
    def remote_folder(self) -> Path | None:
        """The remote as a folder; None if it is a server's."""
        if "://" in self.remote and not self.remote.startswith("file://"):
            return None
        return Path(os.path.abspath(self.remote.removeprefix("file://")))  # noqa: PTH100 - links are not followed

    def check(self, details: Mapping[str, Json]) -> None:
        """
        Refuse what could not be done. Whether a server's remote is empty is asked when it is filled.

        :raises TargetNotEmpty: if the folder or the remote holds anything
        :raises SourceInvalid: if there is no Git here, and it is needed
        :raises UsageError: if the one would lie in the way of the other
        """
        remote = self.remote_folder
        if remote is not None and self.directory.is_relative_to(remote):
            raise UsageError(
                f"the repository {self.directory} would lie inside of its own remote {remote}", "name another remote"
            )
        left = leftovers(self.directory, _beside(self.directory))
        check_empty(self.directory, "the restored repository", left)
        if remote is not None:
            check_empty(remote, "its DVC remote", left)
        if details.get("scm") == "git":
            check_installed()


@dataclass(slots=True)
class Staging:
    """
    Where a place is prepared.

    :param remote: the remote's folder; None if it is a server's
    :param claim: removed when all is in its place
    :param undo: what is done, last first, if it fails after all
    """

    directory: Path
    remote: Path | None
    claim: RestoreClaim
    undo: list[Callable[[], None]] = field(default_factory=list)


def check_empty(folder: Path, what: str, left: Collection[Path]) -> None:
    """
    :param left: what killed restores left behind, which the next one removes
    :raises TargetNotEmpty: if there is a file, or a folder with anything in it
    """
    if not vacant(folder, left):
        raise TargetNotEmpty(
            f"{folder}, the place of {what}, is not empty",
            "name an absent or empty folder; nothing is ever overwritten",
        )


@contextmanager
def staged(place: Place) -> Iterator[Staging]:
    """
    Folders beside the place (inside of it, where it is a mount), moved to it when all went well, and removed if not.

    :raises SourceInvalid: if the folders cannot be written
    """
    with ExitStack() as undo:
        try:
            staging = _prepare(place, undo)
        except OSError as error:
            raise SourceInvalid(f"{place.directory} cannot be made: {error}", "see to permissions and space") from error
        try:
            yield staging
            _install(place, staging, undo)
        except BaseException as error:
            for callback in staging.undo:
                undo.callback(callback)
            if isinstance(error, OSError):
                message = f"{place.directory} cannot be written: {error}"
                raise SourceInvalid(message, "see to permissions and space") from error
            raise
        undo.pop_all()
        staging.claim.release()


def _prepare(place: Place, undo: ExitStack) -> Staging:
    _make_parents(place.directory, undo)
    held = claim(place.directory, _beside(place.directory))
    undo.callback(held.release)
    directory = _new_folder(place.directory, held, undo)
    remote = place.remote_folder
    if remote is None:
        return Staging(directory, None, held)
    if remote.is_relative_to(place.directory):
        return Staging(directory, directory / remote.relative_to(place.directory), held)
    _make_parents(remote, undo)
    return Staging(directory, _new_folder(remote, held, undo), held)


def _make_parents(final: Path, undo: ExitStack) -> None:
    undo.callback(take_back, missing_folders(final.parent))
    final.parent.mkdir(parents=True, exist_ok=True)


def _beside(final: Path) -> Path:
    return final if os.path.ismount(final) else final.parent


def _new_folder(final: Path, held: RestoreClaim, undo: ExitStack) -> Path:
    folder = held.scratch(final, _beside(final))
    undo.callback(remove_folder, folder)
    return folder


def _install(place: Place, staging: Staging, undo: ExitStack) -> None:
    remote = place.remote_folder
    if remote is not None and staging.remote is not None and not remote.is_relative_to(place.directory):
        _move(staging.remote, remote, staging.claim, undo)
    _move(staging.directory, place.directory, staging.claim, undo)


def _move(folder: Path, final: Path, held: RestoreClaim, undo: ExitStack) -> None:
    if folder.parent != final:
        existed = final.exists()
        held.place(folder, final)
        undo.callback(_take_back, final, existed)
        return
    for child in sorted(folder.iterdir()):
        held.place(child, final / child.name)
        undo.callback(remove_any, final / child.name)
    folder.rmdir()


def _take_back(final: Path, existed: bool) -> None:
    remove_folder(final)
    if existed:
        final.mkdir(exist_ok=True)


def remote_for_people(place: Place) -> str:
    """The remote without any secret."""
    return str(place.remote_folder or without_secrets(place.remote))
