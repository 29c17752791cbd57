"""Where an environment lies: whole or not there, whoever else builds and whenever a build is killed."""

from __future__ import annotations

import errno
import json
import subprocess
from pathlib import Path

from muster.adapters.requirement_lock import canonical_name
from muster.errors import IntegrityError, TargetNotEmpty

MARKER = ".muster-environment.json"
"""Names the digest and the distributions of a whole environment, in its folder."""

_DISTRIBUTIONS = (
    "import importlib.metadata as m, json; "
    "print(json.dumps([[d.metadata['Name'], d.version] for d in m.distributions()]))"
)


def installed(python: Path) -> dict[str, str]:
    """
    Name (normalised) to version of everything installed for an interpreter.

    :raises IntegrityError: if the interpreter does not run
    """
    try:
        run = subprocess.run([python, "-I", "-c", _DISTRIBUTIONS], capture_output=True, text=True, timeout=120, env={})
        return {canonical_name(name): version for name, version in json.loads(run.stdout)}
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        raise IntegrityError(
            f"the interpreter {python} does not run", "remove the environment and build it again"
        ) from error


def whole_environment(directory: Path, digest: str) -> Path | None:
    """
    The interpreter of a whole environment of this digest, or None if nothing is there.

    :raises TargetNotEmpty: if anything else is there, or the environment was changed since it was built
    """
    if not directory.exists() or (directory.is_dir() and next(directory.iterdir(), None) is None):
        return None
    hint = "choose another folder, or remove this one if nobody needs it"
    try:
        marker = json.loads((directory / MARKER).read_bytes())
    except (OSError, ValueError):
        raise TargetNotEmpty(f"{directory} is not empty, and is no environment of ours", hint) from None
    python = directory / "bin" / "python"
    if marker.get("digest") != digest:
        raise TargetNotEmpty(f"{directory} holds another environment, {str(marker.get('digest'))[:16]}", hint)
    if not python.exists() or installed(python) != marker.get("distributions"):
        raise TargetNotEmpty(f"the environment at {directory} was changed since it was built", hint)
    return python


def move(built: Path, directory: Path, digest: str) -> Path:
    """Put a whole environment in its place; if another build was faster, its environment is as good."""
    try:
        built.rename(directory)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        python = whole_environment(directory, digest)
        if python is not None:
            return python
        raise
    return directory / "bin" / "python"
