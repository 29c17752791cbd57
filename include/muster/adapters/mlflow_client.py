"""
MLflow's own client, asked for everything that it shows of a store, without a way to write to it.

A client is in one workspace at a time. Where things lie in other ones than the default one, it is asked in each of them, as a server would
that has workspaces turned on: MLflow's stores for that ask their own method which one is meant, so neither the process's environment nor
its context is touched. Ids of models say the workspace (``team/model``); an experiment is seen as one of its workspace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from muster.adapters.mlflow_client_further import PAGE, Item, further, pages, plain, store_of
from muster.adapters.mlflow_entities import PROMPT_TAG
from muster.adapters.mlflow_read_only import Look, reading_client, require_answer, what_said
from muster.adapters.mlflow_store import StoreUrl
from muster.adapters.mlflow_view import KINDS, OF_COLUMNS, View
from muster.batches import batched
from muster.domain.selection import DEFAULT_WORKSPACE, label_of

EXPERIMENTS_A_QUERY = 500
PROMPTS = f"tags.`{PROMPT_TAG}` = 'true'"
"""MLflow's searches leave prompts out, unless they are asked for by this tag."""


@dataclass(slots=True)
class ClientView:
    """
    What MLflow's client shows of a store.

    :param unseen: kinds that it cannot show, with what it says of itself; `view` has none of them
    """

    view: View = field(default_factory=View)
    unseen: dict[str, str] = field(default_factory=dict)


def client_view(store: StoreUrl) -> ClientView:
    """
    Ask MLflow's client for everything that it shows of a store at the schema of the installed MLflow: all workspaces, all pages, deleted
    things too.

    Nothing can be written through it, and no connection is left.

    :raises IntegrityError: if MLflow does not open the store
    :raises StoreUnavailable: if the server does not answer
    """
    found = ClientView()
    with reading_client(store) as look:
        for workspace in look.workspaces:
            look.workspace = workspace
            _add_workspace(found, store, look)
    return found


def _add_workspace(found: ClientView, store: StoreUrl, look: Look) -> None:
    """What is seen in one workspace. A kind that cannot be shown in one of them counts as not shown at all."""
    client, workspace = look.client, look.workspace
    experiments: list[str] = []
    asked: dict[str, Callable[[], Iterator[Item]]] = {
        "experiments": lambda: _experiments(client, workspace, experiments),
        "runs": lambda: _runs(client, experiments),
        "registered models": lambda: _models(client, workspace),
        "model versions": lambda: _versions(client, workspace),
        "logged models": lambda: _logged_models(client, experiments),
        "traces": lambda: _traces(client, experiments),
        "scorers": lambda: _scorers(client, experiments),
        "evaluation datasets": lambda: _datasets(client, workspace),
        "issues": lambda: _issues(client, experiments),
        **further(look, experiments),
    }
    for group, ask in asked.items():
        try:
            for kind, id_, item in ask():
                found.view.add(kind, id_, item)
        except Exception as error:  # noqa: BLE001 - whatever MLflow makes of rows that it does not like
            require_answer(store, error)
            where = "" if workspace == DEFAULT_WORKSPACE else f" in the workspace {workspace}"
            found.unseen = {**dict.fromkeys(KINDS[group], f"{what_said(error)}{where}"), **found.unseen}
    for kind in found.unseen:
        found.view.kinds.pop(kind, None)


def _experiments(client: Any, workspace: str, ids: list[str]) -> Iterator[Item]:
    from mlflow.entities import ViewType

    for e in pages(lambda token: client.search_experiments(ViewType.ALL, PAGE, page_token=token)):
        ids.append(e.experiment_id)
        item = [e.name, e.artifact_location, e.lifecycle_stage, e.creation_time, e.last_update_time]
        yield "experiments", e.experiment_id, [*item, workspace]
        for key, value in e.tags.items():
            yield "experiment tags", e.experiment_id, [key, value]


def _runs(client: Any, experiments: list[str]) -> Iterator[Item]:
    from mlflow.entities import ViewType

    def asked(ids: list[str]) -> Callable[[str | None], Any]:
        return lambda token: client.search_runs(ids, "", ViewType.ALL, PAGE, page_token=token)

    for ids in batched(experiments, EXPERIMENTS_A_QUERY):
        for run in pages(asked(ids)):
            info, data, id_ = run.info, run.data, run.info.run_id
            said = [info.status, info.lifecycle_stage, info.user_id, info.artifact_uri]
            yield "runs", id_, [info.experiment_id, *said, info.start_time, info.end_time]
            if info.run_name:
                yield "runs", id_, ["name", info.run_name]
            for kind, values in (("params", data.params), ("run tags", data.tags)):
                for key, value in values.items():
                    yield kind, id_, [key, value]
            for key, value in data.metrics.items():
                yield "latest metrics", id_, [key, repr(float(value))]
            yield from _inputs(run, id_)


