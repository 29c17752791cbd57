"""Webhooks, MCP servers, questions, review queues and the gateway: held against what MLflow's client and stores show of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from muster.adapters.mlflow_client import client_view
from muster.adapters.mlflow_fidelity import CLIENT
from muster.adapters.mlflow_registry import MlflowTarget
from muster.adapters.mlflow_store import StoreUrl
from muster.adapters.mlflow_view_further import FURTHER
from muster.codec import from_json, to_json
from muster.domain.fidelity import FidelityReport
from muster.errors import Unfaithful
from registry_further import SECRETS
from registry_meddled import Meddle, found
from registry_seed import SmallStore, capture, query

KINDS = {kind for kinds in FURTHER.values() for kind in kinds}


def restored(store: SmallStore, url: str, tmp_path: Path) -> FidelityReport:
    details, tree = capture(store.url, str(store.artifacts), tmp_path / "tree")
    facts = MlflowTarget(url, str(tmp_path / "restored")).restore(details, tree)
    return from_json(FidelityReport, facts["fidelity_report"])


def counts(report: FidelityReport) -> dict[str, int]:
    """Of these kinds, as far as the client shows them."""
    return {line.kind: line.client.count for line in report.client if line.client and line.kind in KINDS}


@pytest.mark.parametrize(
    "started_target", ["sqlite", "postgresql", pytest.param("mariadb", marks=pytest.mark.servers)], indirect=True
)
def test_all_that_a_client_is_shown_comes_back_in_every_workspace(
    further_store: SmallStore, tmp_path: Path, started_target: str
) -> None:
    """Each kind is counted, twice as much as one workspace has; deleted things are not; no secret is in the report."""
    report = restored(further_store, started_target, tmp_path)
    assert report.identical
    assert report.differing == 0
    assert {kind: count / 2 for kind, count in counts(report).items()} == {
        "webhooks": 2,
        "webhook events": 3,
        "MCP servers": 3,
        "MCP server descriptions": 2,  # of the third it is that of its newest version
        "MCP server tags": 1,
        "MCP aliases": 2,
        "newest MCP versions": 1,  # which of two that differ in a suffix is the newer one is for the database to say
        "MCP server versions": 5,
        "MCP version tags": 1,
        "MCP access endpoints": 3,
        "label schemas": 14,
        "review queues": 4,
        "review queue users": 6,
        "review queue questions": 4,
        "review queue items": 4,
        "gateway secrets": 2,
        "gateway model definitions": 2,
        "gateway endpoints": 2,
        "gateway endpoint models": 3,
        "gateway endpoint tags": 1,
        "gateway endpoint guardrails": 1,
        "gateway bindings": 1,
        "budget policies": 1,
        "guardrails": 1,
    }
    assert not any(secret in str(to_json(report)) for secret in SECRETS)


def test_webhooks_and_gateway_secrets_are_shown_without_the_keys_of_the_server(
    further_store: SmallStore, tmp_path: Path
) -> None:
    """What no key opens is listed all the same: nothing is decrypted."""
    further_store.execute("UPDATE webhooks SET secret = 'of another key' WHERE secret IS NOT NULL")
    further_store.execute("UPDATE secrets SET encrypted_value = x'00', wrapped_dek = x'00', masked_value = 'no json'")
    report = restored(further_store, f"sqlite:///{tmp_path}/new.db", tmp_path)
    assert report.identical
    assert counts(report)["webhooks"] == 4
    assert counts(report)["gateway secrets"] == 4


def test_more_webhooks_than_a_page_has_are_all_seen(small_store: SmallStore, tmp_path: Path) -> None:
    """MLflow lists them by their time, which may be the same for all; none is seen twice, and none is missed."""
    small_store.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2001) INSERT INTO webhooks"
        " (webhook_id, name, url, status, creation_timestamp) SELECT i, 'w', 'https://127.0.0.1:9/', 'ACTIVE', 1 FROM n"
    )
    small_store.execute("INSERT INTO webhook_events SELECT webhook_id, 'prompt', 'created' FROM webhooks")
    report = restored(small_store, f"sqlite:///{tmp_path}/new.db", tmp_path)
    assert report.identical
    assert counts(report)["webhooks"] == 2001


OTHERWISE, LOST, ADDED = "is shown otherwise", "is lost", "was not captured"
CHANGES: dict[str, dict[str, set[tuple[str, str]]]] = {
    "webhooks": {
        "UPDATE webhooks SET url = 'https://127.0.0.1:9/other' WHERE name = 'watch' AND workspace = 'team'": {
            ("webhooks", OTHERWISE)
        },
        "DELETE FROM webhook_events WHERE entity = 'prompt_alias'": {("webhook events", OTHERWISE)},
        "UPDATE webhooks SET deleted_timestamp = NULL": {("webhooks", ADDED), ("webhook events", ADDED)},
    },
    "MCP servers": {
        "DELETE FROM mcp_server_aliases WHERE alias = 'live'": {
            ("MCP aliases", OTHERWISE),
            ("MCP access endpoints", LOST),
        },
        "UPDATE mcp_servers SET display_name = 'x' WHERE workspace = 'team'": {("MCP servers", OTHERWISE)},
        "UPDATE mcp_servers SET description = 'x' WHERE name = 'com.example/weather'": {
            ("MCP server descriptions", OTHERWISE)
        },
        "UPDATE mcp_server_versions SET tools = '[]' WHERE version = '1.0.0'": {("MCP server versions", OTHERWISE)},
        "UPDATE mcp_server_tags SET value = 'x'": {("MCP server tags", OTHERWISE)},
        "DELETE FROM mcp_server_version_tags": {("MCP version tags", LOST)},
    },
    "an MCP version": {
        "UPDATE mcp_server_versions SET status = 'deprecated' WHERE version = '1.0.0'": {
            (kind, OTHERWISE) for kind in ("MCP server versions", "newest MCP versions", "MCP server descriptions")
        },
    },
    "questions and reviews": {
        "UPDATE label_schemas SET input_config = '{\"max_length\": 81}' WHERE name = 'words'": {
            ("label schemas", OTHERWISE)
        },
        "UPDATE review_queues SET name = 'other' WHERE name = 'ada'": {("review queues", OTHERWISE)},
        "DELETE FROM review_queue_users WHERE user_id = 'grace'": {("review queue users", OTHERWISE)},
        "DELETE FROM review_queue_label_schemas": {("review queue questions", LOST)},
        "UPDATE review_queue_items SET status = 'declined' WHERE status = 'complete'": {
            ("review queue items", OTHERWISE)
        },
    },
    "the gateway": {
        "UPDATE secrets SET provider = 'other' WHERE secret_name = 'bare'": {("gateway secrets", OTHERWISE)},
        "UPDATE model_definitions SET model_name = 'gpt-5'": {("gateway model definitions", OTHERWISE)},
        "UPDATE endpoint_model_mappings SET weight = 0.2 WHERE linkage_type = 'FALLBACK'": {
            ("gateway endpoint models", OTHERWISE)
        },
        "UPDATE endpoints SET fallback_config_json = NULL WHERE name = 'chat'": {("gateway endpoints", OTHERWISE)},
        "UPDATE endpoint_tags SET value = 'x'": {("gateway endpoint tags", OTHERWISE)},
        "DELETE FROM endpoint_bindings": {("gateway bindings", LOST)},
        "UPDATE budget_policies SET budget_amount = 1000000": {("budget policies", OTHERWISE)},
        "UPDATE guardrails SET stage = 'BEFORE'": {("guardrails", OTHERWISE)},
        "UPDATE guardrail_configs SET execution_order = 2": {("gateway endpoint guardrails", OTHERWISE)},
    },
}
"""What somebody does to the restored database, and what MLflow's client shows of that."""


