"""The parts of the demonstration, each for real: data, repository, processes, witness, disaster, catalog."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from muster.adapters.gx_validator import GxValidator
from muster.catalog import load_catalog
from muster.demo.disaster import destroy
from muster.demo.flights import FLIGHTS_IN_2013, a_few_flights, read_months, write_months
from muster.demo.layout import MARKER, OWNER, Layout, claim, owner_of, take_ownership
from muster.demo.processes import ProcessTree, finish, started_at
from muster.demo.repository import DATA, dataset_md5, make_repository
from muster.demo.witness import NAMES, Evidence, ask, compare, digests, registry_rows
from muster.demo.workload import CATALOG, LOCK, WORKLOAD, Site, deploy_configuration
from muster.errors import MusterError, Refused

ESCAPE = """
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        open(sys.argv[1], "w").write(str(os.getpid()))
        time.sleep(600)
    os._exit(0)
os.wait()
time.sleep(float(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def months(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real flights, one file a month."""
    folder = tmp_path_factory.mktemp("flights") / "data"
    write_months(folder)
    return folder


def wait_for(file: Path) -> str:
    deadline = time.monotonic() + 30
    while not (file.exists() and file.read_text()):
        assert time.monotonic() < deadline, f"{file} was not written"
        time.sleep(0.02)
    return file.read_text()


# --- data -------------------------------------------------------------------------------------------------------------


def test_every_flight_is_in_the_file_of_its_month(months: Path) -> None:
    """Twelve files hold each of the 336,776 flights once."""
    flights = read_months(months)
    assert len(flights) == FLIGHTS_IN_2013
    assert [file.name for file in sorted(months.iterdir())] == [f"2013-{month:02d}.csv" for month in range(1, 13)]
    assert all(set(read_months(months, slice(n, n + 1))["month"]) == {n + 1} for n in (0, 5, 11))
    assert flights["temp"].notna().mean() > 0.99


def test_the_questions_are_the_same_every_time(months: Path) -> None:
    """The five flights asked about before the disaster are those asked about after it."""
    questions = a_few_flights(months)
    assert json.dumps(questions) == json.dumps(a_few_flights(months))
    assert len(questions["labels"]) == len(set(questions["labels"])) == len(questions["rows"]["data"]) == 5


def test_the_committed_suite_judges_the_real_flights(months: Path, tmp_path: Path) -> None:
    """The suite passes on the flights as they are, and fails when one month is missing."""
    suite = json.loads((CATALOG.parent / "expectations" / WORKLOAD / "flights.json").read_text())
    incomplete = tmp_path / "incomplete"
    incomplete.mkdir()
    for file in sorted(months.iterdir())[:-1]:
        (incomplete / file.name).hardlink_to(file)
    for name, data, good in (("whole", months, True), ("incomplete", incomplete, False)):
        docs = tmp_path / f"docs-{name}"
        docs.mkdir()
        assert GxValidator().validate(suite, data, docs).success is good


def test_the_dataset_is_versioned_and_pushed(tmp_path: Path) -> None:
    """After set-up Git has nothing to commit, DVC nothing to add and nothing to push, and the remote holds the bytes."""
    repository, remote, log = tmp_path / "repo", tmp_path / "remote", tmp_path / "log"
    (repository / DATA).mkdir(parents=True)
    (repository / DATA / "2013-01.csv").write_text("year,month\n2013,1\n")
    with ProcessTree() as tree:
        make_repository(tree, repository, remote, log)
    dvc = [sys.executable, "-m", "dvc", "--cd", str(repository), "status", "--json"]
    for command in (dvc, [*dvc, "--cloud"]):
        assert json.loads(subprocess.run(command, capture_output=True, check=True).stdout) == {}
    status = ["git", "-C", str(repository), "status", "--porcelain"]
    assert subprocess.run(status, capture_output=True, check=True).stdout == b""
    assert dataset_md5(repository).endswith(".dir")
    assert {path.read_bytes() for path in remote.rglob("*") if path.is_file()} > {b"year,month\n2013,1\n"}


# --- folders and processes --------------------------------------------------------------------------------------------


def test_only_a_demonstrations_folder_is_ever_wiped(tmp_path: Path) -> None:
    """A folder that something else made is refused and left as it is; one of an earlier demonstration is made anew."""
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("years of work")
    with pytest.raises(Refused, match="no demonstration made"):
        claim(foreign)
    assert (foreign / "thesis.txt").read_text() == "years of work"

    home = tmp_path / "home"
    (claim(home).home / "leftover").write_text("old")
    (home / OWNER).unlink()
    claim(home)
    assert {file.name for file in home.iterdir()} == {MARKER, OWNER}


def test_a_running_demonstration_is_not_wiped(tmp_path: Path) -> None:
    """A second demonstration in the same folder is refused while the first one lives, and a reused process id is no life."""
    home = claim(tmp_path / "home").home
    assert owner_of(home) == os.getpid()
    with pytest.raises(Refused, match="is running"):
        claim(home)
    (home / OWNER).write_text(json.dumps({"pid": os.getpid(), "started": "another time"}))
    assert owner_of(home) is None
    claim(home)
    take_ownership(home)
    assert owner_of(home) == os.getpid()


@pytest.mark.parametrize("parent_lives", [True, False])
def test_a_process_that_hides_is_found_and_ended(tmp_path: Path, parent_lives: bool) -> None:
    """A grandchild in a session of its own, deaf to SIGTERM, with or without a living parent, ends with the scope."""
    told = tmp_path / "pid"
    with ProcessTree() as tree:
        command = [sys.executable, "-c", ESCAPE, str(told), "600" if parent_lives else "0"]
        child = tree.start("hider", command, env=os.environ, log=tmp_path / "log")
        hidden = int(wait_for(told))
        if not parent_lives:
            child.process.wait()
        assert hidden in tree.descent()
    assert started_at(hidden) is None
    assert started_at(child.process.pid) is None


def sleep_and(end: Callable[[], None], folder: Path) -> None:
    """Start a process in a scope, leave its number in the folder, and end the scope in some way."""
    with ProcessTree() as tree:
        child = tree.start("sleep", ["sleep", "600"], env=os.environ, log=folder / "log")
        (folder / "pid").write_text(str(child.process.pid))
        end()


def fail() -> None:
    raise RuntimeError("on purpose")


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(30)


def terminate_a_destructor() -> None:
    class Deaf:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    Deaf()
    time.sleep(30)


def test_what_was_there_before_is_spared(tmp_path: Path) -> None:
    """Processes that the caller started before the scope outlive it, also when the scope ends by an error."""
    before = subprocess.Popen(["sleep", "600"])
    try:
        with pytest.raises(RuntimeError, match="on purpose"):
            sleep_and(fail, tmp_path)
        assert before.poll() is None
        assert started_at(int((tmp_path / "pid").read_text())) is None
    finally:
        before.kill()
        before.wait()


@pytest.mark.parametrize("end", [terminate, terminate_a_destructor])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_sigterm_ends_the_scope_as_ctrl_c_does(tmp_path: Path, end: Callable[[], None]) -> None:
    """A terminated demonstration ends its processes before it goes, even if Python drops the first interrupt; the old handlers are back."""
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        sleep_and(end, tmp_path)
    assert started_at(int((tmp_path / "pid").read_text())) is None
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers


def test_a_program_that_fails_says_why(tmp_path: Path) -> None:
    """The error of a failed program carries the end of its output and its exit code."""
    command = [sys.executable, "-c", "print('no such luck'); raise SystemExit(3)"]
    with ProcessTree() as tree:
        broken = tree.start("broken", command, env=os.environ, log=tmp_path / "log")
        with pytest.raises(MusterError, match=r"(?s)broken failed with code 3.*no such luck"):
            finish(broken)


# --- witness and disaster ---------------------------------------------------------------------------------------------


def evidence() -> Evidence:
    return Evidence(**{part: {"a": "1", "b": "2"} for part in NAMES})


@pytest.mark.parametrize("part", NAMES)
@pytest.mark.parametrize("after", [{"a": "1"}, {"a": "1", "b": "3"}, {"a": "1", "b": "2", "c": "4"}])
def test_the_witness_names_every_difference(part: str, after: dict[str, str]) -> None:
    """Something missing, altered or new in any part is named, and nothing else is."""
    found = compare(evidence(), dataclasses.replace(evidence(), **{part: after}))
    different = [comparison for comparison in found if comparison.differences]
    assert [comparison.what for comparison in different] == [NAMES[part][0]]
    assert set(different[0].differences) == {name for name, _ in {"a": "1", "b": "2"}.items() ^ after.items()}


def test_all_equal_is_no_difference() -> None:
    """The same evidence twice has no difference in any part."""
    assert [comparison.differences for comparison in compare(evidence(), evidence())] == [()] * len(NAMES)


def test_a_row_of_the_registry_is_counted_as_often_as_it_is_there(tmp_path: Path) -> None:
    """A changed value, a lost copy of a doubled row and a lost table are all seen; a server's own state is not looked at."""
    database = tmp_path / "mlflow.db"
    with sqlite3.connect(database) as connection:
        connection.executescript(
            "CREATE TABLE runs (id TEXT, x FLOAT); INSERT INTO runs VALUES ('r', 0.5), ('r', 0.5), ('s', NULL);"
            "CREATE TABLE job_locks (id TEXT); INSERT INTO job_locks VALUES ('mine');"
        )
    before = registry_rows(database)
    assert len(before) == 3
    with sqlite3.connect(database) as connection:
        connection.execute("DELETE FROM job_locks")
    assert registry_rows(database) == before
    whole = database.read_bytes()
    for damage in ("DELETE FROM runs WHERE rowid = 1", "UPDATE runs SET x = 0.25 WHERE rowid = 3", "DROP TABLE runs"):
        database.write_bytes(whole)
        with sqlite3.connect(database) as connection:
            connection.execute(damage)
        assert registry_rows(database) != before


def test_the_disaster_takes_everything_but_the_vault(tmp_path: Path) -> None:
    """Nothing of the workload is left, all of it was counted, and the vault is untouched."""
    layout = claim(tmp_path / "home")
    site = Site(layout)
    deploy_configuration(site)
    for folder in (layout.repository / DATA, layout.repository / ".dvc/cache", layout.repository / ".git"):
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"1234")
    for folder in (layout.remote, layout.artifacts, layout.environment, layout.vault):
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"1234")
    (layout.registry / "mlflow.db").write_bytes(b"1234")
    vault = digests(layout.vault)
    losses = destroy(layout)
    assert not layout.origin.exists()
    assert digests(layout.vault) == vault
    assert [loss.files for loss in losses] == [1, 1, 1, 1, 1, 1, 1, 3]
    assert all(loss.size >= 4 for loss in losses)


def test_a_model_without_its_environment_cannot_answer(tmp_path: Path) -> None:
    """Asking in an environment that is gone is an error that says so."""
    with pytest.raises(MusterError, match="cannot be run: No such file"):
        ask(tmp_path / "gone" / "bin" / "python", "http://127.0.0.1:9", ["models:/m@a"], {"columns": [], "data": []})


# --- catalog ----------------------------------------------------------------------------------------------------------


def test_the_site_resolves_all_that_the_committed_catalog_names(tmp_path: Path) -> None:
    """Every reference of the catalog stands for something here, secrets are private, and the lock is where it is said to be."""
    site = Site(Layout(tmp_path))
    catalog = load_catalog(CATALOG)
    workload = catalog.workload(WORKLOAD)
    said = [entry.model_dump(mode="json") for entry in (workload, *catalog.vaults.values())]
    references = {text for text in _strings(said) if text.startswith(("conn:", "env:"))}
    assert len(references) >= 8
    assert [reference for reference in references if site.resolve(reference) == reference] == []
    assert (workload.root / workload.environment.lock).resolve() == LOCK.resolve()
    site.write_access()
    for name in ("secrets.yaml", "access.sh"):
        assert (tmp_path / name).stat().st_mode & 0o077 == 0
    assert site.passphrase not in repr(site)
    assert site.token not in repr(site)


def _strings(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for part in value.values() for text in _strings(part)]
    if isinstance(value, list):
        return [text for part in value for text in _strings(part)]
    return [value] if isinstance(value, str) else []
