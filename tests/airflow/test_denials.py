"""Denied attempts: none is lost, a flood of them is few records, and nobody waits for them."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from muster.errors import StoreUnavailable
from muster_airflow.denials import Denial, Denials, Record, Spool, Trail
from muster_airflow.ui.denial_watch import DenialWatch

pytestmark = pytest.mark.airflow
KNOWN = {"restore__ledger": ["first"], "restore__orders": ["second"], "verify": ["first", "second"], "~": ["first"]}
AT = datetime(2026, 11, 23, 2, tzinfo=UTC)
EVERY_S = 0.4


def denial(who: str = "eve", dag: str = "restore__ledger", attempt: str = "trigger", second: int = 0) -> Denial:
    at = AT + timedelta(seconds=second)
    path = f"/api/v2/dags/{dag}/dagRuns"
    return Denial(who, attempt, dag, "", "POST", path, 403, "10.0.0.7", at, at)


class Vaults:
    """Where records go; away while `away` is set."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.opened = 0
        self.away: set[str] = set()

    def open(self) -> Trail:
        self.opened += 1
        return self._write

    def _write(self, record: Record) -> None:
        if record["vault"] in self.away:
            raise StoreUnavailable("the store does not answer", "try again")
        self.records.append(record)


@pytest.fixture
def vaults() -> Vaults:
    return Vaults()


def denials(vaults: Vaults, folder: Path, every_s: float = EVERY_S) -> Denials:
    return Denials(folder / "denied", vaults.open, lambda: KNOWN, every_s=every_s)


def told(vaults: Vaults) -> list[tuple[str, str, int]]:
    return [(record["who"], record["dag"], record["times"]) for record in vaults.records]


def test_the_same_attempt_many_times_is_two_records(vaults: Vaults, tmp_path: Path) -> None:
    """The first at once, the others of that minute together, with the time of the first and of the last."""
    kept = denials(vaults, tmp_path, every_s=5)
    kept.note(denial())
    kept.flush()
    for second in range(1, 201):
        kept.note(denial(second=second))
        kept.flush()
    assert told(vaults) == [("eve", "restore__ledger", 1)]
    time.sleep(5)
    kept.flush()
    assert told(vaults) == [("eve", "restore__ledger", 1), ("eve", "restore__ledger", 200)]
    first, last = ((AT + timedelta(seconds=second)).isoformat() for second in (1, 200))
    assert (vaults.records[1]["first"], vaults.records[1]["last"]) == (first, last)


def test_others_attempts_are_records_of_their_own(vaults: Vaults, tmp_path: Path) -> None:
    """Another person, another DAG, another kind of attempt."""
    kept = denials(vaults, tmp_path)
    for each in (denial(), denial("mallory"), denial(dag="restore__orders"), denial(attempt="approve"), denial()):
        kept.note(each)
    kept.flush()
    assert sorted(record["times"] for record in vaults.records) == [1, 1, 1, 2]
    assert len({record["id"] for record in vaults.records}) == 4


def test_a_flood_of_invented_dags_and_names_is_few_records(vaults: Vaults, tmp_path: Path) -> None:
    """DAGs that the catalog does not have are one, and the number is kept of what is too much to keep."""
    kept = denials(vaults, tmp_path)
    for number in range(5000):
        kept.note(denial(dag=f"restore__{number}"))
    kept.flush()
    assert {record["dag"] for record in vaults.records} == {"~"}
    assert len(vaults.records) == 2
    assert sum(record["times"] for record in vaults.records) == 5000


def test_what_no_vault_takes_waits_and_is_written_later(vaults: Vaults, tmp_path: Path) -> None:
    """It lies in files meanwhile, a vault that is away is not asked all the time, and a new process goes on."""
    vaults.away = {"first"}
    kept = denials(vaults, tmp_path, every_s=60)
    for who in ("eve", "mallory"):
        kept.note(denial(who))
        kept.flush()
    assert vaults.opened == 1
    assert len(list((tmp_path / "denied").glob("*.json"))) == 2
    vaults.away = set()
    denials(vaults, tmp_path).flush()
    assert told(vaults) == [("eve", "restore__ledger", 1), ("mallory", "restore__ledger", 1)]
    assert list((tmp_path / "denied").glob("*.json")) == []


