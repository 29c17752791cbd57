"""Values to JSON and back, checked on the way in: what a task hands to the next, what a manifest says."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import SchemaValidator

from muster.errors import IntegrityError

T = TypeVar("T")


_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}
_VALIDATORS: dict[Any, SchemaValidator] = {}
_NARROWER: dict[str, dict[str, Any]] = {
    "datetime": {
        "tz_constraint": "aware",
        "ge": datetime(1970, 1, 1, tzinfo=UTC),
        "lt": datetime(9999, 1, 1, tzinfo=UTC),
    },
    "int": {"strict": True},
}
"""
What is demanded of values besides what pydantic demands: times can be compared with each other and told in UTC, and a number is none
that a text or a fraction would have been made into, of any length.
"""


def _adapter(kind: Any) -> TypeAdapter[Any]:
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def _validator(kind: Any) -> SchemaValidator:
    if kind not in _VALIDATORS:
        schema = _adapter(kind).core_schema
        _narrow(schema)
        _VALIDATORS[kind] = SchemaValidator(schema)
    return _VALIDATORS[kind]


def _narrow(schema: Any) -> None:
    """Demand of all that a schema consists of what `_NARROWER` says."""
    if isinstance(schema, dict):
        schema.update(_NARROWER.get(str(schema.get("type")), {}))
    inside = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list | tuple) else ()
    for part in inside:
        _narrow(part)


def to_json(value: Any) -> Any:
    """A value of `muster.domain` or `muster.ports` as plain JSON data: times as ISO 8601 in UTC, tuples as lists."""
    return _adapter(type(value)).dump_python(value, mode="json")


def from_json(kind: type[T], data: Any) -> T:
    """
    Plain JSON data as a value of `kind`.

    :raises IntegrityError: if a field is missing, of another type, or unknown to the type
    """
    try:
        return _validator(kind).validate_python(data)  # type: ignore[no-any-return]
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise IntegrityError(
            f"{where} of a stored {kind.__name__} is not readable: {first['msg']}",
            "verify the vault; a newer format needs a newer Muster",
        ) from error


def canonical(data: Any) -> bytes:
    """JSON data as bytes that are the same for the same data: sorted keys, no white space, UTF-8."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
