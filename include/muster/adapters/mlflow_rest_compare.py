"""What a server has after an import, read back through its API and held to what was captured."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

from muster.adapters.bulk import in_bulk
from muster.adapters.mlflow_rest_again import Again
from muster.adapters.mlflow_rest_api import MlflowApi
from muster.adapters.mlflow_rest_before import INDEX
from muster.adapters.mlflow_rest_differences import difference
from muster.adapters.mlflow_rest_fill import histories
from muster.adapters.mlflow_rest_forms import FORMS, Expected, measured
from muster.adapters.mlflow_rest_ids import SOURCE_RUN, IdMap
from muster.adapters.mlflow_rest_kept import Kept
from muster.adapters.mlflow_rest_points import as_kept
from muster.adapters.mlflow_rest_reading import digest, pairs
from muster.adapters.mlflow_rest_register import Registrar
from muster.adapters.mlflow_rest_source import RestCapture
from muster.adapters.mlflow_rest_stored import Stored
from muster.codec import canonical
from muster.domain.fidelity import Counted, EntityLine, FidelityReport, FilesLine
from muster.domain.holdings import ABOUT, KEPT
from muster.errors import IntegrityError
from muster.ports import SourceFile
from muster.scratch import scratch_folder

Json = Any
Print = Mapping[str, str]
"""A digest for each part of a document, so that a difference can be named; of other files one of all."""
DERIVED = frozenset({INDEX, ABOUT})
"""Files that say once more what the documents say, by ids that are others on each server."""
_NAMES = {
    "metrics": "runs with their metrics, all points",
    "logged_models": "logged models",
    "registered_models": "registered models and prompts, with all versions",
    "traces": "traces, with spans and assessments",
    "attachments": "attachments of traces",
    "trace_links": "runs to which traces were linked",
    "scorers": "scorers, with all versions",
    "evaluation_datasets": "evaluation datasets, with their records",
    "label_schemas": "label schemas",
    "review_queues": "review queues, with their items",
    "issues": "issues",
}
"""Of the folders of a stored tree, for people."""
AT_A_TIME = 256
NAMED = 5
"""Differences that a message names."""
_BLOCK = 1 << 20


class Compared:
    """
    :param again: what was made besides
    :param spare: id and name of the default experiment of the server, which stays if the captured server had none
    """

    def __init__(
        self, stored: Stored, ids: IdMap, registrar: Registrar, again: Again, spare: tuple[str, str] | None
    ) -> None:
        self._stored, self._again = stored, again
        self._ids = ids
        self._expected = Expected(ids, registrar)
        self._surplus = f"experiments/{spare[0]}.json" if spare and spare[0] not in ids.experiments.values() else None

    def reconciled(
        self, api: MlflowApi, version: str, details: Mapping[str, Json], lost: int
    ) -> tuple[dict[str, Json], FidelityReport]:
        """
        The facts of the server, all of which agree, and the report of it.

        :param lost: metrics of logged models that could not be brought; they are compared with nothing then
        :raises IntegrityError: if anything is missing, surplus or different; the message names what
        """
        wanted = {path: self._without(lost, path, said) for path, said in self._wanted() if said}
        found, differing = dict[str, Print](), dict[str, SourceFile]()
        with scratch_folder("registry") as scratch:
            capture = RestCapture(api, version, Kept(scratch), None, incomplete=True, back=True)
            for path, said, file in _prints(capture.files()):
                if said and path != self._surplus:
                    found[path] = self._without(lost, path, said)
                    if path in wanted and wanted[path] != found[path] and len(differing) < NAMED:
                        differing[path] = file
            told = self._told(wanted, found, differing)
        if different := _differences(wanted, found, told):
            raise _unlike(different)
        facts = {key: value for key, value in capture.details().items() if key != "missing"}
        expected = self._counted(details)
        expected["logged_model_metrics"] -= lost
        counted = {key: (count, facts["counts"][key]) for key, count in expected.items()}
        counted |= {key: (details[key], facts[key]) for key in ("artifacts", "models")}
        if unlike := [difference(was, now, f"the count of {key}") for key, (was, now) in counted.items() if was != now]:
            raise _unlike(unlike)
        return facts, _report(wanted, found, details, facts)

    def _wanted(self) -> Iterator[tuple[str, Print]]:
        for path in self._paths():
            if _is_document(path):
                yield self._ids.path(path), _print(self._expected.form(path, self._stored.document(path)))
            elif path.startswith("metrics/") and PurePosixPath(path).stem in self._ids.altered:
                lines = (canonical({"key": key, "points": points}) + b"\n" for key, points in self._form(path).items())
                yield self._ids.path(path), {"content": hashlib.sha256(b"".join(lines)).hexdigest()}
            elif content := self._stored.entries[path].content:
                yield self._ids.path(path), {"content": content.sha256}

    def _paths(self) -> list[str]:
        """Of the stored tree: of all that is compared."""
        paths = self._stored.entries
        return [path for path in paths if _is_compared(path) and path not in self._again.refused]

    def _told(
        self, wanted: Mapping[str, Print], found: Mapping[str, Print], differing: Mapping[str, SourceFile]
    ) -> dict[str, list[str]]:
        """What is different in some files, field by field with both values; of artifacts nothing but that they are."""
        old = {self._ids.path(path): path for path in self._paths()} if differing else {}
        told = {}
        for path, file in differing.items():
            if not _is_document(path) and not path.startswith("metrics/"):
                continue
            was, now = self._form(old[path]), _form_of(file)
            name = was.get("trace_id") or was.get("name") if _is_document(path) else None
            keys = was.keys() | now.keys()
            if _is_document(path):
                keys &= wanted[path].keys() | found[path].keys()
            unlike = [key for key in sorted(keys) if canonical(was.get(key)) != canonical(now.get(key))]
            of = f"{path} ({name})" if name else path
            told[path] = [f"{difference(was.get(key), now.get(key), key)} in {of}" for key in unlike]
        return told

    def _form(self, path: str) -> Json:
        """What a stored file must be like on the server."""
        if _is_document(path):
            return self._expected.form(path, self._stored.document(path))
        with self._stored.history(PurePosixPath(path).stem) as lines:
            return {key: as_kept(points) for key, points in histories(lines)}

    def _without(self, lost: int, path: str, said: Print) -> Print:
        """Metrics of logged models are compared with nothing if some could not be brought."""
        if not (lost and path.startswith("logged_models/")):
            return said
        return {key: value for key, value in said.items() if key != "metrics"}

    def _counted(self, details: Mapping[str, Json]) -> dict[str, int]:
        """What must be counted: what was, the tag of each run that says which it was, and the server's own experiment."""
        counts = dict(details["counts"])
        runs = self._stored.documents("runs")
        counts["run_tags"] += sum(SOURCE_RUN not in pairs(d["run"].get("data", {}).get("tags")) for d in runs)
        counts["run_tags"] += len(self._ids.names)
        counts["metric_points"] -= sum(self._ids.altered.values())
        counts["experiments"] += bool(self._surplus)
        refused = [self._stored.document(path) for path in self._again.refused]
        if refused:
            counts["scorers"] -= len(refused)
            counts["scorer_versions"] -= sum(len(document["versions"]) for document in refused)
        return counts


