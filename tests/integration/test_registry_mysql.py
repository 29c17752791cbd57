"""What MySQL and MariaDB do differently from other engines, and how a registry comes through it: on a real MariaDB."""

from __future__ import annotations

import hashlib
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fakes_trees import FolderTree
from muster.adapters.mlflow_registry import MlflowSource, MlflowTarget
from muster.adapters.mlflow_store import StoreUrl, connect
from muster.errors import IntegrityError, SourceInvalid
from mysql import MariaDb, name_of
from registry_seed import SmallStore, capture, content, fill, query
from registry_writer import INSERT_RUN, assert_no_orphans

pytestmark = pytest.mark.servers

NASTY = "nul \0 back\\slash 'quote' \"double\" %s :name \u2028 𝄞 \r\n ends in spaces  "
ADD = "INSERT INTO experiments (name, lifecycle_stage) VALUES ('{}', 'active')"
LAST = "SELECT max(experiment_id) FROM experiments"
OTHER_ORDER = ("b", "C", "_x", "é", "東", "𝄞", "10", "9")
"""Keys that a default collation sorts otherwise than their code points."""


def with_rows(tree: FolderTree, details: dict[str, Any], table: str, rows: bytes) -> None:
    """Other rows in a captured table, with a digest that fits."""
    tree.replace(f"tables/{table}.jsonl", rows)
    details["tables"][table] = {"rows": rows.count(b"\n"), "sha256": hashlib.sha256(rows).hexdigest()}


# --- the same rows ----------------------------------------------------------------------------------------------------


def test_tables_have_the_digests_that_they_have_on_sqlite(
    small_store: SmallStore, mariadb: MariaDb, tmp_path: Path
) -> None:
    """
    Booleans, JSON, times, bytes, long text, extreme and short floats, text in any order: as from SQLite, there and back. MySQL itself
    writes JSON anew, which is counted.
    """
    url, root = small_store.url, str(small_store.artifacts)
    small_store.add_run("r1")
    for number, key in enumerate(OTHER_ORDER):
        small_store.execute("INSERT INTO params (key, value, run_uuid) VALUES (?, ?, 'r1')", key, f"{number} {NASTY}")
    for step, value in enumerate((0.1, 5e-324, 1.7976931348623157e308, -2.5, 1e-320, 2.0**53 + 2)):
        fill(url, "metrics", key="m", run_uuid="r1", step=step, timestamp=2**62, value=value, is_nan=step % 2 == 1)
    fill(url, "trace_info", request_id="t1", experiment_id=0)
    fill(url, "spans", trace_id="t1", experiment_id=0, span_id="s1", content="𝄞é\0" * 60_000)
    odd = '{"b": 1,  "a": [1.0, 2], "a": null, "é": "\\u00e9"}'
    fill(url, "jobs", id="j", job_name="n", status=2)
    small_store.execute("UPDATE jobs SET status_details = ?", odd)
    fill(url, "secrets", secret_id="s", encrypted_value=bytes(range(256)), wrapped_dek=b"")
    for number, amount in enumerate((0.1, 1234567.9, 3.4e38, 16777216.0)):
        fill(url, "budget_policies", budget_policy_id=f"p{number}", budget_amount=amount)
    small_store.execute(
        "CREATE TABLE notes (day DATE, at DATETIME, clock TIME, yes BOOLEAN, j JSON, k TEXT PRIMARY KEY, raw BLOB)"
    )
    small_store.execute(
        "INSERT INTO notes VALUES ('0001-01-01', '2026-11-23 02:00:00.000001', '23:59:59.5', 1, '[1,  2.0]', 'é', x'00ff27'),"
        " (NULL, NULL, NULL, NULL, NULL, 'E', NULL), (NULL, '9999-12-31 23:59:59', NULL, 0, 'null', 'e', x'')"
    )
    small_store.execute("INSERT INTO experiments (experiment_id, name, lifecycle_stage) VALUES (41, 'x', 'active')")
    details, tree = capture(url, root, tmp_path / "tree")
    there = mariadb.database()
    facts = MlflowTarget(there, root).restore(details, tree)
    again, tree2 = capture(there, root, tmp_path / "tree2")
    back = MlflowTarget(f"sqlite:///{tmp_path}/back.db", root).restore(again, tree2)
    anew = ["jobs.status_details", "notes.j"] if mariadb.is_mysql else []
    assert facts["adapted"] == {f"{where}: JSON as MySQL writes it": 1 for where in anew}
    assert back["adapted"] == {}
    assert facts["tables"] == again["tables"] == back["tables"]
    assert {t: s for t, s in facts["tables"].items() if f"{t}." not in f"{anew}"} == {
        t: s for t, s in details["tables"].items() if f"{t}." not in f"{anew}"
    }
    ((kept,),) = query(there, "SELECT CAST(status_details AS CHAR) FROM jobs")
    assert kept == ('{"a": null, "b": 1, "é": "é"}' if anew else odd)
    assert json.loads(kept) == json.loads(odd)
    assert [(c["table"], c["name"], c["kind"]) for c in columns(tree)] == [
        (c["table"], c["name"], c["kind"]) for c in columns(tree2)
    ]
    query(there, ADD.format("next"))
    assert query(there, LAST) == [(42,)]


