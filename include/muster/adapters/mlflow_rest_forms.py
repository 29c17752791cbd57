"""Documents of two servers in a form in which they can be compared: what an API lets one set, with the ids of the new server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from muster.adapters.mlflow_rest_again import OF_ISSUE, OF_RECORD, OF_SCHEMA
from muster.adapters.mlflow_rest_assessments import assessments_form
from muster.adapters.mlflow_rest_fill import TRACE_OF_SERVER, experiment_of, metadata_of
from muster.adapters.mlflow_rest_ids import RUN_NAME, SOURCE_RUN, IdMap
from muster.adapters.mlflow_rest_points import point, stored
from muster.adapters.mlflow_rest_reading import pairs
from muster.adapters.mlflow_rest_register import NO_STAGE, Registrar
from muster.codec import canonical

Json = Any
METADATA_OF_SERVER = "mlflow.trace.infoFinalized"


class Expected:
    """What documents of the old server must look like on the new one."""

    def __init__(self, ids: IdMap, registrar: Registrar) -> None:
        self._ids = ids
        self._registrar = registrar

    def form(self, path: str, document: Mapping[str, Json]) -> Json:
        """
        :param path: of the stored tree
        """
        kind = path.partition("/")[0]
        if kind == "registered_models":
            return model_form(document, [self._registrar.body(document, v) for v in document["versions"]])
        if kind == "runs":
            return self._run(document)
        return FORMS[kind](document, self._ids)

    def _run(self, document: Mapping[str, Json]) -> Json:
        form, old = run_form(document, self._ids), document["run"]["info"]["run_id"]
        form["tags"][SOURCE_RUN] = old
        if name := self._ids.names.get(old):
            form["name"] = form["tags"][RUN_NAME] = name
        form["metrics"] |= {
            key: self._ids.latest[old, key] for key in form["metrics"] if (old, key) in self._ids.latest
        }
        return form


def measured(path: str, document: Mapping[str, Json]) -> Json:
    """The form of a document of the new server."""
    kind = path.partition("/")[0]
    if kind == "registered_models":
        keys = ("name", "source", "tags", "description", "run_link", "run_id", "model_id")
        return model_form(document, [{k: v[k] for k in keys if v.get(k)} for v in document["versions"]])
    return FORMS[kind](document, IdMap())


def experiment_form(document: Mapping[str, Json], _ids: IdMap) -> Json:
    return {
        "name": document["name"],
        "lifecycle_stage": document.get("lifecycle_stage"),
        "tags": pairs(document.get("tags")),
    }


def run_form(document: Mapping[str, Json], ids: IdMap) -> Json:
    run, models = document["run"], ids.logged_models
    info, data = run["info"], run.get("data", {})
    outputs = run.get("outputs", {}).get("model_outputs") or ()
    kept = ("status", "start_time", "end_time", "lifecycle_stage")
    return {
        **{key: info.get(key) for key in kept},
        "user_id": info.get("user_id") or "",
        "experiment": _new(ids.experiments, info["experiment_id"]),
        "name": info.get("run_name") or "",
        "params": pairs(data.get("params")),
        "tags": pairs(data.get("tags")),
        "metrics": {m["key"]: point(m) for m in data.get("metrics") or ()},
        "datasets": _sorted(run.get("inputs", {}).get("dataset_inputs") or ()),
        "model_inputs": _sorted(_new(models, m["model_id"]) for m in document["model_inputs"]),
        "model_outputs": _sorted([_new(models, m["model_id"]), m.get("step", 0)] for m in outputs),
    }


def logged_model_form(document: Mapping[str, Json], ids: IdMap) -> Json:
    info, data = document["info"], document.get("data", {})
    return {
        **{key: info.get(key) or "" for key in ("name", "model_type", "status")},
        "experiment": _new(ids.experiments, info["experiment_id"]),
        "source_run": _new(ids.runs, info.get("source_run_id") or ""),
        "tags": pairs(info.get("tags")),
        "params": pairs(data.get("params")),
        "metrics": _sorted(
            [
                *(m.get(key) for key in ("key", "timestamp", "step", "dataset_name", "dataset_digest")),
                stored(m.get("value")),
                _new(ids.runs, m.get("run_id") or ""),
            ]
            for m in data.get("metrics") or ()
        ),
    }


def model_form(document: Mapping[str, Json], bodies: list[dict[str, Json]]) -> Json:
    """
    :param bodies: the versions as they are made
    """
    model = document["model"]
    return {
        "name": model["name"],
        "description": model.get("description") or "",
        "tags": pairs(model.get("tags")),
        "aliases": {a["alias"]: int(a["version"]) for a in model.get("aliases") or ()},
        "versions": [
            {
                **body,
                "tags": pairs(body.get("tags")),
                "version": int(version["version"]),
                "stage": None if version.get("current_stage") in NO_STAGE else version["current_stage"],
            }
            for body, version in zip(bodies, document["versions"], strict=True)
        ],
    }


def trace_form(document: Mapping[str, Json], ids: IdMap) -> Json:
    info = document["trace_info"]
    kept = ("trace_id", "client_request_id", "request_preview", "response_preview", "request_time", "state")
    return {
        **{key: info.get(key) for key in (*kept, "execution_duration")},
        "experiment": _new(ids.experiments, experiment_of(info)),
        "tags": {k: v for k, v in (info.get("tags") or {}).items() if k not in TRACE_OF_SERVER},
        "metadata": {k: v for k, v in metadata_of(info, ids).items() if k != METADATA_OF_SERVER},
        "assessments": _sorted(assessments_form(info, ids)),
        "spans": _sorted(document.get("spans") or ()),
        "data": document.get("data"),
    }


def scorer_form(document: Mapping[str, Json], ids: IdMap) -> Json:
    versions = {str(v["scorer_version"]): json.loads(v["serialized_scorer"]) for v in document["versions"]}
    experiment = _new(ids.experiments, document["experiment_id"])
    return {"name": document["name"], "experiment": experiment, "versions": versions}


def dataset_form(document: Mapping[str, Json], ids: IdMap) -> Json:
    dataset = document["dataset"]
    experiments = [_new(ids.experiments, one) for one in document["experiments"]]
    return {
        "name": dataset["name"],
        "tags": json.loads(dataset.get("tags") or "{}"),
        "experiments": sorted(experiments),
        "records": sorted(_record(record) for record in document["records"]),
    }


def _record(text: str) -> str:
    said = json.loads(text)
    return json.dumps({key: said.get(key) for key in OF_RECORD}, sort_keys=True)


def label_schema_form(document: Mapping[str, Json], ids: IdMap) -> Json:
    """Nothing of one that each server makes by itself, of which points of before know nothing."""
    if document.get("is_default"):
        return {}
    kept = {key: document.get(key) for key in OF_SCHEMA}
    return {**kept, "experiment": _new(ids.experiments, document["experiment_id"])}


def review_queue_form(document: Mapping[str, Json], ids: IdMap) -> Json:
    queue, schemas = document["queue"], ids.further.get("label_schemas", {})
    return {
        **{key: queue.get(key) for key in ("name", "queue_type")},
        "experiment": _new(ids.experiments, queue["experiment_id"]),
        "users": sorted(queue.get("users") or ()),
        "schemas": sorted(_new(schemas, schema) for schema in queue.get("schema_ids") or ()),
        "items": {i["item_id"]: [i.get("status"), i.get("completed_by")] for i in document["items"]},
    }


def issue_form(document: Mapping[str, Json], ids: IdMap) -> Json:
    kept = {key: document.get(key) or None for key in OF_ISSUE}
    run, experiment = document.get("source_run_id") or "", document["experiment_id"]
    return {**kept, "experiment": _new(ids.experiments, experiment), "run": _new(ids.runs, run)}


def trace_links_form(document: Mapping[str, Json], _ids: IdMap) -> Json:
    return {"traces": sorted(document["traces"])}


FORMS = {
    "scorers": scorer_form,
    "evaluation_datasets": dataset_form,
    "label_schemas": label_schema_form,
    "review_queues": review_queue_form,
    "issues": issue_form,
    "trace_links": trace_links_form,
    "experiments": experiment_form,
    "runs": run_form,
    "logged_models": logged_model_form,
    "traces": trace_form,
}


def _new(ids: Mapping[str, str], old: str) -> str:
    return ids.get(str(old), str(old))


def _sorted(items: Any) -> list[Json]:
    return sorted(items, key=canonical)
