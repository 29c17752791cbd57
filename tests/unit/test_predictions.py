"""When two answers of a model are the same."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.codec import canonical
from muster.domain.predictions import Difference, compare, count_values
from muster.errors import IntegrityError, UsageError


def floats(*values: float, shape: list[int] | None = None, dtype: str = "float64") -> dict[str, Any]:
    return {
        "dtype": dtype,
        "shape": [len(values)] if shape is None else shape,
        "values": [repr(float(v)) for v in values],
    }


def exact(dtype: str, *values: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [len(values)], "values": list(values)}


def table(**columns: dict[str, Any]) -> dict[str, Any]:
    rows = len(next(iter(columns.values()))["values"])
    return {
        "dtype": "dataframe",
        "shape": [rows, len(columns)],
        "keys": list(columns),
        "values": list(columns.values()),
    }


def equal(a: Any, b: Any, rtol: float = 0.0, atol: float = 0.0) -> bool:
    return not compare(a, b, rtol=rtol, atol=atol)


SCALARS = st.one_of(
    st.floats().map(lambda v: {"dtype": "float", "shape": [], "values": [repr(v)]}),
    st.integers().map(lambda v: {"dtype": "int", "shape": [], "values": [v]}),
    st.text().map(lambda v: {"dtype": "str", "shape": [], "values": [v]}),
    st.booleans().map(lambda v: {"dtype": "bool", "shape": [], "values": [v]}),
    st.just({"dtype": "none", "shape": [], "values": []}),
    st.lists(st.floats(), max_size=6).map(lambda v: floats(*v)),
    st.lists(st.integers(-(2**63), 2**64 - 1), max_size=6).map(lambda v: exact("int64", *v)),
    st.lists(st.floats(), min_size=6, max_size=6).map(lambda v: floats(*v, shape=[2, 3])),
)


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    listed = st.lists(inner, max_size=3).map(lambda v: {"dtype": "list", "shape": [len(v)], "values": v})
    keyed = st.dictionaries(st.text(max_size=3), inner, max_size=3).map(
        lambda v: {"dtype": "dict", "shape": [len(v)], "keys": list(v), "values": list(v.values())}
    )
    return st.one_of(listed, keyed)


ANSWERS = st.recursive(SCALARS, containers, max_leaves=12)


@given(ANSWERS)
def test_every_answer_equals_itself_after_storage(answer: Any) -> None:
    """An answer that went through JSON has no difference to itself, without any tolerance."""
    try:
        stored = json.loads(canonical(answer))
    except UnicodeEncodeError:  # a lone surrogate cannot be stored, so it cannot come back altered either
        return
    assert equal(answer, stored)
    assert count_values(stored) == count_values(answer)


@given(ANSWERS, ANSWERS, st.floats(0, 1e300))
def test_no_direction_without_relative_tolerance(a: Any, b: Any, atol: float) -> None:
    """With an absolute tolerance alone, the first differs from the second just where the second differs from the first."""
    there, back = compare(a, b, rtol=0, atol=atol), compare(b, a, rtol=0, atol=atol)
    assert [(d.where, d.expected, d.found) for d in there] == [(d.where, d.found, d.expected) for d in back]


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(0, 1e-3), st.floats(0, 1e3))
def test_the_tolerance_is_numpys(golden: float, rtol: float, atol: float) -> None:
    """Values at the edge of atol + rtol * |golden| are accepted, and values clearly beyond are not."""
    reach = atol + rtol * abs(golden)
    for found in (golden + reach * 0.999, golden - reach * 0.999):
        if math.isfinite(found) and abs(golden - found) <= reach:
            assert equal(floats(golden), floats(found), rtol, atol)
    beyond = golden + 2 * reach + abs(golden) * 1e-9 + 1e-9
    if math.isfinite(beyond) and abs(golden - beyond) > reach:
        assert compare(floats(golden), floats(beyond), rtol=rtol, atol=atol)


@pytest.mark.parametrize(
    ("golden", "found", "rtol", "atol", "same"),
    [
        (math.nan, math.nan, 0, 0, True),
        (math.nan, 1.0, 1, 1e308, False),
        (1.0, math.nan, 1, 1e308, False),
        (math.inf, math.inf, 0, 0, True),
        (math.inf, -math.inf, 1, 1, False),
        (math.inf, 1e308, 1, 1e308, False),
        (1e308, math.inf, 10, 0, False),
        (-0.0, 0.0, 0, 0, True),
        (0.1 + 0.2, 0.3, 0, 0, False),
        (0.1 + 0.2, 0.3, 1e-15, 0, True),
        (5e-324, 0.0, 0, 0, False),
        (5e-324, 0.0, 0.5, 0, False),
        (100.0, 101.0, 0.01, 0, True),
        (100.0, 101.1, 0.01, 0, False),
        (100.0, 101.1, 0.01, 0.1, True),
        (0.0, 1e-9, 1e-3, 0, False),
        (1e308, -1e308, 0, 0, False),
    ],
)
def test_edges_of_floats(golden: float, found: float, rtol: float, atol: float, same: bool) -> None:
    """NaN equals NaN, an infinity only itself, zero its negative; the rest is within tolerance or it is not."""
    assert equal(floats(golden), floats(found), rtol, atol) is same


@pytest.mark.parametrize(
    ("golden", "found", "where"),
    [
        (exact("int64", 2**53), exact("int64", 2**53 + 1), "outputs[0]"),
        (exact("str", "a", "b"), exact("str", "a", "B"), "outputs[1]"),
        (exact("bool", True), exact("bool", 1), "outputs[0]"),
        (floats(1.0), floats(1.0, dtype="float32"), "outputs dtype"),
        (exact("int64", 1), exact("int32", 1), "outputs dtype"),
        (floats(1, 2, 3, 4), floats(1, 2, 3, 4, shape=[2, 2]), "outputs shape"),
        (floats(1, 2), floats(1), "outputs shape"),
        (floats(1, 2, 3, 4, shape=[2, 2]), floats(1, 2, 3, 9, shape=[2, 2]), "outputs[1, 1]"),
        (table(p=floats(0.5, 0.5)), table(q=floats(0.5, 0.5)), "outputs keys"),
        (
            table(p=floats(0.5, 0.5), label=exact("str", "x", "y")),
            table(p=floats(0.5, 0.5), label=exact("str", "x", "z")),
            "outputs.label[1]",
        ),
    ],
)
def test_says_where_answers_differ(golden: Any, found: Any, where: str) -> None:
    """One altered value, type, shape or column is one difference, named by its place, whatever the tolerance."""
    (difference,) = compare(golden, found, rtol=1.0, atol=0.1)
    assert difference.where == where
    assert str(difference).startswith(f"{where}: expected ")


def test_finds_every_difference() -> None:
    """All values out of tolerance are told, none is swallowed by the first."""
    found = compare(floats(1, 2, 3), floats(1, 5, 6), rtol=0, atol=0)
    assert found == [Difference("outputs[1]", "2.0", "5.0"), Difference("outputs[2]", "3.0", "6.0")]


def test_counts_single_values() -> None:
    """Values are counted at every depth."""
    assert count_values(table(p=floats(1, 2), q=exact("str", "a", "b"))) == 4
    assert count_values({"dtype": "none", "shape": [], "values": []}) == 0


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"dtype": "float64", "shape": [2], "values": ["1.0"]},
        {"dtype": "float64", "shape": [-1], "values": []},
        {"dtype": "float64", "shape": None, "values": []},
        {"dtype": "float64", "shape": [1], "values": ["one"]},
        {"dtype": "dict", "shape": [1], "values": [floats(1)]},
        {"dtype": "list", "shape": [1], "values": [7]},
    ],
)
def test_refuses_an_answer_that_is_not_whole(broken: Any) -> None:
    """A truncated or malformed prediction is damage, never equality."""
    with pytest.raises(IntegrityError):
        compare(broken, broken, rtol=0, atol=0)


@pytest.mark.parametrize(("rtol", "atol"), [(-1, 0), (0, -1e-9), (math.nan, 0), (0, math.nan)])
def test_refuses_senseless_tolerances(rtol: float, atol: float) -> None:
    """A negative tolerance or NaN would make the comparison mean nothing."""
    with pytest.raises(UsageError):
        compare(floats(1), floats(1), rtol=rtol, atol=atol)
