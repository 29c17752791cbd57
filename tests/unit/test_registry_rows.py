"""Canonical rows: what is written is what is read, and what cannot be is refused."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from muster.adapters.mlflow_engines import SQLITE_ROWS
from muster.adapters.mlflow_lines import (
    BATCH,
    Batch,
    RowSum,
    in_batches,
    read_lines,
    sum_of,
    sum_of_file,
    write_lines,
)
from muster.adapters.mlflow_rows import Column, Table, insert_rows, rows_of, tables_of
from muster.errors import IntegrityError, SourceInvalid

DDL = (
    "CREATE TABLE t (k VARCHAR PRIMARY KEY, i BIGINT, f FLOAT, b BOOLEAN, r BLOB, d DATE, m DATETIME, j JSON,"
    " twice BIGINT GENERATED ALWAYS AS (i * 2) STORED)"
)
ROWS: list[list[Any]] = [
    ["", None, None, None, None, None, None, None],
    ["Z", -(2**63), 1e-320, False, {"bytes": ""}, {"date": "0001-01-01"}, {"datetime": "2026-11-23T02:00:00"}, "null"],
    ["a\n\u2028\"'\\", 2**63 - 1, {"float": "-inf"}, True, {"bytes": "AP8="}, None, None, '{"b": 1,  "a": [1.0, 2]}'],
    ["é", 0, 0.1, None, None, {"date": "2026-11-23"}, {"datetime": "2026-11-23T02:00:00.000001"}, "[]"],
    ["東", 1, 2.0, None, None, None, None, None],
]


@pytest.fixture
def connection(tmp_path: Path) -> Any:
    from sqlalchemy import create_engine, text

    with create_engine(f"sqlite:///{tmp_path}/t.db").begin() as opened:
        opened.execute(text(DDL))
        yield opened


def test_rows_survive_database_and_file(connection: Any, tmp_path: Path) -> None:
    """Every kind of value goes into a table, out in the order of code points, to a file and back, unchanged."""
    table = tables_of(connection)["t"]
    assert [c.kind for c in table.columns] == [
        "text",
        "integer",
        "float",
        "boolean",
        "bytes",
        "date",
        "datetime",
        "json",
    ]
    inserted = insert_rows(connection, table, in_batches(ROWS[::-1]))
    assert inserted.rows == len(ROWS)
    written = write_lines(in_batches(rows_of(connection, table)), tmp_path / "rows")
    assert list(read_lines(tmp_path / "rows")) == ROWS
    assert sum_of_file(tmp_path / "rows") == written
    assert inserted.sha256 != written.sha256  # the order counts


def test_same_rows_have_the_same_bytes(tmp_path: Path) -> None:
    """The encoding is fixed: this digest may never change without a new format."""
    total = write_lines(in_batches(ROWS), tmp_path / "rows")
    assert total == RowSum(5, "f57cc8fb0cd8d7e55cd0e3fe4f10bbe919633ea5ac5a8cccd348eb87e3d56693")


def test_rows_have_the_same_lines_one_by_one_and_together(tmp_path: Path) -> None:
    """Also where a text holds what stands between rows, and where there are more rows than are encoded at once."""
    between = ["],[", 1, None, None, None, None, None, "[[1],[2]]"]
    for rows in (ROWS, [*ROWS, between, *ROWS], [between], [], ROWS * (BATCH // 2)):
        assert Batch(rows).lines == b"".join(Batch([row]).lines for row in rows)
    total = write_lines(in_batches(ROWS * BATCH), tmp_path / "rows")
    assert total == sum_of(in_batches(ROWS * BATCH)) == sum_of_file(tmp_path / "rows")
    assert list(read_lines(tmp_path / "rows")) == ROWS * BATCH


def test_one_odd_value_among_plain_ones_is_seen(connection: Any) -> None:
    """Columns are looked at as a whole: what stands for itself must not hide what does not."""
    table = tables_of(connection)["t"]
    rows = [[f"{number:04}", number, number / 7, True, None, None, None, "{}"] for number in range(2 * BATCH)]
    rows[BATCH + 5][2], rows[BATCH + 6][2] = {"float": "inf"}, None
    rows[7][3], rows[8][1] = None, None
    insert_rows(connection, table, in_batches(rows))
    assert list(rows_of(connection, table)) == rows


def test_computed_columns_are_left_to_the_database(connection: Any) -> None:
    """A generated column is neither read nor written, and computes itself again."""
    from sqlalchemy import text

    table = tables_of(connection)["t"]
    assert "twice" not in table.names
    insert_rows(connection, table, in_batches([["k", 21, None, None, None, None, None, None]]))
    assert connection.execute(text("SELECT twice FROM t")).scalar() == 42


@pytest.mark.parametrize(("column", "value"), [("i", "x"), ("f", "x"), ("b", 2), ("r", "x"), ("d", "soon"), ("i", 1.5)])
def test_value_of_another_type_is_refused(connection: Any, column: str, value: Any) -> None:
    """What SQLite lets into a column, and its type does not, is named."""
    from sqlalchemy import text

    connection.execute(text(f"INSERT INTO t (k, {column}) VALUES ('k', :value)"), {"value": value})
    with pytest.raises(SourceInvalid, match=rf"t\.{column} holds a (str|int|float) where a"):
        list(rows_of(connection, tables_of(connection)["t"]))


@pytest.mark.parametrize("row", [["k"], ["k", 1, 1.0, True, {"nope": ""}, None, None, None]])
def test_row_that_does_not_fit_is_refused(connection: Any, row: list[Any]) -> None:
    """A stored row with other columns, or an unknown tag, goes into no table."""
    with pytest.raises(IntegrityError, match="does not have its columns"):
        insert_rows(connection, tables_of(connection)["t"], in_batches([row]))


def test_rows_of_which_one_does_not_fit_are_refused(connection: Any) -> None:
    """Also beside rows that do."""
    table = tables_of(connection)["t"]
    whole = ["k", 1, 1.0, True, None, None, None, None]
    with pytest.raises(IntegrityError, match="not equally long"):
        insert_rows(connection, table, in_batches([whole, whole[:-1]]))


@pytest.mark.parametrize("rows", [0, 1, SQLITE_ROWS - 1, SQLITE_ROWS, SQLITE_ROWS + 1, 2 * SQLITE_ROWS, 3 * BATCH + 7])
@pytest.mark.parametrize("most", [8, 20, 100_000])
def test_any_number_of_rows_goes_in(connection: Any, rows: int, most: int) -> None:
    """However many of them one statement takes, and however few values this SQLite lets one have."""
    connection.connection.dbapi_connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, most)
    table = tables_of(connection)["t"]
    wanted = [[f"{number:05}", number, number / 7, None, None, None, None, None] for number in range(rows)]
    assert insert_rows(connection, table, in_batches(wanted)).rows == rows
    assert list(rows_of(connection, table)) == wanted


def test_table_without_a_key_has_an_order(connection: Any) -> None:
    """Without a primary key all columns order the rows, null first."""
    from sqlalchemy import text

    connection.execute(text("CREATE TABLE loose (a TEXT, b INTEGER)"))
    connection.execute(text("INSERT INTO loose VALUES ('b', 1), ('a', 2), ('a', 1), (NULL, 3)"))
    table = Table("loose", (Column("a", "text", True), Column("b", "integer", True)), ())
    assert list(rows_of(connection, table)) == [[None, 3], ["a", 1], ["a", 2], ["b", 1]]


def test_type_that_nobody_knows_is_refused(connection: Any) -> None:
    """A column whose type cannot be carried is named, not guessed at."""
    from sqlalchemy import text

    connection.execute(text("CREATE TABLE odd (a)"))
    with pytest.raises(SourceInvalid, match=r"odd\.a has the type"):
        tables_of(connection)


def test_nan_is_not_silently_null() -> None:
    """SQLite stores NaN as null; that is why a restore counts it."""
    assert sqlite3.connect(":memory:").execute("SELECT ?", (math.nan,)).fetchone() == (None,)
