"""
A hash-locked requirements file, as ``uv pip compile --generate-hashes`` and ``pip-compile --generate-hashes`` write it.

Format: https://pip.pypa.io/en/stable/reference/requirements-file-format/, of which a lock may use only exact pins
(``name==version``), environment markers and ``--hash=sha256:…``. Index options are allowed and ignored: where packages
come from is a matter of the machine, what they are is a matter of the hashes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from muster.errors import SourceInvalid

_PIN = re.compile(
    r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(\[[^\]]*\])?\s*===?\s*(?P<version>[^\s;,]+)\s*(;(?P<marker>.*))?$"
)
_HASH = re.compile(r"--hash[= ](?P<algorithm>[a-z0-9]+):(?P<digest>[0-9a-fA-F]+)")
_INDEX_OPTIONS = ("-i", "--index-url", "--extra-index-url", "-f", "--find-links", "--trusted-host", "--no-index")
_BINARY_OPTIONS = ("--only-binary", "--no-binary", "--prefer-binary", "--require-hashes", "--pre")


@dataclass(frozen=True, slots=True)
class Requirement:
    """
    One pinned distribution.

    :param name: normalised as in PEP 503: ``scikit-learn``
    :param hashes: hex SHA-256 of every file that may be installed for it
    :param marker: environment marker, or an empty string
    :param line: line of the lock on which it begins, from 1
    """

    name: str
    version: str
    hashes: tuple[str, ...]
    marker: str
    line: int

    @property
    def pin(self) -> str:
        """``scikit-learn==1.9.1``."""
        return f"{self.name}=={self.version}"

    @property
    def key(self) -> str:
        """The pin with its version normalised (PEP 440), so that ``1.0`` and ``1.0.0`` are one."""
        return pin_key(self.name, self.version)

    @property
    def text(self) -> str:
        """The requirement as one line of a lock, without its marker."""
        return " ".join([self.pin, *(f"--hash=sha256:{digest}" for digest in self.hashes)])

    def applies(self, environment: Mapping[str, str]) -> bool:
        """Whether its marker is true in an environment (names of PEP 508)."""
        from packaging.markers import Marker

        return not self.marker or Marker(self.marker).evaluate(dict(environment))


@dataclass(frozen=True, slots=True)
class RequirementLock:
    """
    A whole lock.

    :param content: the file as it was read
    """

    content: bytes
    requirements: tuple[Requirement, ...]

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of the file."""
        return hashlib.sha256(self.content).hexdigest()

    def needed(self, environment: Mapping[str, str]) -> tuple[Requirement, ...]:
        """The requirements whose markers are true in an environment."""
        return tuple(r for r in self.requirements if r.applies(environment))


def canonical_name(name: str) -> str:
    """The name of a distribution as PEP 503 normalises it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pin_key(name: str, version: str) -> str:
    """Name and version of a distribution in the form in which equal ones are equal strings."""
    from packaging.utils import canonicalize_version

    return f"{canonical_name(name)}=={canonicalize_version(version)}"


def read_lock(path: Path) -> RequirementLock:
    """
    Read a lock file.

    :raises SourceInvalid: if there is none, or a line of it is not an exact, hashed pin
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SourceInvalid(
            f"the lock {path} cannot be read: {error.strerror}",
            "write it with `uv pip compile --generate-hashes`, and name it in the workload's environment",
        ) from error
    return parse_lock(content, str(path))


def parse_lock(content: bytes, name: str) -> RequirementLock:
    """
    The requirements of a lock.

    :param name: what messages call the file
    :raises SourceInvalid: if it is not text, locks nothing, or has a line that is not an exact pin with at least one
        SHA-256; the message names file and line
    """
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise SourceInvalid(f"{name} is no text: {error}", "name a lock file in the workload's environment") from error
    requirements = tuple(_requirement(statement, number, name) for number, statement in _statements(text, name))
    if not requirements:
        raise SourceInvalid(f"{name} locks nothing", "write it with `uv pip compile --generate-hashes`")
    return RequirementLock(content, requirements)


def _statements(text: str, name: str) -> Iterator[tuple[int, str]]:
    """Logical lines that hold a requirement, continuation lines joined, each with the number of its first line."""
    pending, first = "", 0
    for number, raw in enumerate([*text.splitlines(), ""], start=1):
        line = re.sub(r"(^|\s)#.*$", "", raw).rstrip()
        first = first or number
        if line.endswith("\\"):
            pending += line[:-1] + " "
            continue
        statement, where = (pending + line).strip(), first
        pending, first = "", 0
        if not statement or _is_harmless_option(statement, where, name):
            continue
        yield where, statement


def _is_harmless_option(statement: str, line: int, name: str) -> bool:
    if not statement.startswith("-"):
        return False
    option = re.split(r"[\s=]", statement, maxsplit=1)[0]
    if option in _INDEX_OPTIONS or option in _BINARY_OPTIONS:
        return True
    raise SourceInvalid(
        f"{name}, line {line}: {option} does not belong in a lock, which must say all by itself",
        "write it with `uv pip compile --generate-hashes`",
    )


def _requirement(statement: str, line: int, name: str) -> Requirement:
    pin = _PIN.match(_HASH.sub("", statement).strip())
    if pin is None:
        raise SourceInvalid(
            f"{name}, line {line}: {statement.split(maxsplit=1)[0]!r} is not pinned to one version",
            "a lock says name==version; write it with `uv pip compile --generate-hashes`",
        )
    hashes = tuple(m["digest"].lower() for m in _HASH.finditer(statement) if m["algorithm"] == "sha256")
    if not hashes or any(len(digest) != 64 for digest in hashes):
        raise SourceInvalid(
            f"{name}, line {line}: {pin['name']}=={pin['version']} has no SHA-256",
            "write the lock with `uv pip compile --generate-hashes`: without hashes nobody can say what was installed",
        )
    marker = _checked_marker((pin["marker"] or "").strip(), line, name)
    return Requirement(canonical_name(pin["name"]), pin["version"], hashes, marker, line)


def _checked_marker(marker: str, line: int, name: str) -> str:
    from packaging.markers import InvalidMarker, Marker

    try:
        return str(Marker(marker)) if marker else ""
    except InvalidMarker as error:
        raise SourceInvalid(
            f"{name}, line {line}: {marker!r} is no environment marker", "write the lock with `uv pip compile`"
        ) from error
