"""
Whether a model answers as it did.

An answer is plain JSON, written by the process that ran the model: ``{"dtype": …, "shape": […], "values": […]}``.

* numbers, strings: `dtype` is NumPy's name (``float32``, ``int64``, ``bool``, ``str``, ``datetime64[ns]``), `values` are flat,
  in row-major order; floats are strings (``"0.1"``, ``"nan"``, ``"-inf"``: Python's ``repr``, which loses nothing)
* ``list``, ``tuple``, ``object``, ``dict``, ``dataframe``: `values` are answers again; the latter two have ``keys``, one for each
* ``none``: no values
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from muster.errors import IntegrityError, UsageError

Json = Any
NESTED = ("list", "tuple", "object", "dict", "dataframe")


@dataclass(frozen=True, slots=True)
class Difference:
    """
    One thing in which two answers differ.

    :param where: ``outputs[3, 1]``, ``outputs.probability[7]``, ``outputs dtype``
    """

    where: str
    expected: Json
    found: Json

    def __str__(self) -> str:
        return f"{self.where}: expected {self.expected}, found {self.found}"


def compare(golden: Mapping[str, Json], found: Mapping[str, Json], *, rtol: float, atol: float) -> list[Difference]:
    """
    All differences between a golden answer and one that was given now; none if they are equal.

    Types and shapes must be the same, and so must integers, booleans and strings. Floats *a* (golden) and *b* may differ by
    ``atol + rtol * |a|``; NaN equals NaN, an infinity only itself, and -0.0 is 0.0.

    :param rtol: relative tolerance, not negative
    :param atol: absolute tolerance, not negative
    :raises IntegrityError: if an answer is not of the form above
    :raises UsageError: if a tolerance is negative or not a number
    """
    if not (rtol >= 0 and atol >= 0):
        raise UsageError(f"tolerances are {rtol} and {atol}", "rtol and atol are numbers of 0 or more")
    try:
        return list(_differences("outputs", golden, found, rtol, atol))
    except RecursionError:
        raise _unreadable("it is nested too deeply") from None


def count_values(answer: Mapping[str, Json]) -> int:
    """
    How many single values an answer holds, at any depth.

    :raises IntegrityError: if it is not of the form above
    """
    try:
        return _count(answer)
    except RecursionError:
        raise _unreadable("it is nested too deeply") from None


def _count(answer: Mapping[str, Json]) -> int:
    dtype, _, values = _parts(answer)
    return sum(map(_count, values)) if dtype in NESTED else len(values)


def _differences(
    where: str, golden: Mapping[str, Json], found: Mapping[str, Json], rtol: float, atol: float
) -> Iterator[Difference]:
    dtype, shape, values = _parts(golden)
    found_dtype, found_shape, found_values = _parts(found)
    if dtype != found_dtype:
        yield Difference(f"{where} dtype", dtype, found_dtype)
    elif shape != found_shape:
        yield Difference(f"{where} shape", shape, found_shape)
    elif golden.get("keys") != found.get("keys"):
        yield Difference(f"{where} keys", golden.get("keys"), found.get("keys"))
    elif dtype in NESTED:
        for place, expected, given in zip(_places(where, golden), values, found_values, strict=True):
            yield from _differences(place, expected, given, rtol, atol)
    else:
        yield from _unequal(where, dtype, shape, (values, found_values), rtol, atol)


def _unequal(
    where: str, dtype: str, shape: list[int], values: tuple[list[Json], list[Json]], rtol: float, atol: float
) -> Iterator[Difference]:
    floats = dtype.startswith(("float", "complex"))
    for number, (expected, given) in enumerate(zip(*values, strict=True)):
        same = _close(_float(expected), _float(given), rtol, atol) if floats else _identical(expected, given)
        if not same:
            yield Difference(where + _index(number, shape), expected, given)


def _close(golden: float, found: float, rtol: float, atol: float) -> bool:
    if math.isnan(golden) or math.isnan(found):
        return math.isnan(golden) and math.isnan(found)
    if math.isinf(golden) or math.isinf(found):
        return golden == found
    return golden == found or abs(golden - found) <= atol + rtol * abs(golden)


def _identical(golden: Json, found: Json) -> bool:
    return type(golden) is type(found) and bool(golden == found)


def _float(text: Json) -> float:
    try:
        return float(text)
    except (TypeError, ValueError, OverflowError):
        raise _unreadable(f"{text!r} is no number") from None


def _parts(answer: Mapping[str, Json]) -> tuple[str, list[int], list[Json]]:
    """Type, shape and values, after checking that they fit together."""
    try:
        dtype, shape, values = str(answer["dtype"]), list(answer["shape"]), list(answer["values"])
    except (KeyError, TypeError):
        raise _unreadable("dtype, shape and values are missing") from None
    if not all(type(size) is int and size >= 0 for size in shape):
        raise _unreadable(f"{shape} is no shape")
    expected = _expected_length(dtype, shape)
    if len(values) != expected:
        raise _unreadable(f"it has {len(values)} values for the shape {shape}")
    keys = answer.get("keys")
    if dtype in ("dict", "dataframe") and (not isinstance(keys, Sequence) or len(keys) != len(values)):
        raise _unreadable(f"a {dtype} needs a key for each of its {len(values)} values")
    return dtype, shape, values


def _expected_length(dtype: str, shape: list[int]) -> int:
    if dtype == "none":
        return 0
    return shape[-1] if dtype == "dataframe" and shape else math.prod(shape)


def _places(where: str, answer: Mapping[str, Json]) -> list[str]:
    """The name of each value of a nested answer."""
    if "keys" in answer:
        return [f"{where}.{key}" for key in answer["keys"]]
    shape = list(answer["shape"])
    return [where + _index(number, shape) for number in range(math.prod(shape))]


def _index(number: int, shape: list[int]) -> str:
    """``[3, 1]``: where the flat, row-major position lies in an array of this shape; nothing for a scalar."""
    if not shape:
        return ""
    index = []
    for size in reversed(shape):
        number, rest = divmod(number, size)
        index.append(rest)
    return f"[{', '.join(str(i) for i in reversed(index))}]"


def _unreadable(reason: str) -> IntegrityError:
    return IntegrityError(
        f"a prediction is not readable: {reason}", "take the golden predictions anew with this version of Muster"
    )
