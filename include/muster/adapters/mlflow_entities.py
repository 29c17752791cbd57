"""The rows of a registry's tables, counted as the things that people know: experiments, deleted ones apart, versions, prompts …"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from muster.adapters.mlflow_facts import DELETED
from muster.adapters.mlflow_lines import Row, RowSum
from muster.adapters.mlflow_rows import Table
from muster.domain.fidelity import Counted

Take = Callable[[Row, bytes], None]
"""Called with each row of a table and its canonical line."""

PROMPT_TAG = "mlflow.prompt.is_prompt"
GAPS = "gaps in version numbers"

ENTITIES: dict[str, tuple[str, ...]] = {
    "experiments": ("experiments",),
    "runs": ("runs",),
    "latest metrics": ("latest_metrics",),
    "metric history points": ("metrics",),
    "params": ("params",),
    "tags of experiments and runs": ("experiment_tags", "tags"),
    "datasets": ("datasets",),
    "inputs": ("inputs", "input_tags"),
    "logged models": ("logged_models",),
    "params, tags and metrics of logged models": ("logged_model_params", "logged_model_tags", "logged_model_metrics"),
    "registered models": ("registered_models",),
    "model versions": ("model_versions",),
    "tags of models and versions": ("registered_model_tags", "model_version_tags"),
    "aliases": ("registered_model_aliases",),
    "traces": ("trace_info",),
    "tags, metadata and metrics of traces": ("trace_tags", "trace_request_metadata", "trace_metrics"),
    "spans": ("spans", "span_metrics"),
    "assessments": ("assessments",),
    "associations": ("entity_associations",),
    "scorers": ("scorers", "scorer_versions", "online_scoring_configs"),
    "evaluation datasets": ("evaluation_datasets", "evaluation_dataset_tags"),
    "evaluation records": ("evaluation_dataset_records",),
    "labels and reviews": (
        *("label_schemas", "review_queues", "review_queue_items", "review_queue_users"),
        "review_queue_label_schemas",
    ),
    "issues": ("issues",),
    "secrets": ("secrets",),
    "endpoints": ("endpoints", "endpoint_tags", "endpoint_bindings", "endpoint_model_mappings", "model_definitions"),
    "budgets and guardrails": ("budget_policies", "guardrails", "guardrail_configs"),
    "webhooks": ("webhooks", "webhook_events"),
    "MCP servers": (
        *("mcp_servers", "mcp_server_versions", "mcp_server_tags", "mcp_server_version_tags", "mcp_server_aliases"),
        "mcp_access_endpoints",
    ),
    "workspaces": ("workspaces",),
    "jobs": ("jobs",),
    "rollups of traces": (
        *("sql_trace_metric_daily_rollups", "sql_span_cost_daily_rollups", "sql_assessment_daily_rollups"),
        "sql_trace_rollup_rebuild_queue",
    ),
    "users": ("users",),
    "roles and permissions": (
        *("roles", "role_permissions", "user_role_assignments", "experiment_permissions"),
        *("registered_model_permissions", "scorer_permissions", "workspace_permissions"),
    ),
    "schema revisions": ("alembic_version", "alembic_version_auth"),
}
"""What people call the rows of which tables; a table that is not here stands under its own name."""

_NAMES = {table: kind for kind, tables in ENTITIES.items() for table in tables}


def entity_of(table: str) -> str:
    """What the rows of a table are called."""
    return _NAMES.get(table, table)


def finer_kinds(table: Table, prompts: frozenset[tuple[Any, Any]]) -> Callable[[Row], str] | None:
    """
    What a row of a table is, where its rows are not all of one kind.

    :param prompts: workspace and name of the registered models that are prompts
    """

    def at(column: str) -> Callable[[Row], Any]:
        index = table.names.index(column) if column in table.names else None
        return lambda row: None if index is None else row[index]

    stage, workspace, name, current = at("lifecycle_stage"), at("workspace"), at("name"), at("current_stage")
    if table.name in ("experiments", "runs", "logged_models"):
        kind = entity_of(table.name)
        return lambda row: f"deleted {kind}" if stage(row) == "deleted" else kind
    if table.name == "registered_models":
        return lambda row: "prompts" if (workspace(row), name(row)) in prompts else "registered models"
    if table.name == "model_versions":

        def kind_of_version(row: Row) -> str:
            kind = "prompt versions" if (workspace(row), name(row)) in prompts else "model versions"
            return f"deleted {kind}" if current(row) == DELETED else kind

        return kind_of_version
    return None


@dataclass(slots=True)
class EntityCount:
    """
    Counts rows as entities, table after table.

    :param prompts: workspace and name of the registered models that are prompts
    """

    prompts: frozenset[tuple[Any, Any]]
    _parts: dict[str, dict[str, RowSum]] = field(default_factory=dict)
    _tallies: dict[str, dict[str, _Tally]] = field(default_factory=dict)

    def takers(self, table: Table) -> list[Take]:
        """Who wants to see the rows of this table one by one; for most tables nobody does."""
        kind_of = finer_kinds(table, self.prompts)
        if kind_of is None:
            return []
        tallies: dict[str, _Tally] = self._tallies.setdefault(table.name, {})

        def take(row: Row, line: bytes) -> None:
            tallies.setdefault(kind_of(row), _Tally()).add(line)

        return [take, _Gaps(table, tallies).take] if table.name == "model_versions" else [take]

    def done(self, table: str, total: RowSum, name: str) -> None:
        """All rows of a table were seen. `name` is that of the table in the report."""
        tallies = self._tallies.pop(table, None)
        found = {entity_of(table): total} if tallies is None else {k: t.sum() for k, t in tallies.items()}
        for kind, part in found.items():
            self._parts.setdefault(kind, {})[name] = part

    def same(self, other: EntityCount, name: str) -> None:
        """A table has the very rows that another count has seen."""
        for kind, parts in other._parts.items():
            if name in parts:
                self._parts.setdefault(kind, {})[name] = parts[name]

    def totals(self) -> dict[str, tuple[tuple[str, ...], Counted]]:
        """For each kind the tables that it was counted in, and its number and digest."""
        return {kind: (tuple(sorted(parts)), _joined(parts)) for kind, parts in sorted(self._parts.items())}


def _joined(parts: Mapping[str, RowSum]) -> Counted:
    if len(parts) == 1:
        (only,) = parts.values()
        return Counted(only.rows, only.sha256)
    lines = (f"{name} {part.rows} {part.sha256}\n" for name, part in sorted(parts.items()))
    return Counted(sum(p.rows for p in parts.values()), hashlib.sha256("".join(lines).encode()).hexdigest())


class _Tally:
    """Counts and digests lines."""

    def __init__(self) -> None:
        self.count, self.digest = 0, hashlib.sha256()

    def add(self, line: bytes) -> None:
        self.count += 1
        self.digest.update(line)

    def sum(self) -> RowSum:
        return RowSum(self.count, self.digest.hexdigest())


class _Gaps(_Tally):
    """Version numbers below the highest one of their model that no living version has: they are never given out again."""

    def __init__(self, table: Table, tallies: dict[str, _Tally]) -> None:
        super().__init__()
        self._at = [table.names.index(c) if c in table.names else None for c in ("workspace", "name", "version")]
        self._stage = table.names.index("current_stage") if "current_stage" in table.names else None
        self._seen: dict[tuple[Any, Any], list[int]] = {}
        tallies[GAPS] = self

    def take(self, row: Row, _line: bytes) -> None:
        found: list[Any] = [None if index is None else row[index] for index in self._at]
        workspace, name, version = found
        seen = self._seen.setdefault((workspace, name), [0, 0])
        seen[0] = max(seen[0], version)
        seen[1] += self._stage is None or row[self._stage] != DELETED

    def sum(self) -> RowSum:
        for (workspace, name), (highest, living) in sorted(self._seen.items(), key=repr):
            self.digest.update(f"{workspace!r} {name!r} {highest} {living}\n".encode())
            self.count += highest - living
        return RowSum(self.count, self.digest.hexdigest())


def prompts_among(tags: Iterable[Row], table: Table) -> frozenset[tuple[Any, Any]]:
    """Workspace and name of the registered models that the rows of ``registered_model_tags`` call prompts."""
    at = {name: index for index, name in enumerate(table.names)}
    workspace = at.get("workspace")
    return frozenset(
        (None if workspace is None else row[workspace], row[at["name"]])
        for row in tags
        if row[at["key"]] == PROMPT_TAG and str(row[at["value"]]).lower() == "true"
    )
