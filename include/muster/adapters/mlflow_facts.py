"""What a registry's tables say of itself: its models, where their artifacts lie, which server keys it cannot be read without."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from muster.adapters.mlflow_closure import ChosenTables
from muster.adapters.mlflow_location_map import LOCATIONS, TRACE_LOCATION_KEYS
from muster.adapters.mlflow_locations import Place, place_of, placed_values
from muster.adapters.mlflow_rows import Table
from muster.domain.holdings import Holdings
from muster.domain.selection import label_of
from muster.errors import SourceInvalid

if TYPE_CHECKING:
    from sqlalchemy import Connection

Json = Any
Tables = Mapping[str, Table]
WALKED = ("runs.", "logged_models.", "model_versions.", "trace_tags.")
SERVER_KEYS = {
    ("webhooks", "secret"): "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY",
    ("secrets", "encrypted_value"): "MLFLOW_CRYPTO_KEK_PASSPHRASE",
}
"""Columns of encrypted values, and the environment variable of the server without which they cannot be read."""
DELETED = "Deleted_Internal"
_NAMED = {
    "webhook": ("webhooks", "webhook_id", "name", "deleted_timestamp"),
    "evaluation dataset": ("evaluation_datasets", "dataset_id", "name"),
    "scorer": ("scorers", "scorer_id", "scorer_name"),
    "label schema": ("label_schemas", "schema_id", "name"),
    "review queue": ("review_queues", "queue_id", "name"),
    "gateway endpoint": ("endpoints", "endpoint_id", "name"),
    "gateway model": ("model_definitions", "model_definition_id", "name"),
    "gateway secret": ("secrets", "secret_id", "secret_name"),
    "guardrail": ("guardrails", "guardrail_id", "name"),
    "MCP server": ("mcp_servers", "name", "name"),
}
"""What else people make by name: its table, and the columns of its id, its name and, where it is only marked, of its deletion."""


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """
    A version that can be asked for.

    :param place: where its artifacts lie
    """

    model: str
    version: int
    run_id: str | None
    place: Place

    def __str__(self) -> str:
        run = f" of run {self.run_id}" if self.run_id else ""
        return f"version {self.version} of model {self.model}{run}"


def values(connection: Connection, tables: Tables, table: str, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Chosen columns of a table, None for those that this schema does not have; nothing if there is no such table."""
    import sqlalchemy as sa

    if table in tables and isinstance(tables, ChosenTables):
        yield from _of_chosen(connection, tables, table, columns)
    elif table in tables:
        have = set(tables[table].names)
        wanted = [sa.column(c) if c in have else sa.null().label(c) for c in columns]
        statement = sa.select(*wanted).select_from(sa.table(table))
        with connection.execute(statement, execution_options={"yield_per": 1000}) as found:
            for row in found:
                yield tuple(row)


def _of_chosen(
    connection: Connection, tables: ChosenTables, table: str, columns: Sequence[str]
) -> Iterator[tuple[Any, ...]]:
    names, pick = tables[table].names, tables.picker(table)
    places = [names.index(column) if column in names else None for column in columns]
    for row in values(connection, dict(tables), table, names):
        if pick(list(row)):
            yield tuple(None if place is None else row[place] for place in places)


def location_values(connection: Connection, tables: Tables) -> dict[str, list[Place]]:
    """All places that the store names, by ``table.column``."""
    found: dict[str, list[str]] = {}
    for table, columns in LOCATIONS.items():
        keyed = ("key", *columns) if table == "trace_tags" else columns
        for row in values(connection, tables, table, keyed):
            if table == "trace_tags" and row[0] not in TRACE_LOCATION_KEYS:
                continue
            for column, value in zip(keyed, row, strict=True):
                if column != "key" and isinstance(value, str) and value:
                    found.setdefault(f"{table}.{column}", []).append(value)
    return placed_values(found)


def models_of(connection: Connection, tables: Tables) -> dict[str, Json]:
    """``{model: {"versions": [1, 3], "aliases": {"champion": 3}}}``; models of other workspaces as ``workspace/model``."""
    found: dict[str, dict[str, Any]] = {}

    def of(workspace: str | None, name: str) -> dict[str, Any]:
        return found.setdefault(label_of(workspace, name), {"versions": [], "aliases": {}})

    for workspace, name in values(connection, tables, "registered_models", ("workspace", "name")):
        of(workspace, name)
    wanted = ("workspace", "name", "version", "current_stage")
    for workspace, name, version, stage in values(connection, tables, "model_versions", wanted):
        if stage != DELETED:
            of(workspace, name)["versions"].append(version)
    aliased = ("workspace", "name", "alias", "version")
    for workspace, name, alias, version in values(connection, tables, "registered_model_aliases", aliased):
        of(workspace, name)["aliases"][alias] = version
    for model in found.values():
        model["versions"].sort()
        model["aliases"] = dict(sorted(model["aliases"].items()))
    return dict(sorted(found.items()))


