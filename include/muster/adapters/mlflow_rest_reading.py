"""
What MLflow's API says of a registry, read to the last page and brought into one form.

Lists are asked for in the order in which their items were made, deleted ones among them: what is added meanwhile comes at their end
and shifts nothing. An item that comes twice all the same means that the list moved under us.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from muster.adapters.mlflow_rest_api import MlflowApi
from muster.codec import canonical
from muster.errors import NotFound, SourceChanged, SourceInvalid, StoreUnavailable

Json = Any
PROMPTS = "tags.`mlflow.prompt.is_prompt` = 'true'"
"""The filter without which a server keeps prompts to itself, and with which it gives nothing else."""
RUN_PAGE, MODEL_PAGE, TRACE_PAGE, POINT_PAGE = 1000, 100, 500, 10_000
ENDED = frozenset({"FINISHED", "FAILED", "KILLED"})
SPANS_PLACE = "mlflow.trace.spansLocation"
"""The tag of a trace whose spans the server itself keeps."""
ABANDONED = "muster.abandoned"
"""The tag of deleted experiments and runs that an import has left which failed: an API cannot remove them. They are nothing."""


@dataclass(frozen=True, slots=True)
class Holder:
    """
    What has artifacts: a run or a logged model.

    :param kind: ``runs`` or ``logged_models``
    :param root: where its artifacts lie, as the server says
    :param state: digest of all that must be the same if its content is to be the same; tags are not among it
    :param ended: when it ended, in seconds since the epoch; None while it may still be written to
    """

    kind: str
    id: str
    root: str
    state: str
    ended: float | None

    def __str__(self) -> str:
        return f"{'run' if self.kind == 'runs' else 'logged model'} {self.id}"


def plain(value: Json) -> Json:
    """Data of an answer in one form: lists of keyed items in the order of their keys, numbers that JSON lacks as text."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        items = [plain(item) for item in value]
        keyed = all(isinstance(item, dict) and "key" in item for item in items)
        return sorted(items, key=canonical) if keyed else items
    return number(value) if isinstance(value, float) else value


def number(value: Json) -> Json:
    """A metric's value as a finite float, or as ``NaN``, ``Infinity``, ``-Infinity``: the words of protobuf's JSON."""
    if isinstance(value, str):
        return value
    found = float(value)
    if math.isfinite(found):
        return found
    return "NaN" if math.isnan(found) else "Infinity" if found > 0 else "-Infinity"


def pairs(items: Iterable[Mapping[str, Json]] | None) -> dict[str, str]:
    """A list of ``{"key": …, "value": …}`` as a dictionary; an empty value may be left out by the server."""
    return {str(item["key"]): str(item.get("value", "")) for item in items or ()}


def abandoned(info: Mapping[str, Json], tags: Iterable[Mapping[str, Json]] | None) -> bool:
    """Whether an experiment or run is what a failed import left."""
    return info.get("lifecycle_stage") == "deleted" and ABANDONED in pairs(tags)


def unique(items: Iterable[Json], identity: Callable[[Json], str], what: str) -> dict[str, Json]:
    """
    Items by their identity.

    :raises SourceChanged: if one comes twice: the list moved between two pages
    :raises SourceInvalid: if one has no identity
    """
    found: dict[str, Json] = {}
    for item in items:
        try:
            name = identity(item)
        except (KeyError, TypeError):
            raise SourceInvalid(f"the server lists {what} without ids", "see that it is an MLflow server") from None
        if name in found:
            raise SourceChanged(
                f"the server lists {name} twice among its {what}", "take the snapshot again when writers rest"
            )
        found[name] = plain(item)
    return found


