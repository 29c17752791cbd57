"""What engines can hold of a float, how their stores are named, and what their errors may show: without a server."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.adapters.mlflow_engines import float_fits
from muster.adapters.mlflow_mysql import refusal
from muster.adapters.mlflow_mysql_json import same_value
from muster.adapters.mlflow_mysql_types import shortest_single
from muster.adapters.mlflow_store import StoreUrl
from muster.errors import SourceInvalid, StoreUnavailable


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_single_precision_comes_back_by_its_bits(number: float) -> None:
    """The decimal that is stored for a number of single precision has its bits, and is its own."""
    short = shortest_single(number)
    assert struct.pack("<f", short) == struct.pack("<f", number)
    assert shortest_single(short) == short
    assert len(repr(short).partition("e")[0].strip("-0.").replace(".", "")) <= 9


@pytest.mark.parametrize(
    ("engine", "value", "held"),
    [
        ("sqlite", {"float": "nan"}, (None, "NaN")),
        ("sqlite", -0.0, (0.0, "negative zero")),
        ("sqlite", {"float": "inf"}, ({"float": "inf"}, None)),
        ("mysql", {"float": "nan"}, (None, "NaN")),
        ("mysql", {"float": "-inf"}, (-1.7976931348623157e308, "infinity")),
        ("mysql", -0.0, (0.0, "negative zero")),
        ("mysql", None, (None, None)),
        ("mysql", 0.123456789, (0.123456789, None)),
        ("mysql single", 0.123456789, (0.12345679, "single precision")),
        ("mysql single", 0.1, (0.1, None)),
        ("mysql single", 1e300, (1e300, None)),  # the server refuses it
    ],
)
def test_floats_are_fitted_to_their_engine(engine: str, value: Any, held: tuple[Any, str | None]) -> None:
    """What an engine holds instead of a number, and what was given up for it, is said for each."""
    name, _, single = engine.partition(" ")
    assert float_fits(name, ["c"], ["c"] if single else [])["c"](value) == held


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ('{"b": 1,  "a": [1.50, 1e2], "a": "\\u00e9"}', '{"a": "é", "b": 1}', True),
        ("1e-7", "0.0000001", True),
        ("-0", "0", True),
        ("-0.0", "0.0", False),
        ("1", "1.0", False),
        ("1", "true", False),
        ("12345678901234567890123", "1.2345678901234568e22", False),
        ('"a"', '"A"', False),
        ("[1, 2]", "[2, 1]", False),
        ("{", "{", False),
        ("9" * 5000, "1e5000", False),
    ],
)
def test_json_is_the_same_by_its_value(one: str, other: str, same: bool) -> None:
    """Spaces, the order of keys, escapes and the form of a number say nothing; its kind and its digits do."""
    assert same_value(one, other) is same


@pytest.mark.parametrize("scheme", ["mysql", "mariadb", "mysql+pymysql", "mariadb+pymysql"])
def test_mysql_by_any_of_its_names(scheme: str) -> None:
    """MySQL and MariaDB are one engine to us, reached by one driver; user and password are not shown."""
    store = StoreUrl.parse(f"{scheme}://me:p%2Fw@db:3306/mlflow?ssl_ca=/ca.pem")
    assert (store.engine, store.url) == ("mysql", "mysql+pymysql://me:p%2Fw@db:3306/mlflow?ssl_ca=/ca.pem")
    assert store.shown == "mysql://…@db:3306/mlflow?ssl_ca=/ca.pem"


@pytest.mark.parametrize(
    ("number", "said", "kind", "shown"),
    [
        (2013, "Lost connection to MySQL server during query", StoreUnavailable, "Lost connection"),
        (0, "", StoreUnavailable, "the connection is closed"),
        (1045, "Access denied for user 'me'@'h' (using password: YES)", StoreUnavailable, "Access denied"),
        (1142, "CREATE command denied to user 'me'@'h' for table `d`.`t`", SourceInvalid, "CREATE command denied"),
        (1062, "Duplicate entry 'it''s s3cret' for key 'PRIMARY'", SourceInvalid, "Duplicate entry …"),
        (
            1366,
            r"Incorrect string value: '\xF0s3cret' for column `d`.`t`.`c` at row 1",
            SourceInvalid,
            "column `d`.`t`.`c`",
        ),
        (1064, "You have an error near 's3cret\n x' at line 1", SourceInvalid, "near …"),
    ],
)
def test_errors_of_mysql_are_told_apart_without_values(number: int, said: str, kind: type, shown: str) -> None:
    """What may pass is transient, what was refused is not; no message repeats what is in the rows."""
    from pymysql.err import OperationalError

    error = refusal("mysql://…@h/d", OperationalError(number, said))
    assert type(error) is kind
    assert shown in str(error)
    assert "s3cret" not in str(error)