def _inputs(run: Any, id_: str) -> Iterator[Item]:
    for given in run.inputs.dataset_inputs if run.inputs else ():
        d = given.dataset
        yield "dataset inputs", id_, [d.name, d.digest, d.source_type, d.source, d.schema, d.profile]
        for tag in given.tags:
            yield "dataset input tags", id_, [d.name, d.digest, tag.key, tag.value]
    for made in run.outputs.model_outputs if run.outputs else ():
        yield "model outputs", id_, [made.model_id, made.step]


def _models(client: Any, workspace: str) -> Iterator[Item]:
    def asked(which: str | None) -> Callable[[str | None], Any]:
        return lambda token: client.search_registered_models(which, PAGE, page_token=token)

    for which in (None, PROMPTS):
        for m in pages(asked(which)):
            id_ = label_of(workspace, m.name)
            yield "registered models", id_, [m.description, m.creation_timestamp, m.last_updated_timestamp]
            for key, value in m.tags.items():
                yield "registered model tags", id_, [key, value]
            for alias, version in m.aliases.items():
                yield "aliases", id_, [alias, str(version)]


def _versions(client: Any, workspace: str) -> Iterator[Item]:
    def asked(which: str | None) -> Callable[[str | None], Any]:
        return lambda token: client.search_model_versions(which, PAGE, page_token=token)

    for which in (None, PROMPTS):
        for v in pages(asked(which)):
            id_ = f"{label_of(workspace, v.name)}/{v.version}"
            said = [v.source, v.run_id, v.status, v.current_stage, v.description, v.user_id, v.run_link]
            yield "model versions", id_, [*said, v.creation_timestamp, v.last_updated_timestamp]
            for key, value in v.tags.items():
                yield "model version tags", id_, [key, value]


def _logged_models(client: Any, experiments: list[str]) -> Iterator[Item]:
    def asked(ids: list[str]) -> Callable[[str | None], Any]:
        return lambda token: client.search_logged_models(ids, max_results=PAGE, page_token=token)

    for ids in batched(experiments, EXPERIMENTS_A_QUERY):
        for m in pages(asked(ids)):
            said = [m.experiment_id, m.name, m.artifact_location, m.source_run_id, m.model_type]
            yield "logged models", m.model_id, [*said, m.creation_timestamp, m.last_updated_timestamp]
            for kind, values in (("logged model params", m.params), ("logged model tags", m.tags)):
                for key, value in (values or {}).items():
                    yield kind, m.model_id, [key, value]
            for metric in m.metrics or ():
                said = [metric.key, repr(metric.value), metric.timestamp, metric.step, metric.run_id]
                yield "logged model metrics", m.model_id, [*said, metric.dataset_name, metric.dataset_digest]


def _traces(client: Any, experiments: list[str]) -> Iterator[Item]:
    def asked(ids: list[str]) -> Callable[[str | None], Any]:
        return lambda token: client.search_traces(locations=ids, max_results=500, page_token=token, include_spans=False)

    for ids in batched(experiments, EXPERIMENTS_A_QUERY):
        for trace in pages(asked(ids)):
            t = trace.info
            yield "traces", t.trace_id, [t.experiment_id, t.state.value, t.request_time, t.execution_duration]
            for kind, values in (("trace tags", t.tags), ("trace metadata", t.trace_metadata)):
                yield from ((kind, t.trace_id, [k, value]) for k, value in values.items() if k not in OF_COLUMNS)
            for a in t.assessments:
                said = [a.assessment_id, a.name, a.create_time_ms, a.last_update_time_ms]
                yield "assessments", t.trace_id, said


def _scorers(client: Any, experiments: list[str]) -> Iterator[Item]:
    for s in store_of(client).list_scorers_across_experiments(experiments):
        item = [s.scorer_version, s._serialized_scorer, s.creation_time]
        yield "newest scorers", f"{s.experiment_id}/{s.scorer_name}", item


def _datasets(client: Any, workspace: str) -> Iterator[Item]:
    store = store_of(client)

    def records(dataset: str) -> Iterator[Any]:
        token: str | None = None
        while True:
            page, token = store._load_dataset_records(dataset, max_results=PAGE, page_token=token)
            yield from page
            if not token:
                return

    for d in pages(lambda token: store.search_datasets(max_results=PAGE, page_token=token)):
        item = [d.name, d.digest, d.created_time, d.last_update_time, d.created_by, d.last_updated_by, workspace]
        yield "evaluation datasets", d.dataset_id, item
        for key, value in (d.tags or {}).items():
            yield "evaluation dataset tags", d.dataset_id, [key, value]
        for r in records(d.dataset_id):
            item = [r.dataset_record_id, r.created_time, r.last_update_time, r.created_by, r.last_updated_by]
            yield "evaluation records", d.dataset_id, item


def _issues(client: Any, experiments: list[str]) -> Iterator[Item]:
    store, known = store_of(client), set(experiments)
    for i in pages(lambda token: store.search_issues(max_results=PAGE, page_token=token)):
        if i.experiment_id in known:
            said = [i.name, i.description, plain(i.status), plain(i.severity), i.source_run_id, i.created_by]
            yield "issues", i.issue_id, [i.experiment_id, *said, i.created_timestamp, i.last_updated_timestamp]
