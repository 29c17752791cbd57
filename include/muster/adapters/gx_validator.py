"""Judges datasets with Great Expectations 1.x, from suites that are kept as JSON."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from muster.domain.evidence import ExpectationResult
from muster.errors import CatalogError
from muster.ports import Validation

Json = Any
Batch = Literal["whole", "each"]
Format = Literal["csv", "parquet"]

_SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".csv.gz": "csv",
    ".csv.zst": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_LONGEST_VALUE = 300
_MOST_RESULTS = 200
"""How many results are told one by one; the data docs have all of them."""
_ONE_AT_A_TIME = threading.Lock()
"""Great Expectations keeps its current context in a global; two validations in one process would take each other's."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """
    Which files a suite is about, and how they are read.

    :param files: glob below the dataset's folder
    :param format: None takes it from each file's suffix
    :param batch: ``whole`` joins all files to one table, ``each`` judges file by file
    :param read: arguments of ``pandas.read_csv`` or ``pandas.read_parquet``
    """

    files: str
    format: Format | None
    batch: Batch
    read: dict[str, Json]


@dataclass(slots=True)
class _Verdict:
    """What was found so far."""

    failures: list[str] = field(default_factory=list)
    results: list[ExpectationResult] = field(default_factory=list)
    rows: int = 0
    evaluated: int = 0
    successful: int = 0


class GxValidator:
    """
    Runs suites in an ephemeral context over pandas data frames, in this process. Nothing leaves the machine.

    A suite is what ``ExpectationSuite.to_json_dict()`` gives. Its ``meta.muster`` says what it is about:
    ``{"files": "*.csv", "format": "csv" | "parquet", "batch": "whole" | "each", "read": {…}}``. Without it, all CSV and Parquet
    files are joined. ``whole`` holds all files in memory at once; ``each`` one at a time.
    """

    def validate(self, suite: Mapping[str, Json], data: Path, docs: Path) -> Validation:
        """
        Judge the files under `data`; write HTML data docs into the empty folder `docs` (``index.html`` at its top).

        A file that cannot be read, and an expectation that raises, are failures. Failures give figures, not rows.

        :raises CatalogError: if the suite is wrong: no name, no or unknown expectations, arguments that do not fit, no file
        """
        started = time.monotonic()
        name = _name(suite)
        reading = _reading(suite, name)
        files = _files(data, reading, name)
        with _ONE_AT_A_TIME:
            site = _Site(name, _expectations(suite, name), suite.get("suite_parameters") or {}, docs)
            verdict = _Verdict()
            for label, frame in _batches(files, data, reading, verdict):
                verdict.rows += len(frame)
                site.judge(label, frame, verdict)
            site.finish()
        statistics = {
            "files": len(files),
            "rows": verdict.rows,
            "evaluated": verdict.evaluated,
            "successful": verdict.successful,
            "seconds": round(time.monotonic() - started, 3),
        }
        results = sorted(verdict.results, key=lambda result: result.met)[:_MOST_RESULTS]
        return Validation(not verdict.failures, name, tuple(verdict.failures), statistics, tuple(results))


class _Site:
    """One suite in a context of its own, with the data docs that it writes."""

    def __init__(self, name: str, expectations: list[Any], parameters: dict[str, Json], docs: Path) -> None:
        import great_expectations as gx

        docs.mkdir(parents=True, exist_ok=True)
        self._name = _file_name(name)
        self._parameters = parameters
        self._context = gx.get_context(mode="ephemeral", project_config=_project(docs))
        self._suite = self._context.suites.add(gx.ExpectationSuite(name=self._name, expectations=expectations))
        self._source = self._context.data_sources.add_pandas("dataset")
        self._docs = docs
        self._judged = 0

    def judge(self, label: str, frame: Any, verdict: _Verdict) -> None:
        """Run the suite over a table and add what it says to the verdict; `label` is the file, or empty for all of them."""
        before = verdict.evaluated
        try:
            results = self._run(label, frame)
        except Exception as error:  # noqa: BLE001 - whatever the library stumbles over, the data was not found good
            verdict.failures.append(_line(label, f"the suite could not be run: {_reason(error)}"))
            return
        for result in results:
            verdict.evaluated += 1
            verdict.successful += bool(result.success)
            expected, found = _expected(result), _found(result, "column" in result.expectation_config.kwargs)
            verdict.results.append(ExpectationResult(expected, bool(result.success), found, label))
            if not result.success:
                verdict.failures.append(_line(label, f"{expected}: {found}"))
        if verdict.evaluated - before != len(self._suite.expectations):
            verdict.failures.append(_line(label, f"only {verdict.evaluated - before} expectations gave a result"))

    def finish(self) -> None:
        """Write the front page also where no table could be judged."""
        if not (self._docs / "index.html").exists():
            self._context.build_data_docs()

    def _run(self, label: str, frame: Any) -> list[Any]:
        import great_expectations as gx

        self._judged += 1
        name = _file_name(f"{self._judged:05d}-{label or 'all files'}")
        batch = self._source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("table")
        definition = gx.ValidationDefinition(name=name, data=batch, suite=self._suite)
        checkpoint = gx.Checkpoint(
            name=name,
            validation_definitions=[self._context.validation_definitions.add(definition)],
            actions=[gx.checkpoint.UpdateDataDocsAction(name="data docs", site_names=["docs"])],
            result_format="SUMMARY",
        )
        self._context.checkpoints.add(checkpoint)
        answer = checkpoint.run(batch_parameters={"dataframe": frame}, expectation_parameters=self._parameters)
        return [result for run in answer.run_results.values() for result in run.results]


def _project(docs: Path) -> Any:
    """A context that keeps everything in memory but the data docs, and makes no temporary site of its own."""
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs.resolve())}
    site = {"class_name": "SiteBuilder", "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"}}
    return DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
        data_docs_sites={"docs": {**site, "store_backend": store}},
        progress_bars=ProgressBarsConfig(globally=False),
        analytics_enabled=False,
    )


def _name(suite: Mapping[str, Json]) -> str:
    name = suite.get("name")
    if not isinstance(name, str) or not name:
        raise CatalogError(
            "the expectation suite has no name", 'write it with ExpectationSuite.to_json_dict(): {"name": …}'
        )
    return name


def _expectations(suite: Mapping[str, Json], name: str) -> list[Any]:
    """
    The expectations, each made here and now: ExpectationSuite itself only logs those that it cannot make
    (great_expectations/core/expectation_suite.py, 1.24.1), and would go on without them.
    """
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    given = suite.get("expectations")
    if not isinstance(given, Sequence) or isinstance(given, str) or not given:
        raise CatalogError(
            f"the suite {name} expects nothing", "a suite that cannot fail proves nothing: add expectations"
        )
    made = []
    for number, expectation in enumerate(given, start=1):
        try:
            made.append(ExpectationConfiguration(**{**expectation, "id": None}).to_domain_obj())
        except Exception as error:
            kind = expectation.get("type") if isinstance(expectation, Mapping) else expectation
            raise CatalogError(
                f"expectation {number} of the suite {name}, {kind}, is wrong: {_reason(error)}",
                "mend its type or kwargs; the gallery of Great Expectations names all of them",
            ) from error
    return made


def _reading(suite: Mapping[str, Json], name: str) -> _Reading:
    given = (suite.get("meta") or {}).get("muster") or {}
    values = {"files": "**/*", "format": None, "batch": "whole", "read": {}, **given}
    allowed: dict[str, tuple[Json, ...]] = {"format": (None, *get_args(Format)), "batch": get_args(Batch)}
    problem = next(
        (f"{key} is {values[key]!r}; it may be {allowed[key]}" for key in allowed if values[key] not in allowed[key]),
        "",
    )
    if unknown := set(values) - {"files", "format", "batch", "read"}:
        problem = f"{', '.join(sorted(unknown))} is unknown"
    elif not isinstance(values["files"], str) or values["files"].startswith("/") or ".." in values["files"].split("/"):
        problem = f"files is {values['files']!r}; it must be a pattern below the dataset's folder"
    elif not isinstance(values["read"], dict):
        problem = "read must hold arguments of pandas.read_csv or pandas.read_parquet"
    if problem:
        raise CatalogError(f"meta.muster of the suite {name}: {problem}", "mend the suite")
    return _Reading(**values)


def _files(data: Path, reading: _Reading, name: str) -> list[Path]:
    """All files that the pattern means, sorted by path; hidden files and folders (``.dvc``, ``.git``) are no data."""
    files = []
    for path in sorted(data.glob(reading.files)):
        hidden = any(part.startswith(".") for part in path.relative_to(data).parts)
        known = reading.format is not None or reading.files != "**/*" or _format(path) is not None
        if path.is_file() and not hidden and known:
            files.append(path)
    if not files:
        raise CatalogError(
            f"no file of the dataset matches {reading.files!r} of the suite {name}",
            "mend meta.muster.files of the suite",
        )
    if odd := [path.name for path in files if reading.format is None and _format(path) is None]:
        raise CatalogError(
            f"the suite {name} does not say how {odd[0]} is read", 'add "format": "csv" or "parquet" to its meta.muster'
        )
    return files


def _format(path: Path) -> Format | None:
    return next((kind for suffix, kind in _SUFFIXES.items() if path.name.lower().endswith(suffix)), None)


def _batches(files: list[Path], data: Path, reading: _Reading, verdict: _Verdict) -> Iterator[tuple[str, Any]]:
    """Label and table of each batch. Files that cannot be read become failures, and no joined table is made without them."""
    import pandas as pd

    frames = []
    for path in files:
        label = path.relative_to(data).as_posix()
        try:
            frame = _read(path, reading)
        except CatalogError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever the parser stumbles over, the file is no good
            verdict.failures.append(_line(label, f"the file cannot be read: {_reason(error)}"))
            continue
        if reading.batch == "each":
            yield label, frame
        else:
            frames.append(frame)
    if reading.batch == "whole" and not verdict.failures:
        yield "", frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True)


def _read(path: Path, reading: _Reading) -> Any:
    import pandas as pd

    read = pd.read_parquet if (reading.format or _format(path)) == "parquet" else pd.read_csv
    try:
        return read(path, **reading.read)
    except TypeError as error:
        if "argument" in str(error):
            raise CatalogError(
                f"meta.muster.read of the suite does not fit pandas: {error}", "mend the suite"
            ) from error
        raise


def _expected(result: Any) -> str:
    """What was expected of which column."""
    kwargs = {
        key: value for key, value in result.expectation_config.kwargs.items() if key not in ("batch_id", "column")
    }
    column = result.expectation_config.kwargs.get("column")
    expected = " ".join([result.expectation_config.type, *(f"{key}={_short(value)}" for key, value in kwargs.items())])
    return f"{f'column {column}: ' if column else ''}{expected}"


def _found(result: Any, of_column: bool) -> str:
    if exception := _exception(result.exception_info or {}):
        return f"raised {exception}"
    details = result.result
    if "unexpected_count" in details:
        count, every, share = (details.get(key) for key in ("unexpected_count", "element_count", "unexpected_percent"))
        figures = f"{count} of {every} values" if every is not None else f"{count} values"
        return f"{figures} are unexpected" + (f" ({share:.4g} %)" if isinstance(share, int | float) else "")
    observed = details.get("observed_value")
    if of_column and isinstance(observed, list | dict | set):
        return f"found {len(observed)} {'' if result.success else 'other or missing '}values"
    return f"found {_short(observed)}"


def _exception(info: Mapping[str, Json]) -> str:
    """The text of what an expectation raised; the library gives it flat, or below the id of each metric."""
    for part in (info, *(value for value in info.values() if isinstance(value, Mapping))):
        if part.get("raised_exception"):
            return _short(str(part.get("exception_message") or "an exception without text").strip())
    return ""


def _line(label: str, text: str) -> str:
    return f"{label}: {text}" if label else text


def _reason(error: Exception) -> str:
    return _short(" ".join(str(error).split()) or type(error).__name__)


def _short(value: Json) -> str:
    plain = value.item() if hasattr(value, "item") and not getattr(value, "shape", ()) else value  # a number of numpy's
    text = plain if isinstance(plain, str) else repr(plain)
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "…"


def _file_name(name: str) -> str:
    """A name that data docs can have a page for."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name)[-120:]
