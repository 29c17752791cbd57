"""Rows go in by the fast way of each engine, and are what they were; indexes are made last, and are what they were."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes_trees import FolderTree
from muster.adapters.mlflow_lines import in_batches
from muster.adapters.mlflow_registry import MlflowSource, MlflowTarget
from muster.adapters.mlflow_rows import insert_rows, rows_of, tables_of
from muster.adapters.mlflow_schema import indexes_made_last
from muster.errors import SourceInvalid
from postgres import Cluster
from registry_seed import SmallStore, driven

DDL = (
    'CREATE TABLE "odd ""table" (k TEXT PRIMARY KEY, "a column" TEXT, i BIGINT, f DOUBLE PRECISION, b BOOLEAN, r BYTEA, n NUMERIC,'
    " d DATE, m TIMESTAMP, j JSON)"
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8) | st.sampled_from(
    ["", "\\N", "\\.", "\\", "\t", "a\tb\\t", "\r\n", "\n", "\\x00", "NULL", "\u2028"]
)
FLOATS = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(
    [-0.0, 5e-324, {"float": "nan"}, {"float": "inf"}, {"float": "-inf"}]
)
ROWS = st.lists(
    st.tuples(
        TEXTS,
        st.none() | TEXTS,
        st.none() | st.integers(-(2**63), 2**63 - 1),
        st.none() | FLOATS,
        st.none() | st.booleans(),
        st.none() | st.sampled_from([{"bytes": ""}, {"bytes": "AP9cXA=="}]),
        st.none() | st.just({"decimal": "1.50"}),
        st.none() | st.just({"date": "0001-01-01"}),
        st.none() | st.sampled_from([{"datetime": "2026-11-23T02:00:00.000001"}, {"datetime": "2026-11-23T02:00:00"}]),
        st.none() | st.just('{"b": 1,  "a": "\\t\\\\"}'),
    ),
    max_size=20,
    unique_by=lambda row: row[0],
)


@pytest.fixture(scope="module")
def on_postgres(embedded_postgres: Cluster) -> Iterator[Any]:
    import sqlalchemy as sa

    engine = sa.create_engine(driven(embedded_postgres.database()), poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(DDL)
        connection.commit()
        yield connection


@given(ROWS)
@settings(max_examples=100, deadline=None)
def test_every_value_goes_into_postgresql(on_postgres: Any, rows: list[tuple[Any, ...]]) -> None:
    """Whatever a text holds of what COPY takes for its own, and whichever sign a zero has."""
    table = tables_of(on_postgres)['odd "table']
    given = [list(row) for row in sorted(rows, key=lambda row: row[0])]
    insert_rows(on_postgres, table, in_batches(given))
    found = list(rows_of(on_postgres, table))
    on_postgres.rollback()
    assert repr(found) == repr(given)  # which tells zeros apart


def test_what_postgresql_cannot_hold_is_named(on_postgres: Any) -> None:
    """Before anything is sent; other things by the server, without the values."""
    table = tables_of(on_postgres)['odd "table']
    nothing = [None] * 8
    with pytest.raises(SourceInvalid, match='odd "table holds text that PostgreSQL cannot hold'):
        insert_rows(on_postgres, table, in_batches([["k", "a\0b", *nothing]]))
    from muster.adapters.mlflow_store import translated

    with pytest.raises(SourceInvalid, match="duplicate key") as refused, translated("the store"):
        insert_rows(on_postgres, table, in_batches([["k", "secret", *nothing]] * 2))
    on_postgres.rollback()
    assert "secret" not in str(refused.value)


def indexes(connection: Any) -> list[tuple[str, str]]:
    asked = {
        "sqlite": "SELECT name, sql FROM sqlite_schema WHERE type = 'index'",
        "postgresql": "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    }
    return sorted(map(tuple, connection.exec_driver_sql(asked[connection.dialect.name])))


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_indexes_come_back_as_mlflow_made_them(
    small_store: SmallStore, embedded_postgres: Cluster, tmp_path: Path, engine: str
) -> None:
    """All of them, by name and definition, unique and partial ones too."""
    import sqlalchemy as sa

    from registry_seed import empty_store

    made, back = f"sqlite:///{tmp_path}/made.db", f"sqlite:///{tmp_path}/back.db"
    if engine == "postgresql":
        made, back = embedded_postgres.database(), embedded_postgres.database()
    empty_store(driven(made), tmp_path / "unused")
    small_store.add_run("r").mkdir(parents=True)
    with MlflowSource("w", small_store.url, str(small_store.artifacts)).capture(None) as cut:
        tree = FolderTree(tmp_path / "tree").store(cut.files())
        details = cut.details()
    MlflowTarget(back, str(tmp_path / "back")).restore(details, tree)
    found = []
    for url in (made, back):
        with sa.create_engine(driven(url), poolclass=sa.NullPool).connect() as connection:
            found.append(indexes(connection))
    assert len(found[0]) > 60
    assert found[1] == found[0]


def test_an_index_that_a_key_refers_to_stays(on_postgres: Any) -> None:
    """It cannot be dropped, and need not."""
    for statement in (
        "CREATE TABLE parent (id INTEGER, other INTEGER, name TEXT)",
        "CREATE UNIQUE INDEX by_id ON parent (id)",
        "CREATE INDEX by_other ON parent (other)",
        "CREATE INDEX by_name ON parent (name) WHERE name LIKE 'a%%'",
        "CREATE TABLE child (id INTEGER REFERENCES parent (id))",
    ):
        on_postgres.exec_driver_sql(statement)
    before = indexes(on_postgres)
    with indexes_made_last(on_postgres, "parent"):
        assert {name for name, _ in before} - {name for name, _ in indexes(on_postgres)} == {"by_other", "by_name"}
        on_postgres.exec_driver_sql("INSERT INTO parent VALUES (1, 2, 'a')")
    assert indexes(on_postgres) == before
    on_postgres.rollback()