def prompts_of(connection: Connection, tables: Tables) -> set[tuple[Any, Any]]:
    """Workspace and name of the registered models that are prompts."""
    wanted = ("workspace", "name", "key", "value")
    return {
        (workspace, name)
        for workspace, name, key, value in values(connection, tables, "registered_model_tags", wanted)
        if key == "mlflow.prompt.is_prompt" and str(value).lower() == "true"
    }


def holdings_of(connection: Connection, tables: Tables) -> Holdings:
    """What is not deleted: experiments, which models are prompts, named as in `models_of`, and whatever else has a name."""
    wanted = ("experiment_id", "name", "lifecycle_stage")
    experiments = {
        str(id_): str(name)
        for id_, name, stage in values(connection, tables, "experiments", wanted)
        if stage != "deleted"
    }
    prompts = (label_of(workspace, name) for workspace, name in prompts_of(connection, tables))
    others = {
        kind: {str(id_): str(name) for id_, name, *gone in values(connection, tables, table, columns) if not any(gone)}
        for kind, (table, *columns) in _NAMED.items()
    }
    made: dict[str, dict[str, str]] = {}
    columns = ("workspace", "name", "version", "current_stage", "creation_time", "run_id")
    for workspace, name, version, stage, created, run in values(connection, tables, "model_versions", columns):
        if stage != DELETED:
            made.setdefault(label_of(workspace, name), {})[str(version)] = f"{created} {run}"
    return Holdings(experiments, tuple(sorted(prompts)), others=others, made=made)


def server_keys(connection: Connection, tables: Tables) -> list[str]:
    """Environment variables that hold the keys of encrypted values in this store."""
    return [
        key
        for (table, column), key in SERVER_KEYS.items()
        if any(value is not None for (value,) in values(connection, tables, table, (column,)))
    ]


def versions_with_artifacts(connection: Connection, tables: Tables, *, lenient: bool = False) -> list[ModelVersion]:
    """
    All model versions that are neither deleted nor prompts, each with the place of its artifacts.

    :param lenient: leave out those that name them in a way that leads nowhere
    :raises SourceInvalid: if a version names its artifacts in a way that leads nowhere
    """
    prompts = prompts_of(connection, tables)
    wanted = ("workspace", "name", "version", "run_id", "current_stage", "storage_location", "source")
    found = []
    rows = list(values(connection, tables, "model_versions", wanted))  # more is asked for each of them
    for workspace, name, version, run, stage, stored, source in rows:
        if stage != DELETED and (workspace, name) not in prompts:
            place = _resolved(connection, tables, (stored, source))
            if place is None and not lenient:
                raise SourceInvalid(
                    f"version {version} of model {name} names its artifacts as {source}, which leads nowhere",
                    "delete this version, or register it again",
                )
            found += [ModelVersion(name, version, run, place)] if place else []
    return found


def _resolved(connection: Connection, tables: Tables, named: Sequence[str | None]) -> Place | None:
    for value in named:
        if not value:
            continue
        if place := place_of(value):
            return place
        if match := re.fullmatch(r"models:/(m-[^/]+)/?(.*)", value):
            return _below(connection, tables, ("logged_models", "model_id", "artifact_location"), match)
        if match := re.fullmatch(r"runs:/+([^/]+)/?(.*)", value):
            return _below(connection, tables, ("runs", "run_uuid", "artifact_uri"), match)
        if match := re.fullmatch(r"models:/([^/]+)/(\d+)", value):
            return _other_version(connection, tables, match.group(1), int(match.group(2)))
    return None


def _below(connection: Connection, tables: Tables, where: tuple[str, str, str], match: re.Match[str]) -> Place | None:
    import sqlalchemy as sa

    table, key, column = where
    if table not in tables:
        return None
    statement: sa.Select[Any] = (
        sa.select(sa.column(column)).select_from(sa.table(table)).where(sa.column(key) == match.group(1))
    )
    base = connection.execute(statement).scalar()
    return place_of(f"{base.rstrip('/')}/{match.group(2)}".rstrip("/")) if isinstance(base, str) else None


def _other_version(connection: Connection, tables: Tables, name: str, version: int) -> Place | None:
    wanted = ("name", "version", "storage_location", "source")
    for other, number, stored, source in list(values(connection, tables, "model_versions", wanted)):
        if (other, number) == (name, version):
            direct = [v for v in (stored, source) if v and not re.fullmatch(r"models:/[^/]+/\d+", v)]
            return _resolved(connection, tables, direct)
    return None