@pytest.mark.parametrize("change", CHANGES)
def test_changes_are_named_as_the_client_shows_them(
    further_store: SmallStore, meddling: Callable[[Meddle], None], tmp_path: Path, change: str
) -> None:
    """Besides the row, the kind is named that a client sees another thing of, in each workspace where it does."""
    shown = {one for told in CHANGES[change].values() for one in told}

    def meddle(url: str, _root: Path) -> None:
        for statement in CHANGES[change]:
            query(url, statement)

    meddling(meddle)
    with pytest.raises(Unfaithful) as caught:
        restored(further_store, f"sqlite:///{tmp_path}/new.db", tmp_path)
    differences = {one for one in found(caught.value.report) if one[0] == CLIENT}
    assert {(kind, what) for _, kind, _, what in differences} == shown
    assert {line.kind for line in caught.value.report.client if not line.same} == {kind for kind, _ in shown}


def test_a_lost_table_of_these_is_a_difference_and_no_outage(
    further_store: SmallStore, meddling: Callable[[Meddle], None], tmp_path: Path
) -> None:
    """Of what has no table a client is asked nothing: what should be seen is named as lost, thing by thing."""
    meddling(lambda url, _root: query(url, "DROP TABLE budget_policies") and None)
    with pytest.raises(Unfaithful) as caught:
        restored(further_store, f"sqlite:///{tmp_path}/new.db", tmp_path)
    assert [d[1:] for d in found(caught.value.report) if d[0] == "budget_policies"]
    assert {d[1::2] for d in found(caught.value.report) if d[0] == CLIENT} == {("budget policies", "is lost")}


