"""
``restore.pyz``: one file out of which Muster's command line comes back on any machine with Python, and, with its wheels, without a network.

A zip archive that Python runs::

    __main__.py             `muster.adapters.rescue_install`
    kit.json                Muster's version, the Python, platform and C library that the wheels are for, whether there are any
    requirements.txt        the lock, with the hashes that wheels are held to
    site/muster/…           this package
    wheels/*.whl            every requirement

The same package, lock and wheels give the same bytes. It is kept beside the recovery key, not in the vault: see docs/adr/0032.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sysconfig
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import muster
from muster.adapters import rescue_install
from muster.adapters.python_interpreter import Interpreter, find_interpreter
from muster.adapters.requirement_lock import read_lock
from muster.adapters.rescue_install import FACTS, LOCK, SITE, WHEELS
from muster.adapters.wheel_cache import Wheel, WheelCache
from muster.errors import AlreadyExists, IntegrityError, StoreUnavailable

PACKAGE = Path(muster.__file__).parent
_SHEBANG = b"#!/usr/bin/env python3\n"
_LONG_AGO = (1980, 1, 1, 0, 0, 0)
_LEFT_OUT = "__pycache__"


@dataclass(frozen=True, slots=True)
class Kit:
    """
    A kit that was written.

    :param size: in bytes
    :param sha256: hex, of the whole file
    :param wheels: how many are in it
    """

    path: Path
    size: int
    sha256: str
    wheels: int


def write_kit(out: Path, lock: Path, python: str, cache: Path | None) -> Kit:
    """
    Write a kit for a Python of this machine; it has its name when it is whole.

    :param lock: hashed pins of all that the command line needs
    :param python: minor version, ``3.11``
    :param cache: folder of wheels, to which those that are missing are fetched from the package index; None for a kit without wheels
    :raises AlreadyExists: if there is something of this name
    :raises SourceInvalid: if there is no such lock, or no wheel for this platform
    :raises IntegrityError: if the index gives other bytes than the lock allows
    :raises StoreUnavailable: if the index does not answer, or the file cannot be written
    """
    if os.path.lexists(out):
        raise AlreadyExists(f"{out} is there already", "name a new file, or remove that one first")
    if not out.absolute().parent.is_dir():
        raise StoreUnavailable(f"{out} cannot be written: its folder is not there", "make the folder, or name another")
    interpreter = find_interpreter(python)
    requirements = read_lock(lock)
    needed = requirements.needed(interpreter.markers)
    wheels = WheelCache(cache).wheels(needed, interpreter) if cache else []
    partial = out.with_name(f".{out.name}.{secrets.token_hex(4)}")
    try:
        with partial.open("xb") as file:
            file.write(_SHEBANG)
            with zipfile.ZipFile(file, "w") as archive:
                _fill(archive, requirements.content, interpreter, wheels)
            file.flush()
            os.fsync(file.fileno())
        size, sha256 = _measured(partial)
        _name(partial, out)
    except FileExistsError:
        raise AlreadyExists(f"{out} appeared meanwhile", "see who made it; nothing was overwritten") from None
    except OSError as error:
        raise StoreUnavailable(f"{out} cannot be written: {error.strerror}", "see its folder, and the space") from error
    finally:
        partial.unlink(missing_ok=True)
    return Kit(out, size, sha256, len(wheels))


def _fill(archive: zipfile.ZipFile, lock: bytes, interpreter: Interpreter, wheels: list[Wheel]) -> None:
    facts = {
        "muster": muster.__version__,
        "python": interpreter.python,
        "platform": sysconfig.get_platform(),
        "glibc": interpreter.glibc,
        "wheels": bool(wheels),
    }
    _add(archive, "__main__.py", Path(rescue_install.__file__).read_bytes())
    _add(archive, FACTS, json.dumps(facts, indent=1).encode())
    _add(archive, LOCK, lock)
    for path in _of_the_package():
        _add(archive, f"{SITE}{PACKAGE.name}/{path.relative_to(PACKAGE).as_posix()}", path.read_bytes())
    for wheel in sorted(wheels, key=lambda wheel: wheel.path.name):
        content = wheel.path.read_bytes()
        if hashlib.sha256(content).hexdigest() != wheel.sha256:
            raise IntegrityError(f"{wheel.path} changed while it was packed", "see who writes there, and do it again")
        _add(archive, f"{WHEELS}{wheel.path.name}", content)


def _of_the_package() -> Iterator[Path]:
    for path in sorted(PACKAGE.rglob("*")):
        if path.is_file() and _LEFT_OUT not in path.parts and not path.name.startswith(".") and path.name[-1] != "~":
            yield path


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    """Not compressed: each zlib does that otherwise."""
    entry = zipfile.ZipInfo(name, _LONG_AGO)
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, content)


def _name(partial: Path, out: Path) -> None:
    """Give a file its name, which nothing else has; as sure as can be on a stick whose file system knows no hard links."""
    try:
        os.link(partial, out)
    except FileExistsError:
        raise
    except OSError:
        if os.path.lexists(out):
            raise FileExistsError from None
        partial.rename(out)


def _measured(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()
