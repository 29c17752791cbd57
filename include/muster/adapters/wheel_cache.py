"""Wheels of a locked environment: fetched once, then known by their SHA-256."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from muster.adapters.python_interpreter import Interpreter
from muster.adapters.requirement_lock import Requirement, pin_key
from muster.errors import IntegrityError, MusterError, SourceInvalid, StoreUnavailable

_PIP_TIMEOUT = 1800.0
OF_LOCK = ("--retries", "2", "--require-hashes", "--requirement")
"""Options of pip, before the name of a lock."""
_UNREACHABLE = re.compile(
    r"connection broken|NewConnectionError|NameResolutionError|Max retries exceeded|timed out|ConnectionError"
    r"|ProxyError|SSLError|Connection(Reset|Refused)|HTTP error 5\d\d|50[0234] Server Error",
    re.IGNORECASE,
)
_PASSWORD = re.compile(r"(?<=://)[^/@\s]+@")


@dataclass(frozen=True, slots=True)
class Wheel:
    """
    One wheel file whose bytes are among the hashes that its requirement allows.

    :param md5: hex MD5, by which whoever reads the file later notices that another process exchanged it
    :param size: in bytes
    """

    requirement: Requirement
    path: Path
    sha256: str
    md5: str
    size: int


class WheelCache:
    """
    A folder of wheels that outlives captures. Nothing in it is trusted: every wheel is hashed whenever it is used.

    :param directory: made when it is needed; may be shared by workloads and by processes
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def wheels(self, requirements: Sequence[Requirement], interpreter: Interpreter) -> list[Wheel]:
        """
        One wheel for each requirement, from the folder, else from the package index that pip is set up with.

        :raises StoreUnavailable: if wheels are missing and the index does not answer; names them
        :raises SourceInvalid: if the index has no wheel for this Python and platform, perhaps sources only
        :raises IntegrityError: if what the index gives is not what the lock allows
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(
                f"the wheel cache {self.directory} cannot be made: {error.strerror}", "see its folder, and permissions"
            ) from error
        found = self._present(requirements, interpreter)
        missing = [r for r in requirements if r.key not in found]
        if missing:
            self._fetch(missing, interpreter)
            found |= self._present(missing, interpreter)
        lost = [r.pin for r in requirements if r.key not in found]
        if lost:
            raise SourceInvalid(
                f"no wheel that Python {interpreter.python} on {interpreter.platform} can install came for {_listed(lost)}",
                "lock versions that have wheels for this platform",
            )
        return [found[r.key] for r in requirements]

    def _present(self, requirements: Sequence[Requirement], interpreter: Interpreter) -> dict[str, Wheel]:
        wanted = {r.key: r for r in requirements}
        found: dict[str, Wheel] = {}
        for path in sorted(self.directory.glob("*.whl")):
            requirement = wanted.get(key_of(path.name) or "")
            if requirement is None or requirement.key in found or not interpreter.accepts(path.name):
                continue
            wheel = _hashed(requirement, path)
            if wheel.sha256 in requirement.hashes:
                found[requirement.key] = wheel
        return found

    def _fetch(self, missing: Sequence[Requirement], interpreter: Interpreter) -> None:
        with tempfile.TemporaryDirectory(dir=self.directory, prefix=".fetch-") as folder:
            lock, wheels = Path(folder, "requirements.lock"), Path(folder, "wheels")
            lock.write_text("".join(f"{r.text}\n" for r in missing))
            run_pip(missing, interpreter, "download", "--only-binary", ":all:", "--python-version", interpreter.python,
                    *OF_LOCK, str(lock), "--dest", str(wheels))  # fmt: skip
            for wheel in wheels.glob("*.whl"):
                wheel.replace(self.directory / wheel.name)


def run_pip(
    wanted: Sequence[Requirement],
    interpreter: Interpreter,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
) -> None:
    """
    Run the pip of this environment for these requirements, without what they depend on.

    :param environment: in addition to our own
    :raises StoreUnavailable: if the index does not answer
    :raises SourceInvalid: if it has nothing that can be installed for one of them
    :raises IntegrityError: if it gives other bytes than their hashes allow
    """
    command = [
        sys.executable,
        "-I",
        "-m",
        "pip",
        *arguments,
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
        "--no-deps",
    ]
    known = {**os.environ, **(environment or {})}
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=_PIP_TIMEOUT, env=known)
    except subprocess.TimeoutExpired as error:
        raise _unreachable(wanted) from error
    if run.returncode:
        raise _fetch_error(run.stdout + run.stderr, wanted, interpreter)


def _hashed(requirement: Requirement, path: Path) -> Wheel:
    sha256, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            sha256.update(block)
            md5.update(block)
            size += len(block)
    return Wheel(requirement, path, sha256.hexdigest(), md5.hexdigest(), size)


def key_of(wheel: str) -> str | None:
    """`Requirement.key` of the distribution that a wheel's file name says it is, or None if that is no wheel (PEP 427)."""
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    try:
        name, version, _, _ = parse_wheel_filename(wheel)
    except InvalidWheelFilename:
        return None
    return pin_key(name, str(version))


def _fetch_error(output: str, missing: Sequence[Requirement], interpreter: Interpreter) -> MusterError:
    output = _PASSWORD.sub("…@", output)
    if "DO NOT MATCH THE HASHES" in output:
        return IntegrityError(
            f"the package index gave other bytes than the lock allows: {_tail(output)}",
            "find out who changed the package before you lock it anew",
        )
    if _UNREACHABLE.search(output):
        return _unreachable(missing)
    refused = re.findall(r"No matching distribution found for (\S+)", output)
    if refused:
        return SourceInvalid(
            f"the package index has no wheel of {_listed(refused)} for Python {interpreter.python} on {interpreter.platform}",
            "a recovery point holds wheels, never sources that must be built in an emergency: build the wheel, put it in a "
            "folder that pip's find-links names, and lock its hash",
        )
    return SourceInvalid(
        f"pip could not fetch {_listed(r.pin for r in missing)}: {_tail(output)}", "mend the lock or pip's settings"
    )


def _unreachable(missing: Sequence[Requirement]) -> StoreUnavailable:
    return StoreUnavailable(
        f"the package index does not answer, and these wheels are not in the cache: {_listed(r.pin for r in missing)}",
        "check the network and pip's index settings; wheels that were fetched before are not fetched again",
    )


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    return ", ".join(every[:10]) + (f" and {len(every) - 10} more" if len(every) > 10 else "")


def _tail(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip() and not line.startswith("WARNING")]
    return " ".join(lines[-6:])[-1000:]