class Reading:
    """Reads one server. What its version does not have is noted in `absent`, and is no error."""

    def __init__(self, api: MlflowApi) -> None:
        self.api = api
        self.absent: set[str] = set()

    def version(self) -> str:
        """MLflow's version, or ``unknown`` for a server that does not tell."""
        try:
            return self.api.content("/version").decode(errors="replace").strip()[:40]
        except NotFound:
            return "unknown"

    def experiments(self) -> dict[str, Json]:
        """All experiments, deleted ones as well, by id."""
        asked = {"view_type": "ALL", "max_results": RUN_PAGE, "order_by": ["creation_time ASC"]}
        listed = self.api.pages("2.0/mlflow/experiments/search", "experiments", asked)
        found = unique(listed, lambda e: str(e["experiment_id"]), "experiments")
        return {id_: e for id_, e in found.items() if not abandoned(e, e.get("tags"))}

    def runs(self, experiment: str) -> dict[str, Json]:
        """All runs of an experiment, deleted ones as well, by id; without the logged models that they took as inputs."""
        asked = {
            "experiment_ids": [experiment],
            "run_view_type": "ALL",
            "max_results": RUN_PAGE,
            "order_by": ["attributes.start_time ASC"],
        }
        return unique(
            self.api.pages("2.0/mlflow/runs/search", "runs", asked), lambda r: str(r["info"]["run_id"]), "runs"
        )

    def model_inputs(self, run: str) -> list[Json]:
        """The logged models that a run took as inputs: lists of runs leave them out."""
        found = self.api.get("2.0/mlflow/runs/get", run_id=run)["run"]
        return list(plain(found.get("inputs", {}).get("model_inputs") or []))

    def logged_models(self, experiment: str) -> dict[str, Json]:
        """All logged models of an experiment, by id. The API has no deleted ones."""
        asked = {
            "experiment_ids": [experiment],
            "max_results": MODEL_PAGE,
            "order_by": [{"field_name": "creation_timestamp", "ascending": True}],
        }
        listed = self._if_known("2.0/mlflow/logged-models/search", "models", asked, "logged models")
        return unique(listed, lambda m: str(m["info"]["model_id"]), "logged models")

    def traces(self, experiment: str) -> dict[str, Json]:
        """What the API says of the traces of an experiment, by id; their spans come one by one."""
        place = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment}}
        asked = {"locations": [place], "max_results": TRACE_PAGE, "order_by": ["timestamp ASC"]}
        listed = self._if_known("3.0/mlflow/traces/search", "traces", asked, "traces")
        return unique(listed, lambda t: str(t["trace_id"]), "traces")

    def trace(self, trace: str, listed: Mapping[str, Json]) -> Json:
        """
        A whole trace: ``trace_info`` and ``spans``; or, of one whose spans a client of an earlier version has put among the artifacts,
        ``data``, which is that file.

        :param listed: what `traces` says of it
        :raises NotFound: if it has no spans at either place
        """
        path, asked = "3.0/mlflow/traces/get", {"trace_id": trace, "allow_partial": "true"}
        if SPANS_PLACE in (listed.get("tags") or {}):
            return plain(self.api.get(path, **asked)["trace"])
        with suppress(
            NotFound, StoreUnavailable
        ):  # nobody says that the server has the spans, and it fails if it has not
            return plain(self.api.ask("GET", f"/api/{path}", query=asked, once=True)["trace"])
        info = self.api.get(f"3.0/mlflow/traces/{quote(trace)}")["trace"]["trace_info"]
        data = self.api.content("/ajax-api/2.0/mlflow/get-trace-artifact", request_id=trace)
        return {"trace_info": plain(info), "data": data.decode()}

    def _if_known(self, path: str, key: str, asked: Mapping[str, Json], what: str) -> Iterator[Json]:
        try:
            yield from self.api.pages(path, key, asked)
        except NotFound:
            self.absent.add(what)

    def history(self, run: str, key: str) -> list[list[Json]]:
        """Every point of a metric, as ``[timestamp in ms, step, value]``, sorted."""
        asked = {"run_id": run, "metric_key": key, "max_results": POINT_PAGE}
        listed = self.api.pages("2.0/mlflow/metrics/get-history", "metrics", asked, method="GET")
        points = [[int(p.get("timestamp", 0)), int(p.get("step", 0)), number(p.get("value", 0.0))] for p in listed]
        return sorted(points, key=canonical)

    def models(self) -> dict[str, Json]:
        """
        Registered models and prompts by name, each as ``{"model": …, "versions": […]}`` with its versions in their order.

        :raises SourceChanged: if an alias or a latest version leads to no version: the lists do not belong together
        """
        models = self._with_prompts(
            "registered-models/search", "registered_models", ["name ASC"], lambda m: str(m["name"])
        )
        versions = self._with_prompts(
            "model-versions/search",
            "model_versions",
            ["name ASC", "version_number ASC"],
            lambda v: f"{v['name']}/{int(v['version'])}",
        )
        found = {name: {"model": models[name], "versions": list[Json]()} for name in sorted(models)}
        for version in sorted(versions.values(), key=lambda v: int(v["version"])):
            if version["name"] in found:
                found[version["name"]]["versions"].append(version)
        for name, parts in found.items():
            _require_whole(name, parts, versions)
        return found

    def _with_prompts(self, path: str, key: str, order: list[str], identity: Callable[[Json], str]) -> dict[str, Json]:
        asked = {"max_results": RUN_PAGE, "order_by": order}
        listed = unique(self.api.pages(f"2.0/mlflow/{path}", key, asked, method="GET"), identity, path)
        prompts = self.api.pages(f"2.0/mlflow/{path}", key, {**asked, "filter": PROMPTS}, method="GET")
        return {**listed, **unique(prompts, identity, path)}


def _require_whole(name: str, parts: Mapping[str, Json], versions: Mapping[str, Json]) -> None:
    model = parts["model"]
    wanted = [a["version"] for a in model.get("aliases") or ()]
    wanted += [v["version"] for v in model.pop("latest_versions", None) or ()]
    for version in wanted:
        if f"{name}/{int(version)}" not in versions:
            raise SourceChanged(
                f"the server names version {version} of {name}, and does not list it",
                "take the snapshot again when writers rest; a server that hides versions from this user needs another one",
            )


def run_holder(run: Mapping[str, Json]) -> Holder:
    """A run as far as its artifacts and metrics go."""
    info = run["info"]
    ended = info.get("end_time") if info.get("status") in ENDED else None
    state = {k: v for k, v in info.items() if k not in ("lifecycle_stage", "run_name")}
    metrics = run.get("data", {}).get("metrics") or []
    return Holder(
        "runs", str(info["run_id"]), str(info.get("artifact_uri", "")), digest([state, metrics]), _seconds(ended)
    )


def model_holder(model: Mapping[str, Json]) -> Holder:
    """A logged model as far as its artifacts go."""
    info = model["info"]
    ready = info.get("status") in ("LOGGED_MODEL_READY", "LOGGED_MODEL_UPLOAD_FAILED")
    ended = info.get("last_updated_timestamp_ms") if ready else None
    state = {k: v for k, v in info.items() if k not in ("tags", "registrations")}
    return Holder(
        "logged_models", str(info["model_id"]), str(info.get("artifact_uri", "")), digest(state), _seconds(ended)
    )


def digest(data: Json) -> str:
    """Hex SHA-256 of JSON data in its canonical form."""
    return hashlib.sha256(canonical(data)).hexdigest()


def _seconds(milliseconds: Json) -> float | None:
    return None if milliseconds is None else float(milliseconds) / 1000
