"""Documents and folders as things to store."""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from muster.ports import SourceFile


def bytes_file(path: str, content: bytes) -> SourceFile:
    """A document that is in memory."""
    return SourceFile(path, functools.partial(io.BytesIO, content), size=len(content))


def folder_files(folder: Path, prefix: str = "") -> Iterator[SourceFile]:
    """All regular files below a folder that nobody else writes to, sorted, under `prefix`."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = f"{prefix}{path.relative_to(folder).as_posix()}"
        yield SourceFile(name, functools.partial(_open, path), size=path.stat().st_size)


def _open(path: Path) -> BinaryIO:
    return path.open("rb")