@pytest.mark.parametrize(
    ("statement", "unseen"),
    [
        ("DELETE FROM webhook_events", "webhooks"),
        ("UPDATE label_schemas SET input_type = 'unknown' WHERE name = 'any'", "label schemas"),
        ("UPDATE label_schemas SET input_config = 'no json' WHERE name = 'any'", "label schemas"),
        ("UPDATE mcp_server_versions SET tools = '[{}]' WHERE version = '1.0.0'", "MCP servers"),
        ("UPDATE endpoints SET fallback_config_json = '[]' WHERE name = 'chat'", "gateway endpoints"),
        ("UPDATE budget_policies SET duration_unit = 'EONS'", "budget policies"),
    ],
)
def test_what_mlflow_cannot_show_here_or_there_fails_no_restore(
    further_store: SmallStore, tmp_path: Path, statement: str, unseen: str
) -> None:
    """Rows that MLflow's own server does not list come back as they were, and the report says that it does not."""
    further_store.execute(statement)
    report = restored(further_store, f"sqlite:///{tmp_path}/new.db", tmp_path)
    assert report.identical
    assert {line.kind for line in report.client if line.client is None} == set(FURTHER[unseen])


ODD: dict[str, tuple[str, ...]] = {
    "values": (
        "UPDATE webhooks SET description = NULL, creation_timestamp = 1, last_updated_timestamp = NULL",
        "UPDATE secrets SET auth_config = '', provider = NULL, workspace = 'elsewhere' WHERE workspace = 'team'",
        "UPDATE mcp_servers SET icons = NULL, display_name = '', created_by = NULL",
        "UPDATE mcp_server_versions SET tools = NULL, connect_options = '{\"a\": {}}', source = NULL",
        'UPDATE mcp_server_versions SET server_json = \'{"b": 1e3, "a": [NaN, 12345678901234567890, "\\ud800"]}\'',
        "UPDATE label_schemas SET input_config = '{\"max_length\": null, \"other\": 1}' WHERE input_type = 'text'",
        "UPDATE label_schemas SET instruction = '', created_by = 'ü', enable_comment = 1",
        "UPDATE endpoints SET fallback_config_json = '', routing_strategy = NULL, name = NULL, experiment_id = NULL",
        "UPDATE endpoint_model_mappings SET weight = 123456.789",
        "UPDATE guardrail_configs SET execution_order = NULL",
    ),
    "places": (
        "UPDATE webhooks SET workspace = 'elsewhere'",
        "UPDATE mcp_servers SET icons = '[]', description = NULL",
        "UPDATE mcp_access_endpoints SET server_alias = 'live', server_version = '1.0.0'",
        "UPDATE endpoints SET workspace = 'elsewhere' WHERE name = 'chat' AND workspace = 'team'",
        "UPDATE endpoints SET fallback_config_json = 'no json' WHERE workspace = 'default'",
        "UPDATE guardrail_configs SET workspace = 'default'",
    ),
    "deleted": (
        "UPDATE mcp_server_versions SET status = 'deleted'",
        "UPDATE mcp_access_endpoints SET server_alias = NULL",
        "UPDATE experiments SET lifecycle_stage = 'deleted'",
        "UPDATE webhooks SET deleted_timestamp = 1",
    ),
    "orphans": tuple(
        f"DELETE FROM {table}" for table in ("experiments", "endpoints", "mcp_servers", "webhooks", "secrets")
    ),
    "fewer orphans": tuple(
        f"DELETE FROM {table}"
        for table in ("model_definitions", "review_queues", "label_schemas", "mcp_server_versions")
    ),
}
"""What may stand in a store, though no client of MLflow puts it there."""


@pytest.mark.parametrize("odd", ODD)
def test_odd_values_come_back_as_a_client_sees_them(further_store: SmallStore, tmp_path: Path, odd: str) -> None:
    """Nothing, little and strange things, and rows whose parents are gone from a file that does not watch over them."""
    for statement in ODD[odd]:
        further_store.execute(statement)
    report = restored(further_store, f"sqlite:///{tmp_path}/new.db", tmp_path)
    assert report.identical
    assert set(counts(report)) == KINDS


def test_a_store_without_any_is_asked_once(small_store: SmallStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """One statement tells that there is nothing of all these, and no list of it is asked for."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    asked: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        asked.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        view = client_view(StoreUrl.parse(small_store.url))
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert not view.unseen
    for table in ("webhooks", "mcp_servers", "label_schemas", "endpoints"):
        assert len([one for one in asked if f"FROM {table}" in one]) == 1
