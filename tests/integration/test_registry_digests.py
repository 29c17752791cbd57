"""Tables of a registry on a server that did not change are not read again; whatever changed is, however it changed."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fakes import FrozenClock, MemoryStore
from fakes_trees import FolderTree
from muster.adapters import mlflow_digests, mlflow_tables
from muster.adapters.mlflow_registry import MlflowSource, MlflowTarget, RegistryCapture
from muster.errors import IntegrityError, SourceChanged
from registry_seed import content, driven, empty_store, query
from registry_writer import before
from vaults import flip, make_vault, reopen, seal, store_tree, verify_points

RUNS, METRICS = 5, 40
ODD = 'odd %s of :x "it" `so`'
ENGINES = ["embedded_postgres", *(pytest.param(e, marks=pytest.mark.servers) for e in ("debian_postgres", "mariadb"))]


@dataclass
class Server:
    """A registry on a server, and captures of it, each of which knows the one before."""

    url: str
    folder: Path
    trees: list[FolderTree] = field(default_factory=list)

    @property
    def maria(self) -> bool:
        return self.url.startswith("mysql")

    def quoted(self, name: str) -> str:
        mark = "`" if self.maria else '"'
        return mark + name.replace(mark, mark * 2) + mark

    def change(self, *statements: str) -> None:
        """One transaction; names in ``[]`` are quoted as the engine wants it, ``:`` means nothing."""
        import sqlalchemy as sa

        with sa.create_engine(driven(self.url), poolclass=sa.NullPool).begin() as connection:
            for statement in statements:
                named = re.sub(r"\[(.*?)\]", lambda m: self.quoted(m.group(1)), statement)
                connection.execute(
                    sa.text(named.replace(":", "\\:").replace("ODD", self.quoted(ODD).replace(":", "\\:")))
                )

    def source(self) -> MlflowSource:
        return MlflowSource("w", self.url, str(self.folder / "artifacts"))

    def take(self, *, alone: bool = False) -> tuple[set[str], dict[str, Any]]:
        """Tables that were read, and the details."""
        previous = self.trees[-1] if self.trees and not alone else None
        tree = FolderTree(self.folder / f"tree{len(list(self.folder.iterdir()))}")
        with self.source().capture(previous) as cut:
            read = tables_read(cut)
            tree.store(cut.files())
            cut.confirm()
            details = json.loads(json.dumps(cut.details()))
        self.trees.append(tree.keep(previous) if previous else tree)
        return read, details

    def table(self, name: str) -> bytes:
        """Its rows in the last capture."""
        return self.trees[-1].read(self.trees[-1].entry(f"tables/{name}.jsonl"))


def tables_read(cut: RegistryCapture) -> set[str]:
    return {name for dump in cut.dumps for name in dump.tables if dump.file(name).exists()}


@pytest.fixture(scope="module")
def stores() -> dict[str, str]:
    """The store of each engine, once it was made."""
    return {}


@pytest.fixture(params=ENGINES)
def server(request: pytest.FixtureRequest, stores: dict[str, str], tmp_path: Path) -> Server:
    """Runs with parameters and metrics, a table of somebody else with all that is easily taken for equal, and a first capture."""
    (tmp_path / "artifacts").mkdir()
    if request.param not in stores:
        stores[request.param] = request.getfixturevalue(request.param).database()
        empty_store(driven(stores[request.param]), tmp_path / "artifacts")
        seed(Server(stores[request.param], tmp_path))
    server = Server(stores[request.param], tmp_path)
    reset(server)
    server.change(f"UPDATE experiments SET artifact_location = '{tmp_path}/artifacts/0'")
    server.take()
    return server


def seed(server: Server) -> None:
    long, double, single, raw = (
        ("LONGTEXT", "DOUBLE", "FLOAT", "LONGBLOB") if server.maria else ("TEXT", "DOUBLE PRECISION", "REAL", "BYTEA")
    )
    utf8 = " CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci" if server.maria else ""
    server.change(
        f"CREATE TABLE ODD (id INTEGER PRIMARY KEY, a {long}, b {long}, d {double}, s {single}, raw {raw}){utf8}",
        f"CREATE TABLE keyless (a {long}, n INTEGER){utf8}",
        *(
            "INSERT INTO runs (run_uuid, name, experiment_id, lifecycle_stage, status) "
            f"VALUES ('r{n}', 'n', 0, 'active', 'FINISHED')"
            for n in range(RUNS)
        ),
    )


def reset(server: Server) -> None:
    """The rows that each test begins with."""
    metrics = ", ".join(f"('m{n}', {n} / 7.0, {n}, 'r{n % RUNS}', false, {n})" for n in range(METRICS))
    server.change(
        *(f"DELETE FROM {table}" for table in ("ODD", "keyless", "metrics", "params")),
        f"INSERT INTO metrics ([key], value, timestamp, run_uuid, is_nan, step) VALUES {metrics}",
        "INSERT INTO params ([key], value, run_uuid) VALUES ('alpha', '0.1', 'r0'), ('beta', '0.2', 'r0')",
        "INSERT INTO ODD VALUES (1, 'ab', 'c', 0.1, 0.1, NULL), (2, NULL, 'é', 0, 0, ''), (3, '', 'x', NULL, 16777216, NULL)",
        "INSERT INTO keyless VALUES ('a', 1), ('a', 1), ('b', 2), ('b', 2)",
    )


@pytest.fixture(autouse=True)
def _no_table_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow_tables, "due", lambda _path, _at: False)


@contextmanager
def asked() -> Iterator[list[str]]:
    """Statements that any connection sends."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    seen: list[str] = []

    def look(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(Engine, "before_cursor_execute", look)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", look)


def the_same(one: FolderTree, other: FolderTree) -> bool:
    """Whether two trees have the same content, but for the moment of the cut in ``schema.json``."""
    kept = [[(e.path, e.content) for e in tree.entries() if e.path != "schema.json"] for tree in (one, other)]
    return kept[0] == kept[1]


# --- what did not change ----------------------------------------------------------------------------------------------


def test_of_an_unchanged_store_no_row_is_fetched(server: Server) -> None:
    """All that is asked of metrics and parameters is one digest each; the point says the same as before."""
    with asked() as statements:
        read, _ = server.take()
    assert read == set()
    for table in ("metrics", "params", "keyless"):
        (only,) = [s for s in statements if re.search(rf"FROM [`\"]?{table}\b", s)]
        assert re.match(r"SELECT (pg_catalog\.count|COUNT)\(\*\)", only)
    assert the_same(*server.trees)


def test_changes_that_were_taken_back_leave_nothing_new(server: Server) -> None:
    """Rows that only moved are read, and found to be the same."""
    server.change("UPDATE params SET value = 'other'")
    server.change("DELETE FROM params")
    server.change("INSERT INTO params ([key], value, run_uuid) VALUES ('beta', '0.2', 'r0'), ('alpha', '0.1', 'r0')")
    read, _ = server.take()
    assert read <= {"params"}
    assert [e.content for e in server.trees[0].entries() if "params" in e.path] == [
        e.content for e in server.trees[1].entries() if "params" in e.path
    ]


# --- what changed -----------------------------------------------------------------------------------------------------

CHANGES = {
    "a value": ("metrics", "UPDATE metrics SET value = value + 1 WHERE [key] = 'm7'"),
    "a sign": ("metrics", "UPDATE metrics SET value = -value WHERE [key] = 'm7'"),
    "two values swapped between rows": (
        "params",
        "UPDATE params SET value = CASE [key] WHEN 'alpha' THEN '0.2' ELSE '0.1' END",
    ),
    "a row for another": (
        "metrics",
        "DELETE FROM metrics WHERE [key] = 'm7'",
        "INSERT INTO metrics ([key], value, timestamp, run_uuid, is_nan, step) VALUES ('m7x', 1, 7, 'r2', false, 7)",
    ),
    "a row less": ("metrics", "DELETE FROM metrics WHERE [key] = 'm39'"),
    "the last bit of a float": (ODD, f"UPDATE ODD SET d = {math.nextafter(0.1, 1)!r} WHERE id = 1"),
    "the last bit of a short float": (ODD, "UPDATE ODD SET s = 0.10000001 WHERE id = 1"),
    "a short float beyond six digits": (ODD, "UPDATE ODD SET s = 16777218 WHERE id = 3"),
    "a number for null": (ODD, "UPDATE ODD SET d = 0 WHERE id = 3"),
    "no text for null": (ODD, "UPDATE ODD SET a = '' WHERE id = 2"),
    "null for no text": (ODD, "UPDATE ODD SET a = NULL WHERE id = 2"),
    "null swapped with no text": (ODD, "UPDATE ODD SET a = CASE id WHEN 2 THEN '' END WHERE id IN (2, 3)"),
    "a letter that stands for null": (ODD, "UPDATE ODD SET a = 'n' WHERE id = 3"),
    "a letter in the next column": (ODD, "UPDATE ODD SET a = 'a', b = 'bc' WHERE id = 1"),
    "a large letter": (ODD, "UPDATE ODD SET b = 'X' WHERE id = 3"),
    "an accent": (ODD, "UPDATE ODD SET b = 'e' WHERE id = 2"),
    "a blank at the end": (ODD, "UPDATE ODD SET b = 'x ' WHERE id = 3"),
    "no bytes for null": (ODD, "UPDATE ODD SET raw = '' WHERE id = 1"),
    "equal rows for equal rows": ("keyless", "UPDATE keyless SET a = 'c', n = 3 WHERE n = 2"),
    "a row for its equal": (
        "keyless",
        "DELETE FROM keyless",
        "INSERT INTO keyless VALUES ('a', 1), ('a', 1), ('a', 1), ('b', 2)",
    ),
    "a column more": ("inputs", "ALTER TABLE inputs ADD COLUMN more INTEGER DEFAULT 5"),
    "a table more": ("unheard_of", "CREATE TABLE unheard_of (id INTEGER PRIMARY KEY)"),
}
"""One after the other."""
BACK = ("ALTER TABLE inputs DROP COLUMN more", "DROP TABLE unheard_of")


def test_a_changed_table_is_read_and_no_other(server: Server) -> None:
    """Though all counts may be as they were; and the point has what a first capture of that moment has."""
    try:
        for what, (table, *statements) in CHANGES.items():
            server.change(*statements)
            read, details = server.take()
            assert read == {table}, what
            rows = server.table(table)
            assert server.take(alone=True)[1]["tables"] == details["tables"], what
            assert server.table(table) == rows, what
    finally:
        server.change(*BACK)


def test_signs_of_zero_and_nan(server: Server) -> None:
    """To PostgreSQL zeros are equal, and a NaN is no null; MariaDB has neither, and is asked for the largest numbers."""
    values = ("0", "1.7976931348623157e308", "5e-324") if server.maria else ("0", "'-0'", "NULL", "'NaN'", "'Infinity'")
    for value in values:
        server.change(f"UPDATE ODD SET d = {value} WHERE id = 1")
        assert server.take()[0] == {ODD}
    server.change("UPDATE ODD SET d = 0.1 WHERE id = 1")
    assert server.take()[0] == {ODD}


def test_metrics_on_both_sides_of_a_range(
    embedded_postgres: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever in a table a row lies, it is in exactly one of the ranges that PostgreSQL is asked for."""
    url = embedded_postgres.database()
    (tmp_path / "artifacts").mkdir()
    empty_store(driven(url), tmp_path / "artifacts")
    server = Server(url, tmp_path)
    server.change("CREATE TABLE wide AS SELECT n, repeat('x', 1000) AS t FROM generate_series(1, 300) n")
    monkeypatch.setattr(mlflow_digests, "RANGE", 2)
    with asked() as statements:
        server.take()
    assert len([s for s in statements if "FROM wide" in s and "ctid" in s]) > 15
    for number in range(1, 300, 60):
        server.change(f"UPDATE wide SET t = repeat('y', 1000) WHERE n = {number}")
        assert server.take()[0] == {"wide"}
    assert server.take()[0] == set()


# --- two moments ------------------------------------------------------------------------------------------------------

READS_METRICS = "FROM metrics ORDER BY"
ADD = "INSERT INTO metrics ([key], value, timestamp, run_uuid, is_nan, step) VALUES ('{}', 1, 1, 'r0', false, 1)"


def test_a_writer_during_the_cut_is_seen_by_the_next(server: Server) -> None:
    """One comes before the digest is asked for, one between digest and rows: neither is in the cut, and none is forgotten."""
    with before("FROM metrics", lambda: server.change(ADD.format("late"))) as met:
        assert server.take()[0] == set()
    assert "COUNT(*)" in met[0].upper()
    with before(READS_METRICS, lambda: server.change(ADD.format("later"))) as met:
        assert server.take()[0] == {"metrics"}
    assert met
    assert (b'"late"' in server.table("metrics"), b'"later"' in server.table("metrics")) == (True, False)
    assert server.take()[0] == {"metrics"}
    assert b'"later"' in server.table("metrics")
    assert server.take()[0] == set()


def test_nobody_empties_a_table_between_its_digest_and_its_rows(server: Server) -> None:
    """On PostgreSQL TRUNCATE is seen by older transactions too. It has to wait, as it has on MariaDB."""
    from sqlalchemy.exc import OperationalError

    wait = "SET SESSION lock_wait_timeout = 1" if server.maria else "SET LOCAL lock_timeout = '200ms'"
    failed: list[str] = []

    def empty() -> None:
        with pytest.raises(OperationalError, match="(?i)lock"):
            server.change(wait, "TRUNCATE TABLE metrics")
        failed.append("metrics")

    server.change(ADD.format("new"))
    with before(READS_METRICS, empty):
        assert server.take()[0] == {"metrics"}
    assert failed
    assert server.table("metrics").count(b"\n") == METRICS + 1


def test_a_table_that_the_vault_has_lost_is_read_again(server: Server) -> None:
    """From the server, since it still has what it had; if it has not, the cut fails, and the next one has it."""
    with server.source().capture(server.trees[-1]) as cut:
        (file,) = [file for file in cut.files() if file.path == "tables/params.jsonl"]
        assert file.known == server.trees[-1].entry("tables/params.jsonl").content
        assert file.open is not None
        server.change("UPDATE params SET value = 'new' WHERE [key] = 'alpha'")
        with pytest.raises(SourceChanged, match="params changed"):
            file.open()
        server.change("UPDATE params SET value = '0.1' WHERE [key] = 'alpha'")
        with file.open() as stream:
            assert stream.read() == server.table("params")


def test_a_damaged_pack_is_not_built_upon(server: Server, tmp_path: Path) -> None:
    """Once it was found damaged, unchanged tables are read again, and the new point comes back whole."""
    store = MemoryStore()
    vault, _ = make_vault(store)
    with server.source().capture(None) as cut:
        store_tree(vault, [file for file in cut.files() if file.path.startswith("tables/")])
    rows = [key for key in store.objects if key.startswith("packs/")]
    with server.source().capture(None) as cut:
        first = store_tree(vault, cut.files())
    seal(vault, first)
    for key in rows:
        store.objects[key] = flip(store.objects[key], 100)
    with pytest.raises(IntegrityError, match="is damaged"):
        verify_points(reopen(store), reopen(store).points(), 1.0, FrozenClock())
    vault = reopen(store)
    with server.source().capture(vault.tree(first)) as cut:
        assert tables_read(cut) == set()
        again = store_tree(vault, cut.files())
        assert {"metrics", "params", ODD} <= tables_read(cut)
        details = json.loads(json.dumps(cut.details()))
    back = f"sqlite:///{tmp_path}/back.db"
    MlflowTarget(back, str(tmp_path / "new")).restore(details, vault.tree(again))
    assert len(content(back)["metrics"]) == METRICS


# --- what is not believed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("due", [True, False])
def test_a_wrong_digest_does_not_last(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, due: bool
) -> None:
    """If equal digests ever stood for other rows: on the table's day it is read, the point is right again, and that is said."""
    tree = server.trees[-1]
    right = server.table("params")
    tree.replace("tables/params.jsonl", right.replace(b"0.1", b"0.7"))
    monkeypatch.setattr(mlflow_tables, "due", lambda path, _at: due and path == "tables/params.jsonl")
    read, details = server.take()
    assert read == ({"params"} if due else set())
    assert (server.table("params") == right) == due
    said = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert ["other rows in params than the point before" in r.getMessage() for r in said] == [True] * due
    fresh = server.take(alone=True)[1]["tables"]
    assert (fresh == details["tables"]) == due


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"format":1,"pages":{},"rows":{}}'])
def test_what_cannot_be_read_of_the_point_before_is_not_believed(server: Server, damage: bytes) -> None:
    """A look of another format, or none: everything is read."""
    look = server.trees[-1].entry("look.json").content
    assert look is not None
    (server.trees[-1].folder / look.sha256).write_bytes(damage)
    assert {"metrics", "params", ODD} <= server.take()[0]


@pytest.mark.parametrize("server", ["embedded_postgres"], indirect=True)
def test_functions_and_settings_of_a_database_do_not_deceive(server: Server) -> None:
    """Somebody's own SHA-256 before PostgreSQL's; fewer digits for floats; another time zone, by which times would be shown."""
    name = server.url.partition("?")[0].rpartition("/")[2]
    server.change(
        "CREATE FUNCTION public.sha256(bytea) RETURNS bytea LANGUAGE sql AS 'SELECT ''x''::bytea'",
        f"ALTER DATABASE {name} SET search_path = public, pg_catalog",
        f"ALTER DATABASE {name} SET extra_float_digits = -15",
    )
    try:
        assert server.take()[0] == set()
        server.change(f"UPDATE ODD SET d = {math.nextafter(0.1, 1)!r} WHERE id = 1")
        assert server.take()[0] == {ODD}
        assert b"0.10000000000000002" in server.table(ODD)
        server.change(f"ALTER DATABASE {name} SET timezone = 'Asia/Tokyo'")
        assert {"metrics", ODD} <= server.take()[0]
    finally:
        server.change(f"ALTER DATABASE {name} RESET ALL", "DROP FUNCTION public.sha256(bytea)")


@pytest.mark.parametrize("server", ["embedded_postgres"], indirect=True)
def test_where_the_server_refuses_everything_is_read_and_that_is_said(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """A role that may read, and may not call what is needed: the same point, and a line in the log."""
    server.change(
        "REVOKE EXECUTE ON FUNCTION pg_catalog.record_send(record) FROM PUBLIC",
        "CREATE ROLE reader LOGIN PASSWORD 'x'",
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader",
    )
    try:
        before_it = server.take()[1]
        reader = Server(re.sub(r"//[^@/]*@", "//reader:x@", server.url), server.folder, server.trees)
        caplog.clear()
        read, details = reader.take()
    finally:
        server.change(
            "DROP OWNED BY reader",
            "DROP ROLE reader",
            "GRANT EXECUTE ON FUNCTION pg_catalog.record_send(record) TO PUBLIC",
        )
    assert {"metrics", "params", ODD} <= read
    assert details["tables"] == before_it["tables"]
    (said,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert "so they are read" in said
    assert "permission denied for function record_send" in said


@pytest.mark.parametrize("server", [pytest.param("mariadb", marks=pytest.mark.servers)], indirect=True)
def test_a_row_that_fills_a_packet_is_read(server: Server, mariadb: Any, caplog: pytest.LogCaptureFixture) -> None:
    """MariaDB can send it, but not put a digest before it; it then says null, which is not taken for an answer."""
    limit = mariadb.execute("SELECT @@max_allowed_packet")[0][0]
    server.change(f"UPDATE ODD SET a = REPEAT('x', {(1 << 20) - 64}) WHERE id = 3")
    mariadb.execute(f"SET GLOBAL max_allowed_packet = {1 << 20}")
    try:
        server.take()
        assert server.take()[0] == {ODD}
    finally:
        mariadb.execute(f"SET GLOBAL max_allowed_packet = {limit}")
    assert "too long for one packet" in caplog.text
    assert query(server.url, "SELECT COUNT(*) FROM params") == [(2,)]


@pytest.mark.parametrize("server", [pytest.param("mariadb", marks=pytest.mark.servers)], indirect=True)
def test_every_double_has_a_text_of_its_own(server: Server) -> None:
    """MariaDB is asked for floats as text: what it says of any is that number, to the last bit."""
    import random

    import sqlalchemy as sa

    some = random.Random(7)
    numbers = [math.ldexp(some.uniform(-2, 2), some.randint(-1000, 1000)) for _ in range(2000)]
    numbers += [math.nextafter(n, math.inf) for n in numbers]
    server.change("DELETE FROM ODD")
    with sa.create_engine(driven(server.url), poolclass=sa.NullPool).begin() as connection:
        table = sa.table(ODD, sa.column("id"), sa.column("d"))
        connection.execute(sa.insert(table), [{"id": n, "d": d} for n, d in enumerate(numbers)])
        shown = connection.exec_driver_sql(
            f"SELECT IF(d IS NULL, 'n', d) FROM {server.quoted(ODD).replace('%', '%%')} ORDER BY id"
        ).scalars()
        assert [float(text) for text in shown] == numbers