def test_a_vault_that_is_away_keeps_nothing_back_from_the_others(vaults: Vaults, tmp_path: Path) -> None:
    """What two vaults are to be told, each is told once, however often the other is tried."""
    vaults.away = {"first"}
    kept = denials(vaults, tmp_path, every_s=0.05)
    for dag in ("restore__ledger", "verify", "restore__orders"):
        kept.note(denial(dag=dag))
    for _ in range(3):
        kept.flush()
        time.sleep(0.1)
    assert [(record["dag"], record["vault"]) for record in vaults.records] == [
        ("verify", "second"),
        ("restore__orders", "second"),
    ]
    vaults.away = set()
    kept.flush()
    assert sorted((record["dag"], record["vault"]) for record in vaults.records) == [
        ("restore__ledger", "first"),
        ("restore__orders", "second"),
        ("verify", "first"),
        ("verify", "second"),
    ]
    assert len({record["id"] for record in vaults.records if record["dag"] == "verify"}) == 1


def test_with_a_catalog_that_cannot_be_read_attempts_are_held(vaults: Vaults, tmp_path: Path) -> None:
    """They are written when it was mended."""
    broken = [True]

    def known() -> dict[str, list[str]]:
        if broken:
            raise StoreUnavailable("no catalog", "mend it")
        return KNOWN

    kept = Denials(tmp_path / "denied", vaults.open, known, every_s=EVERY_S)
    kept.note(denial())
    with pytest.raises(StoreUnavailable):
        kept.flush()
    broken.clear()
    kept.note(denial())
    kept.flush()
    assert told(vaults) == [("eve", "restore__ledger", 2)]


def test_what_comes_is_written_without_anybody_asking(vaults: Vaults, tmp_path: Path) -> None:
    """The thread writes what an earlier process left, what comes, and what was held back."""
    Spool(tmp_path / "denied").put(denial("left"), ["first"])
    kept = denials(vaults, tmp_path)
    kept.start()
    for second in range(3):
        kept.note(denial(second=second))
        time.sleep(0.7)
    deadline = time.monotonic() + 20
    while sum(record["times"] for record in vaults.records) < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert {record["who"] for record in vaults.records} == {"left", "eve"}
    assert sum(record["times"] for record in vaults.records) == 4


def test_two_processes_write_each_record_once(vaults: Vaults, tmp_path: Path) -> None:
    """Who comes while another is at it leaves it to him."""
    spool = Spool(tmp_path / "denied")
    for number in range(5):
        spool.put(denial(f"user{number}"), ["first"])
    entered, go_on = threading.Event(), threading.Event()

    def slow() -> Trail:
        entered.set()
        assert go_on.wait(20)
        return vaults.records.append

    other = threading.Thread(target=spool.empty_into, args=(slow,))
    other.start()
    assert entered.wait(20)
    Spool(tmp_path / "denied").empty_into(vaults.open)
    assert vaults.opened == 0
    go_on.set()
    other.join(20)
    assert [record["who"] for record in vaults.records] == [f"user{number}" for number in range(5)]


def test_a_file_that_is_none_of_ours_keeps_nothing_back(vaults: Vaults, tmp_path: Path) -> None:
    """It is put aside, and the others are written."""
    spool = Spool(tmp_path / "denied")
    spool.put(denial(), ["first"])
    (tmp_path / "denied" / "0.json").write_text("{")
    spool.empty_into(vaults.open)
    assert told(vaults) == [("eve", "restore__ledger", 1)]
    assert [file.name for file in (tmp_path / "denied").glob("*.unreadable")] == ["0.unreadable"]


