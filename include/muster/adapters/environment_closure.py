"""Whether a lock is closed: whether everything that its wheels need is locked with them, in a version that they take."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import TYPE_CHECKING

from muster.adapters.requirement_lock import canonical_name
from muster.errors import SourceInvalid

if TYPE_CHECKING:
    from packaging.requirements import Requirement as Need

LONGEST = 16 << 20
"""Bytes of a wheel's metadata that are read; a description may be long."""


def needs_of(wheel: Path) -> list[Need]:
    """
    What a wheel says that it needs, under whatever circumstances. What is no requirement to `packaging` is passed over.

    :raises SourceInvalid: if the file is no wheel
    """
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        with zipfile.ZipFile(wheel) as archive:
            name = next(name for name in archive.namelist() if _is_metadata(name))
            with archive.open(name) as file:
                told = BytesHeaderParser().parsebytes(file.read(LONGEST)).get_all("Requires-Dist") or []
    except (zipfile.BadZipFile, StopIteration, OSError) as error:
        raise SourceInvalid(f"{wheel.name} is no wheel: {error}", "lock another version of it") from error
    needs = []
    for line in told:
        try:
            needs.append(Requirement(str(line)))
        except InvalidRequirement:
            continue
    return needs


def unmet(
    needs: Mapping[str, list[Need]], versions: Mapping[str, str], environment: Mapping[str, str]
) -> Iterator[str]:
    """
    A sentence for each thing that a locked distribution needs and the lock does not give.

    :param needs: normalised name to what it needs
    :param versions: normalised name to locked version
    :param environment: what markers are evaluated with
    """
    waiting = [(name, "") for name in needs]
    asked = set(waiting)
    while waiting:
        name, extra = waiting.pop(0)
        for need in needs.get(name, ()):
            if not _applies(need, environment, extra) or (extra and _applies(need, environment, "")):
                continue
            needed = canonical_name(need.name)
            have = versions.get(needed)
            if have is None:
                yield f"{_named(name, extra)} needs {_text(need)}, which is not in it"
            elif not need.specifier.contains(have, prereleases=True):
                yield f"{_named(name, extra)} needs {_text(need)}, and it has {needed}=={have}"
            further = [(needed, one) for one in sorted(need.extras) if (needed, one) not in asked]
            asked.update(further)
            waiting += further


def _applies(need: Need, environment: Mapping[str, str], extra: str) -> bool:
    return need.marker is None or need.marker.evaluate({**environment, "extra": extra})


def _is_metadata(name: str) -> bool:
    folder, _, file = name.partition("/")
    return folder.endswith(".dist-info") and file == "METADATA"


def _named(name: str, extra: str) -> str:
    return f"{name}[{extra}]" if extra else name


def _text(need: Need) -> str:
    extras = f"[{','.join(sorted(need.extras))}]" if need.extras else ""
    return f"{need.name}{extras}{need.specifier}"
