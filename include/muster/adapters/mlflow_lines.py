"""Canonical rows as lines of a file, and what they add up to; `muster.adapters.mlflow_rows` says how values are written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muster.batches import batched
from muster.errors import IntegrityError

Row = list[Any]
BATCH = 1000
"""Rows that are handled at once."""
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode
_BETWEEN = "],["


@dataclass(frozen=True, slots=True)
class RowSum:
    """Number of rows, and hex SHA-256 of their lines."""

    rows: int
    sha256: str


class Batch:
    """
    Some canonical rows, and the lines that they are in a file.

    :param lines: if they are known
    """

    __slots__ = ("_lines", "rows")

    def __init__(self, rows: Sequence[Sequence[Any]], lines: bytes | None = None) -> None:
        self.rows, self._lines = rows, lines

    @property
    def lines(self) -> bytes:
        """
        :raises ValueError: if a value is not canonical
        """
        if self._lines is None:
            self._lines = lines_of(self.rows)
        return self._lines


def in_batches(rows: Iterable[Row]) -> Iterator[Batch]:
    """Rows, `BATCH` at a time."""
    return map(Batch, batched(rows, BATCH))


def line_of(row: Sequence[Any]) -> bytes:
    """A canonical row as a line."""
    return _encode(row).encode() + b"\n"


def lines_of(rows: Sequence[Sequence[Any]]) -> bytes:
    """
    Canonical rows as lines. All are encoded at once, which takes a third of the time, and then cut where one ends.

    :raises ValueError: if a value is not canonical
    """
    text = _encode(rows)
    if text.count(_BETWEEN) != len(rows) - 1:  # it stands in a text as well
        return b"".join(map(line_of, rows))
    return text[1:-1].replace(_BETWEEN, "]\n[").encode() + b"\n"


def write_lines(batches: Iterable[Batch], path: Path) -> RowSum:
    """Write canonical rows to a new file, and say what was written."""
    with path.open("xb") as file:
        return sum_of(batches, lambda batch: file.write(batch.lines))


def sum_of(batches: Iterable[Batch], take: Callable[[Batch], object] | None = None) -> RowSum:
    """
    Number and digest of canonical rows.

    :param take: is given each batch
    """
    digest, count = hashlib.sha256(), 0
    for batch in batches:
        digest.update(batch.lines)
        if take:
            take(batch)
        count += len(batch.rows)
    return RowSum(count, digest.hexdigest())


def read_lines(path: Path) -> Iterator[Row]:
    """
    The rows of a file whose digest was checked.

    :raises IntegrityError: if a line is no row
    """
    for batch in read_batches(path):
        yield from map(list, batch.rows)


def read_batches(path: Path) -> Iterator[Batch]:
    """As `read_lines`, `BATCH` at a time."""
    read = 0
    with path.open("rb") as file:
        for lines in batched(file, BATCH):
            rows = _parsed(lines) or list(_parsed_one_by_one(lines, read, path.name))
            yield Batch(rows, b"".join(lines))
            read += len(lines)


def _parsed(lines: Sequence[bytes]) -> list[Row] | None:
    """The rows of lines, parsed at once, which takes a third of the time; None if a line is no row."""
    try:
        rows = _value(b"[" + b",".join(lines) + b"]")
    except (ValueError, RecursionError):
        return None
    return rows if len(rows) == len(lines) and set(map(type, rows)) == {list} else None


def _parsed_one_by_one(lines: Sequence[bytes], before: int, name: str) -> Iterator[Row]:
    for number, line in enumerate(lines, before + 1):
        try:
            row = _value(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, list):
            raise IntegrityError(f"line {number} of {name} is no row of a registry", "verify the vault")
        yield row


def _value(text: bytes) -> Any:
    """
    What JSON text means.

    :raises ValueError: if it is none, or means what no row holds: a number that JSON does not know, half a character
    """
    value = json.loads(text.decode(), parse_constant=_refused)
    if b"\\ud" in text or b"\\uD" in text:
        _encode(value).encode()
    return value


def _refused(constant: str) -> Any:
    raise ValueError(constant)


def sum_of_file(path: Path) -> RowSum:
    """Number of lines and digest of a file."""
    digest, count = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            count += block.count(b"\n")
    return RowSum(count, digest.hexdigest())
