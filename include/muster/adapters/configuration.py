"""
Configuration as a component: files, environment variables and secrets that a workload cannot run without.

The tree of a cut:

=====================  ==============================================================================================
``files/<path>``       files, at their path below the root
``environment.env``    variables as ``NAME='value'`` lines, quoted for a POSIX shell: ``set -a; . environment.env``
``secrets.json``       secrets by name, as one JSON object, readable by its owner alone
=====================  ==============================================================================================

Only names, counts and sizes get into the manifest. A restore puts the files at the top of the target, the two documents beside them.
"""

from __future__ import annotations

import functools
import io
import json
import os
import shlex
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from muster.adapters.moved_aside import MovedPaths
from muster.adapters.restore_claim import claimed, leftovers, vacant
from muster.adapters.same_files import same_files
from muster.adapters.source_folders import below, is_folder, matching, status
from muster.domain.content import TreeEntry, checked_path
from muster.domain.recovery_point import ComponentKind
from muster.errors import IntegrityError, SourceChanged, SourceInvalid, TargetNotEmpty
from muster.ports import Json, SourceFile, TreeReader

FILES, ENVIRONMENT, SECRETS = "files/", "environment.env", "secrets.json"
RESERVED = (ENVIRONMENT, SECRETS)
OWNER_ONLY = 0o600
RECONCILED = ("files", "sizes", "bytes", "environment", "secrets")


class ConfigurationSource:
    """
    Living configuration.

    :param root: what the patterns are relative to
    :param files: glob patterns; one that names a folder takes all files below it; each must match something
    :param env: names of environment variables; each must be set
    :param secrets: name to value, already resolved; the values get into the sealed tree and nowhere else
    """

    def __init__(
        self, name: str, root: Path, files: Sequence[str], env: Sequence[str], secrets: Mapping[str, str]
    ) -> None:
        self._name = name
        self._root = root.absolute()
        self._files = tuple(files)
        self._env = tuple(env)
        self._secrets = dict(secrets)

    @property
    def kind(self) -> ComponentKind:
        return "configuration"

    @property
    def name(self) -> str:
        return self._name

    @contextmanager
    def capture(self, previous: TreeReader | None) -> Iterator[ConfigurationCapture]:  # noqa: ARG002 - it is small: read anew
        """
        :raises SourceInvalid: if a pattern matches nothing or climbs out of the root, a variable is not set, or a file cannot be read
        """
        cut_at = datetime.now(UTC)
        unset = sorted(name for name in self._env if name not in os.environ)
        if unset:
            raise SourceInvalid(
                f"configuration {self._name}: the environment variables {', '.join(unset)} are not set",
                "set them where snapshots are taken, or take them out of the catalog",
            )
        variables = {name: os.environ[name] for name in self._env}
        find = functools.partial(_find, self._root, self._files)
        yield ConfigurationCapture(find, variables, self._secrets, cut_at)


class ConfigurationCapture:
    """A `Capture` of configuration; files are checked to have stood still."""

    def __init__(
        self,
        find: functools.partial[dict[str, _Found]],
        variables: Mapping[str, str],
        values: Mapping[str, str],
        cut_at: datetime,
    ) -> None:
        self._find = find
        self._found = find()
        self._variables = variables
        self._values = values
        self._cut_at = cut_at

    @property
    def cut_at(self) -> datetime:
        return self._cut_at

    @property
    def method(self) -> str:
        return "files that stood still while they were read"

    def files(self) -> Iterator[SourceFile]:
        for name, found in self._found.items():
            opener = functools.partial(_open, found.path)
            size, mtime = found.stamp[1], found.stamp[2]
            yield SourceFile(f"{FILES}{name}", opener, size=size, mode=found.mode, mtime_ns=mtime)
        yield _document(ENVIRONMENT, _shell_lines(self._variables))
        yield _document(SECRETS, json.dumps(dict(sorted(self._values.items())), indent=1).encode())

    def details(self) -> dict[str, Json]:
        return {
            "files": len(self._found),
            "sizes": {name: found.stamp[1] for name, found in self._found.items()},
            "bytes": sum(found.stamp[1] for found in self._found.values()),
            "environment": sorted(self._variables),
            "secrets": sorted(self._values),
        }

    def confirm(self) -> None:
        now = self._find()
        moved = sorted(name for name in self._found.keys() | now.keys() if self._found.get(name) != now.get(name))
        if moved:
            raise SourceChanged(f"{moved[0]} changed while the configuration was captured", "take the snapshot again")


