"""What is counted of a registry that goes through an API, on the way out and, read back, on the way in; and what an API does not give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from muster.adapters.mlflow_rest_held import is_prompt
from muster.domain.holdings import KEPT, counted
from muster.domain.restore_plan import without_secrets

Json = Any
REDUCED = "reduced"
NOT_GIVEN = (
    "deleted model versions, and whether there were any above the highest one that is left",
    "deleted logged models and registered models",
    "secrets of webhooks and of the gateway",
    "links of traces to runs of other experiments than their own",
    "jobs, online scoring, and what labels deleted experiments",
    "users, passwords and permissions",
    "workspaces other than the one that was read",
    "empty artifact folders, and the times of artifacts",
)
"""What is in a store and never comes through the API, or is not asked for by us; all of it comes with a capture of the store itself."""


class Tally:
    """
    Counts entities as they pass.

    :param version: MLflow's version on the server
    """

    def __init__(self, version: str, server: str) -> None:
        self._version = version
        self._server = without_secrets(server)
        self._counts: Counter[str] = Counter(dict.fromkeys(COUNTED, 0))
        self._artifacts = {"files": 0, "bytes": 0}
        self._models: dict[str, Json] = {}
        self._kept: dict[str, int] = {}

    def experiment(self, document: Mapping[str, Json]) -> None:
        self._counts.update(experiments=1, experiment_tags=len(document.get("tags") or ()))

    def run(self, document: Mapping[str, Json], points: int) -> None:
        """
        :param document: ``run`` and ``model_inputs``
        :param points: of all its metrics
        """
        data, inputs = document["run"].get("data", {}), document["run"].get("inputs", {})
        outputs = document["run"].get("outputs", {}).get("model_outputs") or ()
        self._counts.update(
            runs=1,
            params=len(data.get("params") or ()),
            run_tags=len(data.get("tags") or ()),
            metrics=len(data.get("metrics") or ()),
            metric_points=points,
            datasets=len(inputs.get("dataset_inputs") or ()),
            model_links=len(document["model_inputs"]) + len(outputs),
        )

    def logged_model(self, document: Mapping[str, Json]) -> None:
        info, data = document["info"], document.get("data", {})
        self._counts.update(
            logged_models=1,
            logged_model_tags=len(info.get("tags") or ()),
            logged_model_params=len(data.get("params") or ()),
            logged_model_metrics=len(data.get("metrics") or ()),
        )

    def trace(self) -> None:
        self._counts.update(traces=1)

    def attached(self, files: int) -> None:
        """Attachments of a trace."""
        self._counts.update(attachments=files)

    def further(self, path: str, document: Json) -> None:
        """
        Label schemas that each server makes by itself are not counted.

        :param path: of what is neither experiment nor run nor model
        """
        kind, _, name = path.removesuffix(".json").partition("/")
        if kind == KEPT:
            self._kept[name] = len(document) if isinstance(document, list) else sum(map(len, document.values()))
            return
        self._counts[kind] += not document.get("is_default")
        if part := PARTS.get(kind):
            self._counts[part[1]] += len(document[part[0]])

    def model(self, name: str, document: Mapping[str, Json]) -> None:
        """
        :param document: ``model`` and ``versions``
        """
        model, versions = document["model"], document["versions"]
        aliases = {a["alias"]: int(a["version"]) for a in model.get("aliases") or ()}
        self._counts.update(
            {"prompts" if is_prompt(model) else "registered_models": 1},
            versions=len(versions),
            aliases=len(aliases),
            model_tags=len(model.get("tags") or ()),
            version_tags=sum(len(v.get("tags") or ()) for v in versions),
        )
        numbers = sorted(int(v["version"]) for v in versions)
        self._models[name] = {"versions": numbers, "aliases": dict(sorted(aliases.items()))}

    def artifact(self, size: int) -> None:
        self._artifacts["files"] += 1
        self._artifacts["bytes"] += size

    def facts(self) -> dict[str, Json]:
        """What source and target must have in common."""
        return {
            "counts": {name: self._counts[name] for name in COUNTED},
            "artifacts": dict(self._artifacts),
            "models": dict(sorted(self._models.items())),
        }

    def details(self, absent: Sequence[str], missing: Sequence[str] = ()) -> dict[str, Json]:
        """
        :param absent: kinds of entities that the server's version does not know
        :param missing: artifacts that versions name and that are not there
        """
        about = {"fidelity": REDUCED, "server": self._server, "mlflow_version": self._version}
        return {
            **about,
            **self.facts(),
            **counted("missing", missing),
            **({"kept": dict(self._kept)} if self._kept else {}),
            "absent": list(absent),
            "not_given": list(NOT_GIVEN),
        }


COUNTED = (
    *(
        "experiments",
        "experiment_tags",
        "runs",
        "params",
        "run_tags",
        "metrics",
        "metric_points",
        "datasets",
        "model_links",
    ),
    *("logged_models", "logged_model_tags", "logged_model_params", "logged_model_metrics", "traces", "attachments"),
    *("registered_models", "prompts", "versions", "aliases", "model_tags", "version_tags"),
    *("scorers", "scorer_versions", "evaluation_datasets", "evaluation_records", "issues"),
    *("label_schemas", "review_queues", "review_items", "trace_links", "linked_traces"),
)
PARTS = {
    "scorers": ("versions", "scorer_versions"),
    "evaluation_datasets": ("records", "evaluation_records"),
    "review_queues": ("items", "review_items"),
    "trace_links": ("traces", "linked_traces"),
}
"""Of a folder of the stored tree: which list of each document is counted, and as what."""
