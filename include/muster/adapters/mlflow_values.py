"""What stands in a canonical row for the values of engines, and the way back; `muster.adapters.mlflow_rows` lists the forms."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from types import NoneType
from typing import Any

from muster.adapters.mlflow_engines import TAKEN, for_driver

_LEAST, _MOST = -(1 << 63), (1 << 63) - 1


def canonical(kind: str, values: Sequence[Any]) -> tuple[Sequence[Any], set[type]]:
    """
    The values of one column, and their types. Those that stand for themselves, as most do, are not looked at one by one.

    :param kind: as of `muster.adapters.mlflow_rows.Column`
    :raises TypeError, ValueError, ArithmeticError: if one is not of this kind
    """
    found = set(map(type, values))
    if found <= _PLAIN.get(kind, set()) and (kind != "float" or all(map(math.isfinite, values))):
        return values, found
    if kind == "boolean" and found == {int} and set(values) <= {0, 1}:  # as SQLite and MySQL give them
        return list(map(bool, values)), {bool}
    encode = _ENCODERS[kind]
    encoded = [None if value is None else encode(value) for value in values]
    return encoded, set(map(type, encoded))


def for_engine(decode: Callable[[Any], Any], values: Sequence[Any], types: set[type]) -> Sequence[Any]:
    """
    The values of one column; most are taken as they are.

    :param decode: a `decoder`
    :param types: of the values
    :raises TypeError, ValueError, KeyError, ArithmeticError: if one is not canonical
    """
    if types <= TAKEN or (types == {int} and min(values) >= _LEAST and max(values) <= _MOST):
        return values
    return [decode(value) for value in values]


def decoder(engine: str) -> Callable[[Any], Any]:
    """
    Makes of a canonical value what the driver of an engine takes.

    It raises TypeError, ValueError, KeyError or ArithmeticError if the value is not canonical.
    """
    for_here = for_driver(engine)

    def decode(value: Any) -> Any:
        if isinstance(value, dict):
            ((tag, text),) = value.items()
            value = _DECODERS[tag](text)
        if isinstance(value, list) or (isinstance(value, int) and not _LEAST <= value <= _MOST):
            raise ValueError("no column holds this")
        return for_here(value)

    return decode


def _exactly(*kinds: type) -> Callable[[Any], Any]:
    def encode(value: Any) -> Any:
        if type(value) not in kinds:
            raise TypeError
        return value

    return encode


def _boolean(value: Any) -> bool:
    if value is True or value is False:
        return bool(value)
    if type(value) is int and value in (0, 1):
        return value == 1
    raise TypeError


def _float(value: Any) -> Any:
    if type(value) not in (float, int):
        raise TypeError
    number = float(value)
    if not math.isfinite(number):
        return {"float": "nan" if math.isnan(number) else "inf" if number > 0 else "-inf"}
    return number


def _bytes(value: Any) -> Mapping[str, str]:
    if not isinstance(value, bytes | memoryview):
        raise TypeError
    return {"bytes": base64.b64encode(bytes(value)).decode()}


def _moment(tag: str, type_: Any) -> Callable[[Any], Mapping[str, str]]:
    def encode(value: Any) -> Mapping[str, str]:
        moment = type_.fromisoformat(value) if isinstance(value, str) else value
        if type(moment) is not type_:
            raise TypeError
        return {tag: moment.isoformat()}

    return encode


def _decimal(value: Any) -> Mapping[str, str]:
    if type(value) not in (Decimal, int, float, str):
        raise TypeError
    return {"decimal": str(Decimal(str(value)))}


_ENCODERS: dict[str, Callable[[Any], Any]] = {
    "text": _exactly(str),
    "json": _exactly(str),
    "integer": _exactly(int),
    "boolean": _boolean,
    "float": _float,
    "bytes": _bytes,
    "decimal": _decimal,
    "date": _moment("date", date),
    "datetime": _moment("datetime", datetime),
    "time": _moment("time", time),
}
_PLAIN: dict[str, set[type]] = {
    "text": {str, NoneType},
    "json": {str, NoneType},
    "integer": {int, NoneType},
    "boolean": {bool, NoneType},
    "float": {float},
}
"""Kinds of column whose values of these types are canonical as they are, floats if they are finite."""
_DECODERS: dict[str, Callable[[str], Any]] = {
    "float": float,
    "bytes": base64.b64decode,
    "decimal": Decimal,
    "date": date.fromisoformat,
    "datetime": datetime.fromisoformat,
    "time": time.fromisoformat,
}