async def answered(status: int, scope: Any, noting: Any) -> list[Any]:
    """What a client receives if the server answers so."""
    sent: list[Any] = []

    async def server(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"no"})

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    await DenialWatch(server, noting)(scope, receive, send)
    return sent


class Noting:
    def __init__(self, fails: bool = False) -> None:
        self.noted: list[Denial] = []
        self._fails = fails

    def note(self, denial: Denial) -> None:
        if self._fails:
            raise RuntimeError("broken")
        self.noted.append(denial)


def request(method: str, path: str) -> dict[str, Any]:
    scope = {"type": "http", "method": method, "path": path, "headers": [], "query_string": b"key=secret"}
    return {**scope, "client": ("10.0.0.7", 4711)}


@pytest.mark.parametrize(
    ("method", "path", "attempt", "dag", "run"),
    [
        ("POST", "/api/v2/dags/restore__ledger/dagRuns", "trigger", "restore__ledger", ""),
        ("POST", "/api/v2/backfills", "trigger", "~", ""),
        ("POST", "/api/v2/assets/7/materialize", "trigger", "~", ""),
        ("POST", "/air/flow/api/v2/dags/verify/dagRuns", "trigger", "verify", ""),
        (
            "PATCH",
            "/api/v2/dags/restore__a%2Fb/dagRuns/r1/taskInstances/approve/-1/hitlDetails",
            "approve",
            "restore__a/b",
            "r1",
        ),
        ("POST", "/api/v2/dags/drill__ledger/clearTaskInstances", "clear", "drill__ledger", ""),
        ("POST", "/api/v2/dags/drill__ledger/dagRuns/r1/clear", "clear", "drill__ledger", "r1"),
        ("PATCH", "/api/v2/dags/~/dagRuns/~/taskInstances", "change", "~", "~"),
        ("PATCH", "/api/v2/dags", "change", "~", ""),
        ("DELETE", "/api/v2/dags/expire", "delete", "expire", ""),
    ],
)
def test_every_denied_change_is_noted(method: str, path: str, attempt: str, dag: str, run: str) -> None:
    """Whatever it is aimed at, and wherever Airflow is mounted; without its query."""
    noting = Noting()
    asyncio.run(answered(403, request(method, path), noting))
    (noted,) = noting.noted
    assert (noted.attempt, noted.dag, noted.run, noted.status, noted.host) == (attempt, dag, run, 403, "10.0.0.7")
    assert noted.path == path
    assert noted.who == "anonymous"
    assert "secret" not in json.dumps(str(noted))


@pytest.mark.parametrize(
    ("status", "method", "path"),
    [
        (200, "POST", "/api/v2/dags/restore__ledger/dagRuns"),
        (404, "POST", "/api/v2/dags/restore__ledger/dagRuns"),
        (403, "GET", "/api/v2/dags/restore__ledger/dagRuns"),
        (403, "POST", "/api/v2/dags/payroll/dagRuns"),
        (403, "POST", "/api/v2/connections"),
        (403, "POST", "/api/v2/dags/~/dagRuns/list"),
    ],
)
def test_nothing_else_is_noted(status: int, method: str, path: str) -> None:
    """Neither what was let in, nor what only looks, nor what is none of ours."""
    noting = Noting()
    asyncio.run(answered(status, request(method, path), noting))
    assert noting.noted == []


def test_an_answer_goes_out_as_it_is_even_if_it_cannot_be_noted() -> None:
    """Nobody who is denied learns of our troubles."""
    sent = asyncio.run(answered(403, request("POST", "/api/v2/dags/verify/dagRuns"), Noting(fails=True)))
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert sent[0]["status"] == 403


def test_a_denial_of_another_time_is_the_same_denial() -> None:
    """The key is who, what and on which DAG."""
    assert denial().key == replace(denial(second=9), host="elsewhere", run="another").key
