"""Whom and what a restore to MySQL or MariaDB refuses, and what it leaves when it fails: on a real MariaDB."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from muster.adapters import mlflow_fill
from muster.adapters.mlflow_registry import MlflowTarget
from muster.errors import IntegrityError, SourceInvalid, StoreUnavailable, TargetNotEmpty
from mysql import MariaDb, name_of
from registry_seed import Captured, SmallStore, capture, content, fill, query
from registry_writer import before

pytestmark = pytest.mark.servers


# --- who may not ------------------------------------------------------------------------------------------------------


def test_user_from_whom_tables_are_hidden_is_refused(
    mariadb_store: tuple[str, str], mariadb: MariaDb, tmp_path: Path
) -> None:
    """A server does not list what a user may not read: such a user would lose tables without a word. One that may read all is enough."""
    url, artifacts = mariadb_store
    name = name_of(url)
    some = mariadb.user(f"SELECT ON {name}.alembic_version", f"SELECT ON {name}.experiments")
    with pytest.raises(SourceInvalid, match="hidden from it"):
        capture(mariadb.url(some, name), artifacts, tmp_path / "tree")
    all_ = mariadb.user(f"SELECT ON {name}.*")
    details, _ = capture(mariadb.url(all_, name), artifacts, tmp_path / "tree2")
    assert details["tables"] == capture(url, artifacts, tmp_path / "tree3")[0]["tables"]


def test_user_that_may_not_write_is_refused(captured: Captured, mariadb: MariaDb, tmp_path: Path) -> None:
    """A restore that lacks a right, be it the one to make triggers, says which, and leaves the database empty."""
    url = mariadb.database()
    name = name_of(url)
    few = "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, REFERENCES, LOCK TABLES"
    for rights, said in (("SELECT", "LOCK|CREATE|denied"), (few, "TRIGGER command denied")):
        user = mariadb.user(f"{rights} ON {name}.*")
        with pytest.raises(SourceInvalid, match=said) as caught:
            MlflowTarget(mariadb.url(user, name), str(tmp_path / "new")).restore(*captured)
        assert "GRANT" in caught.value.hint
        assert content(url) == {}
    assert not (tmp_path / "new").exists()


def test_wrong_password_is_said_and_not_shown(captured: Captured, mariadb: MariaDb, tmp_path: Path) -> None:
    """Neither the password that was tried nor the address with it is in any message, whatever alphabet it is in."""
    for password in ("hunter2", "πάσσο"):
        url = mariadb.url("muster", "mysql", password)
        for attempt in (
            lambda url=url: capture(url, str(tmp_path / "a"), tmp_path / "tree"),
            lambda url=url: MlflowTarget(url, str(tmp_path / "new")).check(captured[0]),
        ):
            with pytest.raises(
                StoreUnavailable, match=r"mysql://…@127\.0\.0\.1:\d+/mysql does not answer: Access denied"
            ) as caught:
                attempt()
            assert password not in f"{caught.value!r} {caught.value.__cause__!r} {caught.value.hint}"


# --- what is refused --------------------------------------------------------------------------------------------------


def test_database_of_another_character_set_is_refused(captured: Captured, mariadb: MariaDb, tmp_path: Path) -> None:
    """A database that would not hold all text is refused before anything is made in it."""
    for name in ("latin1", "utf8mb3"):
        url = mariadb.database(f"CHARACTER SET {name}")
        with pytest.raises(SourceInvalid, match=f"character set {name}"):
            MlflowTarget(url, str(tmp_path / "new")).check(captured[0])


def test_row_larger_than_a_packet_is_refused(small_store: SmallStore, mariadb: MariaDb, tmp_path: Path) -> None:
    """A row that the server does not take at once is named by its table, with the setting to raise; nothing is left."""
    fill(small_store.url, "trace_info", request_id="t1", experiment_id=0)
    fill(small_store.url, "spans", trace_id="t1", experiment_id=0, span_id="s1", content="x" * 2_000_000)
    details, tree = capture(small_store.url, str(small_store.artifacts), tmp_path / "tree")
    url = mariadb.database()
    before_that = mariadb.execute("SELECT @@GLOBAL.max_allowed_packet")[0][0]
    mariadb.execute("SET GLOBAL max_allowed_packet = 1048576")
    try:
        with pytest.raises(SourceInvalid, match=r"a row of spans .* larger than the 1048576 bytes"):
            MlflowTarget(url, str(tmp_path / "new")).restore(details, tree)
    finally:
        mariadb.execute(f"SET GLOBAL max_allowed_packet = {before_that}")
    assert content(url) == {}


def test_second_restore_waits_its_turn(captured: Captured, mariadb: MariaDb, tmp_path: Path) -> None:
    """A restore into a database that another one is filling is refused, and does not disturb that one."""
    url = mariadb.database()
    second: list[BaseException] = []

    def intrude() -> None:
        try:
            MlflowTarget(url, str(tmp_path / "second")).restore(*captured)
        except TargetNotEmpty as error:
            second.append(error)

    with before("INSERT INTO params", intrude):
        MlflowTarget(url, str(tmp_path / "first")).restore(*captured)
    assert "is being restored to right now" in str(second[0])
    assert query(url, "SELECT value FROM params") == [("v",)]


def test_rows_of_others_are_not_removed(captured: Captured, mariadb: MariaDb, tmp_path: Path) -> None:
    """Somebody starts to use the database while it is filled: the restore fails, and what he wrote stays."""
    url = mariadb.database()

    def intrude() -> None:
        query(url, "INSERT INTO experiments (experiment_id, name, lifecycle_stage) VALUES (7, 'theirs', 'active')")

    with before("INSERT INTO experiments", intrude), pytest.raises(IntegrityError, match="rows of experiments"):
        MlflowTarget(url, str(tmp_path / "new")).restore(*captured)
    assert query(url, "SELECT experiment_id, name FROM experiments") == [(7, "theirs")]


# --- how it fails -----------------------------------------------------------------------------------------------------


def test_lost_connection_leaves_the_database_empty(captured: Captured, mariadb: MariaDb, tmp_path: Path) -> None:
    """A connection that is cut in the middle ends the restore, and no table of it stays."""
    url = mariadb.database()

    def cut() -> None:
        for (number,) in mariadb.execute(f"SELECT id FROM information_schema.processlist WHERE db = '{name_of(url)}'"):
            mariadb.execute(f"KILL {number}")

    with before("INSERT INTO params", cut), pytest.raises(StoreUnavailable, match="does not answer"):
        MlflowTarget(url, str(tmp_path / "new")).restore(*captured)
    assert content(url) == {}
    assert not (tmp_path / "new").exists()


def test_server_that_dies_leaves_nothing_half(
    captured: Captured, mariadb_store: tuple[str, str], mariadb: MariaDb, tmp_path: Path
) -> None:
    """The server is killed during a snapshot, then during a restore: both say so, no row is there, and the next restore goes through."""
    url, artifacts = mariadb_store
    new = mariadb.database()
    try:
        with before("FROM params", mariadb.kill), pytest.raises(StoreUnavailable, match="does not answer") as caught:
            capture(url, artifacts, tmp_path / "tree")
        assert "pass" not in caught.value.args[0]
        mariadb.start()
        with before("INSERT INTO params", mariadb.kill), pytest.raises(StoreUnavailable, match="does not answer"):
            MlflowTarget(new, str(tmp_path / "new")).restore(*captured)
    finally:
        if mariadb.process and mariadb.process.poll() is not None:
            mariadb.start()
    left = content(new)
    assert {name for name, rows in left.items() if rows} <= {"alembic_version", "workspaces"}
    assert len(left["workspaces"]) == 1  # the default one, as MLflow's migrations leave it
    MlflowTarget(new, str(tmp_path / "new")).restore(*captured)
    assert query(new, "SELECT value FROM params") == [("v",)]


def test_failed_upgrade_leaves_the_database_empty(
    small_store: SmallStore, mariadb: MariaDb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The schema of an older store is brought up to date after its rows are in, which commits them: what fails then is removed too."""
    from sqlalchemy import create_engine

    from muster.adapters.mlflow_schema import create_schema

    with create_engine(f"sqlite:///{tmp_path}/old.db").begin() as connection:
        create_schema(connection, {"alembic_version": "0584bdc529eb"})
    query(f"sqlite:///{tmp_path}/old.db", "INSERT INTO registered_models (name) VALUES ('m')")
    details, tree = capture(f"sqlite:///{tmp_path}/old.db", str(tmp_path / "art"), tmp_path / "tree")

    def fail(connection: Any, *_: Any) -> None:
        connection.exec_driver_sql("CREATE TABLE half_way (id INT)")
        raise SourceInvalid("a migration failed")

    monkeypatch.setattr(mlflow_fill, "migrate", fail)
    url = mariadb.database()
    with pytest.raises(SourceInvalid, match="a migration failed"):
        MlflowTarget(url, str(tmp_path / "new")).restore(details, tree)
    assert content(url) == {}


