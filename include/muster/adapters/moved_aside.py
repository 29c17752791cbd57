"""Folders and files that make room for what is restored, and come back if it is not wanted after all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from muster.errors import Refused
from muster.folders import remove_any
from muster.ports import Aside, Kept


@dataclass(frozen=True, slots=True)
class MovedPaths:
    """
    Paths that are moved as one: all of them, or none.

    :param paths: files or folders; those that are not there are passed over
    """

    paths: Sequence[Path]

    def kept(self, stamp: str) -> Kept:
        return Kept(
            _found(_before(path, stamp) for path in self.paths),
            _found(_undone(path, stamp) for path in self.paths),
            _found(self.paths),
        )

    def set_aside(self, stamp: str) -> tuple[str, ...]:
        """:raises Refused: if something lies there under this stamp already, or a path is a mount"""
        return self._move([(path, _before(path, stamp)) for path in self.paths if os.path.lexists(path)])

    def put_back(self, stamp: str) -> tuple[str, ...]:
        """
        What was restored meanwhile goes to ``<path>.undone-<stamp>``.

        Where that is taken already, a try that was killed has moved it there, and what lies at the path now is the old state.
        """
        before = [path for path in self.paths if os.path.lexists(_before(path, stamp))]
        restored = [p for p in self.paths if os.path.lexists(p) and not os.path.lexists(_undone(p, stamp))]
        moves = [(path, _undone(path, stamp)) for path in restored] if before else []
        self._move([*moves, *((_before(path, stamp), path) for path in before)])
        return tuple(str(path) for path in before)

    def discard(self, stamp: str) -> tuple[str, ...]:
        """Also what `put_back` moved aside."""
        asides = [aside for path in self.paths for aside in (_before(path, stamp), _undone(path, stamp))]
        found = [aside for aside in asides if os.path.lexists(aside)]
        for aside in found:
            remove_any(aside)
        return tuple(str(aside) for aside in found)

    def _move(self, moves: Iterable[tuple[Path, Path]]) -> tuple[str, ...]:
        done: list[tuple[Path, Path]] = []
        try:
            for source, to in moves:
                _require_free(to)
                source.rename(to)
                done.append((source, to))
        except OSError as error:
            self._take_back(done)
            told = f"{error.filename} cannot be moved to {error.filename2}: {error.strerror}"
            raise Refused(told, "restore to another place, or see to permissions; a mount cannot be moved") from error
        except BaseException:
            self._take_back(done)
            raise
        return tuple(str(to) for _, to in done)

    def _take_back(self, done: list[tuple[Path, Path]]) -> None:
        for source, to in reversed(done):
            to.rename(source)


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

    def discard(self, stamp: str) -> tuple[str, ...]:
        return tuple(place for part in self.parts for place in part.discard(stamp))


def _found(paths: Iterable[Path]) -> tuple[str, ...]:
    return tuple(str(path) for path in paths if os.path.lexists(path))


def _require_free(path: Path) -> None:
    if os.path.lexists(path):
        raise Refused(f"{path} is there already", "look at what lies there; move it away, or discard it")


def _before(path: Path, stamp: str) -> Path:
    return path.with_name(f"{path.name}.before-{stamp}")


def _undone(path: Path, stamp: str) -> Path:
    return path.with_name(f"{path.name}.undone-{stamp}")
