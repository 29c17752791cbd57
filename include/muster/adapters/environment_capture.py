"""Captures a locked Python environment with all its wheels, so that it can be rebuilt where there is no package index."""

from __future__ import annotations

import functools
import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import muster
from muster.adapters.cyclonedx_sbom import bill_of_materials
from muster.adapters.environment_closure import needs_of, unmet
from muster.adapters.environment_content import LOCK, PLATFORM, SBOM, WHEELS, environment_digest, glibc_needed
from muster.adapters.python_interpreter import Interpreter, find_interpreter
from muster.adapters.requirement_lock import Requirement, RequirementLock, read_lock
from muster.adapters.wheel_cache import WheelCache, key_of
from muster.domain.content import ContentRef
from muster.domain.recovery_point import ComponentKind
from muster.errors import IntegrityError, NotFound, SourceChanged, SourceInvalid
from muster.ports import SourceFile, TreeReader
from muster.scratch import scratch_folder

if TYPE_CHECKING:
    from packaging.requirements import Requirement as Need

Json = Any
SHOWN = 5


@dataclass(frozen=True, slots=True)
class _CapturedWheel:
    requirement: Requirement
    file: str
    sha256: str
    md5: str | None
    size: int
    path: Path | None
    known: ContentRef | None = None


class EnvironmentSource:
    """
    An environment that a hash-locked requirements file describes.

    :param lock: as ``uv pip compile --generate-hashes`` writes it
    :param python: the Python that the models run on, ``3.11``
    :param wheel_cache: folder in which fetched wheels are kept
    """

    kind: ComponentKind = "environment"

    def __init__(self, name: str, lock: Path, python: str, *, wheel_cache: Path) -> None:
        self.name = name
        self._lock = lock
        self._python = python
        self._cache = WheelCache(wheel_cache)

    @contextmanager
    def capture(self, previous: TreeReader | None) -> Iterator[EnvironmentCapture]:
        """
        Read the lock and get hold of every wheel it names for this platform: from the point before, the cache or the index.

        :raises SourceInvalid: if the lock lacks a hash, or something that its wheels need, Python is not installed, or there is no wheel
            for something
        :raises StoreUnavailable: if the package index does not answer and wheels are missing
        :raises IntegrityError: if the index gives other bytes than the lock allows
        """
        lock = read_lock(self._lock)
        cut_at = datetime.now(UTC)
        interpreter = find_interpreter(self._python)
        needed = lock.needed(interpreter.markers)
        stored = _stored_wheels(previous, needed, interpreter)
        wheels = list(stored.values())
        cached = self._cache.wheels([r for r in needed if r.key not in stored], interpreter)
        wheels.extend(_CapturedWheel(w.requirement, w.path.name, w.sha256, w.md5, w.size, w.path) for w in cached)
        wheels.sort(key=lambda wheel: wheel.file)
        if cached or not _holds(previous, lock, interpreter):
            _check_closed(self._lock, wheels, interpreter, previous)
        yield EnvironmentCapture(self._lock, lock, interpreter, tuple(wheels), cut_at, self._cache)


