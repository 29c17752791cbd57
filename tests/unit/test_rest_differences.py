"""What a failed comparison says of two documents: the field, and both values, however deep and long they are."""

from __future__ import annotations

from typing import Any

import pytest

from muster.adapters.mlflow_rest_differences import difference

LONG = "x" * 10_000


@pytest.mark.parametrize(
    ("wanted", "found", "said"),
    [
        ("a", "b", 'f was "a" and is "b"'),
        ({"a": 1, "b": {"c": True}}, {"a": 1, "b": {"c": False}}, "f.b.c was true and is false"),
        ({"a": 1}, {}, "f.a was 1 and is not there"),
        ([{"n": 1}, {"n": 2, "v": 0}], [{"n": 2, "v": 9}, {"n": 1}], "f[1].v was 0 and is 9"),
        ([[1, 2]], [[1, 2], [3, 4]], "f[1] was not there and is [3, 4]"),
        ([[1]], [[1], [1]], "f had 1 items and has 2"),
        ([1, 2], [1, 3], "f was [1, 2] and is [1, 3]"),
        (LONG, "short", f'f was "{LONG[:59]}… and is "short"'),
    ],
)
def test_difference_names_field_and_values(wanted: Any, found: Any, said: str) -> None:
    """The first field that is another one; items of lists are held to each other without regard to their order."""
    assert difference(wanted, found, "f") == said
