"""Read a catalog folder: all problems of all files are collected, and told at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from muster.catalog.contradictions import contradictions, contradictions_of_vaults, did_you_mean
from muster.catalog.model import AlertConfig, Catalog, Dataset, Entry, VaultConfig, Workload
from muster.catalog.source import Document, Location, Problem, read_document
from muster.errors import CatalogError

Model = TypeVar("Model", bound=Entry)
PASSWORD = re.compile(
    r"://[^\s:/?#@]*:(?!\d+[/?#])[^\s]+@|[?&;](password|passwd|pwd|secret|secret_key|token|access_key|api_?key)=.",
    re.IGNORECASE,
)
WRONG_TYPE = {
    "string_type": "must be text; put it in quotes",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "tuple_type": "must be a list",
    "mapping_type": "must be a mapping (key: value)",
    "dict_type": "must be a mapping (key: value)",
    "model_type": "must be a mapping (key: value)",
    "model_attributes_type": "must be a mapping (key: value)",
    "path_type": "must be a path, as text",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
}


class Vaults(Entry):
    """The whole of ``vaults.yaml``."""

    vaults: Mapping[str, VaultConfig]


class Alerts(Entry):
    """The whole of ``alerts.yaml``."""

    alerts: tuple[AlertConfig, ...]


def load_catalog(directory: Path) -> Catalog:
    """
    Read and check the catalog in a folder. No connection is opened and no secret is read.

    Relative paths of a workload are relative to the project: the folder above the ``include`` folder that holds the catalog, or,
    for a catalog elsewhere, the folder above the catalog; or to the ``root`` that its file gives.

    :param directory: holds ``vaults.yaml``, ``workloads/*.yaml`` and maybe ``alerts.yaml``; expectations lie beside it, in
        ``expectations/<workload>/``
    :raises CatalogError: with all problems found, each as ``file:line: field: what is wrong, what is allowed``
    """
    catalog, error = read_catalog(directory)
    if error is not None:
        raise error
    return catalog


def read_catalog(directory: Path) -> tuple[Catalog, CatalogError | None]:
    """
    What is right in a catalog, and what is wrong with the rest: one mistyped file shall not end the protection of all others.

    A catalog whose vaults cannot be read is returned empty. Who acts on one workload on a person's word uses `load_catalog`.
    """
    if not directory.is_dir():
        return Catalog({}, {}, directory), CatalogError(
            f"there is no catalog folder {directory}", "create it, or name another with --catalog DIR"
        )
    directory = directory.absolute()
    problems: list[Problem] = []
    vaults = _vaults(directory, problems)
    alerts = _alerts(directory, problems)
    seen: dict[str, Workload] = {}
    workloads: dict[str, Workload] = {}
    for document, workload in _workloads(directory, problems):
        _check(document, workload, seen.setdefault(workload.workload, workload), vaults)
        problems += document.problems
        if vaults is not None and not document.problems:
            workloads[workload.workload] = workload
    error = _error(directory, problems) if problems or vaults is None else None
    return Catalog(dict(sorted(workloads.items())), vaults or {}, directory, alerts), error


def _check(document: Document, workload: Workload, first: Workload, vaults: Mapping[str, VaultConfig] | None) -> None:
    """Note in the document what contradicts the rest of the catalog."""
    if first is not workload:
        document.report(
            ("workload",), f"{workload.workload} is in {first.source} already; give each workload its own name"
        )
    if vaults is not None:
        for location, message in contradictions(workload, vaults):
            document.report(location, message)


def project_of(directory: Path) -> Path:
    """The project that a catalog folder belongs to: the folder above ``include``, or else above the catalog."""
    above = directory.absolute().parent
    return above.parent if above.name == "include" else above


def _vaults(directory: Path, problems: list[Problem]) -> Mapping[str, VaultConfig] | None:
    document = read_document(directory / "vaults.yaml")
    found = _validated(Vaults, document)
    for location, message in contradictions_of_vaults(found.vaults) if found else ():
        document.report(location, message)
    problems += document.problems
    return found.vaults if found else None


def _alerts(directory: Path, problems: list[Problem]) -> tuple[AlertConfig, ...]:
    """Of a file of their own: a mistake in it keeps nothing from being protected."""
    file = directory / "alerts.yaml"
    if not file.exists():
        return ()
    document = read_document(file)
    found = _validated(Alerts, document)
    problems += document.problems
    return found.alerts if found else ()


def _workloads(directory: Path, problems: list[Problem]) -> Iterator[tuple[Document, Workload]]:
    """All workloads whose fields are right; problems of the others go into `problems`, those of these stay with the document."""
    folder = directory / "workloads"
    for file in sorted(folder.iterdir() if folder.is_dir() else ()):
        if file.name.startswith(".") or file.suffix not in (".yaml", ".yml"):
            continue
        document = read_document(file)
        if file.suffix == ".yml":
            document.report((), f"would not be read; rename it to {file.stem}.yaml")
        workload = _validated(Workload, document)
        if workload is None:
            problems += document.problems
        else:
            yield document, _located(workload, document, directory)


def _validated(kind: type[Model], document: Document) -> Model | None:
    """The document as a value, or None if that is impossible; problems are noted in the document."""
    if document.data is None:
        return None
    for location in _passwords(document.data, ()):
        document.report(
            location, "holds a password; write conn:NAME or env:NAME instead, and rotate the password if it was real"
        )
    if document.problems:
        return None
    try:
        return kind.model_validate(document.data)
    except ValidationError as error:
        for found in error.errors(include_url=False):
            location = tuple(part for part in found["loc"] if part != "[key]")
            document.report(location, _explain(kind, location, dict(found)))
        return None


def _located(workload: Workload, document: Document, directory: Path) -> Workload:
    """The workload with its paths made absolute."""
    suites = directory.parent / "expectations" / workload.workload
    datasets = tuple(_with_suite(d, index, suites, document) for index, d in enumerate(workload.datasets))
    located = workload.model_copy(
        update={"root": (project_of(directory) / workload.root).resolve(), "datasets": datasets}
    )
    located._source = document.file  # no field, so that no file can set it
    return located


def _with_suite(dataset: Dataset, index: int, folder: Path, document: Document) -> Dataset:
    if dataset.expectations is None:
        return dataset
    at: Location = ("datasets", index, "expectations")
    path = Path(dataset.expectations)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        document.report(at, f"{dataset.expectations!r} must be a file below {folder}, without '..'")
    elif not (folder / path).is_file():
        there = sorted(p.name for p in folder.glob("*.json"))
        document.report(at, f"there is no file {folder / path}; {did_you_mean(path.name, there)}")
    return dataset.model_copy(update={"expectations": str(folder / path)})


def _passwords(data: Any, at: Location) -> Iterator[Location]:
    if isinstance(data, str) and PASSWORD.search(data):
        yield at
    elif isinstance(data, dict):
        for key, value in data.items():
            yield from _passwords(value, (*at, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from _passwords(value, (*at, index))


def _explain(kind: type[BaseModel], location: Location, error: dict[str, Any]) -> str:
    """What is wrong and what is allowed, in our words; the value itself is shown only where a check of ours shows it."""
    what, context = error["type"], error.get("ctx", {})
    if what == "extra_forbidden":
        return f"is not known here; {did_you_mean(str(location[-1]), _keys(kind, location[:-1]))}"
    if what == "missing":
        return "is missing; it must be given"
    if what == "value_error":
        return str(context["error"])
    if what == "literal_error":
        return f"{error['input']!r} is not allowed; it must be one of {context['expected']}"
    if what == "string_pattern_mismatch":
        return "must be a code in capitals, such as EU, DE or US-CA"
    if what in ("greater_than_equal", "less_than_equal"):
        return f"must be at {'least' if 'ge' in context else 'most'} {context.get('ge', context.get('le'))}"
    return WRONG_TYPE.get(what, str(error["msg"]))


def _keys(kind: type[BaseModel], location: Location) -> list[str]:
    """The keys that are allowed at a place below a model."""
    current: Any = kind
    for part in location:
        current = _below(_bare(current), part)
    return list(_bare(current).model_fields)


def _below(annotation: Any, part: str | int) -> Any:
    """What stands under a key of a model, or in a list or mapping."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation.model_fields[str(part)].annotation
    return get_args(annotation)[0 if get_origin(annotation) is tuple else -1]


def _bare(annotation: Any) -> Any:
    """``Registry | None`` without the None."""
    if isinstance(annotation, UnionType):
        return next(kind for kind in get_args(annotation) if kind is not NoneType)
    return annotation


def _error(directory: Path, problems: list[Problem]) -> CatalogError:
    lines = [str(problem) for problem in sorted(problems, key=lambda p: (p.file, p.line))]
    count = f"{len(lines)} problem{'s' if len(lines) != 1 else ''}"
    return CatalogError(
        f"the catalog {directory} has {count}:\n" + "\n".join(lines),
        "mend the lines named and run: muster catalog check",
    )
