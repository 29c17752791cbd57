"""Experiments, runs, logged models and traces of a stored registry, made anew on a server by its API."""

from __future__ import annotations

import base64
import json
import posixpath
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from muster.adapters.mlflow_rest_api import MlflowApi, proxied_path
from muster.adapters.mlflow_rest_artifacts import upload_root
from muster.adapters.mlflow_rest_assessments import assessments_of, in_chains, revived
from muster.adapters.mlflow_rest_attachments import ATTACHMENTS
from muster.adapters.mlflow_rest_ids import RUN_NAME, SOURCE_RUN, IdMap
from muster.adapters.mlflow_rest_made import Made
from muster.adapters.mlflow_rest_points import as_kept, latest_of, point
from muster.adapters.mlflow_rest_reading import SPANS_PLACE, Holder, pairs
from muster.errors import IntegrityError, NotFound

Json = Any
DEFAULT = "0"
"""Id of the experiment that a server makes for itself when it starts."""
DEFAULT_NAME = "Default"
"""Its name, by which it is known in a workspace, where it has another id."""
BATCH = 500
"""Points, parameters or tags of one request are at most so many; servers take up to 1,000 points, and 100 of the others."""
SMALL_BATCH = 100
TRACE_OF_SERVER = ("mlflow.artifactLocation", SPANS_PLACE)
"""Tags of a trace that say where the server keeps it."""
TRACE_DATA = "traces.json"


