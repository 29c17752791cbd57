"""Rows are written and read by two libraries, whichever is faster: nobody can tell from the bytes which it was."""

from __future__ import annotations

import gc
import json
import math
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from muster.adapters.mlflow_lines import Batch, Row, line_of, read_batches, sum_of, text_in_line
from muster.errors import IntegrityError

FLOATS = st.floats(allow_nan=False, allow_infinity=False) | st.floats(1e-5, 1e-3) | st.floats(1e15, 1e17)
VALUES = st.none() | st.booleans() | st.integers() | FLOATS | st.text() | st.just({"float": "nan"})
ROWS = st.integers(1, 4).flatmap(lambda width: st.lists(st.lists(VALUES, min_size=width, max_size=width), max_size=8))


@given(ROWS)
@example([[0.0, -0.0, 1e-4, 1e16]])
@example([[math.nextafter(1e-4, 0), 5e-324, math.nextafter(1e16, 0), 1.7976931348623157e308]])
@example([["\x00\x1f\x7f\x80\u2028\ud7ff", '"\\/', "],[", "\U0001f600"]])
@example([[1, "a"], [2.5, "b"], [None, {"bytes": "AA=="}]])
@example([[2**63, -(2**64), 10**40, True]])
def test_lines_are_those_of_the_standard_library(rows: list[Row]) -> None:
    """Every value, next to every other one, in every column."""
    assert Batch(rows).lines == b"".join(map(line_of, rows))


def test_any_float_is_written_as_python_writes_it() -> None:
    """All exponents there are, and both ends of each; the digest of a stored table hangs on it."""
    bits = [
        exponent << 52 | mantissa for exponent in range(0x7FF) for mantissa in (0, 1, (1 << 52) - 1, 0x8F5C28F5C28F5)
    ]
    values = [struct.unpack("<d", struct.pack("<Q", value))[0] for value in bits]
    rows = [[value, -value] for value in values]
    assert Batch(rows).lines == b"".join(f"[{value!r},{-value!r}]\n".encode() for value in values)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, b"bytes", {1}, 1 + 2j])
def test_what_is_not_canonical_is_refused(value: Any) -> None:
    """One of the libraries would write NaN as null, and bytes as text."""
    for rows in ([[value]], [[0.5], [value]], [[1], [value], ["x"]]):
        with pytest.raises((ValueError, TypeError)):
            _ = Batch(rows).lines


@pytest.mark.parametrize("rows", [[[1], [1, 2]], [[0.5, "a"], ["b"]]])
def test_rows_of_other_lengths_are_refused(rows: list[Row]) -> None:
    """A table has as many columns in each row."""
    with pytest.raises(IntegrityError, match="not equally long"):
        _ = Batch(rows).lines


@given(ROWS.filter(bool))
def test_rows_come_back(tmp_path_factory: pytest.TempPathFactory, rows: list[Row]) -> None:
    """As the standard library reads them, whole numbers and floats told apart; the lines come along."""
    path = tmp_path_factory.mktemp("rows") / "rows"
    path.write_bytes(Batch(rows).lines)
    (batch,) = read_batches(path)
    assert repr(list(batch.rows)) == repr([json.loads(line) for line in path.read_bytes().splitlines()])
    assert batch.lines == path.read_bytes()
    assert batch.columns == list(zip(*batch.rows, strict=True))


NO_ROWS = (
    b"[1] [2]\n\n",
    b"[1]\n2\n",
    b'["\\ud800"]\n',
    b"[NaN]\n",
    b"[1e999]x\n",
    b"[1][2]\n[3]\n",
    b"[[1],\n[2]] [3]\n",
    b"[1\n,2]\n",
    b"\n",
    b"{}\n",
)


@pytest.mark.parametrize("lines", NO_ROWS)
def test_lines_that_are_no_rows_are_refused(tmp_path: Path, lines: bytes) -> None:
    """Also if there are as many values as lines."""
    (tmp_path / "rows").write_bytes(lines)
    with pytest.raises((IntegrityError, ValueError)):
        list(read_batches(tmp_path / "rows"))


@given(st.text(min_size=1), st.text(), st.text())
def test_a_text_is_found_in_the_line_that_has_it(text: str, before: str, after: str) -> None:
    """So an old location cannot hide in how a line is written."""
    assert text_in_line(text) in line_of([1, before + text + after])


def test_garbage_is_looked_for_again_afterwards() -> None:
    """Also if a batch failed; and not, if nobody wanted that before."""

    def failing() -> Any:
        yield Batch([[1]])
        assert not gc.isenabled()
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011 - that very one
        sum_of(failing())
    assert gc.isenabled()
    gc.disable()
    try:
        sum_of([Batch([[1]])])
        assert not gc.isenabled()
    finally:
        gc.enable()
