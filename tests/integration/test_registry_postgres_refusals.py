"""Whom PostgreSQL lets capture and restore a registry, and what is left when the connection is lost: on a real server."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from muster.adapters import mlflow_build, mlflow_fill
from muster.adapters.mlflow_registry import MlflowSource, MlflowTarget
from muster.errors import SourceInvalid, StoreUnavailable
from postgres import Cluster
from registry_seed import Captured, capture, content, driven, query
from registry_writer import before


def told(url: str, *statements: str) -> None:
    """What an administrator says, in one transaction."""
    import sqlalchemy as sa

    with sa.create_engine(driven(url), poolclass=sa.NullPool).begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))


def as_role(url: str, role: str) -> str:
    return re.sub(r"//[^@/]*@", f"//{role}:x@", url)


@pytest.fixture
def store(captured: Captured, embedded_postgres: Cluster, tmp_path: Path) -> str:
    """A registry in PostgreSQL, made by a restore."""
    url = embedded_postgres.database()
    MlflowTarget(url, str(tmp_path / "restored")).restore(*captured)
    return url


@pytest.fixture
def reader(store: str) -> Iterator[str]:
    """The same as a role sees it that may read its tables and sequences."""
    told(
        store,
        "CREATE ROLE reading LOGIN PASSWORD 'x'",
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reading",
        "GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO reading",
    )
    yield as_role(store, "reading")
    told(store, "DROP OWNED BY reading", "DROP ROLE reading")


# --- who may not ------------------------------------------------------------------------------------------------------


def test_who_may_read_all_is_enough(store: str, reader: str, tmp_path: Path) -> None:
    """Tables and sequences: the point is the one that the owner takes."""
    details, _ = capture(reader, str(tmp_path / "restored"), tmp_path / "a")
    owned, _ = capture(store, str(tmp_path / "restored"), tmp_path / "b")
    assert details["tables"] == owned["tables"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("REVOKE SELECT ON params FROM reading", r"permission denied for table params"),
        ("REVOKE SELECT ON ALL SEQUENCES IN SCHEMA public FROM reading", r"may not read public\.\w+"),
        ("ALTER TABLE params ENABLE ROW LEVEL SECURITY", r"row-level security policy for table .params"),
    ],
    ids=["a table", "sequences", "rows that a policy hides"],
)
def test_who_may_not_read_all_is_told_what(store: str, reader: str, tmp_path: Path, change: str, said: str) -> None:
    """A table, the numbers that were given out, rows that a policy hides: never a point without them."""
    told(store, change)
    with pytest.raises(SourceInvalid, match=said) as caught:
        capture(reader, str(tmp_path / "restored"), tmp_path / "tree")
    assert "GRANT" in caught.value.hint


def test_who_may_not_create_restores_nothing(captured: Captured, embedded_postgres: Cluster, tmp_path: Path) -> None:
    """A role without CREATE on the schema is told so, and the database stays empty."""
    url = embedded_postgres.database()
    told(url, "CREATE ROLE poor LOGIN PASSWORD 'x'")
    try:
        with pytest.raises(SourceInvalid, match="permission denied for schema public") as caught:
            MlflowTarget(as_role(url, "poor"), str(tmp_path / "new")).restore(*captured)
    finally:
        told(url, "DROP OWNED BY poor", "DROP ROLE poor")
    assert "CREATE on the schema" in caught.value.hint
    assert content(url) == {}
    assert not (tmp_path / "new").exists()


# --- a connection that is lost ----------------------------------------------------------------------------------------


def cut(url: str) -> Callable[[], None]:
    """Ends every connection of ours to a database."""
    ours = "datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'muster'"
    return lambda: told(url, f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {ours}")


def test_a_capture_that_loses_its_connection_says_so(store: str, tmp_path: Path) -> None:
    """And the next one goes through."""
    source = MlflowSource("w", store, str(tmp_path / "restored"))
    with (
        before("FROM params", cut(store)) as met,
        pytest.raises(StoreUnavailable, match="does not answer"),
        source.capture(None) as taken,
    ):
        list(taken.files())
    assert met
    with source.capture(None) as taken:
        assert list(taken.files())


def test_a_restore_that_loses_its_connection_while_rows_go_in_leaves_nothing(
    captured: Captured, embedded_postgres: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of COPY: the server rolls back, the artifacts are removed, and the next restore goes through."""
    url, insert = embedded_postgres.database(), mlflow_fill.insert_rows
    lost: list[str] = []

    def inserting(connection: Any, table: Any, batches: Any) -> Any:
        def losing() -> Iterator[Any]:
            for batch in batches:
                if table.name == "params" and not lost:
                    lost.append(table.name)
                    cut(url)()
                yield batch

        return insert(connection, table, losing())

    monkeypatch.setattr(mlflow_fill, "insert_rows", inserting)
    with pytest.raises(StoreUnavailable, match="does not answer"):
        MlflowTarget(url, str(tmp_path / "new")).restore(*captured)
    assert lost
    assert content(url) == {}
    assert not (tmp_path / "new").exists()
    MlflowTarget(url, str(tmp_path / "new")).restore(*captured)
    assert query(url, "SELECT value FROM params") == [("v",)]


def test_a_restore_that_loses_its_connection_at_the_very_end_is_not_taken_for_whole(
    captured: Captured, embedded_postgres: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All rows are committed and were compared; it fails all the same, and the next restore makes the place free and goes through."""
    url, publish = embedded_postgres.database(), mlflow_build._Schema.publish

    def losing(build: Any) -> None:
        cut(url)()
        publish(build)

    monkeypatch.setattr(mlflow_build._Schema, "publish", losing)
    with pytest.raises(StoreUnavailable, match="does not answer"):
        MlflowTarget(url, str(tmp_path / "new")).restore(*captured)
    assert not (tmp_path / "new").exists()
    monkeypatch.undo()
    MlflowTarget(url, str(tmp_path / "new")).restore(*captured)
    assert query(url, "SELECT value FROM params") == [("v",)]