class Filler:
    """
    Makes things on a server, and notes in `made` and `ids` what it has made.

    :param default: old id of the experiment that takes the place of the server's own; None if none does
    :param deleted: afterwards: old ids of runs that are deleted
    :param revived: afterwards: assessments that were invalid, and are valid now
    """

    def __init__(self, api: MlflowApi, made: Made, ids: IdMap, default: str | None) -> None:
        self._api = api
        self._made = made
        self._ids = ids
        self._default = default
        self._gone: set[str] = set()
        self.deleted: list[str] = []
        self.revived: list[Json] = []

    # --- experiments --------------------------------------------------------------------------------------------------

    def experiment(self, document: Mapping[str, Json]) -> None:
        """An experiment; the default one takes the place of the server's own."""
        old, name, tags = str(document["experiment_id"]), document["name"], list(document.get("tags") or ())
        if self._made.spare and old == self._default:
            new = self._made.spare[0]
            if name != self._made.spare[1]:
                self._api.post("2.0/mlflow/experiments/update", {"experiment_id": new, "new_name": name})
            for tag in tags:
                self._api.post("2.0/mlflow/experiments/set-experiment-tag", {"experiment_id": new, **tag})
        else:
            asked = {"name": name, "tags": tags}
            new = str(self._api.post("2.0/mlflow/experiments/create", asked, once=True)["experiment_id"])
            self._made.experiments.append(new)
        self._ids.experiments[old] = new
        if document.get("lifecycle_stage") == "deleted":
            self._gone.add(old)

    def delete_experiment(self, old: str) -> None:
        """An experiment as deleted as it was; the server deletes its runs with it."""
        self._api.post("2.0/mlflow/experiments/delete", {"experiment_id": self._ids.experiments[old]}, once=True)

    # --- runs ---------------------------------------------------------------------------------------------------------

    def run(self, document: Mapping[str, Json]) -> None:
        """A run with its tags and parameters; its datasets, metrics, links, artifacts and end come later."""
        run = document["run"]
        info, data, old = run["info"], run.get("data", {}), str(run["info"]["run_id"])
        tags = [tag for tag in data.get("tags") or () if tag["key"] != SOURCE_RUN]
        asked = {
            "experiment_id": self._ids.experiments[str(info["experiment_id"])],
            "user_id": info.get("user_id", ""),
            "run_name": info.get("run_name", ""),
            "start_time": info.get("start_time", 0),
            "tags": [*tags, {"key": SOURCE_RUN, "value": old}],
        }
        made = self._api.post("2.0/mlflow/runs/create", asked, once=True)["run"]["info"]
        new = str(made["run_id"])
        self._made.runs.append(new)
        self._ids.runs[old] = new
        if info.get("lifecycle_stage") == "deleted" or str(info["experiment_id"]) in self._gone:
            self._ids.gone.add(old)
        if not info.get("run_name"):
            self._ids.names[old] = str(made.get("run_name", ""))
        elif RUN_NAME not in pairs(tags):  # a server makes this tag of the name
            with suppress(NotFound):
                self._api.post("2.0/mlflow/runs/delete-tag", {"run_id": new, "key": RUN_NAME})
        self._ids.holders["runs", old] = Holder("runs", new, str(made.get("artifact_uri", "")), "", None)
        for params in batches(data.get("params") or (), SMALL_BATCH):
            self._api.post("2.0/mlflow/runs/log-batch", {"run_id": new, "params": params})

    def datasets(self, document: Mapping[str, Json]) -> None:
        """The datasets that a run took; two runs that name the same one must not be told at the same time."""
        run = document["run"]
        if datasets := run.get("inputs", {}).get("dataset_inputs"):
            asked = {"run_id": self._ids.runs[run["info"]["run_id"]], "datasets": datasets}
            self._api.post("2.0/mlflow/runs/log-inputs", asked)

    def metrics(self, document: Mapping[str, Json], lines: Path) -> None:
        """All points of a run's metrics; of those that a server holds for equal the latest one comes first."""
        run = document["run"]
        old, latest = run["info"]["run_id"], {m["key"]: point(m) for m in run.get("data", {}).get("metrics") or ()}
        for key, points in histories(lines):
            ordered = as_kept(points, latest.get(key))
            if as_kept(points) != points:
                self._ids.altered[old] = self._ids.altered.get(old, 0) + len(points) - len(ordered)
            if ordered and latest_of(ordered) != latest.get(key):
                self._ids.latest[old, key] = latest_of(ordered)
            for batch in batches(ordered, BATCH):
                metrics = [{"key": key, "timestamp": t, "step": s, "value": v} for t, s, v in batch]
                self._api.post("2.0/mlflow/runs/log-batch", {"run_id": self._ids.runs[old], "metrics": metrics})

    def links(self, document: Mapping[str, Json]) -> None:
        """Which logged models a run took, and which it made."""
        new, models = self._ids.runs[document["run"]["info"]["run_id"]], self._ids.logged_models
        inputs = [{"model_id": models.get(m["model_id"], m["model_id"])} for m in document["model_inputs"]]
        if inputs:
            self._api.post("2.0/mlflow/runs/log-inputs", {"run_id": new, "models": inputs})
        outputs = [
            {"model_id": models.get(m["model_id"], m["model_id"]), "step": m.get("step", 0)}
            for m in document["run"].get("outputs", {}).get("model_outputs") or ()
        ]
        if outputs:
            self._api.post("2.0/mlflow/runs/outputs", {"run_id": new, "models": outputs}, once=True)

    def end_run(self, document: Mapping[str, Json]) -> None:
        """A run's status and end, as they were."""
        info = document["run"]["info"]
        asked = {"run_id": self._ids.runs[info["run_id"]], "status": info.get("status", "RUNNING")}
        if info.get("end_time") is not None:
            asked["end_time"] = info["end_time"]
        self._api.post("2.0/mlflow/runs/update", asked)

    def settle_run(self, document: Mapping[str, Json], *, gone: bool) -> None:
        """
        A run as deleted as it was.

        :param gone: whether it is deleted now, together with its experiment
        """
        info = document["run"]["info"]
        deleted = info.get("lifecycle_stage") == "deleted"
        self.deleted.extend([info["run_id"]] if deleted else [])
        if deleted != gone:
            what = "delete" if deleted else "restore"
            self._api.post(f"2.0/mlflow/runs/{what}", {"run_id": self._ids.runs[info["run_id"]]})

    # --- logged models ------------------------------------------------------------------------------------------------

    def logged_model(self, document: Mapping[str, Json]) -> None:
        """A logged model with its tags and parameters; the run that made it is there."""
        info, old = document["info"], str(document["info"]["model_id"])
        params = list(document.get("data", {}).get("params") or ())
        asked = {
            "experiment_id": self._ids.experiments[str(info["experiment_id"])],
            "name": info.get("name", ""),
            "model_type": info.get("model_type", ""),
            "params": params[:SMALL_BATCH],
            "tags": list(info.get("tags") or ()),
        }
        if run := info.get("source_run_id"):
            asked["source_run_id"] = self._ids.runs.get(run, run)
        made = self._api.post("2.0/mlflow/logged-models", asked, once=True)["model"]["info"]
        new = str(made["model_id"])
        self._made.logged_models.append(new)
        self._ids.logged_models[old] = new
        self._ids.holders["logged_models", old] = Holder("logged_models", new, str(made["artifact_uri"]), "", None)
        for batch in batches(params[SMALL_BATCH:], SMALL_BATCH):
            self._api.post(f"2.0/mlflow/logged-models/{new}/params", {"model_id": new, "params": batch}, once=True)

    def model_metrics(self, document: Mapping[str, Json], points_of: Callable[[str, str], list[Json]]) -> int:
        """
        The metrics of a logged model, by way of the runs that logged them; return how many no run has any more.

        A server keeps NaN of a logged model as zero. Sent as zero it would add a point to the run, which has NaN there.

        :param points_of: the points of a metric, by old run id and key; none for a run that is not there
        """
        lost, new = 0, self._ids.logged_models[str(document["info"]["model_id"])]
        for metric in document.get("data", {}).get("metrics") or ():
            run, at = str(metric.get("run_id", "")), [metric.get("timestamp", 0), metric.get("step", 0)]
            points = points_of(run, metric["key"])
            value = next((v for v in (metric.get("value", 0.0), "NaN") if [*at, v] in points), None)
            if value is None:
                lost += 1
                continue
            about = {k: metric[k] for k in ("dataset_name", "dataset_digest") if k in metric}
            sent = {"key": metric["key"], "timestamp": at[0], "step": at[1], "value": value, "model_id": new, **about}
            self._api.post("2.0/mlflow/runs/log-batch", {"run_id": self._ids.runs[run], "metrics": [sent]})
        return lost

    def end_model(self, document: Mapping[str, Json]) -> None:
        """A logged model's status as it was; a new one is pending."""
        info = document["info"]
        new, status = self._ids.logged_models[info["model_id"]], info.get("status")
        if status not in (None, "LOGGED_MODEL_PENDING"):
            self._api.ask("PATCH", f"/api/2.0/mlflow/logged-models/{new}", body={"model_id": new, "status": status})

    def retag(self, document: Mapping[str, Json]) -> None:
        """A logged model's tags as they were: registering versions of it, fillers among them, has changed one."""
        info = document["info"]
        new = self._ids.logged_models[info["model_id"]]
        path = f"/api/2.0/mlflow/logged-models/{new}"
        wanted = {tag["key"] for tag in info.get("tags") or ()}
        for tag in self._api.ask("GET", path)["model"]["info"].get("tags") or ():
            if tag["key"] not in wanted:
                self._api.ask("DELETE", f"{path}/tags/{quote(tag['key'], safe='')}", once=True)
        if wanted:
            self._api.ask("PATCH", f"{path}/tags", body={"model_id": new, "tags": info["tags"]})

    # --- traces -------------------------------------------------------------------------------------------------------

    def trace(self, document: Mapping[str, Json]) -> None:
        """A trace with its spans and assessments, under its own id: that is the only one that the API lets one choose."""
        info = document["trace_info"]
        experiment = self._ids.experiments[experiment_of(info)]
        location = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment}}
        self._made.traces[str(info["trace_id"])] = experiment
        if spans := document.get("spans"):
            scoped = {"resourceSpans": [{"scopeSpans": [{"spans": [_otlp(span) for span in spans]}]}]}
            self._api.ask("POST", "/v1/traces", body=scoped, headers={"X-MLflow-Experiment-Id": experiment})
        tags = {key: value for key, value in (info.get("tags") or {}).items() if key not in TRACE_OF_SERVER}
        made = {**info, "trace_location": location, "tags": tags, "trace_metadata": metadata_of(info, self._ids)}
        said = assessments_of(info, self._ids)
        later = in_chains(said)
        made["assessments"] = [one for one in said if one not in later]
        self._api.post("3.0/mlflow/traces", {"trace": {"trace_info": made}})
        self._overriding(str(info["trace_id"]), later)
        self.revived.extend(revived(said))
        if (data := document.get("data")) is not None:
            self._trace_data(str(info["trace_id"]), data)

    def _overriding(self, trace: str, said: Sequence[Json]) -> None:
        """Assessments that override one another; the server marks those that are overridden."""
        new: dict[str, str] = {}
        for one in said:
            asked = one | {key: new.get(one[key], one[key]) for key in ("overrides",) if one.get(key)}
            path = f"3.0/mlflow/traces/{quote(trace)}/assessments"
            made = self._api.post(path, {"assessment": asked}, once=True)["assessment"]
            new[str(one["assessment_id"])] = str(made["assessment_id"])

    def _trace_data(self, trace: str, data: str) -> None:
        """Spans that lay among the artifacts, where clients look for them if the server has none."""
        place = self._place_of_trace(trace)
        with tempfile.NamedTemporaryFile(prefix="muster-trace-") as file:
            file.write(data.encode())
            file.flush()
            self._api.upload(proxied_path(posixpath.join(place, TRACE_DATA)), Path(file.name))

    def attachments(self, trace: str, files: Mapping[str, Path]) -> None:
        """What the spans of a trace name, by ids."""
        place = self._place_of_trace(trace)
        for attachment, file in files.items():
            self._api.upload(proxied_path(posixpath.join(place, ATTACHMENTS, attachment)), file)

    def _place_of_trace(self, trace: str) -> str:
        info = self._api.get(f"3.0/mlflow/traces/{quote(trace)}")["trace"]["trace_info"]
        root = str(info["tags"][TRACE_OF_SERVER[0]])
        self._made.uploaded.append(Holder("traces", trace, root, "", None))
        return upload_root(root)


