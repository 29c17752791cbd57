"""Folders and files that make room for what is restored, and come back if it is not wanted after all."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from muster.errors import Refused, StoreUnavailable
from muster.folders import remove_any
from muster.ports import Aside, Kept


@dataclass(frozen=True, slots=True)
class MovedPaths:
    """
    Paths that are moved as one: all of them, or none.

    :param paths: files or folders; those that are not there are passed over
    :param within: a folder that holds them, and must not get anything else beside them; None if it may
    :param hidden: where in it they are moved to, at their own paths
    """

    paths: Sequence[Path]
    within: Path | None = None
    hidden: str = ""

    def kept(self, stamp: str) -> Kept:
        before = _found(self._named(path, "before", stamp) for path in self.paths)
        undone = _found(self._named(path, "undone", stamp) for path in self.paths)
        for path in self.paths:
            if not before and not undone and not _lies(path.parent):
                raise Refused(
                    f"nothing is to be seen of {path}: the folder {path.parent} is not there",
                    "mount it; or make it, if it is gone for good",
                )
        return Kept(before, undone, _found(self.paths))

    def set_aside(self, stamp: str) -> tuple[str, ...]:
        """:raises Refused: if something lies there under this stamp already, or a path is a mount"""
        return self._move([(path, self._named(path, "before", stamp)) for path in self.paths if _lies(path)])

    def put_back(self, stamp: str) -> tuple[str, ...]:
        """
        What was restored meanwhile goes to ``<path>.undone-<stamp>``, all of it, before anything comes back.

        ``<path>.undoing-<stamp>`` lies there between the two: a try that was killed in the second half must not take what has come back
        already for what was restored.
        """
        before = [path for path in self.paths if _lies(self._named(path, "before", stamp))]
        mark = next((mark for path in self.paths if _lies(mark := self._named(path, "undoing", stamp))), None)
        restored = (
            [(path, self._named(path, "undone", stamp)) for path in self.paths if _lies(path)]
            if before and not mark
            else []
        )
        self._move(restored)
        try:
            if before:
                mark = mark or self._named(before[0], "undoing", stamp)
                self._make_room(mark)
                mark.touch()
            self._move((self._named(path, "before", stamp), path) for path in before)
        except BaseException:
            self._take_back(restored)
            if mark and restored:
                mark.unlink(missing_ok=True)
            raise
        if mark:
            mark.unlink()
        return tuple(str(path) for path in before)

    def discard(self, stamp: str, only: Collection[str]) -> tuple[str, ...]:
        """Also what `put_back` moved aside."""
        asides = [
            aside
            for path in self.paths
            for aside in (self._named(path, "before", stamp), self._named(path, "undone", stamp))
        ]
        found = [aside for aside in asides if _lies(aside)]
        require_named([str(aside) for aside in found], only)
        for aside in found:
            try:
                remove_any(aside)
            except OSError as error:
                told = f"{aside} cannot be deleted: {error.strerror}"
                raise Refused(
                    told, "see to its permissions, then do it again: what is deleted is passed over"
                ) from error
        return tuple(str(aside) for aside in found)

    def _move(self, moves: Iterable[tuple[Path, Path]]) -> tuple[str, ...]:
        done: list[tuple[Path, Path]] = []
        try:
            for source, to in moves:
                _require_free(to)
                self._make_room(to)
                source.rename(to)
                done.append((source, to))
        except OSError as error:
            self._take_back(done)
            wanted = f"moved to {error.filename2}" if error.filename2 else "made"
            told = f"{error.filename} cannot be {wanted}: {error.strerror}"
            raise Refused(told, "restore to another place, or see to permissions; a mount cannot be moved") from error
        except BaseException:
            self._take_back(done)
            raise
        return tuple(str(to) for _, to in done)

    def _take_back(self, done: list[tuple[Path, Path]]) -> None:
        for source, to in reversed(done):
            to.rename(source)

    def _named(self, path: Path, word: str, stamp: str) -> Path:
        """Where something of a path lies aside: beside it, if it does, or else where it has to."""
        beside = path.with_name(f"{path.name}.{word}-{stamp}")
        if self.within is None or _lies(beside):
            return beside
        return self.within / self.hidden / beside.relative_to(self.within)

    def _make_room(self, path: Path) -> None:
        if self.within and path.is_relative_to(self.within / self.hidden):
            path.parent.mkdir(parents=True, exist_ok=True)


@dataclass(frozen=True, slots=True)
class Together:
    """Several places that are moved one after the other; if one cannot be, those before it go back."""

    parts: Sequence[Aside]

    def kept(self, stamp: str) -> Kept:
        each = [part.kept(stamp) for part in self.parts]
        return Kept(
            tuple(place for one in each for place in one.before),
            tuple(place for one in each for place in one.undone),
            tuple(place for one in each for place in one.there),
        )

    def set_aside(self, stamp: str) -> tuple[str, ...]:
        done: list[Aside] = []
        moved: list[str] = []
        try:
            for part in self.parts:
                if places := part.set_aside(stamp):
                    moved += places
                    done.append(part)
        except BaseException:
            for part in reversed(done):
                part.put_back(stamp)
            raise
        return tuple(moved)

    def put_back(self, stamp: str) -> tuple[str, ...]:
        return tuple(place for part in reversed(self.parts) for place in part.put_back(stamp))

    def discard(self, stamp: str, only: Collection[str]) -> tuple[str, ...]:
        kept = self.kept(stamp)  # all of them are looked at before anything is deleted
        require_named((*kept.before, *kept.undone), only)
        return tuple(place for part in self.parts for place in part.discard(stamp, only))


def require_named(found: Iterable[str], only: Collection[str]) -> None:
    """
    :raises Refused: if something lies aside that is not to be deleted
    """
    if others := [place for place in found if place not in only]:
        raise Refused(f"{others[0]} was not there when this was planned", "plan it again: what lies aside has changed")


def _lies(path: Path) -> bool:
    """
    Whether anything lies there, a link that leads nowhere too.

    :raises StoreUnavailable: if that cannot be told, which is not the same as nothing
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise StoreUnavailable(f"{path} cannot be looked at: {error.strerror}", "look at the disk or mount") from error
    return True


def _found(paths: Iterable[Path]) -> tuple[str, ...]:
    return tuple(str(path) for path in paths if _lies(path))


def _require_free(path: Path) -> None:
    if _lies(path):
        raise Refused(f"{path} is there already", "look at what lies there; move it away, or discard it")
