"""Whether files are those of a stored tree, by their digests."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterable
from pathlib import Path

from muster.domain.content import TreeEntry


def same_files(wanted: Iterable[tuple[TreeEntry, Path]]) -> bool:
    """Whether every entry lies at its path: files by size and SHA-256, links by where they lead, folders as such."""
    return all(_same(entry, path) for entry, path in wanted)


def _same(entry: TreeEntry, path: Path) -> bool:
    try:
        mode = path.lstat().st_mode
        if entry.kind == "link":
            return stat.S_ISLNK(mode) and str(path.readlink()) == entry.link
        if entry.content is None:
            return stat.S_ISDIR(mode)
        return stat.S_ISREG(path.stat().st_mode) and _digest(path) == (entry.content.size, entry.content.sha256)
    except OSError:
        return False


def _digest(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return file.tell(), digest.hexdigest()
