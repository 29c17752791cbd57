"""A row in each of MLflow's tables, a value in each column, between all engines: what the test itself reads of both is the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from muster.adapters.mlflow_registry import MlflowTarget
from muster.adapters.mlflow_tables import LEFT_OUT
from registry_seed import capture, driven, empty_store

TABLES = 64 + 1
"""Of MLflow 3.17, and the one that Alembic keeps its revision in."""
SQLITE, POSTGRESQL = "sqlite", "embedded_postgres"
MARIADB = pytest.param("mariadb", marks=pytest.mark.servers)

WORDS = {
    ("experiments", "lifecycle_stage"): "active",
    ("runs", "lifecycle_stage"): "active",
    ("runs", "status"): "FINISHED",
    ("runs", "source_type"): "LOCAL",
    ("logged_models", "lifecycle_stage"): "active",
    ("model_versions", "current_stage"): "Production",
    ("model_versions", "status"): "READY",
    ("registered_models", "workspace"): "default",
    ("trace_tags", "key"): "mlflow.artifactLocation",
    ("jobs", "status"): 1,
}
"""Columns that take only certain words, or by which other rows are found; of jobs, running."""
FAILED = 3
PLACES = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("storage_location", "source"),
    "trace_tags": ("value",),
    "workspaces": ("default_artifact_root", "trace_archival_location"),
}
"""Columns that say where artifacts lie."""


def database(request: pytest.FixtureRequest, engine: str, folder: Path) -> str:
    if engine == SQLITE:
        return f"sqlite:///{folder}/mlflow.db"
    return str(request.getfixturevalue(engine).database())


def fill_every_table(url: str, artifacts: Path) -> None:
    """One row, parents first; a value in each column, that of the parent's row where one refers to another."""
    import sqlalchemy as sa

    metadata = sa.MetaData()
    with sa.create_engine(driven(url), poolclass=sa.NullPool).begin() as connection:
        metadata.reflect(connection)
        made: dict[str, dict[str, Any]] = {}
        for number, table in enumerate(metadata.sorted_tables):
            if table.name == "alembic_version":
                continue
            row: dict[str, Any] = {}
            for column in table.columns:
                if column.computed is not None:
                    continue
                parents = [key.column for key in column.foreign_keys if key.column.table.name in made]
                if parents:
                    row[column.name] = made[parents[0].table.name][parents[0].name]
                else:
                    row[column.name] = value_of(table.name, column, number, artifacts)
            connection.execute(table.insert(), row)
            made[table.name] = row


def value_of(table: str, column: Any, number: int, artifacts: Path) -> Any:
    import sqlalchemy as sa

    if (table, column.name) in WORDS:
        return WORDS[table, column.name]
    if column.name in PLACES.get(table, ()):
        return f"{artifacts}/{table}"
    kind = meant(table, column)
    if isinstance(kind, sa.JSON):
        found = {"key": [1, "ü", None, 0.5]}
        return found if isinstance(column.type, sa.JSON) else json.dumps(found, ensure_ascii=False)
    if kind.python_type is str:
        return f"{table} {column.name} ü"[: min(getattr(column.type, "length", None) or 255, kind.length or 255)]
    plain = {
        int: 40 + number,
        float: 0.1,
        bool: True,
        bytes: b"\x00\xff",
        date: date(2026, 11, 27),
        Decimal: Decimal("0.5"),
    }
    return plain[kind.python_type]


def meant(table: str, column: Any) -> Any:
    """The type by MLflow's own models: in MariaDB a boolean is a small number, and JSON a text."""
    import sqlalchemy as sa
    from mlflow.store.tracking.dbmodels.models import Base

    known = Base.metadata.tables.get(table)
    kind = column.type if known is None else known.columns[column.name].type
    return kind.impl_instance if isinstance(kind, sa.types.TypeDecorator) else kind


def rows_of(url: str) -> dict[str, list[list[tuple[str, Any]]]]:
    """All rows of all tables, whatever an engine calls a value."""
    import sqlalchemy as sa

    metadata = sa.MetaData()
    with sa.create_engine(driven(url), poolclass=sa.NullPool).connect() as connection:
        metadata.reflect(connection)
        return {
            name: sorted(
                [sorted((k, plain(v)) for k, v in row._mapping.items()) for row in connection.execute(table.select())],
                key=repr,
            )
            for name, table in metadata.tables.items()
        }


def plain(value: Any) -> Any:
    if isinstance(value, bool | Decimal):
        return int(value) if value == int(value) else float(value)
    if isinstance(value, str) and value[:1] in "{[":
        value = json.loads(value)
    if isinstance(value, bytes | date):
        return str(value)
    return json.dumps(value, sort_keys=True) if isinstance(value, Mapping | list) else value


@pytest.mark.parametrize("source", [SQLITE, POSTGRESQL, MARIADB])
@pytest.mark.parametrize("target", [SQLITE, POSTGRESQL, MARIADB])
def test_every_table_comes_back(source: str, target: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Only a job that was running is failed, places are mapped, and locks and leases of servers that are gone stay behind."""
    (tmp_path / "old").mkdir()
    old, artifacts, new = database(request, source, tmp_path / "old"), tmp_path / "artifacts", tmp_path / "new"
    empty_store(driven(old), artifacts)
    (artifacts / "model_versions").mkdir(parents=True)
    (artifacts / "model_versions" / "model.pkl").write_bytes(b"weights")
    fill_every_table(old, artifacts)
    before = rows_of(old)
    assert len(before) == TABLES
    assert all(before.values())
    details, tree = capture(old, str(artifacts), tmp_path / "tree")
    assert set(details["tables"]) == before.keys() - LEFT_OUT.keys()
    place = database(request, target, new)
    facts = MlflowTarget(place, str(new / "artifacts")).restore(details, tree)
    assert facts["fidelity_report"]["differing"] == 0
    after = rows_of(place)
    assert after.keys() == before.keys()
    for table, rows in before.items():
        if table in LEFT_OUT:
            assert after[table] == []
        else:
            assert json.loads(json.dumps(after[table])) == expected(table, rows, artifacts, new / "artifacts"), table


def expected(table: str, rows: Any, old: Path, new: Path) -> Any:
    if table == "jobs":
        rows = [[(name, FAILED if name == "status" else value) for name, value in row] for row in rows]
    text = json.dumps(rows)
    if table in PLACES:
        text = text.replace(json.dumps(str(old))[1:-1], json.dumps(str(new))[1:-1])
    return json.loads(text)