def metadata_of(info: Mapping[str, Json], ids: IdMap) -> dict[str, str]:
    """What a trace says of itself, with the new ids of run and logged model: by these a client finds the traces of a run."""
    found = dict(info.get("trace_metadata") or {})
    for key, new in (("mlflow.sourceRun", ids.runs), ("mlflow.modelId", ids.logged_models)):
        if key in found:
            found[key] = new.get(found[key], found[key])
    return found


def experiment_of(info: Mapping[str, Json]) -> str:
    """
    The experiment to which a trace belongs.

    :raises IntegrityError: if it names none
    """
    try:
        return str(info["trace_location"]["mlflow_experiment"]["experiment_id"])
    except (KeyError, TypeError):
        raise IntegrityError(
            f"the stored trace {info.get('trace_id')} belongs to no experiment", "verify the vault"
        ) from None


def batches(items: Sequence[Json], size: int) -> Iterator[Sequence[Json]]:
    """The items in pieces of at most `size`."""
    return (items[start : start + size] for start in range(0, len(items), size))


def histories(lines: Path) -> Iterator[tuple[str, list[Json]]]:
    """The metrics of a stored file, one after the other, each with all its points."""
    with lines.open("rb") as stream:
        for line in stream:
            document = json.loads(line)
            yield document["key"], document["points"]


def _otlp(span: Mapping[str, Json]) -> dict[str, Json]:
    """A span as OTLP wants it in JSON: ids as hexadecimal digits, not in base 64."""
    ids = {"trace_id": "traceId", "span_id": "spanId", "parent_span_id": "parentSpanId"}
    plain = {ids.get(key, key): value for key, value in span.items()}
    return {key: base64.b64decode(value).hex() if key in ids.values() else value for key, value in plain.items()}
