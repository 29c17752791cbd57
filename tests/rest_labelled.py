"""What people and judges say of traces, made through a server, and read back by MLflow's own client."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from muster.adapters.mlflow_rest_api import MlflowApi, RestServer

WORD = {"name": "word", "builtin_scorer_class": "Safety", "mlflow_version": "3", "serialization_version": 1}


def label(uri: str, experiment: str, trace: str, run: str) -> dict[str, str]:
    """
    Scorers with a gap and one that asks a gateway, a dataset for evaluation, schemas, queues, an issue, links of a trace; a secret.

    :param experiment: of the trace
    :param run: of the experiment; it did not make the trace
    """
    api = MlflowApi(RestServer.parse(uri))
    for number in range(1, 5):
        _scorer(api, experiment, "word", WORD | {"builtin_scorer_pydantic_data": {"number": number}})
    for number in (1, 3):
        which = {"experiment_id": experiment, "name": "word", "version": number}
        api.ask("DELETE", "/api/3.0/mlflow/scorers/delete", body=which)
    _gateway(api)
    for model in ("openai:/gpt-5", "gateway:/judges"):
        judge = {"instructions": "Is {{ outputs }} right?", "model": model}
        _scorer(api, experiment, "judge", {**WORD, "name": "judge", "instructions_judge_pydantic_data": judge})
    schemas = [
        {"name": "right", "type": "FEEDBACK", "input": {"pass_fail": {"positive_label": "y", "negative_label": "n"}}},
        {"name": "answer", "type": "EXPECTATION", "input": {"text": {"max_length": 20}}, "enable_comment": True},
        {"name": "tone", "type": "FEEDBACK", "input": {"categorical": {"options": ["a", "b"], "multi_select": True}}},
    ]
    posted = [api.post("3.0/mlflow/label-schemas/create", {"experiment_id": experiment, **s}) for s in schemas]
    ids = [answer["label_schema"]["schema_id"] for answer in posted]
    asked = {"experiment_id": experiment, "queue_type": "CUSTOM", "users": ["ada", "ben"], "schema_ids": ids[1:]}
    queue = api.post("3.0/mlflow/review-queues/create", {**asked, "name": "first look"})["review_queue"]["queue_id"]
    api.post("3.0/mlflow/review-queues/items/add", {"queue_id": queue, "item_ids": [trace]})
    done = {"queue_id": queue, "item_id": trace, "status": "COMPLETE", "completed_by": "ada"}
    api.post("3.0/mlflow/review-queues/items/set-status", done)
    api.post("3.0/mlflow/review-queues/get-or-create-user", {"experiment_id": experiment, "user": "cleo"})
    api.post("3.0/mlflow/review-queues/create", {**asked, "name": "empty", "schema_ids": []})
    api.ask("DELETE", "/api/3.0/mlflow/label-schemas/delete", body={"schema_id": ids[2]})
    tags = json.dumps({"team": "judges", "mlflow.user": "ada"})
    dataset = api.post(
        "3.0/mlflow/datasets/create", {"name": "hard ones", "experiment_ids": [experiment], "tags": tags}
    )
    records = [{"inputs": {"question": f"ü{n}"}, "expectations": {"answer": n}} for n in range(5)]
    records[2]["inputs"] |= {"odd": [math.nan, {"key": "b"}, {"key": "a"}]}
    records[3]["inputs"] |= {"keyed": [{"key": "b"}, {"key": "a"}]}
    records[0] |= {"tags": {"by": "hand"}, "outputs": {"said": [1, None]}}
    records[1] |= {"source": {"source_type": "TRACE", "source_data": {"trace_id": trace}}}
    path = f"3.0/mlflow/datasets/{dataset['dataset']['dataset_id']}/records"
    api.post(path, {"records": json.dumps(records)})
    issue = {"experiment_id": experiment, "name": "slow", "description": "too slow", "source_run_id": run}
    told = {
        "status": "pending",
        "severity": "high",
        "root_causes": ["disk"],
        "categories": ["speed"],
        "created_by": "ben",
    }
    made = api.post("3.0/mlflow/issues", issue | told)["issue"]["issue_id"]
    shows = {
        "assessment_name": made,
        "issue": {"issue_name": "slow"},
        "source": {"source_type": "HUMAN", "source_id": "ben"},
    }
    api.post(f"3.0/mlflow/traces/{trace}/assessments", {"assessment": {**shows, "trace_id": trace}})
    api.post("3.0/mlflow/issues", {**issue, "name": "plain", "source_run_id": ""})
    api.post("2.0/mlflow/traces/link-to-run", {"run_id": run, "trace_ids": [trace]})
    prompt = {"name": "explain-delay", "version": "1"}
    api.ask(
        "PATCH",
        f"/api/3.0/mlflow/traces/{trace}/tags",
        body={"key": "mlflow.linkedPrompts", "value": json.dumps([prompt])},
    )
    api.post("2.0/mlflow/traces/link-prompts", {"trace_id": trace, "prompt_versions": [prompt]})
    return {"trace": trace, "linked": run}


def _scorer(api: MlflowApi, experiment: str, name: str, serialized: Mapping[str, Any]) -> None:
    asked = {"experiment_id": experiment, "name": name, "serialized_scorer": json.dumps(serialized)}
    api.post("3.0/mlflow/scorers/register", asked, once=True)


def _gateway(api: MlflowApi) -> None:
    secret = {"secret_name": "key", "secret_value": {"api_key": "sk-of-the-test"}, "provider": "openai"}
    made = api.post("3.0/mlflow/gateway/secrets/create", secret)["secret"]["secret_id"]
    model = {"name": "judge-model", "secret_id": made, "provider": "openai", "model_name": "gpt-5"}
    definition = api.post("3.0/mlflow/gateway/model-definitions/create", model)["model_definition"][
        "model_definition_id"
    ]
    configs = [{"model_definition_id": definition, "linkage_type": "PRIMARY", "weight": 1.0}]
    api.post("3.0/mlflow/gateway/endpoints/create", {"name": "judges", "model_configs": configs})


def labels(uri: str, names: Mapping[str, str], first: Mapping[str, str]) -> dict[str, Any]:
    """
    What MLflow's client sees of all that.

    :param names: of experiments that are not deleted, by id
    :param first: the ids that runs had at first, by the ids that they have now
    """
    from mlflow.store.tracking.rest_store import RestStore
    from mlflow.utils.rest_utils import MlflowHostCreds

    store = RestStore(lambda: MlflowHostCreds(uri))
    scorers = [scorer for experiment in names for scorer in store.list_scorers(experiment)]
    versions = [v for s in scorers for v in store.list_scorer_versions(str(s.experiment_id), s.scorer_name)]
    datasets = store.search_datasets()
    schemas = {s.schema_id: s for experiment in names for s in store.list_label_schemas(experiment)}
    queues = [queue for experiment in names for queue in store.list_review_queues(experiment)]
    return {
        "scorers": {
            f"{names[str(v.experiment_id)]}/{v.scorer_name}/{v.scorer_version}": v._serialized_scorer for v in versions
        },
        "datasets": {d.name: _dataset(store, d, names) for d in datasets},
        "schemas": sorted(
            (names[s.experiment_id], s.name, s.instruction or "", repr(s.input)) for s in schemas.values()
        ),
        "queues": {q.name: _queue(store, q, schemas) for q in queues},
        "issues": {
            issue.name: _issue(issue, names, first) for issue in store.search_issues() if issue.experiment_id in names
        },
        "shown": {
            i.name: i.trace_count for i in store.search_issues(include_trace_count=True) if i.experiment_id in names
        },
        "linked": {first[run]: _found(store, names, f"attributes.run_id = '{run}'") for run in first},
        "prompts": _found(store, names, "prompt = 'explain-delay/1'"),
    }


def without_judges(seen: dict[str, Any]) -> dict[str, Any]:
    """What a client sees that comes back: not the scorer that asks a gateway."""
    return {**seen, "scorers": {name: said for name, said in seen["scorers"].items() if "/judge/" not in name}}


def _dataset(store: Any, dataset: Any, names: Mapping[str, str]) -> Any:
    records, _ = store._load_dataset_records(dataset.dataset_id, max_results=100)
    seen = [(repr(r.inputs), r.expectations, r.outputs, r.tags, repr(r.source)) for r in records]
    experiments = sorted(names[e] for e in store.get_dataset_experiment_ids(dataset.dataset_id))
    about = [
        json.loads(said) for said in (dataset.schema, dataset.profile)
    ]  # texts of the server's, keys in the order of random ids
    return (dataset.tags, about, experiments, sorted(seen, key=repr))


def _queue(store: Any, queue: Any, schemas: Mapping[str, Any]) -> Any:
    items = store.list_review_queue_items(queue.queue_id)
    named = sorted(schemas[schema].name for schema in queue.schema_ids if schema in schemas)
    return (
        str(queue.queue_type),
        sorted(queue.users),
        named,
        [(i.item_id, str(i.status), i.completed_by) for i in items],
    )


def _issue(issue: Any, names: Mapping[str, str], first: Mapping[str, str]) -> Any:
    run = first[issue.source_run_id] if issue.source_run_id else None
    about = (
        issue.description,
        str(issue.status),
        str(issue.severity),
        issue.root_causes,
        issue.categories,
        issue.created_by,
    )
    return (names[issue.experiment_id], run, *about)


def _found(store: Any, names: Mapping[str, str], filter_string: str) -> list[str]:
    traces, _ = store.search_traces(locations=list(names), filter_string=filter_string)
    return sorted(trace.trace_id for trace in traces)
