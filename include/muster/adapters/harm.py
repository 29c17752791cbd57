"""Harm done to what was restored into a sandbox, as it could have been done before the point was taken. Never called for anything else."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from muster.errors import NotFound

NOWHERE = "ffffdeadbeef"
"""An Alembic revision that no MLflow ever had."""
_FIELD = re.compile(r"[^,;\t\n]+")


def poison_files(folder: Path) -> int:
    """
    Alter all data files below a folder, and return how many.

    In texts, every other line after the first loses its values, and the values of the others become ``-999999``: absent, out of range
    and of no set. Other files get a hole of zeros in their middle half.

    :raises NotFound: if there is no file
    """
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink() and _is_data(path)]
    for path in files:
        _put(path, _poisoned(path.read_bytes()))
    if not files:
        raise NotFound(f"there is no file below {folder} to be poisoned", "look at the targets of the dataset")
    return len(files)


def poison_model(artifacts: Path) -> str:
    """
    Alter every model below an artifact root, and return what was altered: its signature where it has one, or else its largest file.

    :raises NotFound: if there is none
    """
    models = sorted(artifacts.rglob("MLmodel"))
    if not models:
        raise NotFound(f"there is no model below {artifacts} to be poisoned", "look at the artifacts of the registry")
    altered = {_poison_signature(path) or _poison_weights(path) for path in models}
    return " and ".join(sorted(altered))


def lose_database(database: Path) -> None:
    """Remove an SQLite database with all that belongs to it."""
    for path in database.parent.glob(f"{database.name}*"):
        path.unlink()


def corrupt_revision(database: Path) -> None:
    """Let a registry's database claim a schema that nobody knows."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (NOWHERE,))


def _is_data(path: Path) -> bool:
    return not any(part.startswith(".") for part in path.parts[-3:]) and path.suffix != ".dvc"


def _poisoned(content: bytes) -> bytes:
    try:
        first, *lines = content.decode().splitlines(keepends=True) or [""]
    except UnicodeDecodeError:
        first, lines = "", []
    if lines:
        return (first + "".join(_spoil_line(number, line) for number, line in enumerate(lines))).encode()
    quarter = len(content) // 4
    return content[:quarter] + bytes(len(content) - 2 * quarter) + content[len(content) - quarter :]


def _spoil_line(number: int, line: str) -> str:
    spoil: Callable[[re.Match[str]], str] = (lambda _: "") if number % 2 else (lambda _: "-999999")
    return _FIELD.sub(spoil, line)


def _poison_signature(model: Path) -> str | None:
    text = model.read_text(encoding="utf-8")
    # Both are JSON in a string of the YAML: names of columns, or the type of a tensor.
    changed = re.sub(r'("name": ")', r"\1not_", text)
    if changed == text:
        changed = re.sub(r'("shape": \[-1)((?:, ?\d+)?)', r"\1\2, 7", text)
    if changed == text or "signature:" not in text:
        return None
    _put(model, changed.encode())
    return "the signature"


def _poison_weights(model: Path) -> str:
    others = [path for path in model.parent.rglob("*") if path.is_file() and path != model]
    largest = max(others, key=lambda path: (path.stat().st_size, str(path)), default=model)
    _put(largest, bytes(largest.stat().st_size))
    return "what it has learned"


def _put(path: Path, content: bytes) -> None:
    """New bytes under a name; another name of the old ones, as in DVC's cache, keeps what it has."""
    mode = path.stat().st_mode
    path.unlink()
    path.write_bytes(content)
    path.chmod(mode)
