"""Canonical rows as lines of a file, and what they add up to; `muster.adapters.mlflow_rows` says how values are written."""

from __future__ import annotations

import gc
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

import msgspec

from muster.batches import batched_by
from muster.cycles import no_collecting
from muster.errors import IntegrityError

Row = list[Any]
BATCH = 1000
"""Rows that are handled at once, at most when they are read from a store."""
BATCH_SIZE = 1 << 20
"""Characters or bytes after which no row is added to those that are handled at once."""
_READ_AT_ONCE = 128 << 10
"""Bytes of lines that are handled at once: about a thousand points of a metric."""
_COLLECTED = 64
"""Batches after which garbage in cycles is looked for."""
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode
_encode_lines = msgspec.json.Encoder().encode_lines
_decode_lines = msgspec.json.Decoder(list[Any]).decode_lines
_ALIKE = frozenset({str, int, bool, float, NoneType})
_LEAST, _MOST = 1e-4, 1e16
"""
From where to where Python writes a float without an exponent: what ``repr`` does, and `msgspec` too, both with the fewest digits that
give the same float.
"""


@dataclass(frozen=True, slots=True)
class RowSum:
    """Number of rows, and hex SHA-256 of their lines."""

    rows: int
    sha256: str


class Batch:
    """
    Some canonical rows, the same column by column, and the lines that they are in a file: what is not given is made when it is needed.

    :param lines: of these very rows
    :param columns: of these very rows
    :param types: of the values of each of these columns
    """

    __slots__ = ("_columns", "_lines", "_types", "rows")

    def __init__(
        self,
        rows: Sequence[Sequence[Any]],
        lines: bytes | None = None,
        columns: Sequence[Sequence[Any]] | None = None,
        types: Sequence[set[type]] | None = None,
    ) -> None:
        self.rows, self._lines, self._columns, self._types = rows, lines, columns, types

    @property
    def columns(self) -> Sequence[Sequence[Any]]:
        """
        :raises IntegrityError: if the rows are not equally long
        """
        if self._columns is None:
            try:
                self._columns = list(zip(*self.rows, strict=True))
            except ValueError:
                raise IntegrityError("the rows of a table are not equally long", "verify the vault") from None
        return self._columns

    @property
    def types(self) -> Sequence[set[type]]:
        """Of the values of each column. Errors as of `columns`."""
        if self._types is None:
            self._types = [set(map(type, values)) for values in self.columns]
        return self._types

    @property
    def lines(self) -> bytes:
        """
        What `msgspec` writes as the standard library does is left to it, as it takes a tenth of the time.

        :raises ValueError: if a value is not canonical; also errors as of `columns`
        """
        if self._lines is None:
            alike = all(map(_written_alike, self.columns, self.types))
            self._lines = _encode_lines(self.rows) if alike else b"".join(map(_one_line, self.rows))
        return self._lines


def in_batches(rows: Iterable[Row]) -> Iterator[Batch]:
    """Rows, some at a time: at most `BATCH`, and one at least."""
    return map(Batch, batched_by(size_of, rows, BATCH_SIZE, BATCH))


def size_of(row: Iterable[Any]) -> int:
    """About as many characters or bytes as a row has, as an engine gives it or canonical; numbers and moments count nothing."""
    size = 0
    for value in row:
        if isinstance(value, dict):
            size += size_of(value.values())
        elif isinstance(value, str | bytes | memoryview):
            size += len(value)
    return size


def line_of(row: Sequence[Any]) -> bytes:
    """A canonical row as a line."""
    return _encode(row).encode() + b"\n"


def text_in_line(text: str) -> bytes:
    """What stands in a line wherever a value has this text in it."""
    return _encode(text)[1:-1].encode(errors="surrogatepass")


def _one_line(row: Sequence[Any]) -> bytes:
    return _encode_lines([row]) if _written_alike(row, set(map(type, row))) else line_of(row)


def _written_alike(values: Sequence[Any], types: set[type]) -> bool:
    """Whether there is one way to write each of these: `msgspec` knows more types than JSON has, and writes NaN as null."""
    if not types <= _ALIKE:
        return False
    if float not in types:
        return True
    floats = values if types == {float} else [value for value in values if type(value) is float]
    sizes = list(map(abs, filter(None, floats)))
    return not sizes or (min(sizes) >= _LEAST and max(sizes) < _MOST and sum(sizes) < math.inf)


def write_lines(batches: Iterable[Batch], path: Path) -> RowSum:
    """Write canonical rows to a new file, and say what was written."""
    with path.open("xb") as file:
        return sum_of(batches, lambda batch: file.write(batch.lines))


def sum_of(batches: Iterable[Batch], take: Callable[[Batch], object] | None = None) -> RowSum:
    """
    Number and digest of canonical rows.

    :param take: is given each batch
    """
    digest, rows = hashlib.sha256(), 0
    with no_collecting():
        for number, batch in enumerate(batches, 1):
            digest.update(batch.lines)
            if take:
                take(batch)
            rows += len(batch.rows)
            if number % _COLLECTED == 0:
                gc.collect(0)
    return RowSum(rows, digest.hexdigest())


def read_lines(path: Path) -> Iterator[Row]:
    """
    The rows of a file whose digest was checked.

    :raises IntegrityError: if a line is no row
    """
    for batch in read_batches(path):
        yield from map(list, batch.rows)


def read_batches(path: Path) -> Iterator[Batch]:
    """As `read_lines`, some at a time: as many as make `_READ_AT_ONCE` bytes, and one at least."""
    read = 0
    with path.open("rb") as file:
        while lines := file.readlines(_READ_AT_ONCE):
            joined = b"".join(lines)
            yield Batch(_parsed(joined, len(lines)) or list(_parsed_one_by_one(lines, read, path.name)), joined)
            read += len(lines)


def _parsed(lines: bytes, count: int) -> list[Row] | None:
    """
    The rows of lines, parsed at once; None if that cannot be, or a line is no row.

    Two values in one line would do for one in each of two, were it not that each line begins one and ends one.
    """
    begun, ended = lines.startswith(b"[") + lines.count(b"\n["), lines.count(b"]\n") + lines.endswith(b"]")
    if not begun == ended == count:
        return None
    try:
        rows = _decode_lines(lines)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return rows if len(rows) == count else None


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
