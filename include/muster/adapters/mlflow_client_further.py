"""What MLflow's client, or its store where the client has no method, shows of webhooks, questions, reviews, MCP servers and the gateway."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from muster.adapters.mlflow_read_only import Look
from muster.adapters.mlflow_view_further import ASKED_IF, INPUTS, fallback_of, input_of, rounded
from muster.adapters.mlflow_view_mcp import icons_of, text_of, tools_of
from muster.batches import batched
from muster.domain.selection import label_of

Item = tuple[str, str, list[Any]]
"""Kind, id, and what there is to see of it."""

PAGE = 1000
QUEUES_A_QUERY = 500


def further(look: Look, experiments: list[str]) -> dict[str, Callable[[], Iterator[Item]]]:
    """
    What is asked for in the workspace that is looked at: only that of which the store holds anything.

    :param experiments: ids of those in this workspace, known by the time that anything is asked for
    """
    client, workspace = look.client, look.workspace
    asked: dict[str, Callable[[], Iterator[Item]]] = {
        "webhooks": lambda: _webhooks(client, workspace),
        "MCP servers": lambda: _mcp_servers(client, workspace),
        "label schemas": lambda: _label_schemas(client, experiments),
        "review queues": lambda: _review_queues(client, experiments),
        "gateway secrets": lambda: _secrets(client, workspace),
        "gateway model definitions": lambda: _definitions(client, workspace),
        "gateway endpoints": lambda: _endpoints(client, workspace),
        "gateway bindings": lambda: _bindings(client),
        "budget policies": lambda: _budgets(client, workspace),
        "guardrails": lambda: _guardrails(client, workspace),
    }
    return {group: ask for group, ask in asked.items() if ASKED_IF[group] in look.holding}


def pages(ask: Callable[[str | None], Any]) -> Iterator[Any]:
    """All items of all pages."""
    token: str | None = None
    while True:
        page = ask(token)
        yield from page
        token = page.token
        if not token:
            return


def plain(value: Any) -> Any:
    """Of an enumeration, what its member stands for."""
    return getattr(value, "value", value)


def store_of(client: Any) -> Any:
    """Where a client asks for what it has no method of its own."""
    return client._tracking_client.store


def _webhooks(client: Any, workspace: str) -> Iterator[Item]:
    for w in pages(lambda token: client.list_webhooks(PAGE, token)):
        said = [w.name, w.url, w.description, plain(w.status), w.creation_timestamp, w.last_updated_timestamp]
        yield "webhooks", w.webhook_id, [*said, workspace]
        for event in w.events:
            yield "webhook events", w.webhook_id, [plain(event.entity), plain(event.action)]


# --- MCP servers ------------------------------------------------------------------------------------------------------


def _mcp_servers(client: Any, workspace: str) -> Iterator[Item]:
    for s in pages(lambda token: client.search_mcp_servers(max_results=PAGE, page_token=token)):
        id_ = label_of(workspace, s.name)
        icons = icons_of([icon for icon in s.icons or () if icon.get("source") == "server"])
        yield "MCP servers", id_, [s.display_name, icons, *_stamps(s)]
        yield "MCP server descriptions", id_, [text_of(s.description)]
        if s.latest_version is not None:
            yield "newest MCP versions", id_, [s.latest_version, plain(s.status)]
        for key, value in s.tags.items():
            yield "MCP server tags", id_, [key, value]
        for alias, version in s.aliases.items():
            yield "MCP aliases", id_, [alias, version]
        yield from _mcp_versions(client, s.name, id_)
    for e in pages(lambda token: client.search_mcp_access_endpoints(max_results=PAGE, page_token=token)):
        said = [label_of(workspace, e.server_name), e.url, plain(e.transport_type), e.server_version, e.server_alias]
        yield "MCP access endpoints", e.id, [*said, *_stamps(e)]


def _mcp_versions(client: Any, name: str, server: str) -> Iterator[Item]:
    for v in pages(lambda token: client.search_mcp_server_versions(name, max_results=PAGE, page_token=token)):
        id_ = f"{server}/{v.version}"
        tools = None if v.tools is None else [tool.to_dict() for tool in v.tools]
        options = text_of({key: bool(option.hidden) for key, option in v.connect_options.items()})
        said = [text_of(v.server_json), plain(v.status), tools_of(tools), options, v.source]
        yield "MCP server versions", id_, [*said, *_stamps(v)]
        for key, value in v.tags.items():
            yield "MCP version tags", id_, [key, value]


def _stamps(one: Any) -> list[Any]:
    return [one.created_by, one.last_updated_by, one.creation_timestamp, one.last_updated_timestamp]


# --- questions and reviews --------------------------------------------------------------------------------------------


def _label_schemas(client: Any, experiments: list[str]) -> Iterator[Item]:
    """All of a workspace. `list_label_schemas` writes the default one where it is missing, and leaves out deleted experiments."""
    store, known, inputs = store_of(client), set(experiments), {_class_of(kind): kind for kind in INPUTS}
    with store.ManagedSessionMaker() as session:
        for found in store._label_schema_query(session).yield_per(PAGE):
            s = found.to_mlflow_entity()
            if s.experiment_id in known:
                said = [s.name, plain(s.type), s.instruction, s.created_by, s.created_at, s.updated_at]
                asked = input_of(inputs[type(s.input).__name__], dataclasses.asdict(s.input))
                flags = [bool(s.enable_comment), bool(s.is_default)]
                yield "label schemas", s.schema_id, [s.experiment_id, *said, asked, *flags]


def _class_of(kind: str) -> str:
    """What MLflow calls the class of one kind of answer."""
    return f"Input{kind.title().replace('_', '')}"


def _review_queues(client: Any, experiments: list[str]) -> Iterator[Item]:
    """All of a workspace. `list_review_queues` leaves out deleted experiments."""
    store, known = store_of(client), set(experiments)
    with store.ManagedSessionMaker() as session:
        rows = store._review_queue_query(session).all()
        queues = [q for some in batched(rows, QUEUES_A_QUERY) for q in store._hydrate_review_queues(session, some)]
    for q in queues:
        if q.experiment_id in known:
            said = [q.name, plain(q.queue_type), q.created_by, q.creation_time_ms, q.last_update_time_ms]
            yield "review queues", q.queue_id, [q.experiment_id, *said]
            yield from (("review queue users", q.queue_id, [user]) for user in q.users)
            yield from (("review queue questions", q.queue_id, [schema]) for schema in q.schema_ids)
            yield from _queue_items(store, q.queue_id)


def _queue_items(store: Any, queue: str) -> Iterator[Item]:
    for i in pages(lambda token: store.list_review_queue_items(queue, max_results=PAGE, page_token=token)):
        said = [plain(i.item_type), i.item_id, plain(i.status), i.completed_by, i.completed_time_ms]
        yield "review queue items", queue, [*said, i.creation_time_ms, i.last_update_time_ms]


# --- the gateway ------------------------------------------------------------------------------------------------------


def _changes(one: Any) -> list[Any]:
    return [one.created_by, one.last_updated_by, one.created_at, one.last_updated_at]


def _secrets(client: Any, workspace: str) -> Iterator[Item]:
    for s in store_of(client).list_secret_infos():
        yield "gateway secrets", s.secret_id, [s.secret_name, s.provider, *_changes(s), workspace]


def _definitions(client: Any, workspace: str) -> Iterator[Item]:
    for d in store_of(client).list_gateway_model_definitions():
        item = [d.name, d.secret_id, d.provider, d.model_name, *_changes(d), workspace]
        yield "gateway model definitions", d.model_definition_id, item


def _endpoints(client: Any, workspace: str) -> Iterator[Item]:
    store = store_of(client)
    for e in store.list_gateway_endpoints():
        config = e.fallback_config
        failing = fallback_of(config and {"strategy": plain(config.strategy), "max_attempts": config.max_attempts})
        said = [e.name, plain(e.routing_strategy), failing, e.experiment_id, bool(e.usage_tracking)]
        yield "gateway endpoints", e.endpoint_id, [*said, *_changes(e), workspace]
        for m in e.model_mappings:
            said = [m.mapping_id, m.model_definition_id, plain(m.linkage_type), m.fallback_order, m.created_by]
            yield "gateway endpoint models", e.endpoint_id, [*said, m.created_at, rounded(m.weight)]
        for tag in e.tags:
            yield "gateway endpoint tags", e.endpoint_id, [tag.key, tag.value]
        for c in store.list_endpoint_guardrail_configs(e.endpoint_id):
            said = [c.guardrail_id, c.execution_order, c.created_by, c.created_at]
            yield "gateway endpoint guardrails", e.endpoint_id, said


def _bindings(client: Any) -> Iterator[Item]:
    for b in store_of(client).list_endpoint_bindings():
        yield "gateway bindings", b.endpoint_id, [plain(b.resource_type), b.resource_id, b.display_name, *_changes(b)]


def _budgets(client: Any, workspace: str) -> Iterator[Item]:
    store = store_of(client)
    for b in pages(lambda token: store.list_budget_policies(PAGE, token)):
        said = [plain(b.budget_unit), plain(b.duration.unit), b.duration.value, plain(b.target_scope), b.target_value]
        item = [*said, plain(b.budget_action), *_changes(b), rounded(b.budget_amount), workspace]
        yield "budget policies", b.budget_policy_id, item


def _guardrails(client: Any, workspace: str) -> Iterator[Item]:
    store = store_of(client)
    for g in pages(lambda token: store.list_gateway_guardrails(PAGE, token)):
        said = [g.name, g.scorer.scorer_id, g.scorer.scorer_version, plain(g.stage), plain(g.action), *_changes(g)]
        yield "guardrails", g.guardrail_id, [*said, g.action_endpoint_name, workspace]