def _prints(files: Iterable[SourceFile]) -> Iterator[tuple[str, Print, SourceFile]]:
    remaining = iter(files)
    while batch := {file.path: file for file in islice(remaining, AT_A_TIME)}:
        found = in_bulk(lambda path, batch=batch: _print_of(batch[path]), batch)  # type: ignore[misc]
        yield from ((path, what, batch[path]) for path, what in zip(batch, found, strict=True) if _is_compared(path))


def _is_compared(path: str) -> bool:
    return path not in DERIVED and not path.startswith(f"{KEPT}/")


def _print_of(file: SourceFile) -> Print:
    assert file.open is not None  # noqa: S101 - a server has files only
    with file.open() as stream:
        if _is_document(file.path):
            return _print(measured(file.path, json.loads(stream.read())))
        sha256 = hashlib.sha256()
        while block := stream.read(_BLOCK):
            sha256.update(block)
        return {"content": sha256.hexdigest()}


def _is_document(path: str) -> bool:
    return path.partition("/")[0] in (*FORMS, "registered_models")


def _print(form: Mapping[str, Json]) -> Print:
    return {key: digest(value) for key, value in form.items()}


def _form_of(file: SourceFile) -> Json:
    """The form of what the server has: of a document, or of the metrics of a run."""
    assert file.open is not None  # noqa: S101 - a server has files only
    with file.open() as stream:
        if _is_document(file.path):
            return measured(file.path, json.loads(stream.read()))
        return {said["key"]: said["points"] for said in map(json.loads, stream)}


def _differences(wanted: Mapping[str, Print], found: Mapping[str, Print], told: Mapping[str, list[str]]) -> list[str]:
    different = [f"{path} is missing" for path in sorted(wanted.keys() - found.keys())]
    different += [f"{path} is there" for path in sorted(found.keys() - wanted.keys())]
    for path in sorted(wanted.keys() & found.keys()):
        parts = wanted[path].keys() | found[path].keys()
        unlike = [f"{key} of {path}" for key in sorted(parts) if wanted[path].get(key) != found[path].get(key)]
        different += told.get(path) or unlike
    return different


def _report(
    wanted: Mapping[str, Print], found: Mapping[str, Print], details: Mapping[str, Json], facts: Mapping[str, Json]
) -> FidelityReport:
    """Kind by kind, under the ids that things have now."""
    files, kinds = "artifacts", sorted({path.partition("/")[0] for path in wanted})
    sides = [
        FilesLine(said[files]["files"], said[files]["bytes"], _counted_of(files, prints).sha256)
        for said, prints in ((details, wanted), (facts, found))
    ]
    return FidelityReport(
        engines=("MLflow's API", "MLflow's API"),
        tables=(),
        entities=tuple(
            EntityLine(_NAMES.get(kind, kind), (), _counted_of(kind, wanted), _counted_of(kind, found))
            for kind in kinds
            if kind != files
        ),
        artifacts_captured=sides[0],
        artifacts_restored=sides[1],
        client=(),
        missing=tuple(details.get("missing", {}).get("named", ())),
    )


def _counted_of(kind: str, prints: Mapping[str, Print]) -> Counted:
    lines = [f"{path} {digest(prints[path])}\n" for path in sorted(prints) if path.startswith(f"{kind}/")]
    return Counted(len(lines), hashlib.sha256("".join(lines).encode()).hexdigest())


def _unlike(different: list[str]) -> IntegrityError:
    return IntegrityError(
        f"the server does not have what was captured: {', '.join(different[:NAMED])} ({len(different)} differences)",
        "see who else writes to it, and compare the versions of MLflow; then restore to an empty server again",
    )