class ConfigurationTarget:
    """
    A folder for restored configuration, readable by its owner alone.

    :param directory: must be absent or empty
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory.absolute()

    def check(self, details: Mapping[str, Json]) -> None:  # noqa: ARG002 - any machine can hold files
        if not vacant(self._directory, leftovers(self._directory, self._directory.parent)):
            raise TargetNotEmpty(
                f"{self._directory}, the place of the restored configuration, is not empty",
                "name an absent or empty folder; nothing is ever overwritten",
            )

    def holds(self, details: Mapping[str, Json], tree: TreeReader) -> dict[str, Json] | None:
        """What was measured, if all files, variables and secrets are there, and nothing else."""
        wanted = [(entry, self._directory / _place_of(entry)) for entry in tree.entries()]
        if not same_files(wanted):
            return None
        facts = _measure(self._directory)
        return facts if all(facts[key] == details.get(key) for key in RECONCILED) else None

    def can_tell(self, details: Mapping[str, Json]) -> bool:  # noqa: ARG002
        return True

    def aside(self) -> MovedPaths:
        return MovedPaths((self._directory,))

    def restore(self, details: Mapping[str, Json], tree: TreeReader) -> dict[str, Json]:
        """
        Put files, variables and secrets back; nothing appears before all was checked.

        :raises TargetNotEmpty: if the folder holds anything
        :raises IntegrityError: if anything differs from `details`
        """
        self.check(details)
        with _staged(self._directory) as staging:
            wanted = [(entry, staging / _place_of(entry)) for entry in tree.entries()]
            tree.extract(wanted)
            for name in RESERVED:
                (staging / name).chmod(OWNER_ONLY)
            facts = _measure(staging)
            different = [key for key in RECONCILED if facts[key] != details.get(key)]
            if different:
                raise IntegrityError(
                    f"the restored configuration is not what was captured: {', '.join(different)}", "verify the vault"
                )
        return facts


@dataclass(frozen=True, slots=True)
class _Found:
    """:param stamp: inode, size in bytes, modification time in ns since the epoch"""

    path: Path
    mode: int
    stamp: tuple[int, int, int] = field(default=(0, 0, 0))


def _find(root: Path, patterns: Sequence[str]) -> dict[str, _Found]:
    """Path below the root to file, of all that the patterns match."""
    found: dict[str, _Found] = {}
    for pattern in patterns:
        matched = dict(_matching(root, pattern))
        if not matched:
            raise SourceInvalid(f"no file matches {pattern} below {root}", "mend the catalog's configuration.files")
        found |= matched
    taken = next((name for name in found if PurePosixPath(name).parts[0] in RESERVED), None)
    if taken:
        raise SourceInvalid(
            f"{root / taken} cannot be captured: a restore puts files of its own at {', '.join(RESERVED)}",
            f"rename {PurePosixPath(taken).parts[0]}",
        )
    return dict(sorted(found.items()))


def _matching(root: Path, pattern: str) -> Iterator[tuple[str, _Found]]:
    if not pattern or pattern.startswith("/") or ".." in PurePosixPath(pattern).parts:
        raise SourceInvalid(
            f"the pattern {pattern!r} climbs out of {root}", "patterns are relative to the catalog's root"
        )
    for match in matching(root, pattern):
        for path in below(match) if is_folder(match) else [match]:
            one = status(path)
            if one is not None and stat.S_ISREG(one.st_mode):
                stamp = (one.st_ino, one.st_size, one.st_mtime_ns)
                yield path.relative_to(root).as_posix(), _Found(path, stat.S_IMODE(one.st_mode), stamp)
            elif path.is_symlink():
                raise SourceInvalid(f"{path} is a link that leads to no file", "mend or remove it")


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        raise SourceChanged(f"{path} was removed while it was being captured", "take the snapshot again") from error
    except OSError as error:
        raise SourceInvalid(f"{path} cannot be read: {error.strerror}", "see to its permissions") from error


def _document(name: str, content: bytes) -> SourceFile:
    return SourceFile(name, functools.partial(io.BytesIO, content), size=len(content), mode=OWNER_ONLY)


def _shell_lines(variables: Mapping[str, str]) -> bytes:
    lines = [f"{name}={shlex.quote(value)}\n" for name, value in sorted(variables.items())]
    return "".join(lines).encode(errors="surrogateescape")


def _place_of(entry: TreeEntry) -> str:
    if entry.path in RESERVED:
        return entry.path
    name = entry.path.removeprefix(FILES)
    if name == entry.path or name in RESERVED:
        raise IntegrityError(f"the captured configuration holds {entry.path}, which has no place", "verify the vault")
    return checked_path(name)


@contextmanager
def _staged(directory: Path) -> Iterator[Path]:
    """A folder beside the target for its owner alone, which becomes the target if all goes well and is removed if not."""
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with claimed(directory, directory.parent) as held:
            staging = held.scratch(directory, directory.parent, 0o700)
            yield staging
            held.place(staging, directory)
    except OSError as error:
        raise SourceInvalid(
            f"{directory} cannot be written: {error.strerror}", "see to permissions and space"
        ) from error


def _measure(staging: Path) -> dict[str, Json]:
    paths = [path for path in staging.rglob("*") if path.is_file()]
    sizes = {path.relative_to(staging).as_posix(): path.stat().st_size for path in paths}
    values = json.loads((staging / SECRETS).read_bytes())
    lines = (staging / ENVIRONMENT).read_text(errors="surrogateescape")
    files = {name: size for name, size in sorted(sizes.items()) if name not in RESERVED}
    return {
        "files": len(files),
        "sizes": files,
        "bytes": sum(files.values()),
        "environment": sorted(word.partition("=")[0] for word in shlex.split(lines)),
        "secrets": sorted(values),
    }
