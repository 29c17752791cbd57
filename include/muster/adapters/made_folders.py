"""Folders that a restore had to make, and takes back if it fails, while other components are restored beside it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def missing_folders(folder: Path) -> list[Path]:
    """Those of a folder and its parents that do not exist yet, innermost first."""
    return [path for path in (folder, *folder.parents) if not path.exists()]


def take_back(folders: Iterable[Path]) -> None:
    """Remove what is empty of these folders, innermost first. One that somebody else uses by now stays."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()