def test_users_go_elsewhere(small_store: SmallStore, mariadb: MariaDb, tmp_path: Path) -> None:
    """MLflow itself cannot make its basic-auth tables on MySQL: that is said, and they go elsewhere. An exact collation takes all keys."""
    from mlflow.server.auth.db.utils import migrate
    from sqlalchemy import create_engine

    auth = f"sqlite:///{tmp_path}/auth.db"
    migrate(create_engine(auth), "head")
    query(auth, "INSERT INTO users (id, username, password_hash, is_admin) VALUES (7, 'ada', 'scrypt:…', 1)")
    small_store.add_run("r1")
    for key in ("loss", "Loss", "lóss", "loss "):
        small_store.execute("INSERT INTO params (key, value, run_uuid) VALUES (?, 'v', 'r1')", key)
    details, tree = capture(small_store.url, str(small_store.artifacts), tmp_path / "tree", auth_store_url=auth)
    exact = "utf8mb4_0900_bin" if mariadb.is_mysql else "utf8mb4_nopad_bin"
    url = mariadb.database(f"CHARACTER SET utf8mb4 COLLATE {exact}")
    with pytest.raises(SourceInvalid, match="basic-auth tables on MySQL"):
        MlflowTarget(url, str(tmp_path / "new")).check(details)
    users = f"sqlite:///{tmp_path}/users.db"
    facts = MlflowTarget(url, str(tmp_path / "new"), auth_store_url=users).restore(details, tree)
    assert facts["auth"]["tables"] == details["auth"]["tables"]
    assert query(users, "SELECT id, username FROM users") == [(7, "ada")]
    assert facts["tables"] == details["tables"] | {t: facts["tables"][t] for t in ("experiments", "runs")}
