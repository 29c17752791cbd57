"""
What MLflow's API has besides experiments, runs, models and traces: labelling, scorers, evaluation datasets, issues; and what is only kept.

All of it is as it was met: it goes on while the registry is read, and holds nothing up. What a server's version does not have is noted,
and is no error.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from muster.adapters.mlflow_rest_reading import Reading, plain, unique
from muster.domain.holdings import KEPT
from muster.errors import NotFound, Refused, SourceInvalid, StoreUnavailable

Json = Any
PAGE, RECORD_PAGE = 100, 1000
GATEWAY = {
    "secrets": "secrets",
    "model-definitions": "model_definitions",
    "endpoints": "endpoints",
    "endpoints/bindings": "bindings",
    "budgets": "budget_policies",
    "guardrails": "guardrails",
}
"""Lists of the gateway, and the key of each in its answer; of secrets a server gives names and masks."""
NO_SQL = "FEATURE_DISABLED"
"""What a server says to a search for evaluation datasets whose store is no database; to the other lists it has no answer at all."""
Documents = Iterator[tuple[str, Json]]


class Further:
    """Reads it from one server; each document with its path in the stored tree."""

    def __init__(self, reading: Reading) -> None:
        self._reading, self._api = reading, reading.api
        self._sql = True
        self._issues: dict[str, dict[str, Json]] = {}

    def of_server(self, experiments: Collection[str]) -> Documents:
        """
        What belongs to no experiment; and issues, which are met before the runs are listed that they may name.

        :param experiments: ids of all; datasets may be linked to one that is gone
        """
        yield from self._datasets(experiments)
        self._issues = self._all_issues()
        kept = {
            "webhooks": list(self._listed("2.0/mlflow/webhooks", "webhooks", {"max_results": PAGE}, "webhooks")),
            "gateway": self._gateway(),
            "mcp_servers": self._mcp_servers(),
        }
        yield from ((f"{KEPT}/{kind}.json", found) for kind, found in kept.items() if found)

    def of_experiment(self, experiment: str, runs: Collection[str], traces: Collection[str]) -> list[tuple[str, Json]]:
        """
        What belongs to one that is not deleted.

        :param runs: ids of its runs; what names another one was deleted meanwhile
        :param traces: likewise
        """
        found = self._scorers(experiment)
        for id_, issue in self._issues.get(experiment, {}).items():
            named = issue.get("source_run_id")
            kept = issue if not named or named in runs else {k: v for k, v in issue.items() if k != "source_run_id"}
            found.append((f"issues/{id_}.json", kept))
        queues = self._queues(experiment)
        # Where the schemas of an experiment are listed the server writes a first one: only where something is labelled.
        schemas = self._label_schemas(experiment) if traces or queues else {}
        found += [(f"label_schemas/{id_}.json", schema) for id_, schema in schemas.items()]
        for id_, queue in queues.items():
            about = {**queue, "schema_ids": [one for one in queue.get("schema_ids") or () if one in schemas]}
            found.append((f"review_queues/{id_}.json", {"queue": about, "items": self._items(id_, traces)}))
        return found

    def links(self, experiment: str, run: str, traces: Mapping[str, Json]) -> list[str]:
        """The traces of its experiment that are linked to a run, and were not made by it."""
        place = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment}}
        asked = {"locations": [place], "max_results": PAGE, "filter": f"attributes.run_id = '{run}'"}
        listed = self._listed("3.0/mlflow/traces/search", "traces", asked, "links of traces", method="POST")
        ids = {str(trace["trace_id"]) for trace in listed} & traces.keys()
        return sorted(i for i in ids if (traces[i].get("trace_metadata") or {}).get("mlflow.sourceRun") != run)

    # --- experiments --------------------------------------------------------------------------------------------------

    def _label_schemas(self, experiment: str) -> dict[str, Json]:
        asked = {"experiment_id": experiment, "max_results": PAGE}
        listed = self._listed("3.0/mlflow/label-schemas/list", "label_schemas", asked, "label schemas")
        return unique(listed, lambda s: str(s["schema_id"]), "label schemas")

    def _queues(self, experiment: str) -> dict[str, Json]:
        """They may name schemas that are deleted."""
        asked = {"experiment_id": experiment, "max_results": PAGE}
        listed = self._listed("3.0/mlflow/review-queues/list", "review_queues", asked, "review queues")
        return unique(listed, lambda q: str(q["queue_id"]), "review queues")

    def _items(self, queue: str, traces: Collection[str]) -> list[Json]:
        asked = {"queue_id": queue, "max_results": PAGE}
        listed = self._api.pages("3.0/mlflow/review-queues/items/list", "items", asked, method="GET")
        items = unique(listed, lambda item: str(item["item_id"]), "items of a review queue")
        return [item for id_, item in sorted(items.items()) if id_ in traces]

    def _scorers(self, experiment: str) -> list[tuple[str, Json]]:
        listed = self._listed("3.0/mlflow/scorers/list", "scorers", {"experiment_id": experiment}, "scorers")
        found = []
        for scorer in listed:
            name = str(scorer["scorer_name"])
            document = {"experiment_id": experiment, "name": name, "versions": self._scorer_versions(experiment, name)}
            found.append((f"scorers/{scorer['scorer_id']}.json", document))
        return found

    def _scorer_versions(self, experiment: str, name: str) -> list[Json]:
        asked = {"experiment_id": experiment, "name": name}
        listed = self._api.get("3.0/mlflow/scorers/versions", **asked).get("scorers") or ()
        kept = ("scorer_version", "serialized_scorer", "creation_time")
        versions = [{key: plain(v.get(key)) for key in kept} for v in listed]
        return sorted(versions, key=lambda v: int(v["scorer_version"]))

    def _all_issues(self) -> dict[str, dict[str, Json]]:
        found: dict[str, dict[str, Json]] = defaultdict(dict)
        listed = self._listed("3.0/mlflow/issues/search", "issues", {"max_results": PAGE}, "issues", method="POST")
        for id_, issue in unique(listed, lambda i: str(i["issue_id"]), "issues").items():
            found[str(issue["experiment_id"])][id_] = issue
        return found

    # --- the server ---------------------------------------------------------------------------------------------------

    def _datasets(self, experiments: Collection[str]) -> Documents:
        listed = self._listed(
            "3.0/mlflow/datasets/search", "datasets", {"max_results": PAGE}, "evaluation datasets", method="POST"
        )
        for id_, dataset in unique(listed, lambda d: str(d["dataset_id"]), "evaluation datasets").items():
            linked = self._api.get(f"3.0/mlflow/datasets/{quote(id_)}/experiment-ids").get("experiment_ids") or ()
            there = sorted(str(one) for one in linked if str(one) in experiments)
            yield (
                f"evaluation_datasets/{id_}.json",
                {"dataset": dataset, "experiments": there, "records": self._records(id_)},
            )

    def _records(self, dataset: str) -> list[Json]:
        """They come as text within the answer."""
        path, found, token = f"3.0/mlflow/datasets/{quote(dataset)}/records", list[Json](), None
        while True:
            page = self._api.get(path, max_results=RECORD_PAGE, **({"page_token": token} if token else {}))
            found += plain(json.loads(page.get("records") or "[]"))
            if (following := page.get("next_page_token")) in (None, "", token):
                return found
            token = following

    def _gateway(self) -> dict[str, list[Json]]:
        lists = {key: f"3.0/mlflow/gateway/{path}/list" for path, key in GATEWAY.items()}
        found = {key: list(self._listed(path, key, {}, f"gateway {key}")) for key, path in lists.items()}
        return found if any(found.values()) else {}

    def _mcp_servers(self) -> list[Json]:
        return [self._mcp_server(s) for s in self._listed("3.0/mlflow/mcp-servers", "mcp_servers", {}, "MCP registry")]

    def _mcp_server(self, server: Json) -> Json:
        path = f"3.0/mlflow/mcp-servers/{quote(str(server['name']), safe='')}"
        parts = {"versions": "mcp_server_versions", "endpoints": "mcp_access_endpoints"}
        found = {part: list(self._listed(f"{path}/{part}", key, {}, "MCP registry")) for part, key in parts.items()}
        return server | found

    def _listed(self, path: str, key: str, asked: Mapping[str, Json], what: str, method: str = "GET") -> Iterator[Json]:
        """Nothing where the server has no such list, or keeps it from us, which is noted."""
        if not self._sql or what in self._reading.absent:
            self._reading.absent.add(what)
            return
        try:
            yield from map(plain, self._api.pages(path, key, asked, method=method))
        except NotFound:
            self._reading.absent.add(what)
        except Refused:
            self._reading.absent.add(f"{what} (this user may not see them)")
        except SourceInvalid:
            self._reading.absent.add(f"{what} (the server understands it otherwise)")
        except StoreUnavailable as error:
            if NO_SQL not in error.message:
                raise
            self._sql = False
            self._reading.absent.add(what)
