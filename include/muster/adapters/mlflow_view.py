"""
What an API client sees of a registry, workspace by workspace: told by MLflow's own client on a store, and by the rows that it must see.

A view holds, for each kind of thing and each id, how many items there are and their digest, whatever their order; so a registry of any
size is compared in little memory. Histories of metrics are compared row by row, and here as the latest values only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from muster.adapters.mlflow_entities import PROMPT_TAG, Take
from muster.adapters.mlflow_facts import DELETED
from muster.adapters.mlflow_lines import Row
from muster.adapters.mlflow_rows import Table
from muster.adapters.mlflow_view_further import FURTHER, FurtherRows
from muster.domain.fidelity import Counted
from muster.domain.selection import DEFAULT_WORKSPACE, label_of

KINDS: dict[str, tuple[str, ...]] = {
    "experiments": ("experiments", "experiment tags"),
    "runs": ("runs", "params", "run tags", "latest metrics", "dataset inputs", "dataset input tags", "model outputs"),
    "registered models": ("registered models", "registered model tags", "aliases"),
    "model versions": ("model versions", "model version tags"),
    "logged models": ("logged models", "logged model params", "logged model tags", "logged model metrics"),
    "traces": ("traces", "trace tags", "trace metadata", "assessments"),
    "scorers": ("newest scorers",),
    "evaluation datasets": ("evaluation datasets", "evaluation dataset tags", "evaluation records"),
    "issues": ("issues",),
    **FURTHER,
}
"""What is asked for together, and the kinds of things that come of it."""

OF_COLUMNS = ("mlflow.traceName", "mlflow.trace.session", "mlflow.trace.tokenUsage", "mlflow.trace.cost")
"""Tags and metadata of traces that MLflow shows by columns of their own, whatever rows say of them (`SqlTraceInfo.to_mlflow_entity`)."""
ASSESSMENT = ("assessment_id", "name", "created_timestamp", "last_updated_timestamp")
DATASET = ("name", "digest", "created_time", "last_update_time", "created_by", "last_updated_by")
RECORD = ("dataset_record_id", "created_time", "last_update_time", "created_by", "last_updated_by")
OF_DATASET = ("name", "digest", "dataset_source_type", "dataset_source", "dataset_schema", "dataset_profile")
OF_METRIC = ("metric_timestamp_ms", "metric_step", "run_id", "dataset_name", "dataset_digest")
ISSUE = (
    "name",
    "description",
    "status",
    "severity",
    "source_run_id",
    "created_by",
    "created_timestamp",
    "last_updated_timestamp",
)
"""Columns that are looked at of these, in this order."""
SHOWN_STAGES = ("active", "deleted")
RUN_NAME = "mlflow.runName"
_WHOLE = 1 << 128


@dataclass(slots=True)
class View:
    """
    What is seen: kind to id to number and sum of the digests of its items.

    :param left_open: kinds and ids of which rows do not tell what MLflow makes of them, as where a database orders text its own way
    :param untold: kinds of whose rows nobody here knows what they say, and why
    """

    kinds: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)
    left_open: set[tuple[str, str]] = field(default_factory=set)
    untold: dict[str, str] = field(default_factory=dict)

    def add(self, kind: str, id_: str, item: list[Any]) -> None:
        digest = hashlib.sha256(json.dumps(item, ensure_ascii=False).encode(errors="surrogatepass")).digest()
        known = self.kinds.setdefault(kind, {})
        count, total = known.get(id_, (0, 0))
        known[id_] = (count + 1, (total + int.from_bytes(digest[:16])) % _WHOLE)

    def has(self, kind: str, id_: str) -> bool:
        return id_ in self.kinds.get(kind, ())

    def drop(self, kind: str, id_: str) -> None:
        self.kinds.get(kind, {}).pop(id_, None)

    def leave_open(self, kind: str, id_: str) -> None:
        self.left_open.add((kind, id_))

    def counted(self, kind: str) -> Counted:
        """The number of items of a kind, and their digest."""
        digest, count = hashlib.sha256(), 0
        for id_, (items, total) in sorted(self.kinds.get(kind, {}).items()):
            digest.update(f"{id_!r} {items} {total:032x}\n".encode())
            count += items
        return Counted(count, digest.hexdigest())

    def differing(self, kind: str, other: View) -> Iterator[tuple[str, str]]:
        """Ids of a kind that the other view shows otherwise, and how."""
        here, there = self.kinds.get(kind, {}), other.kinds.get(kind, {})
        for id_ in sorted(here.keys() | there.keys()):
            if id_ not in there:
                yield id_, "is lost"
            elif id_ not in here:
                yield id_, "was not captured"
            elif here[id_] != there[id_]:
                yield id_, "is shown otherwise"


# --- what the rows say ------------------------------------------------------------------------------------------------


class ExpectedView:
    """The view that rows give, told table by table, parents first."""

    def __init__(self) -> None:
        self.view = View()
        self._unnamed: set[str] = set()
        self._prompt_versions: set[tuple[str, str]] = set()
        self._scorers: dict[str, tuple[str, str]] = {}
        self._newest: dict[str, list[Any]] = {}
        self._inputs = _Inputs()
        self._further = FurtherRows(self.view)
        self._of_tables: dict[str, Callable[[Mapping[str, Any]], None]] = {
            "experiments": self._experiment,
            "experiment_tags": self._child("experiments", "experiment_id", "experiment tags", ("key", "value")),
            "runs": self._run,
            "params": self._child("runs", "run_uuid", "params", ("key", "value")),
            "tags": self._run_tag,
            "latest_metrics": self._metric,
            "registered_models": self._model,
            "registered_model_tags": self._model_tag,
            "registered_model_aliases": self._of_model("aliases", ("alias", "version")),
            "model_versions": self._version,
            "model_version_tags": self._version_tag,
            "logged_models": self._logged_model,
            "logged_model_params": self._child(
                "logged models", "model_id", "logged model params", ("param_key", "param_value")
            ),
            "logged_model_tags": self._child(
                "logged models", "model_id", "logged model tags", ("tag_key", "tag_value")
            ),
            "logged_model_metrics": self._model_metric,
            "inputs": self._inputs.link,
            "input_tags": self._inputs.tag,
            "datasets": self._inputs.dataset,
            "trace_info": self._trace,
            "trace_tags": self._of_trace("trace tags"),
            "trace_request_metadata": self._of_trace("trace metadata"),
            "assessments": self._child("traces", "trace_id", "assessments", ASSESSMENT),
            "scorers": self._scorer,
            "scorer_versions": self._scorer_version,
            "evaluation_datasets": self._dataset,
            "evaluation_dataset_tags": self._child(
                "evaluation datasets", "dataset_id", "evaluation dataset tags", ("key", "value")
            ),
            "evaluation_dataset_records": self._child(
                "evaluation datasets", "dataset_id", "evaluation records", RECORD
            ),
            "issues": self._issue,
            **self._further.of_tables,
        }

    def takers(self, table: Table) -> list[Take]:
        """Who wants to see the rows of this table; for most tables nobody does."""
        told = self._of_tables.get(table.name)
        if told is None:
            return []
        names = table.names

        def take(row: Row, _line: bytes) -> None:
            told(dict(zip(names, row, strict=True)))

        return [take]

    def finished(self) -> View:
        """
        The view, when all tables were told.

        MLflow searches prompts by a tag of each version; a version that lacks the tag, of a model that has it, is not found at all.
        """
        for scorer, newest in self._newest.items():
            experiment, name = self._scorers[scorer]
            self.view.add("newest scorers", f"{experiment}/{name}", newest)
        self._inputs.show(self.view)
        self._further.finish()
        prompts = {name for name, _ in self._prompt_versions}
        for id_ in list(self.view.kinds.get("model versions", ())):
            name, _, version = id_.rpartition("/")
            if name in prompts and (name, version) not in self._prompt_versions:
                self.view.drop("model versions", id_)
                self.view.drop("model version tags", id_)
        return self.view

    def _child(
        self, parents: str, column: str, kind: str, columns: tuple[str, ...]
    ) -> Callable[[Mapping[str, Any]], None]:
        def told(row: Mapping[str, Any]) -> None:
            id_ = str(row[column])
            if self.view.has(parents, id_):
                self.view.add(kind, id_, [row[c] for c in columns])

        return told

    def _of_model(self, kind: str, columns: tuple[str, ...]) -> Callable[[Mapping[str, Any]], None]:
        def told(row: Mapping[str, Any]) -> None:
            if self.view.has("registered models", id_ := _label(row)):
                self.view.add(kind, id_, [str(row[c]) if c == "version" else row[c] for c in columns])

        return told

    def _experiment(self, row: Mapping[str, Any]) -> None:
        if row["lifecycle_stage"] in SHOWN_STAGES:
            times = [row.get("creation_time"), row.get("last_update_time")]
            item = [row["name"], row["artifact_location"], row["lifecycle_stage"], *times]
            self.view.add("experiments", str(row["experiment_id"]), [*item, row.get("workspace", DEFAULT_WORKSPACE)])

    def _run(self, row: Mapping[str, Any]) -> None:
        if row["lifecycle_stage"] in SHOWN_STAGES and self.view.has("experiments", str(row["experiment_id"])):
            run, info = row["run_uuid"], [row["status"], row["lifecycle_stage"], row["user_id"], row["artifact_uri"]]
            times = [row["start_time"], row["end_time"]]
            self.view.add("runs", run, [str(row["experiment_id"]), *info, *times])
            if row["name"]:
                self.view.add("runs", run, ["name", row["name"]])
            else:
                self._unnamed.add(run)

    def _run_tag(self, row: Mapping[str, Any]) -> None:
        run, key, value = row["run_uuid"], row["key"], row["value"]
        if self.view.has("runs", run):
            self.view.add("run tags", run, [key, value])
            if key == RUN_NAME and value and run in self._unnamed:  # an old run: MLflow shows this tag as its name
                self.view.add("runs", run, ["name", value])

    def _metric(self, row: Mapping[str, Any]) -> None:
        if self.view.has("runs", row["run_uuid"]):
            text = "nan" if row["is_nan"] else _number(row["value"])
            self.view.add("latest metrics", row["run_uuid"], [row["key"], text])

    def _model(self, row: Mapping[str, Any]) -> None:
        times = [row["creation_time"], row["last_updated_time"]]
        self.view.add("registered models", _label(row), [row["description"], *times])

    def _model_tag(self, row: Mapping[str, Any]) -> None:
        if row["key"] != PROMPT_TAG:  # MLflow keeps this one to itself
            self._of_model("registered model tags", ("key", "value"))(row)

    def _version(self, row: Mapping[str, Any]) -> None:
        if row["current_stage"] != DELETED:
            wanted = ("source", "run_id", "status", "current_stage", "description", "user_id", "run_link")
            times = [row["creation_time"], row["last_updated_time"]]
            id_ = f"{_label(row)}/{row['version']}"
            self.view.add("model versions", id_, [*(row[c] for c in wanted), *times])

    def _version_tag(self, row: Mapping[str, Any]) -> None:
        id_ = f"{_label(row)}/{row['version']}"
        if self.view.has("model versions", id_):
            self.view.add("model version tags", id_, [row["key"], row["value"]])
        if row["key"] == PROMPT_TAG and row["value"] == "true":
            self._prompt_versions.add((_label(row), str(row["version"])))

    def _logged_model(self, row: Mapping[str, Any]) -> None:
        if row["lifecycle_stage"] == "active" and self.view.has("experiments", str(row["experiment_id"])):
            info = [str(row["experiment_id"]), row["name"], row["artifact_location"], row["source_run_id"]]
            times = [row["creation_timestamp_ms"], row["last_updated_timestamp_ms"]]
            self.view.add("logged models", row["model_id"], [*info, row["model_type"], *times])

    def _model_metric(self, row: Mapping[str, Any]) -> None:
        if self.view.has("logged models", model := row["model_id"]):
            said = [row["metric_name"], _number(row["metric_value"]), *(row[column] for column in OF_METRIC)]
            self.view.add("logged model metrics", model, said)

    def _trace(self, row: Mapping[str, Any]) -> None:
        experiment = str(row["experiment_id"])
        if self.view.has("experiments", experiment):
            self.view.add(
                "traces", row["request_id"], [experiment, row["status"], row["timestamp_ms"], row["execution_time_ms"]]
            )

    def _of_trace(self, kind: str) -> Callable[[Mapping[str, Any]], None]:
        told = self._child("traces", "request_id", kind, ("key", "value"))
        return lambda row: None if row["key"] in OF_COLUMNS else told(row)

    def _scorer(self, row: Mapping[str, Any]) -> None:
        if self.view.has("experiments", experiment := str(row["experiment_id"])):
            self._scorers[row["scorer_id"]] = (experiment, row["scorer_name"])

    def _scorer_version(self, row: Mapping[str, Any]) -> None:
        said = [row["scorer_version"], row["serialized_scorer"], row["creation_time"]]
        if row["scorer_id"] in self._scorers and said[0] > self._newest.get(row["scorer_id"], [0])[0]:
            self._newest[row["scorer_id"]] = said

    def _dataset(self, row: Mapping[str, Any]) -> None:
        said = [*(row[column] for column in DATASET), row.get("workspace", DEFAULT_WORKSPACE)]
        self.view.add("evaluation datasets", row["dataset_id"], said)

    def _issue(self, row: Mapping[str, Any]) -> None:
        if self.view.has("experiments", experiment := str(row["experiment_id"])):
            self.view.add("issues", row["issue_id"], [experiment, *(row[column] for column in ISSUE)])


class _Inputs:
    """What runs read and made: rows that name their ends by columns that no foreign key holds, so they come in any order."""

    def __init__(self) -> None:
        self._datasets: dict[str, list[Any]] = {}
        self._read: dict[str, tuple[str, str]] = {}
        self._tags: list[tuple[str, str, str]] = []
        self._made: list[tuple[str, str, int]] = []

    def dataset(self, row: Mapping[str, Any]) -> None:
        self._datasets[row["dataset_uuid"]] = [row[column] for column in OF_DATASET]

    def link(self, row: Mapping[str, Any]) -> None:
        if row["destination_type"] == "RUN":
            self._read[row["input_uuid"]] = row["destination_id"], row["source_id"]
        elif (row["source_type"], row["destination_type"]) == ("RUN_OUTPUT", "MODEL_OUTPUT"):
            self._made.append((row["source_id"], row["destination_id"], row["step"]))

    def tag(self, row: Mapping[str, Any]) -> None:
        self._tags.append((row["input_uuid"], row["name"], row["value"]))

    def show(self, view: View) -> None:
        """Add them to a view that has the runs; a dataset that a run read twice is shown once, with the tags of both."""
        shown = {
            input_: (run, self._datasets[dataset])
            for input_, (run, dataset) in self._read.items()
            if view.has("runs", run) and dataset in self._datasets
        }
        for run, dataset in {self._read[input_] for input_ in shown}:
            view.add("dataset inputs", run, self._datasets[dataset])
        for input_, key, value in self._tags:
            if input_ in shown:
                run, said = shown[input_]
                view.add("dataset input tags", run, [*said[:2], key, value])
        for run, model, step in self._made:
            if view.has("runs", run):
                view.add("model outputs", run, [model, step])


def _number(value: Any) -> str:
    """A number as rows write it, as text that is the same for the same one."""
    return str(value["float"]) if isinstance(value, dict) else repr(value)


def _label(row: Mapping[str, Any]) -> str:
    """The name of a model, with its workspace if that is not the default one."""
    return label_of(row.get("workspace"), str(row["name"]))
