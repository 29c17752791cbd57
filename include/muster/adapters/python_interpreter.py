"""Python interpreters of this machine: which one has a wanted version, and what it can install."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from muster.errors import SourceInvalid

_DESCRIBE = """
import json, os, platform, sys, sysconfig
v = sys.implementation.version
print(json.dumps({
    "python_version": platform.python_version(),
    "implementation": platform.python_implementation(),
    "system": platform.system(),
    "machine": platform.machine(),
    "platform": sysconfig.get_platform(),
    "glibc": (lambda n, v: v if n == "glibc" else None)(*platform.libc_ver()),
    "markers": {
        "implementation_name": sys.implementation.name,
        "implementation_version": "%d.%d.%d" % (v.major, v.minor, v.micro),
        "os_name": os.name,
        "platform_machine": platform.machine(),
        "platform_python_implementation": platform.python_implementation(),
        "platform_release": platform.release(),
        "platform_system": platform.system(),
        "platform_version": platform.version(),
        "python_full_version": platform.python_version(),
        "python_version": ".".join(platform.python_version_tuple()[:2]),
        "sys_platform": sys.platform,
    },
}))
"""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """
    A Python of this machine.

    :param python: its minor version, ``3.11``
    :param python_version: its full version, ``3.11.7``
    :param glibc: version of the C library, or None where that is another one
    :param markers: what environment markers (PEP 508) are evaluated with
    """

    path: Path
    python_version: str
    implementation: str
    system: str
    machine: str
    platform: str
    glibc: str | None
    markers: dict[str, str]

    @property
    def python(self) -> str:
        return minor_version(self.python_version)

    def platform_facts(self) -> dict[str, str | None]:
        """What a recovery point says of the platform that its wheels were fetched for."""
        return {
            "python": self.python,
            "python_version": self.python_version,
            "implementation": self.implementation,
            "system": self.system,
            "machine": self.machine,
            "platform": self.platform,
            "glibc": self.glibc,
        }

    def accepts(self, wheel: str) -> bool:
        """Whether a wheel of this file name can be installed, by its tags (PEP 425)."""
        from packaging.utils import InvalidWheelFilename, parse_wheel_filename

        try:
            tags = parse_wheel_filename(wheel)[3]
        except InvalidWheelFilename:
            return False
        return not tags.isdisjoint(_supported_tags(self.python))


def minor_version(version: str) -> str:
    """
    ``3.11`` for ``3.11`` and for ``3.11.7``.

    :raises SourceInvalid: if it is no Python version
    """
    match = re.fullmatch(r"(\d+\.\d+)(\.\d+\w*)?", version)
    if match is None:
        raise SourceInvalid(f"{version!r} is no Python version", 'write it as "3.11", with quotes')
    return match[1]


def find_interpreter(version: str) -> Interpreter:
    """
    An interpreter of a minor version: the one that runs us, or one that uv finds on this machine. Nothing is downloaded.

    :raises SourceInvalid: if there is none
    """
    wanted = minor_version(version)
    if wanted == f"{sys.version_info.major}.{sys.version_info.minor}":
        return describe(Path(sys.executable))
    return describe(_found_by_uv(wanted))


def describe(path: Path) -> Interpreter:
    """
    Ask an interpreter what it is.

    :raises SourceInvalid: if it does not run
    """
    try:
        answer = subprocess.run([path, "-I", "-S", "-c", _DESCRIBE], capture_output=True, text=True, timeout=60)
        facts = json.loads(answer.stdout)
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        raise SourceInvalid(f"the Python interpreter {path} does not run", "install Python anew") from error
    return Interpreter(path, **facts)


def _found_by_uv(wanted: str) -> Path:
    from uv import find_uv_bin

    command = [
        find_uv_bin(),
        "python",
        "find",
        wanted,
        "--offline",
        "--no-config",
        "--no-project",
        "--no-python-downloads",
    ]
    environment = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "XDG_DATA_HOME")}
    found = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    if found.returncode != 0:
        raise SourceInvalid(
            f"there is no Python {wanted} on this machine, and the captured environment needs it",
            f"install python{wanted}, or `uv python install {wanted}`, and try again",
        )
    return Path(found.stdout.strip())


@functools.cache
def _supported_tags(python: str) -> frozenset[object]:
    from packaging import tags

    major, minor = (int(part) for part in python.split("."))
    own = f"{tags.interpreter_name()}{major}{minor}"
    return frozenset([*tags.cpython_tags((major, minor)), *tags.compatible_tags((major, minor), own)])
