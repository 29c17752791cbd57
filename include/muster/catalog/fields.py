"""The kinds of value that stand in a catalog, and what is refused of each."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer

from muster.catalog.durations import format_duration, parse_duration
from muster.catalog.schedule import largest_gap

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _name(value: str) -> str:
    if not NAME.fullmatch(value):
        raise ValueError(
            f"{value!r} is not a name; allowed are letters, digits, . _ - (first a letter or digit, at most 100)"
        )
    return value


def _variable(value: str) -> str:
    if not VARIABLE.fullmatch(value):
        raise ValueError(f"{value!r} is not the name of an environment variable: letters, digits and _")
    return value


def _reference(value: str) -> str:
    kind, colon, name = value.partition(":")
    if colon and kind == "conn":
        _name(name)
    elif colon and kind == "env":
        _variable(name)
    elif not value.strip() or "\0" in value:
        raise ValueError("is empty; write conn:NAME, env:NAME, a URL or a path")
    return value


def _secret(value: str) -> str:
    if not value.startswith(("conn:", "env:")):
        raise ValueError(
            "a secret never stands in the catalog; write conn:NAME or env:NAME, and rotate it if it was real"
        )
    return _reference(value)


def _relative(value: str) -> str:
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in value:
        raise ValueError(f"{value!r} must be a relative path below its folder, without '..'")
    return value


def _python(value: str) -> str:
    if not re.fullmatch(r"3\.\d{1,2}(\.\d{1,2})?", value):
        raise ValueError(f'{value!r} is not a Python version; write "3.11" or "3.11.9", in quotes')
    return value


def _cron(value: str) -> str:
    largest_gap(value)
    return value


def _model(value: str) -> str:
    if not re.fullmatch(r"models:/[^/@]+(@[^/@]+|/\d+)", value):
        raise ValueError(f"{value!r} is not a registered model; write models:/NAME@ALIAS or models:/NAME/VERSION")
    return value


def _import_path(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", value):
        raise ValueError(f"{value!r} is not the import path of a class; write package.module.Class")
    return value


def _number(value: object) -> object:
    """YAML 1.1 reads 1e-9, without a point, as text."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d{1,3}", value):
        return float(value)
    return value


Name = Annotated[str, AfterValidator(_name)]
Variable = Annotated[str, AfterValidator(_variable)]
Reference = Annotated[str, AfterValidator(_reference)]
"""``conn:NAME``, ``env:NAME``, or the URL or path itself, without a password in it."""
SecretReference = Annotated[str, AfterValidator(_secret)]
RelativePath = Annotated[str, AfterValidator(_relative)]
Python = Annotated[str, AfterValidator(_python)]
Cron = Annotated[str, AfterValidator(_cron)]
Model = Annotated[str, AfterValidator(_model)]
ImportPath = Annotated[str, AfterValidator(_import_path)]
Duration = Annotated[timedelta, BeforeValidator(parse_duration), PlainSerializer(format_duration, return_type=str)]
Count = Annotated[int, Field(strict=True, ge=0, le=100_000)]
Tolerance = Annotated[float, BeforeValidator(_number), Field(strict=True, ge=0, allow_inf_nan=False)]
Share = Annotated[float, BeforeValidator(_number), Field(strict=True, gt=0, le=1, allow_inf_nan=False)]
Jurisdiction = Annotated[str, Field(pattern=r"^[A-Z]{2}(-[A-Z0-9]{1,3})?$")]