class EnvironmentCapture:
    """An open cut of an environment: a lock that was read once, and wheels that cannot change without being noticed."""

    method = "lock file read once; every wheel checked against its SHA-256 in the lock"

    def __init__(
        self,
        path: Path,
        lock: RequirementLock,
        interpreter: Interpreter,
        wheels: tuple[_CapturedWheel, ...],
        cut_at: datetime,
        cache: WheelCache,
    ) -> None:
        self.cut_at = cut_at
        self._cache = cache
        self._path = path
        self._lock = lock
        self._interpreter = interpreter
        self._wheels = wheels

    def files(self) -> Iterator[SourceFile]:
        """The lock, its wheels, a bill of materials and the platform; the same bytes for the same environment."""
        packages = [(w.requirement.name, w.requirement.version, w.file, w.sha256) for w in self._wheels]
        yield _in_memory(PLATFORM, _platform(self._interpreter))
        yield _in_memory(LOCK, self._lock.content)
        yield _in_memory(SBOM, bill_of_materials(packages, self._lock.sha256, muster.__version__))
        for wheel in self._wheels:
            opener = functools.partial(self._open, wheel)
            yield SourceFile(
                WHEELS + wheel.file, open=opener, size=wheel.size, md5=wheel.md5, mode=0o644, known=wheel.known
            )

    def details(self) -> dict[str, Json]:
        """Python, platform, distributions with their versions, sizes and digests."""
        files = {wheel.file: wheel.sha256 for wheel in self._wheels}
        return {
            **self._interpreter.platform_facts(),
            "glibc_needed": glibc_needed(files),
            "packages": len(self._wheels),
            "distributions": {w.requirement.name: w.requirement.version for w in self._wheels},
            "wheels_size": sum(wheel.size for wheel in self._wheels),
            "lock_sha256": self._lock.sha256,
            "digest": environment_digest(self._interpreter.python, self._lock.sha256, files),
        }

    def confirm(self) -> None:
        """:raises SourceChanged: if the lock is another one now"""
        if read_lock(self._path).sha256 != self._lock.sha256:
            raise SourceChanged(
                f"the lock {self._path} changed while its wheels were stored", "take the snapshot again"
            )

    def _open(self, wheel: _CapturedWheel) -> BinaryIO:
        """The wheel's bytes; one that the point before has and the vault has lost is fetched for this, by its own hash alone."""
        path = wheel.path
        if path is None:
            only = replace(wheel.requirement, hashes=(wheel.sha256,))
            (found,) = self._cache.wheels([only], self._interpreter)
            path = found.path
        try:
            return path.open("rb")
        except OSError as error:
            raise SourceChanged(
                f"the wheel {path.name} went away while it was stored: {error.strerror}",
                "take the snapshot again, and let nothing clear the wheel cache meanwhile",
            ) from error


def _stored_wheels(
    previous: TreeReader | None, needed: tuple[Requirement, ...], interpreter: Interpreter
) -> dict[str, _CapturedWheel]:
    """Wheels that the point before holds and that the lock still allows, by `Requirement.key`."""
    wanted = {requirement.key: requirement for requirement in needed}
    stored: dict[str, _CapturedWheel] = {}
    for entry in previous.entries() if previous else ():
        file = entry.path.removeprefix(WHEELS)
        requirement = wanted.get(key_of(file) or "") if entry.path.startswith(WHEELS) else None
        if requirement is None or entry.content is None or not interpreter.accepts(file):
            continue
        content = entry.content
        if content.sha256 in requirement.hashes:
            stored[requirement.key] = _CapturedWheel(
                requirement, file, content.sha256, entry.md5, content.size, None, content
            )
    return stored


def _holds(previous: TreeReader | None, lock: RequirementLock, interpreter: Interpreter) -> bool:
    """Whether the point before has this very lock for this very platform."""
    digests = {LOCK: lock.sha256, PLATFORM: hashlib.sha256(_platform(interpreter)).hexdigest()}
    found = {entry.path: entry.content.sha256 for entry in previous.entries() if entry.content} if previous else {}
    return all(found.get(path) == digest for path, digest in digests.items())


def _check_closed(
    path: Path, wheels: Sequence[_CapturedWheel], interpreter: Interpreter, previous: TreeReader | None
) -> None:
    """
    :raises SourceInvalid: if a wheel needs what the lock does not give, so that the environment could not be built again
    """
    needs: dict[str, list[Need]] = {}
    with scratch_folder("wheels") as scratch:
        for wheel in wheels:
            with suppress(IntegrityError, NotFound):  # what the vault has lost is fetched again when it is stored
                needs[wheel.requirement.name] = needs_of(_at_hand(wheel, scratch, previous))
            (scratch / wheel.file).unlink(missing_ok=True)
    versions = {wheel.requirement.name: wheel.requirement.version for wheel in wheels}
    missing = list(unmet(needs, versions, interpreter.markers))
    if missing:
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        raise SourceInvalid(
            f"no environment can be built of the lock {path}: {'; '.join(missing[:SHOWN])}{more}",
            "write it with `uv pip compile --generate-hashes`, which locks all that is needed",
        )


def _at_hand(wheel: _CapturedWheel, scratch: Path, previous: TreeReader | None) -> Path:
    if wheel.path is not None or previous is None:
        return wheel.path or scratch / wheel.file
    previous.extract([(previous.entry(f"{WHEELS}{wheel.file}"), scratch / wheel.file)])
    return scratch / wheel.file


def _platform(interpreter: Interpreter) -> bytes:
    return json.dumps(interpreter.platform_facts(), indent=1, sort_keys=True).encode() + b"\n"


def _in_memory(path: str, content: bytes) -> SourceFile:
    return SourceFile(path, open=lambda: io.BytesIO(content), size=len(content), mode=0o644)
