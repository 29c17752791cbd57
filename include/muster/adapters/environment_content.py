"""What a recovery point holds of an environment: names of its files, and the digest by which it is known."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping

from muster.codec import canonical

LOCK = "requirements.lock"
WHEELS = "wheels/"
SBOM = "sbom.cdx.json"
PLATFORM = "platform.json"

_LEGACY_GLIBC = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}  # PEP 513, 571, 599


def environment_digest(python: str, lock_sha256: str, wheels: Mapping[str, str]) -> str:
    """
    Hex SHA-256 over everything that decides what an environment becomes.

    :param python: minor version, ``3.11``
    :param wheels: file name to hex SHA-256
    """
    return hashlib.sha256(canonical({"python": python, "lock": lock_sha256, "wheels": dict(wheels)})).hexdigest()


def glibc_needed(wheels: Iterable[str]) -> str | None:
    """The oldest C library that can load all wheels of these file names, by their manylinux tags (PEP 600); None if any can."""
    oldest = [min(versions) for wheel in wheels if (versions := _glibc_versions(wheel))]
    return ".".join(str(part) for part in max(oldest)) if oldest else None


def glibc_at_least(have: str | None, need: str | None) -> bool:
    """Whether a C library of version `have` is new enough; another C library (None) is not."""
    if need is None:
        return True
    return have is not None and _numbers(have) >= _numbers(need)


def _glibc_versions(wheel: str) -> list[tuple[int, ...]]:
    versions: list[tuple[int, ...]] = []
    for tag in wheel.removesuffix(".whl").rsplit("-", 1)[-1].split("."):
        if match := re.match(r"manylinux_(\d+)_(\d+)_", tag):
            versions.append((int(match[1]), int(match[2])))
        elif (name := tag.split("_")[0]) in _LEGACY_GLIBC:
            versions.append(_LEGACY_GLIBC[name])
    return versions


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])
