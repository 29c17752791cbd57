"""What a vault holds: trees of files, each file a list of chunks, and the digests by which both are known."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import Literal

from muster.errors import IntegrityError

LONGEST_PATH = 4096
"""In characters. No system that we restore to takes a longer one, and it bounds how deep folders can lie in each other."""
EntryKind = Literal["file", "dir", "link"]


@dataclass(frozen=True, slots=True)
class ContentRef:
    """
    Bytes in a vault.

    :param size: length of the plain bytes
    :param sha256: hex SHA-256 of the plain bytes
    :param chunks: hex ids of the chunks (keyed BLAKE3, 32 bytes) whose plain bytes, joined, are the content
    """

    size: int
    sha256: str
    chunks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """
    One file, folder or link of a stored tree.

    :param path: relative POSIX path, without ``..`` and without a leading slash
    :param kind: ``file``, ``dir`` (kept for empty folders and their modes) or ``link``
    :param content: where the bytes are; None unless a file
    :param md5: DVC's identity of the bytes, where the source knows one; never a proof
    :param mode: permission bits, or None where the source has none
    :param mtime_ns: modification time in nanoseconds since the epoch, or None
    :param link: target of a symbolic link, as it was written
    """

    path: str
    kind: EntryKind = "file"
    content: ContentRef | None = None
    md5: str | None = None
    mode: int | None = None
    mtime_ns: int | None = None
    link: str | None = None


@dataclass(frozen=True, slots=True)
class TreeRef:
    """
    A stored tree: the reference to its list of entries, and the sums by which it is reconciled.

    :param root: the list of entries, as canonical JSON lines, itself chunked; of a long list `chunks` are those of the table of its pages
    :param files: number of entries of kind ``file``
    :param entries: number of all entries
    :param size: sum of the files' plain sizes, in bytes
    :param paged: whether the list is read by way of a table: the ids of its chunks, 32 bytes each, joined
    """

    root: ContentRef
    files: int
    entries: int
    size: int
    paged: bool = False


def checked_path(path: str) -> str:
    """
    Return the path unchanged if a restore may follow it.

    :raises IntegrityError: if it is empty, absolute, climbs out of its root, holds a NUL, or is longer than `LONGEST_PATH`
    """
    parts = path.split("/")
    if (
        not 0 < len(path) <= LONGEST_PATH
        or path.startswith("/")
        or "\0" in path
        or any(p in ("", ".", "..") for p in parts)
    ):
        raise IntegrityError(
            f"the path {path[:LONGEST_PATH]!r} in a stored tree would leave the folder that it is restored to",
            "do not restore this point; verify the vault and look into the audit trail",
        )
    return posixpath.normpath(path)
