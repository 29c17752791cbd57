"""A registry with webhooks, MCP servers, questions, review queues and a gateway, twice: in the default workspace and in another one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from registry_meddled import working_in
from registry_seed import UNICODE, SmallStore, empty_store

TEAM = "team"
SECRETS = ("whsec-of-", "sk-api-key-of-")
"""How what is encrypted begins; the workspace follows."""


@pytest.fixture(scope="session")
def _further_sqlite(tmp_path_factory: pytest.TempPathFactory) -> SmallStore:
    folder = tmp_path_factory.mktemp("further")
    store = SmallStore(folder / "mlflow.db", folder / "artifacts")
    empty_store(store.url, store.artifacts)
    store.artifacts.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_WORKSPACE_STORE_URI", store.url)
        patch.setenv("MLFLOW_CRYPTO_KEK_PASSPHRASE", "a passphrase for this test alone")
        with working_in(store.url, "default") as client:
            client.create_workspace(TEAM, default_artifact_root=str(store.artifacts))
        for workspace in ("default", TEAM):
            with working_in(store.url, workspace) as client:
                _fill(client, workspace)
    return store


@pytest.fixture
def further_store(_further_sqlite: SmallStore, tmp_path: Path) -> SmallStore:
    """Through MLflow's own stores; empty, missing and odd values among them, and what was deleted. A fresh copy for each test."""
    return SmallStore(Path(shutil.copy(_further_sqlite.file, tmp_path / "further.db")), _further_sqlite.artifacts)


def _fill(client: Any, workspace: str) -> None:
    experiment = client.create_experiment(f"asked in {workspace}")
    gone = client.create_experiment(f"gone from {workspace}")
    _webhooks(client, workspace)
    _mcp_servers(client)
    _reviews(client, experiment)
    _reviews(client, gone)
    _gateway(client._tracking_client.store, experiment, workspace)
    client.delete_experiment(gone)


def _webhooks(client: Any, workspace: str) -> None:
    from mlflow.entities.webhook import WebhookEvent

    events = [WebhookEvent.from_str("model_version.created"), WebhookEvent.from_str("prompt_alias.deleted")]
    client.create_webhook("watch", "https://127.0.0.1:9/ü?q=1", events, UNICODE, f"{SECRETS[0]}{workspace}")
    client.create_webhook("open", "https://127.0.0.1:9/open", events[:1], "", None, "DISABLED")
    client.delete_webhook(client.create_webhook("gone", "https://127.0.0.1:9/gone", events[:1]).webhook_id)


def _mcp_servers(client: Any) -> None:
    from mlflow.entities.mcp_server import MCPStatus, MCPTool
    from mlflow.entities.mcp_server_version import ConnectOptionSettings

    name = "com.example/weather"
    client.create_mcp_server(name, None, [{"src": "https://8.8.8.8/i.png", "theme": "dark"}])
    client.create_mcp_server("com.example/bare", "")
    tools = [MCPTool("forecast", description=UNICODE, input_schema={"type": "object", "b": None, "a": [0.1, 1]})]
    for version, status in (("1.0.0", "active"), ("1.1.0-rc.1", "draft"), ("1.1.0-rc.2", "draft"), ("0.9.0", "draft")):
        told = {"name": name, "version": version, "description": f"{UNICODE} {version}", "z": {"y": 1, "x": None}}
        options = {"remote:0": ConnectOptionSettings(hidden=True)} if version == "1.0.0" else None
        client.create_mcp_server_version(told, "", MCPStatus(status), tools if options else [], options)
    for version in ("1.0.0-alpha", "1.0.0-beta"):  # which is the newer one is for the database to say
        told = {"name": "com.example/undecided", "version": version, "description": version}
        client.create_mcp_server_version(told, None, None, [])
    client.set_mcp_server_tag(name, "team", UNICODE)
    client.set_mcp_server_version_tag(name, "1.0.0", "tested", "")
    client.set_mcp_server_alias(name, "live", "1.0.0")
    client.set_mcp_server_alias(name, "next", "1.1.0-rc.1")
    for at in ({"server_alias": "live"}, {"server_alias": "latest"}, {"server_version": "1.1.0-rc.2"}):
        client.create_mcp_access_endpoint(name, "https://8.8.8.8/mcp", **at)
    client.delete_mcp_server_version(name, "0.9.0")


