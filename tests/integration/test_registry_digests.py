"""Tables of a registry on a server that did not change are not read again; whatever changed is, however it changed."""

from __future__ import annotations

import json
import math
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fakes import FrozenClock, MemoryStore
from fakes_trees import FolderTree
from muster.adapters import mlflow_digests, mlflow_tables
from muster.adapters.mlflow_registry import MlflowTarget
from muster.errors import IntegrityError, SourceChanged
from registry_seed import content, driven, empty_store
from registry_tables import LONG, METRICS, ODD, TablesOnServer, tables_read
from registry_writer import before
from vaults import flip, make_vault, reopen, seal, store_tree, verify_points


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


def test_of_an_unchanged_store_no_row_is_fetched(on_server: TablesOnServer) -> None:
    """All that is asked of metrics and parameters is one digest each; the point says the same as before."""
    with asked() as statements:
        read, _ = on_server.take()
    assert read == set()
    for table in ("metrics", "params", "keyless"):
        (only,) = [s for s in statements if re.search(rf"FROM [`\"]?{table}\b", s)]
        assert re.match(r"SELECT (pg_catalog\.count|COUNT)\(\*\)", only)
    assert the_same(*on_server.trees)


def test_changes_that_were_taken_back_leave_nothing_new(on_server: TablesOnServer) -> None:
    """Rows that only moved are read, and found to be the same."""
    on_server.change("UPDATE params SET value = 'other'")
    on_server.change("DELETE FROM params")
    on_server.change("INSERT INTO params ([key], value, run_uuid) VALUES ('beta', '0.2', 'r0'), ('alpha', '0.1', 'r0')")
    read, _ = on_server.take()
    assert read <= {"params"}
    assert [e.content for e in on_server.trees[0].entries() if "params" in e.path] == [
        e.content for e in on_server.trees[1].entries() if "params" in e.path
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
    "the last letter of a long text": (ODD, f"UPDATE ODD SET a = '{LONG[:-1]}z' WHERE id = 4"),
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


def test_a_changed_table_is_read_and_no_other(on_server: TablesOnServer) -> None:
    """Though all counts may be as they were; and the point has what a first capture of that moment has."""
    try:
        for what, (table, *statements) in CHANGES.items():
            on_server.change(*statements)
            read, details = on_server.take()
            assert read == {table}, what
            rows = on_server.table(table)
            assert on_server.take(alone=True)[1]["tables"] == details["tables"], what
            assert on_server.table(table) == rows, what
    finally:
        on_server.change(*BACK)


def test_signs_of_zero_and_nan(on_server: TablesOnServer) -> None:
    """To PostgreSQL zeros are equal, and a NaN is no null; MariaDB has neither, and is asked for the largest numbers."""
    values = (
        ("0", "1.7976931348623157e308", "5e-324") if on_server.maria else ("0", "'-0'", "NULL", "'NaN'", "'Infinity'")
    )
    for value in values:
        on_server.change(f"UPDATE ODD SET d = {value} WHERE id = 1")
        assert on_server.take()[0] == {ODD}
    on_server.change("UPDATE ODD SET d = 0.1 WHERE id = 1")
    assert on_server.take()[0] == {ODD}


@pytest.fixture
def wide(embedded_postgres: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TablesOnServer:
    """A registry on PostgreSQL with a table of many ranges, and a first capture."""
    url = embedded_postgres.database()
    (tmp_path / "artifacts").mkdir()
    empty_store(driven(url), tmp_path / "artifacts")
    server = TablesOnServer(url, tmp_path)
    server.change("CREATE TABLE wide AS SELECT n, repeat('x', 1000) AS t FROM generate_series(1, 300) n")
    monkeypatch.setattr(mlflow_digests, "RANGE", 2)
    monkeypatch.setattr(mlflow_tables, "due", lambda _path, _at: False)
    server.take()
    return server


IN_WIDE = re.compile(r"FROM wide .*ctid", re.DOTALL)


def test_metrics_on_both_sides_of_a_range(wide: TablesOnServer) -> None:
    """Wherever in a table a row lies, it is in exactly one of the ranges that PostgreSQL is asked for."""
    with asked() as statements:
        assert wide.take()[0] == set()
    ranges = list(filter(IN_WIDE.search, statements))
    assert len(ranges) == len(set(ranges)) > 15
    for number in range(1, 300, 60):
        wide.change(f"UPDATE wide SET t = repeat('y', 1000) WHERE n = {number}")
        assert wide.take()[0] == {"wide"}
    assert wide.take()[0] == set()


def test_two_connections_share_a_large_table_and_see_one_moment(wide: TablesOnServer) -> None:
    """What was written after the first came and before the second did is in the next cut."""
    both = Both()
    with told(both), before("SET TRANSACTION SNAPSHOT", lambda: wide.change("DELETE FROM wide")) as met:
        assert wide.take()[0] == set()
    assert met
    assert len(both.asked) == 2
    assert wide.take()[0] == {"wide"}
    assert wide.table("wide") == b""


@pytest.mark.parametrize("when", ["before it is asked", "while it is asked", "when it is done"])
def test_a_second_connection_that_is_lost_costs_time_alone(
    wide: TablesOnServer, when: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The first is asked for what is left."""
    rows = wide.table("wide")
    ended = list[int]()

    def end(backend: int) -> None:
        if not ended:
            ended.append(backend)
            wide.change(f"SELECT pg_terminate_backend({backend}, 10000)")

    both = Both(end) if when == "while it is asked" else Both()

    def look(backend: int, statement: str) -> None:
        if when == "before it is asked" and statement.startswith("SET TRANSACTION SNAPSHOT"):
            end(backend)
        if when == "when it is done" and len(both.asked) == 2 and backend == both.asked[0] and "pg_class" in statement:
            end(both.asked[1])
        if when != "before it is asked":
            both(backend, statement)

    with told(look):
        assert wide.take()[0] == set()
    assert ended
    assert re.search("one gave up" if when == "while it is asked" else "by one connection alone", caplog.text)
    assert wide.table("wide") == rows


def test_whoever_waits_for_a_table_does_not_make_us_wait(
    wide: TablesOnServer, caplog: pytest.LogCaptureFixture
) -> None:
    """
    A change of the table waits for our first connection, and the second would wait behind it, and the first for the second: a circle
    that no server sees. The second asks for no lock that it does not get at once.
    """
    change = threading.Thread(target=wide.change, args=("ALTER TABLE wide ADD COLUMN more integer",))

    def somebody_waits(_backend: int) -> None:
        change.start()
        while not wide.asked("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            time.sleep(0.01)

    with told(Both(somebody_waits)):
        assert wide.take()[0] == set()
    change.join(30)
    assert not change.is_alive()
    assert "one gave up" in caplog.text
    assert wide.take()[0] == {"wide"}


def test_a_second_connection_that_shows_values_otherwise_is_not_asked(
    wide: TablesOnServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor one that finds tables elsewhere: its digests would be of something else."""
    name = wide.asked("SELECT current_database()")
    asked_for_ranges = set()

    def look(backend: int, statement: str) -> None:
        if "pg_export_snapshot" in statement:  # the next connection begins with other settings
            wide.change(f"ALTER DATABASE {name} SET search_path = public, pg_temp")
        elif IN_WIDE.search(statement):
            asked_for_ranges.add(backend)

    with told(look):
        assert wide.take()[0] == set()
    assert len(asked_for_ranges) == 1
    assert "by two settings" in caplog.text


class Both:
    """Sees to it that two connections are asked for ranges of the large table, and which."""

    def __init__(self, second_comes: Callable[[int], object] = lambda _: None) -> None:
        self._second_comes = second_comes
        self.asked: list[int] = []
        self._helped = threading.Event()

    def __call__(self, backend: int, statement: str) -> None:
        if not IN_WIDE.search(statement):
            return
        if backend not in self.asked:
            self.asked.append(backend)
            if len(self.asked) == 2:
                self._second_comes(backend)
                self._helped.set()
        elif backend == self.asked[0]:
            self._helped.wait(30)


@contextmanager
def told(look: Callable[[int, str], object]) -> Iterator[None]:
    """Somebody is told of each statement, and of the server's process that will get it."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def tell(connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        look(connection.connection.driver_connection.info.backend_pid, statement)

    event.listen(Engine, "before_cursor_execute", tell)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", tell)


# --- two moments ------------------------------------------------------------------------------------------------------

READS_METRICS = "FROM metrics ORDER BY"
ADD = "INSERT INTO metrics ([key], value, timestamp, run_uuid, is_nan, step) VALUES ('{}', 1, 1, 'r0', false, 1)"


def test_a_writer_during_the_cut_is_seen_by_the_next(on_server: TablesOnServer) -> None:
    """One comes before the digest is asked for, one between digest and rows: neither is in the cut, and none is forgotten."""
    with before("FROM metrics", lambda: on_server.change(ADD.format("late"))) as met:
        assert on_server.take()[0] == set()
    assert "COUNT(*)" in met[0].upper()
    with before(READS_METRICS, lambda: on_server.change(ADD.format("later"))) as met:
        assert on_server.take()[0] == {"metrics"}
    assert met
    assert (b'"late"' in on_server.table("metrics"), b'"later"' in on_server.table("metrics")) == (True, False)
    assert on_server.take()[0] == {"metrics"}
    assert b'"later"' in on_server.table("metrics")
    assert on_server.take()[0] == set()


def test_nobody_empties_a_table_between_its_digest_and_its_rows(on_server: TablesOnServer) -> None:
    """On PostgreSQL TRUNCATE is seen by older transactions too. It has to wait, as it has on MariaDB."""
    from sqlalchemy.exc import OperationalError

    wait = "SET SESSION lock_wait_timeout = 1" if on_server.maria else "SET LOCAL lock_timeout = '200ms'"
    failed: list[str] = []

    def empty() -> None:
        with pytest.raises(OperationalError, match=r"(?i)lock"):
            on_server.change(wait, "TRUNCATE TABLE metrics")
        failed.append("metrics")

    on_server.change(ADD.format("new"))
    with before(READS_METRICS, empty):
        assert on_server.take()[0] == {"metrics"}
    assert failed
    assert on_server.table("metrics").count(b"\n") == METRICS + 1


def test_a_table_that_the_vault_has_lost_is_read_again(on_server: TablesOnServer) -> None:
    """From the server, since it still has what it had; if it has not, the cut fails, and the next one has it."""
    with on_server.source().capture(on_server.trees[-1]) as cut:
        (file,) = [file for file in cut.files() if file.path == "tables/params.jsonl"]
        assert file.known == on_server.trees[-1].entry("tables/params.jsonl").content
        assert file.open is not None
        on_server.change("UPDATE params SET value = 'new' WHERE [key] = 'alpha'")
        with pytest.raises(SourceChanged, match="params changed"):
            file.open()
        on_server.change("UPDATE params SET value = '0.1' WHERE [key] = 'alpha'")
        with file.open() as stream:
            assert stream.read() == on_server.table("params")


def test_a_damaged_pack_is_not_built_upon(on_server: TablesOnServer, tmp_path: Path) -> None:
    """Once it was found damaged, unchanged tables are read again, and the new point comes back whole."""
    store = MemoryStore()
    vault, _ = make_vault(store)
    with on_server.source().capture(None) as cut:
        store_tree(vault, [file for file in cut.files() if file.path.startswith("tables/")])
    rows = [key for key in store.objects if key.startswith("packs/")]
    with on_server.source().capture(None) as cut:
        first = store_tree(vault, cut.files())
    seal(vault, first)
    for key in rows:
        store.objects[key] = flip(store.objects[key], 100)
    with pytest.raises(IntegrityError, match="is damaged"):
        verify_points(reopen(store), reopen(store).points(), 1.0, FrozenClock())
    vault = reopen(store)
    with on_server.source().capture(vault.tree(first)) as cut:
        assert tables_read(cut) == set()
        again = store_tree(vault, cut.files())
        assert {"metrics", "params", ODD} <= tables_read(cut)
        details = json.loads(json.dumps(cut.details()))
    back = f"sqlite:///{tmp_path}/back.db"
    MlflowTarget(back, str(tmp_path / "new")).restore(details, vault.tree(again))
    assert len(content(back)["metrics"]) == METRICS
