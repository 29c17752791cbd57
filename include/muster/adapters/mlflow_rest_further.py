"""
What MLflow's API has besides experiments, runs, models and traces: labelling, scorers, evaluation datasets, issues; and what is only kept.

All of it is as it was met: it goes on while the registry is read, and holds nothing up. What a server's version does not have is noted,
and is no error.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from muster.adapters.mlflow_rest_reading import ABANDONED, Reading, plain
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
_END = object()


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

    def kept(self) -> Documents:
        """
        What no API can make again.

        A server fails to list webhooks whose secrets it cannot decrypt, and such a thing must not end a capture: that is noted, too.
        """
        found: dict[str, Json] = {}
        for kind, ask in {
            "webhooks": self._webhooks,
            "gateway": self._gateway,
            "mcp_servers": self._mcp_servers,
        }.items():
            try:
                found[kind] = ask()
            except StoreUnavailable:
                self._reading.absent.add(f"{kind.replace('_', ' ')} (the server fails when it is asked for them)")
        yield from ((f"{KEPT}/{kind}.json", said) for kind, said in found.items() if said)

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
        return _by_id(listed, "schema_id")

    def _queues(self, experiment: str) -> dict[str, Json]:
        """They may name schemas that are deleted."""
        asked = {"experiment_id": experiment, "max_results": PAGE}
        listed = self._listed("3.0/mlflow/review-queues/list", "review_queues", asked, "review queues")
        return _by_id(listed, "queue_id")

    def _items(self, queue: str, traces: Collection[str]) -> list[Json]:
        asked = {"queue_id": queue, "max_results": PAGE}
        listed = self._listed("3.0/mlflow/review-queues/items/list", "items", asked, f"items of review queue {queue}")
        return [item for id_, item in sorted(_by_id(listed, "item_id").items()) if id_ in traces]

    def _scorers(self, experiment: str) -> list[tuple[str, Json]]:
        listed = self._listed("3.0/mlflow/scorers/list", "scorers", {"experiment_id": experiment}, "scorers")
        found = []
        for scorer in listed:
            name = str(scorer["scorer_name"])
            if versions := self._scorer_versions(experiment, name):
                document = {"experiment_id": experiment, "name": name, "versions": versions}
                found.append((f"scorers/{scorer['scorer_id']}.json", document))
        return found

    def _scorer_versions(self, experiment: str, name: str) -> list[Json]:
        asked = {"experiment_id": experiment, "name": name}
        listed = self._listed("3.0/mlflow/scorers/versions", "scorers", asked, f"versions of scorer {name}")
        kept = ("scorer_version", "serialized_scorer", "creation_time")
        versions = [{key: plain(v.get(key)) for key in kept} for v in listed]
        return sorted(versions, key=lambda v: int(v["scorer_version"]))

    def _all_issues(self) -> dict[str, dict[str, Json]]:
        found: dict[str, dict[str, Json]] = defaultdict(dict)
        listed = self._listed("3.0/mlflow/issues/search", "issues", {"max_results": PAGE}, "issues", method="POST")
        for id_, issue in _by_id(listed, "issue_id").items():
            if issue.get("name") != ABANDONED:
                found[str(issue["experiment_id"])][id_] = issue
        return found

    # --- the server ---------------------------------------------------------------------------------------------------

    def _datasets(self, experiments: Collection[str]) -> Documents:
        listed = self._listed(
            "3.0/mlflow/datasets/search", "datasets", {"max_results": PAGE}, "evaluation datasets", method="POST"
        )
        for id_, dataset in _by_id(listed, "dataset_id").items():
            path, of = f"3.0/mlflow/datasets/{quote(id_)}", f"evaluation dataset {id_}"
            linked = map(str, self._listed(f"{path}/experiment-ids", "experiment_ids", {}, f"experiments of {of}"))
            there = sorted(one for one in linked if one in experiments)
            records = self._pages_of_records(f"{path}/records", f"records of {of}")
            yield f"evaluation_datasets/{id_}.json", {"dataset": dataset, "experiments": there, "records": records}

    def _pages_of_records(self, path: str, what: str) -> list[str]:
        """Each record as JSON text: it is its writer's own, and nothing of it is put in order or brought into another form."""
        page = self._told(lambda: self._api.get(path, max_results=RECORD_PAGE), what) or {}
        found = json.loads(page.get("records") or "[]")
        while token := page.get("next_page_token"):
            page = self._api.get(path, max_results=RECORD_PAGE, page_token=token)
            found += json.loads(page.get("records") or "[]")
        return [json.dumps(record) for record in found]

    def _webhooks(self) -> list[Json]:
        return list(self._listed("2.0/mlflow/webhooks", "webhooks", {"max_results": PAGE}, "webhooks"))

    def _gateway(self) -> dict[str, list[Json]]:
        lists = {key: f"3.0/mlflow/gateway/{path}/list" for path, key in GATEWAY.items()}
        found = {key: list(self._listed(path, key, {}, f"gateway {key}")) for key, path in lists.items()}
        return found if any(found.values()) else {}

    def _mcp_servers(self) -> list[Json]:
        return [self._mcp_server(s) for s in self._listed("3.0/mlflow/mcp-servers", "mcp_servers", {}, "MCP registry")]

    def _mcp_server(self, server: Json) -> Json:
        path = f"3.0/mlflow/mcp-servers/{quote(str(server['name']), safe='')}"
        parts = {"versions": "mcp_server_versions", "endpoints": "mcp_access_endpoints"}
        of = f"of MCP server {server['name']}"
        return server | {
            part: list(self._listed(f"{path}/{part}", key, {}, f"{part} {of}")) for part, key in parts.items()
        }

    def _listed(self, path: str, key: str, asked: Mapping[str, Json], what: str, method: str = "GET") -> Iterator[Json]:
        """
        Nothing where the server has no such list, or keeps it from us, which is noted; once it has begun it must come to its end.

        What is deleted between the list that names it and the look at it is nothing, too.
        """
        if not self._sql or what in self._reading.absent:
            self._reading.absent.add(what)
            return
        pages = self._api.pages(path, key, asked, method=method)
        first = self._told(lambda: next(pages, _END), what)
        if first is not None and first is not _END:
            yield plain(first)
            yield from map(plain, pages)

    def _told(self, ask: Callable[[], Json], what: str) -> Json:
        """The answer; None where there is none to be had, which is noted."""
        try:
            return ask()
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
        return None


def _by_id(items: Iterable[Json], key: str) -> dict[str, Json]:
    """Items by their ids, each once: these lists begin with the newest, so one that is made meanwhile shifts the rest."""
    found: dict[str, Json] = {}
    for item in items:
        found.setdefault(str(item[key]), item)
    return found
