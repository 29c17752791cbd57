"""What of a server's word is not believed, and what is done where it says nothing."""

from __future__ import annotations

import logging
import math
import random
import re

import pytest

from muster.adapters import mlflow_tables
from mysql import MariaDb
from registry_seed import driven, query
from registry_tables import MARIADB, ODD, TablesOnServer


@pytest.mark.parametrize("due", [True, False])
def test_a_wrong_digest_does_not_last(
    on_server: TablesOnServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, due: bool
) -> None:
    """If equal digests ever stood for other rows: on the table's day it is read, the point is right again, and that is said."""
    tree = on_server.trees[-1]
    right = on_server.table("params")
    tree.replace("tables/params.jsonl", right.replace(b"0.1", b"0.7"))
    monkeypatch.setattr(mlflow_tables, "due", lambda path, _at: due and path == "tables/params.jsonl")
    read, details = on_server.take()
    assert read == ({"params"} if due else set())
    assert (on_server.table("params") == right) == due
    said = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert ["other rows in params than the point before" in r.getMessage() for r in said] == [True] * due
    fresh = on_server.take(alone=True)[1]["tables"]
    assert (fresh == details["tables"]) == due


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"format":1,"pages":{},"rows":{}}'])
def test_what_cannot_be_read_of_the_point_before_is_not_believed(on_server: TablesOnServer, damage: bytes) -> None:
    """A look of another format, or none: everything is read."""
    look = on_server.trees[-1].entry("look.json").content
    assert look is not None
    (on_server.trees[-1].folder / look.sha256).write_bytes(damage)
    assert {"metrics", "params", ODD} <= on_server.take()[0]


@pytest.mark.parametrize("on_server", ["embedded_postgres"], indirect=True)
def test_functions_and_settings_of_a_database_do_not_deceive(on_server: TablesOnServer) -> None:
    """Somebody's own SHA-256 before PostgreSQL's; fewer digits for floats; another time zone, by which times would be shown."""
    name = on_server.url.partition("?")[0].rpartition("/")[2]
    on_server.change(
        "CREATE FUNCTION public.sha256(bytea) RETURNS bytea LANGUAGE sql AS 'SELECT ''x''::bytea'",
        f"ALTER DATABASE {name} SET search_path = public, pg_catalog",
        f"ALTER DATABASE {name} SET extra_float_digits = -15",
    )
    try:
        assert on_server.take()[0] == set()
        on_server.change(f"UPDATE ODD SET d = {math.nextafter(0.1, 1)!r} WHERE id = 1")
        assert on_server.take()[0] == {ODD}
        assert b"0.10000000000000002" in on_server.table(ODD)
        on_server.change(f"ALTER DATABASE {name} SET timezone = 'Asia/Tokyo'")
        assert {"metrics", ODD} <= on_server.take()[0]
    finally:
        on_server.change(f"ALTER DATABASE {name} RESET ALL", "DROP FUNCTION public.sha256(bytea)")


@pytest.mark.parametrize("on_server", ["embedded_postgres"], indirect=True)
def test_where_the_server_refuses_everything_is_read_and_that_is_said(
    on_server: TablesOnServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A role that may read, and may not call what is needed: the same point, and a line in the log."""
    on_server.change(
        "REVOKE EXECUTE ON FUNCTION pg_catalog.record_send(record) FROM PUBLIC",
        "CREATE ROLE reader LOGIN PASSWORD 'x'",
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader",
        "GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO reader",
    )
    try:
        before_it = on_server.take()[1]
        reader = TablesOnServer(re.sub(r"//[^@/]*@", "//reader:x@", on_server.url), on_server.folder, on_server.trees)
        caplog.clear()
        read, details = reader.take()
    finally:
        on_server.change(
            "DROP OWNED BY reader",
            "DROP ROLE reader",
            "GRANT EXECUTE ON FUNCTION pg_catalog.record_send(record) TO PUBLIC",
        )
    assert {"metrics", "params", ODD} <= read
    assert details["tables"] == before_it["tables"]
    (said,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert "so they are read" in said
    assert "permission denied for function record_send" in said


@pytest.mark.parametrize("on_server", MARIADB, indirect=True)
def test_a_row_that_fills_a_packet_is_read(
    on_server: TablesOnServer, mariadb: MariaDb, caplog: pytest.LogCaptureFixture
) -> None:
    """MariaDB can send it, but not put a digest before it; it then says null, which is not taken for an answer."""
    limit = mariadb.execute("SELECT @@max_allowed_packet")[0][0]
    on_server.change(f"UPDATE ODD SET a = REPEAT('x', {(1 << 20) - 64}) WHERE id = 3")
    mariadb.execute(f"SET GLOBAL max_allowed_packet = {1 << 20}")
    try:
        on_server.take()
        assert on_server.take()[0] == {ODD}
    finally:
        mariadb.execute(f"SET GLOBAL max_allowed_packet = {limit}")
    assert "too long for one packet" in caplog.text
    assert query(on_server.url, "SELECT COUNT(*) FROM params") == [(2,)]


@pytest.mark.parametrize("on_server", MARIADB, indirect=True)
def test_every_double_has_a_text_of_its_own(on_server: TablesOnServer) -> None:
    """MariaDB is asked for floats as text: what it says of any is that number, to the last bit."""
    import sqlalchemy as sa

    some = random.Random(7)
    numbers = [math.ldexp(some.uniform(-2, 2), some.randint(-1000, 1000)) for _ in range(2000)]
    numbers += [math.nextafter(n, math.inf) for n in numbers]
    on_server.change("DELETE FROM ODD")
    with sa.create_engine(driven(on_server.url), poolclass=sa.NullPool).begin() as connection:
        table = sa.table(ODD, sa.column("id"), sa.column("d"))
        connection.execute(sa.insert(table), [{"id": n, "d": d} for n, d in enumerate(numbers)])
        shown = connection.exec_driver_sql(
            f"SELECT IF(d IS NULL, 'n', d) FROM {on_server.quoted(ODD).replace('%', '%%')} ORDER BY id"
        ).scalars()
        assert [float(text) for text in shown] == numbers