def _reviews(client: Any, experiment: str) -> None:
    from mlflow.genai.label_schemas.label_schemas import InputCategorical, InputNumeric, InputPassFail, InputText

    store = client._tracking_client.store
    inputs = {
        "verdict": InputPassFail("good ✈", "bad"),
        "kind": InputCategorical(["a", "ü"], multi_select=True),
        "score": InputNumeric(0, 0.5),
        "any": InputNumeric(),
        "words": InputText(max_length=80),
    }
    schemas = [
        store.create_label_schema(experiment, name=name, type="feedback", input=given, enable_comment=name == "any")
        for name, given in inputs.items()
    ]
    store.create_label_schema(experiment, name="truth", type="expectation", input=InputText(), instruction=UNICODE)
    store.list_label_schemas(experiment)  # makes the default one
    ids = [schemas[0].schema_id, schemas[1].schema_id]
    queue = store.create_review_queue(
        experiment, name="Über", queue_type="custom", users=["ada", "grace"], schema_ids=ids, created_by="ada"
    )
    store.create_review_queue(experiment, name="ada", queue_type="user", users=["ada"])
    traces = ["tr-1", "tr-2"]  # MLflow does not ask whether they are there
    store.add_items_to_review_queue(queue.queue_id, item_ids=traces)
    store.set_review_queue_item_status(queue.queue_id, item_id=traces[0], status="complete", completed_by="ada")


def _gateway(store: Any, experiment: str, workspace: str) -> None:
    from mlflow.entities import gateway_endpoint as gateway
    from mlflow.entities.gateway_budget_policy import (
        BudgetAction,
        BudgetDuration,
        BudgetDurationUnit,
        BudgetTargetScope,
        BudgetUnit,
    )
    from mlflow.entities.gateway_guardrail import GuardrailAction, GuardrailStage

    value = {"api_key": f"{SECRETS[1]}{workspace}"}
    secret = store.create_gateway_secret("openai ü", value, "openai", {"region": "eu"}, "ada").secret_id
    store.create_gateway_secret("bare", value)
    models = [
        store.create_gateway_model_definition(name, secret, "openai", "gpt-4o").model_definition_id
        for name in ("first", "second")
    ]
    kinds = (gateway.GatewayModelLinkageType.PRIMARY, gateway.GatewayModelLinkageType.FALLBACK)
    configs = [gateway.GatewayEndpointModelConfig(models[n], kinds[n], 0.1, n or None) for n in range(2)]
    falling = gateway.FallbackConfig(gateway.FallbackStrategy.SEQUENTIAL, 3)
    routing = gateway.RoutingStrategy.REQUEST_BASED_TRAFFIC_SPLIT
    endpoint = store.create_gateway_endpoint("chat", configs, "ada", routing, falling, experiment).endpoint_id
    store.create_gateway_endpoint("plain", configs[:1], usage_tracking=False)
    bare = store.create_gateway_endpoint("no models", configs[:1], usage_tracking=False).endpoint_id
    for id_ in (endpoint, bare):
        store.set_gateway_endpoint_tag(id_, gateway.GatewayEndpointTag("team", UNICODE))
    store.detach_model_from_endpoint(bare, models[0])
    scorer = store.register_scorer(experiment, "polite", '{"name": "polite", "builtin_scorer_class": "Safety"}')
    store.create_endpoint_binding(endpoint, "scorer", scorer.scorer_id, "ada")
    store.create_budget_policy(
        BudgetUnit.USD, 0.1, BudgetDuration(BudgetDurationUnit.DAYS, 7), BudgetTargetScope.GLOBAL, BudgetAction.ALERT
    )
    stage, action = GuardrailStage.AFTER, GuardrailAction.SANITIZATION
    guardrail = store.create_gateway_guardrail("kind", scorer.scorer_id, scorer.scorer_version, stage, action, endpoint)
    store.add_guardrail_to_endpoint(endpoint, guardrail.guardrail_id, 1)
