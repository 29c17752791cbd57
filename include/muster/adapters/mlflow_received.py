"""The files that a restored registry has, read back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from muster.adapters.beside import StillWanted
from muster.adapters.mlflow_artifacts import Artifact, ArtifactFolder, LocalFolder
from muster.domain.fidelity import FilesLine

Digests = Mapping[str, tuple[int, str]]
"""Path to size and hex SHA-256."""

HASHERS = 4
BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Received:
    """Artifacts that were put below a new root, and what they must be."""

    folder: ArtifactFolder
    due: Digests


def digests_of(folder: ArtifactFolder, databases: Sequence[Path], wanted: StillWanted) -> Digests:
    """
    All files below a root, read to their ends.

    :param databases: are no artifacts, should they be restored to below the artifact root
    :raises CancelledError: when they are not wanted any more
    """
    root = folder.root if isinstance(folder, LocalFolder) else None

    def measured(artifact: Artifact) -> tuple[str, tuple[int, str]]:
        digest, size = hashlib.sha256(), 0
        with folder.open(artifact) as stream:
            for block in wanted.each(iter(lambda: stream.read(BLOCK), b"")):
                digest.update(block)
                size += len(block)
        return artifact.path, (size, digest.hexdigest())

    with ThreadPoolExecutor(HASHERS) as pool:
        files = [a for a in wanted.each(folder.below([""])) if a.kind == "file"]
        return dict(
            pool.map(measured, [a for a in files if root is None or (root / a.path).absolute() not in databases])
        )


def files_line(digests: Digests) -> FilesLine:
    """What a report says of files."""
    lines = hashlib.sha256()
    for path, (size, sha256) in sorted(digests.items()):
        lines.update(f"{json.dumps(path)} {size} {sha256}\n".encode())
    return FilesLine(len(digests), sum(size for size, _ in digests.values()), lines.hexdigest())