DIGITS = '{"n": 12345678901234567890123}'


@pytest.mark.parametrize("text", [DIGITS, '{"n": NaN}', "[" * 101 + "]" * 101, "{}, {}"], ids=list("1234"))
def test_json_comes_back_as_the_same_value_or_not_at_all(
    text: str, small_store: SmallStore, mariadb: MariaDb, tmp_path: Path
) -> None:
    """What MySQL would keep as another number, or does not take, is refused without the value, and leaves nothing; MariaDB keeps digits."""
    fill(small_store.url, "jobs", id="j", job_name="n", status=2)
    small_store.execute("UPDATE jobs SET status_details = ?", text)
    details, tree = capture(small_store.url, str(small_store.artifacts), tmp_path / "tree")
    url = mariadb.database()
    target = MlflowTarget(url, str(tmp_path / "new"))
    if text == DIGITS and not mariadb.is_mysql:
        target.restore(details, tree)
        assert query(url, "SELECT status_details FROM jobs") == [(text,)]
        return
    where = "jobs.status_details" if mariadb.is_mysql else "jobs"
    with pytest.raises(SourceInvalid, match=f"{where} (does not take|holds a number)") as caught:
        target.restore(details, tree)
    assert "123456" not in f"{caught.value}"
    assert content(url) == {}


def test_json_by_which_rows_are_sorted(small_store: SmallStore, mariadb: MariaDb, tmp_path: Path) -> None:
    """Rows without a key come back if their JSON is as MySQL writes it; otherwise another text would move them: they are refused."""
    small_store.execute("CREATE TABLE loose (j JSON)")
    small_store.execute("INSERT INTO loose VALUES ('[1, 2]'), (NULL)")
    url = mariadb.database()
    details, tree = capture(small_store.url, str(small_store.artifacts), tmp_path / "tree")
    facts = MlflowTarget(url, str(tmp_path / "new")).restore(details, tree)
    assert (facts["adapted"], facts["tables"]["loose"]) == ({}, details["tables"]["loose"])
    small_store.execute("UPDATE loose SET j = '[1,2]' WHERE j IS NOT NULL")
    details, tree = capture(small_store.url, str(small_store.artifacts), tmp_path / "tree2")
    target = MlflowTarget(mariadb.database(), str(tmp_path / "new2"))
    if mariadb.is_mysql:
        with pytest.raises(SourceInvalid, match=r"loose\.j holds JSON that MySQL writes otherwise"):
            target.restore(details, tree)
    else:
        assert target.restore(details, tree)["adapted"] == {}


def columns(tree: FolderTree) -> list[dict[str, Any]]:
    """The columns that ``schema.json`` names, in one order."""
    tables = json.loads(tree.read(tree.entry("schema.json")))["tables"]
    found = [{"table": t["name"], **c} for t in tables for c in t["columns"]]
    return sorted(found, key=lambda c: (c["table"], c["name"]))


def test_what_mysql_cannot_hold_is_counted(small_store: SmallStore, mariadb: MariaDb, tmp_path: Path) -> None:
    """NaN, infinity, negative zero, and digits that single precision has no room for: as MLflow itself has them there, and that is said."""
    small_store.execute("CREATE TABLE scores (id INTEGER PRIMARY KEY, score FLOAT)")
    fill(small_store.url, "budget_policies", budget_policy_id="p", budget_amount=0.123456789)
    details, tree = capture(small_store.url, str(small_store.artifacts), tmp_path / "tree")
    rows = b'[1,{"float":"nan"}]\n[2,-0.0]\n[3,{"float":"inf"}]\n[4,{"float":"-inf"}]\n[5,1e-320]\n'
    with_rows(tree, details, "scores", rows)
    url = mariadb.database()
    facts = MlflowTarget(url, str(tmp_path / "new")).restore(details, tree)
    assert facts["adapted"] == {
        "budget_policies.budget_amount: single precision": 1,
        "scores.score: NaN": 1,
        "scores.score: infinity": 2,
        "scores.score: negative zero": 1,
    }
    again, tree2 = capture(url, str(tmp_path / "new"), tmp_path / "tree2")
    assert tree2.read(tree2.entry("tables/scores.jsonl")) == (
        b"[1,null]\n[2,0.0]\n[3,1.7976931348623157e308]\n[4,-1.7976931348623157e308]\n[5,1e-320]\n".replace(
            b"e3", b"e+3"
        )
    )
    assert b",0.12345679," in tree2.read(tree2.entry("tables/budget_policies.jsonl"))
    assert again["tables"] == facts["tables"]


