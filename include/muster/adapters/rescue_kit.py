"""
``restore.pyz``: one file out of which Muster's command line comes back on any machine with Python, and, with its wheels, without a network.

A zip archive that Python runs::

    __main__.py             `muster.adapters.rescue_install`
    kit.json                Muster's version, the Python, platform and C library that the wheels are for, whether there are any
    requirements.txt        the lock: with wheels, their own hashes, since one that was built here is in no other
    site/muster/…           this package
    wheels/*.whl            every requirement

The same package, lock and wheels give the same bytes. It is kept beside the recovery key, not in the vault: see docs/adr/0032.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import secrets
import sys
import sysconfig
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import muster
from muster.adapters import rescue_install
from muster.adapters.python_interpreter import Interpreter, describe
from muster.adapters.requirement_lock import Requirement, RequirementLock, read_lock
from muster.adapters.rescue_install import FACTS, LOCK, SITE, WHEELS
from muster.adapters.wheel_cache import OF_LOCK, key_of, run_pip
from muster.errors import AlreadyExists, SourceInvalid, StoreUnavailable
from muster.nameless import name_once
from muster.scratch import scratch_folder

PACKAGE = Path(muster.__file__).parent
_SHEBANG = b"#!/usr/bin/env python3\n"
_LONG_AGO, _LONG_AGO_S = (1980, 1, 1, 0, 0, 0), "315532800"
_LEFT_OUT = "__pycache__"
_GLIBC = re.compile(r"manylinux_(?P<major>\d+)_(?P<minor>\d+)_.*")
_LEGACY = {
    f"manylinux{name}_{machine}": f"manylinux_{version}_{machine}"
    for name, version in (("1", "2_5"), ("2010", "2_12"), ("2014", "2_17"))
    for machine in ("x86_64", "aarch64")
}


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


def write_kit(out: Path, lock: Path, *, wheels: bool = True) -> Kit:
    """
    Write a kit for the Python that runs this; it has its name when it is whole.

    :param lock: hashed pins of all that the command line needs
    :param wheels: whether they are fetched from the package index, and put in
    :raises AlreadyExists: if there is something of this name
    :raises SourceInvalid: if there is no such lock, or nothing that can be installed for one of its pins
    :raises IntegrityError: if the index gives other bytes than the lock allows
    :raises StoreUnavailable: if the index does not answer, or the file cannot be written
    """
    if os.path.lexists(out):
        raise AlreadyExists(f"{out} is there already", "name a new file, or remove that one first")
    if not out.absolute().parent.is_dir():
        raise StoreUnavailable(f"{out} cannot be written: its folder is not there", "make the folder, or name another")
    interpreter, pins = describe(Path(sys.executable)), read_lock(lock)
    partial = out.with_name(f".{out.name}.{secrets.token_hex(4)}")
    try:
        with scratch_folder("kit") as scratch, partial.open("xb") as file:
            found = _fetched(pins, interpreter, scratch) if wheels else {}
            file.write(_SHEBANG)
            with zipfile.ZipFile(file, "w") as archive:
                _fill(archive, pins, found, interpreter)
            file.flush()
            os.fsync(file.fileno())
        size, sha256 = _measured(partial)
        name_once(partial, out)
    except FileExistsError:
        raise AlreadyExists(f"{out} appeared meanwhile", "see who made it; nothing was overwritten") from None
    except OSError as error:
        raise StoreUnavailable(f"{out} cannot be written: {error.strerror}", "see its folder, and the space") from error
    finally:
        partial.unlink(missing_ok=True)
    return Kit(out, size, sha256, len(found))


def _fetched(pins: RequirementLock, interpreter: Interpreter, folder: Path) -> dict[Requirement, Path]:
    """
    A wheel for each pin. What the index has as source alone is built here, by the setuptools that runs this: on the machine that needs
    the kit there may be no compiler, and no setuptools.
    """
    needed = pins.needed(interpreter.markers)
    lock, wheels = folder / LOCK, folder / WHEELS
    lock.write_text("".join(f"{requirement.text}\n" for requirement in needed))
    pip = functools.partial(run_pip, needed, interpreter, environment={"SOURCE_DATE_EPOCH": _LONG_AGO_S})
    pip("download", "--no-build-isolation", "--prefer-binary", *OF_LOCK, str(lock), "--dest", str(wheels))
    for source in sorted(path for path in wheels.iterdir() if path.suffix != ".whl"):
        pip("wheel", "--no-build-isolation", "--no-index", "--wheel-dir", str(wheels), str(source))
    found = {key_of(path.name): path for path in wheels.glob("*.whl") if interpreter.accepts(path.name)}
    if lost := [requirement.pin for requirement in needed if requirement.key not in found]:
        raise SourceInvalid(f"no wheel came for {', '.join(lost[:5])}", "lock versions that can be installed here")
    return {requirement: found[requirement.key] for requirement in needed}


def _fill(
    archive: zipfile.ZipFile, pins: RequirementLock, wheels: Mapping[Requirement, Path], interpreter: Interpreter
) -> None:
    facts = {
        "muster": muster.__version__,
        "python": interpreter.python,
        "platform": sysconfig.get_platform(),
        "glibc": least_glibc([path.name for path in wheels.values()], interpreter),
        "wheels": bool(wheels),
    }
    _add(archive, "__main__.py", Path(rescue_install.__file__).read_bytes())
    _add(archive, FACTS, json.dumps(facts, indent=1).encode())
    for path in _of_the_package():
        _add(archive, f"{SITE}{PACKAGE.name}/{path.relative_to(PACKAGE).as_posix()}", path.read_bytes())
    lines = []
    for requirement, path in wheels.items():
        content = path.read_bytes()
        _add(archive, f"{WHEELS}{path.name}", content)
        lines.append(f"{requirement.pin} --hash=sha256:{hashlib.sha256(content).hexdigest()}\n")
    _add(archive, LOCK, "".join(lines).encode() if wheels else pins.content)


def least_glibc(wheels: Iterable[str], interpreter: Interpreter) -> str | None:
    """The oldest C library that all wheels can do with, by their tags (PEP 600); None if there is another one here, or none is needed."""
    from packaging.utils import parse_wheel_filename

    needed: list[tuple[int, int]] = []
    for wheel in wheels:
        platforms = {tag.platform for tag in parse_wheel_filename(wheel)[3]}
        found = [_GLIBC.fullmatch(_LEGACY.get(each, each)) for each in platforms]
        versions = [(int(match["major"]), int(match["minor"])) for match in found if match]
        if versions:
            needed.append(min(versions))
        elif "any" not in platforms:
            return interpreter.glibc  # made for this machine
    return "{}.{}".format(*max(needed)) if needed and interpreter.glibc else None


def _of_the_package() -> Iterator[Path]:
    for path in sorted(PACKAGE.rglob("*")):
        if path.is_file() and _LEFT_OUT not in path.parts and not path.name.startswith(".") and path.name[-1] != "~":
            yield path


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    """Not compressed: each zlib does that otherwise."""
    entry = zipfile.ZipInfo(name, _LONG_AGO)
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, content)


def _measured(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()
