"""
What an API client must see of webhooks, label schemas, review queues, MCP servers and the gateway, told by their rows.

Secrets are known by their names and times: neither their values nor the masks that MLflow shows in their place are looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from muster.adapters.mlflow_view_mcp import MCP_KINDS, McpRows, parsed, text_of
from muster.domain.selection import DEFAULT_WORKSPACE

if TYPE_CHECKING:
    from muster.adapters.mlflow_view import View

Told = Callable[[Mapping[str, Any]], None]

FURTHER: dict[str, tuple[str, ...]] = {
    "webhooks": ("webhooks", "webhook events"),
    "MCP servers": MCP_KINDS,
    "label schemas": ("label schemas",),
    "review queues": ("review queues", "review queue users", "review queue questions", "review queue items"),
    "gateway secrets": ("gateway secrets",),
    "gateway model definitions": ("gateway model definitions",),
    "gateway endpoints": (
        *("gateway endpoints", "gateway endpoint models", "gateway endpoint tags", "gateway endpoint guardrails"),
    ),
    "gateway bindings": ("gateway bindings",),
    "budget policies": ("budget policies",),
    "guardrails": ("guardrails",),
}
"""What is asked for together, and the kinds of things that come of it."""
FURTHER_KINDS = frozenset(kind for kinds in FURTHER.values() for kind in kinds)
ASKED_IF: dict[str, str] = {
    "webhooks": "webhooks",
    "MCP servers": "mcp_servers",
    "label schemas": "label_schemas",
    "review queues": "review_queues",
    "gateway secrets": "secrets",
    "gateway model definitions": "model_definitions",
    "gateway endpoints": "endpoints",
    "gateway bindings": "endpoint_bindings",
    "budget policies": "budget_policies",
    "guardrails": "guardrails",
}
"""The table without whose rows there is nothing to be asked for."""

WEBHOOK = ("name", "url", "description", "status", "creation_timestamp", "last_updated_timestamp")
SCHEMA = ("name", "type", "instruction", "created_by", "created_time", "last_update_time")
QUEUE = ("name", "queue_type", "created_by", "creation_time_ms", "last_update_time_ms")
QUEUE_ITEM = (
    *("item_type", "item_id", "status", "completed_by"),
    *("completed_time_ms", "creation_time_ms", "last_update_time_ms"),
)
CHANGES = ("created_by", "last_updated_by", "created_at", "last_updated_at")
SECRET = ("secret_name", "provider", *CHANGES)
DEFINITION = ("name", "secret_id", "provider", "model_name", *CHANGES)
MAPPING = ("mapping_id", "model_definition_id", "linkage_type", "fallback_order", "created_by", "created_at")
CONFIG = ("guardrail_id", "execution_order", "created_by", "created_at")
BINDING = ("resource_type", "resource_id", "display_name", *CHANGES)
BUDGET = (
    *("budget_unit", "duration_unit", "duration_value", "target_scope", "target_value", "budget_action"),
    *CHANGES,
)
GUARDRAIL = ("name", "scorer_id", "scorer_version", "stage", "action", *CHANGES)
"""Columns that are looked at of these, in this order."""
INPUTS: dict[str, tuple[str, ...]] = {
    "pass_fail": ("positive_label", "negative_label"),
    "categorical": ("options", "multi_select"),
    "numeric": ("min_value", "max_value"),
    "text": ("max_length",),
}
"""How a question is answered, and what is said of that."""


class FurtherRows:
    """The rows of all these, told table by table, parents first, those of experiments before them."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._mcp = McpRows(view)
        self._endpoints: dict[str, Mapping[str, Any]] = {}
        of_tables: dict[str, Told] = {
            "webhooks": self._webhook,
            "webhook_events": self._child("webhooks", "webhook_id", "webhook events", ("entity", "action")),
            "label_schemas": self._schema,
            "review_queues": self._queue,
            "review_queue_users": self._child("review queues", "queue_id", "review queue users", ("user_id",)),
            "review_queue_label_schemas": self._child(
                "review queues", "queue_id", "review queue questions", ("schema_id",)
            ),
            "review_queue_items": self._child("review queues", "queue_id", "review queue items", QUEUE_ITEM),
            "secrets": self._plain("gateway secrets", "secret_id", SECRET),
            "model_definitions": self._plain("gateway model definitions", "model_definition_id", DEFINITION),
            "endpoints": self._endpoint,
            "endpoint_model_mappings": self._mapping,
            "endpoint_tags": self._of_endpoint("gateway endpoint tags", ("key", "value")),
            "endpoint_bindings": self._binding,
            "budget_policies": self._budget,
            "guardrails": self._guardrail,
            "guardrail_configs": self._config,
            **self._mcp.of_tables,
        }
        self.of_tables = {table: self._careful(table, told) for table, told in of_tables.items()}

    def _careful(self, table: str, told: Told) -> Told:
        """Rows that a version of MLflow keeps in another way than this one are compared as rows; nothing ends for them."""

        def take(row: Mapping[str, Any]) -> None:
            try:
                told(row)
            except (LookupError, TypeError, ValueError, AttributeError) as error:
                why = f"the rows of {table} are others than MLflow 3.17 makes ({type(error).__name__})"
                self._view.untold.update(dict.fromkeys(FURTHER_KINDS, why))

        return take

    def finish(self) -> None:
        """Show what only all tables tell."""
        self._careful("endpoints and mcp_servers", lambda _row: self._show_whole())({})

    def _show_whole(self) -> None:
        """MLflow lists no endpoint of the gateway that has no model, and nothing of it."""
        self._mcp.finish()
        for id_, row in self._endpoints.items():
            if self._view.has("gateway endpoint models", id_):
                said = [row["name"], row["routing_strategy"], fallback_of(parsed(row["fallback_config_json"]))]
                experiment = None if row["experiment_id"] is None else str(row["experiment_id"])
                item = [*said, experiment, bool(row["usage_tracking"]), *(row[column] for column in CHANGES)]
                self._view.add("gateway endpoints", id_, [*item, _workspace(row)])
            else:
                self._view.drop("gateway endpoint tags", id_)
                self._view.drop("gateway endpoint guardrails", id_)

    def _plain(self, kind: str, id_: str, columns: tuple[str, ...]) -> Told:
        def told(row: Mapping[str, Any]) -> None:
            self._view.add(kind, row[id_], [*(row[column] for column in columns), _workspace(row)])

        return told

    def _child(self, parents: str, id_: str, kind: str, columns: tuple[str, ...]) -> Told:
        def told(row: Mapping[str, Any]) -> None:
            if self._view.has(parents, row[id_]):
                self._view.add(kind, row[id_], [row[column] for column in columns])

        return told

    def _of_endpoint(self, kind: str, columns: tuple[str, ...]) -> Told:
        def told(row: Mapping[str, Any]) -> None:
            if row["endpoint_id"] in self._endpoints:
                self._view.add(kind, row["endpoint_id"], [row[column] for column in columns])

        return told

    def _webhook(self, row: Mapping[str, Any]) -> None:
        if row["deleted_timestamp"] is None:
            self._plain("webhooks", "webhook_id", WEBHOOK)(row)

    def _schema(self, row: Mapping[str, Any]) -> None:
        if self._view.has("experiments", experiment := str(row["experiment_id"])):
            flags = [bool(row["enable_comment"]), bool(row.get("is_default"))]
            asked = input_of(row["input_type"], parsed(row["input_config"]))
            item = [experiment, *(row[column] for column in SCHEMA), asked, *flags]
            self._view.add("label schemas", row["schema_id"], item)

    def _queue(self, row: Mapping[str, Any]) -> None:
        if self._view.has("experiments", experiment := str(row["experiment_id"])):
            self._view.add("review queues", row["queue_id"], [experiment, *(row[column] for column in QUEUE)])

    def _endpoint(self, row: Mapping[str, Any]) -> None:
        self._endpoints[row["endpoint_id"]] = row

    def _mapping(self, row: Mapping[str, Any]) -> None:
        if row["endpoint_id"] in self._endpoints:
            item = [*(row[column] for column in MAPPING), rounded(row["weight"])]
            self._view.add("gateway endpoint models", row["endpoint_id"], item)

    def _binding(self, row: Mapping[str, Any]) -> None:
        self._view.add("gateway bindings", row["endpoint_id"], [row[column] for column in BINDING])
        if row["endpoint_id"] not in self._endpoints:  # shown where there is one workspace only
            self._view.leave_open("gateway bindings", row["endpoint_id"])

    def _budget(self, row: Mapping[str, Any]) -> None:
        item = [*(row.get(column) for column in BUDGET), rounded(row["budget_amount"]), _workspace(row)]
        self._view.add("budget policies", row["budget_policy_id"], item)

    def _guardrail(self, row: Mapping[str, Any]) -> None:
        acting = self._endpoints.get(row["action_endpoint_id"])
        item = [*(row[column] for column in GUARDRAIL), acting["name"] if acting else None, _workspace(row)]
        self._view.add("guardrails", row["guardrail_id"], item)

    def _config(self, row: Mapping[str, Any]) -> None:
        endpoint = self._endpoints.get(row["endpoint_id"])
        if endpoint and _workspace(endpoint) == _workspace(row):
            self._of_endpoint("gateway endpoint guardrails", CONFIG)(row)


def input_of(kind: str, said: Any) -> str:
    """How a question is answered: its kind, and what MLflow knows to say of that."""
    config = said if isinstance(said, dict) else {}
    return text_of([kind, {key: config[key] for key in INPUTS.get(kind, ()) if config.get(key) not in (None, False)}])


def fallback_of(said: Any) -> list[Any] | None:
    """What an endpoint of the gateway does when its models fail."""
    return [said.get("strategy") or None, said.get("max_attempts")] if isinstance(said, dict) else None


def rounded(value: Any) -> str:
    """A number with the digits that every engine keeps: what MLflow calls a float is of single precision in MySQL."""
    return str(value["float"]) if isinstance(value, dict) else f"{float(value):.6g}"


def _workspace(row: Mapping[str, Any]) -> str:
    return str(row.get("workspace", DEFAULT_WORKSPACE))