def test_numbers_are_not_given_out_twice(mariadb_store: tuple[str, str], mariadb: MariaDb, tmp_path: Path) -> None:
    """A number given out and deleted again is not given out again by the restored store."""
    url, artifacts = mariadb_store
    for name in "abc":
        query(url, ADD.format(name))
    (number,) = query(url, LAST)[0]
    query(url, "DELETE FROM experiments WHERE name IN ('a', 'b', 'c')")
    details, tree = capture(url, artifacts, tmp_path / "tree")
    again = mariadb.database()
    MlflowTarget(again, str(tmp_path / "new")).restore(details, tree)
    query(again, ADD.format("d"))
    assert query(again, LAST) == [(number + 1,)]


def test_keys_that_the_collation_takes_for_equal(small_store: SmallStore, mariadb: MariaDb, tmp_path: Path) -> None:
    """Refused by a database that tells no case, with the mend, without the value, and left empty."""
    small_store.add_run("r1")
    for key in ("loss", "Loss", "lóss", "loss "):
        small_store.execute("INSERT INTO params (key, value, run_uuid) VALUES (?, 'v', 'r1')", key)
    details, tree = capture(small_store.url, str(small_store.artifacts), tmp_path / "tree")
    url = mariadb.database()
    with pytest.raises(SourceInvalid, match="params does not take a row: Duplicate entry …") as caught:
        MlflowTarget(url, str(tmp_path / "new")).restore(details, tree)
    assert "COLLATE utf8mb4" in caught.value.hint
    assert content(url) == {}


# --- one moment -------------------------------------------------------------------------------------------------------


def test_concurrent_writer_leaves_no_orphans(mariadb_store: tuple[str, str], mariadb: MariaDb, tmp_path: Path) -> None:
    """While somebody writes runs with tags, every cut has both or neither."""
    import pymysql

    url, artifacts = mariadb_store
    with closing(
        pymysql.connect(unix_socket=f"{mariadb.folder}/socket", user="root", database=name_of(url))
    ) as connection:

        def begin(run: str) -> None:
            with connection.cursor() as cursor:
                cursor.execute(INSERT_RUN.replace("?", "%s"), (run,))
                cursor.execute("INSERT INTO tags (`key`, value, run_uuid) VALUES ('k', 'v', %s)", (run,))
            connection.commit()

        assert_no_orphans(begin, MlflowSource("w", url, artifacts), tmp_path)


def test_table_without_snapshots_is_refused(mariadb_store: tuple[str, str], tmp_path: Path) -> None:
    """A table of an engine that cannot show one moment is named, with the mend."""
    url, artifacts = mariadb_store
    query(url, "CREATE TABLE notes (id INT PRIMARY KEY) ENGINE = MyISAM")
    try:
        with pytest.raises(SourceInvalid, match="the table notes is kept by MyISAM"):
            capture(url, artifacts, tmp_path / "tree")
    finally:
        query(url, "DROP TABLE notes")


def test_half_read_table_is_not_given_up(mariadb: MariaDb) -> None:
    """PyMySQL drops what is left of an answer when the next question is asked: that fails here, instead of losing rows."""
    import sqlalchemy as sa

    rows = sa.text(
        "WITH RECURSIVE seq (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM seq WHERE n < 900) SELECT n FROM seq"
    )
    with connect(StoreUrl.parse(mariadb.database())).connect() as connection:
        answer = connection.execute(rows, execution_options={"yield_per": 10})
        assert answer.fetchone() == (1,)
        with pytest.raises(IntegrityError, match="half read"):
            connection.execute(sa.text("SELECT 1"))
        answer.close()
        assert connection.execute(sa.text("SELECT 1")).scalar() == 1
