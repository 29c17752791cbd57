"""Labelling, scorers, evaluation datasets, issues and links of traces, made anew on a server by its API."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from muster.adapters.mlflow_rest_api import MlflowApi
from muster.adapters.mlflow_rest_fill import SMALL_BATCH, batches
from muster.adapters.mlflow_rest_ids import IdMap
from muster.adapters.mlflow_rest_made import SCORERS, Made
from muster.errors import IntegrityError, NotFound, SourceInvalid

Json = Any
BEFORE_TRACES = ("issues",)
AFTER_TRACES = ("label_schemas", "review_queues", "scorers", "evaluation_datasets", "trace_links")
"""Folders of the stored tree, in the order in which one needs the other: traces name issues, and queues and links name traces."""
LINKED_PROMPTS = "mlflow.linkedPrompts"
"""The tag by which a trace says which versions of prompts it used."""
GATEWAY_MODEL = "gateway:/"
"""How the model of a scorer begins that asks an endpoint of the server's own gateway."""
OF_RECORD = ("inputs", "outputs", "expectations", "tags", "source")
OF_ISSUE = ("name", "description", "status", "severity", "root_causes", "categories", "created_by")
OF_SCHEMA = ("name", "type", "input", "instruction", "enable_comment")


class Again:
    """
    Makes things on a server whose experiments, runs, traces and prompts are there (for issues, experiments and runs), and notes in `made`
    and `ids` what it has made.

    :param refused: afterwards: paths of scorers that the server would not take, since what they ask is not there
    :param fillers: afterwards: versions of scorers that were made and deleted so that numbers are kept
    """

    def __init__(self, api: MlflowApi, made: Made, ids: IdMap) -> None:
        self._api, self._made, self._ids = api, made, ids
        self.refused: set[str] = set()
        self.fillers = 0

    def make(self, folder: str, path: str, document: Mapping[str, Json]) -> None:
        """What a document of one of the folders tells of."""
        old = path.removeprefix(f"{folder}/").removesuffix(".json")
        if folder == "scorers":
            self._scorer(path, old, document)
        else:
            {
                "label_schemas": self._label_schema,
                "review_queues": self._review_queue,
                "evaluation_datasets": self._dataset,
                "issues": self._issue,
                "trace_links": self._links,
            }[folder](old, document)

    def prompts(self, document: Mapping[str, Json]) -> None:
        """The prompts that a trace used, by which it is found; anybody may have written the tag, so it may say anything."""
        info, named = document["trace_info"], []
        with suppress(ValueError, TypeError, KeyError):
            used = json.loads((info.get("tags") or {}).get(LINKED_PROMPTS) or "[]")
            named = [{"name": str(one["name"]), "version": str(one["version"])} for one in used]
        if named:
            asked = {"trace_id": info["trace_id"], "prompt_versions": named}
            self._api.post("2.0/mlflow/traces/link-prompts", asked)

    def _note(self, kind: str, old: str, new: str) -> None:
        self._made.note(kind, new)
        self._of_kind(kind)[old] = new

    def _of_kind(self, kind: str) -> dict[str, str]:
        """Old id to new id; in the map of all ids only if there is anything of the kind."""
        return self._ids.further.setdefault(kind, {})

    def _links(self, run: str, document: Mapping[str, Json]) -> None:
        for traces in batches(document["traces"], SMALL_BATCH):
            self._api.post("2.0/mlflow/traces/link-to-run", {"run_id": self._ids.runs[run], "trace_ids": list(traces)})

    def _label_schema(self, old: str, document: Mapping[str, Json]) -> None:
        """The first one of an experiment is the server's own, made when somebody asks for it; nobody can change it."""
        experiment = self._ids.experiments[str(document["experiment_id"])]
        asked = {key: document[key] for key in OF_SCHEMA if key in document}
        if document.get("is_default"):
            listed = self._api.get("3.0/mlflow/label-schemas/list", experiment_id=experiment)["label_schemas"]
            new = str(next(schema["schema_id"] for schema in listed if schema.get("is_default")))
        else:
            asked["experiment_id"] = experiment
            made = self._api.post("3.0/mlflow/label-schemas/create", asked, once=True)["label_schema"]
            new = str(made["schema_id"])
            self._made.note("label_schemas", new)
        self._of_kind("label_schemas")[old] = new

    def _review_queue(self, old: str, document: Mapping[str, Json]) -> None:
        queue, schemas = document["queue"], self._ids.further.get("label_schemas", {})
        asked: dict[str, Json] = {"experiment_id": self._ids.experiments[str(queue["experiment_id"])]}
        if queue.get("queue_type") == "USER":
            asked["user"] = queue["name"]
            made = self._api.post("3.0/mlflow/review-queues/get-or-create-user", asked, once=True)
        else:
            asked |= {key: queue[key] for key in ("name", "queue_type", "users") if key in queue}
            asked["schema_ids"] = [schemas[schema] for schema in queue.get("schema_ids") or () if schema in schemas]
            made = self._api.post("3.0/mlflow/review-queues/create", asked, once=True)
        new = str(made["review_queue"]["queue_id"])
        self._note("review_queues", old, new)
        for items in batches(document["items"], SMALL_BATCH):
            added = {"queue_id": new, "item_ids": [item["item_id"] for item in items]}
            self._api.post("3.0/mlflow/review-queues/items/add", added)
        for item in document["items"]:
            if item.get("status") not in (None, "PENDING"):
                about = {key: item[key] for key in ("item_id", "status", "completed_by") if item.get(key)}
                self._api.post("3.0/mlflow/review-queues/items/set-status", {"queue_id": new, **about})

    def _scorer(self, path: str, old: str, document: Mapping[str, Json]) -> None:
        """
        All versions, under their numbers: where one is missing a copy of the next is made, and deleted when there is a higher one.

        :raises IntegrityError: if a version gets another number
        """
        which = {"experiment_id": self._ids.experiments[document["experiment_id"]], "name": document["name"]}
        wanted = {int(version["scorer_version"]): version["serialized_scorer"] for version in document["versions"]}
        fillers = [number for number in range(1, max(wanted)) if number not in wanted]
        for number in sorted([*wanted, *fillers]):
            serialized = wanted[min(n for n in wanted if n >= number)]
            try:
                asked = {**which, "serialized_scorer": serialized}
                made = self._api.post("3.0/mlflow/scorers/register", asked, once=True)
            except (SourceInvalid, NotFound):
                if GATEWAY_MODEL not in serialized:
                    raise
                self.refused.add(path)  # it asks an endpoint that is not there
                if self._ids.further.get("scorers", {}).pop(old, None):  # versions before it
                    self._api.ask("DELETE", SCORERS, body=which, once=True)
                return
            self._made.note("scorers", (*which.values(), int(made["version"])))
            self._of_kind("scorers")[old] = str(made["scorer_id"])
            if int(made["version"]) != number:
                raise IntegrityError(
                    f"the server made version {made['version']} of the scorer {document['name']}, where {number} was wanted",
                    "see who registers scorers there during the restore",
                )
        for number in fillers:
            self._api.ask("DELETE", SCORERS, body={**which, "version": number}, once=True)
        self.fillers += len(fillers)

    def _dataset(self, old: str, document: Mapping[str, Json]) -> None:
        dataset, experiments = document["dataset"], self._ids.experiments
        asked = {"name": dataset["name"], "tags": dataset.get("tags") or "{}"}
        asked["experiment_ids"] = [experiments[one] for one in document["experiments"] if one in experiments]
        new = str(self._api.post("3.0/mlflow/datasets/create", asked, once=True)["dataset"]["dataset_id"])
        self._note("evaluation_datasets", old, new)
        for records in batches(document["records"], SMALL_BATCH):
            # What is not sent at all is empty afterwards, and not nothing, as the outputs of records that come from traces are.
            sent = [{key: said.get(key) for key in OF_RECORD} for said in map(json.loads, records)]
            self._api.post(f"3.0/mlflow/datasets/{quote(new)}/records", {"records": json.dumps(sent)})

    def _issue(self, old: str, document: Mapping[str, Json]) -> None:
        asked = {key: document[key] for key in OF_ISSUE if document.get(key)}
        asked["experiment_id"] = self._ids.experiments[str(document["experiment_id"])]
        if run := document.get("source_run_id"):
            asked["source_run_id"] = self._ids.runs[run]
        new = str(self._api.post("3.0/mlflow/issues", asked, once=True)["issue"]["issue_id"])
        self._note("issues", old, new)
