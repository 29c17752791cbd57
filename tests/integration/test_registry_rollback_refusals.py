"""What a rollback into a registry in use refuses, and how it fails: everything is as it was, to the last row and file."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from live_registries import MODEL, OTHER, LiveRegistry
from muster.adapters.mlflow_live import alone
from muster.adapters.mlflow_merge_files import Added
from muster.adapters.mlflow_store import StoreUrl
from muster.domain.merge_plan import OnConflict
from muster.errors import IntegrityError, MusterError, NotFound, Refused, SourceChanged, SourceInvalid
from registry_seed import driven, query


def assert_refused(
    live: LiveRegistry, *told: str, rule: OnConflict = "refuse", kind: type[MusterError] = Refused
) -> None:
    """Rolling the champion back fails, says why, and changes nothing."""
    before = live.state()
    with pytest.raises(kind) as caught:
        live.roll_back(f"{MODEL}@champion", rule=rule)
    for text in told:
        assert text in str(caught.value)
    assert live.state() == before


def version_folder(live: LiveRegistry, version: str = "3") -> Path:
    """Where the artifacts of a version lie."""
    source = live.client.get_model_version(MODEL, version).source
    return Path(live.client.get_logged_model(source.removeprefix("models:/")).artifact_location.removeprefix("file://"))


# --- conflicts --------------------------------------------------------------------------------------------------------


def test_all_conflicts_are_listed_and_refused_together(live: LiveRegistry) -> None:
    """A description and a tag that were changed since: both are named, and not even the alias moves."""
    client = live.client
    run = client.get_model_version(MODEL, "3").run_id
    client.set_registered_model_alias(MODEL, "champion", "1")
    client.update_model_version(MODEL, "3", "new words")
    client.set_tag(run, "mlflow.user", "somebody else")
    found = live.plan(f"{MODEL}@champion").conflicts
    assert {(c.where, c.what, c.keepable) for c in found} == {
        ("model_versions", "has another description now", True),
        ("tags", "has another value now", True),
    }
    assert_refused(live, f"model_versions {MODEL}/3", f"tags mlflow.user/{run}", "--on-conflict keep")


def test_what_conflicts_is_kept_by_rule_and_the_rest_comes_back(live: LiveRegistry) -> None:
    """With the rule, words stay as they are now, and the alias moves."""
    live.client.set_registered_model_alias(MODEL, "champion", "1")
    live.client.update_model_version(MODEL, "3", "new words")
    before, files = live.state()
    live.roll_back(f"{MODEL}@champion", rule="keep")
    after, same_files = live.state()
    assert live.client.get_model_version_by_alias(MODEL, "champion").description == "new words"
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"registered_model_aliases"}
    assert same_files == files
    assert live.ask(f"models:/{MODEL}@champion") == live.answers[f"models:/{MODEL}@champion"]


@pytest.mark.parametrize("rule", ["refuse", "keep"])
def test_another_version_of_the_same_number_is_never_taken_for_it(live: LiveRegistry, rule: OnConflict) -> None:
    """A model deleted and registered anew has a version 3 as well: an alias that pointed there would name another model."""
    client = live.client
    other = client.get_model_version(OTHER, "1").source
    client.delete_registered_model(MODEL)
    client.create_registered_model(MODEL)
    for _ in range(3):
        client.create_model_version(MODEL, other)
    assert_refused(live, f"model_versions {MODEL}/3", "source", rule=rule)


@pytest.mark.parametrize(
    ("tag", "told"),
    [("mlflow.prompt.text", "has another value now"), ("_mlflow_prompt_model_config", "was not there at the point")],
)
def test_a_prompt_that_says_something_else_is_never_taken_for_it(live: LiveRegistry, tag: str, told: str) -> None:
    """Its text is a tag; so is the configuration with which it is asked, also where there was none."""
    live.client.set_prompt_version_tag("explain-delay", 2, tag, '{"temperature": 2}')
    live.client.set_registered_model_alias(MODEL, "champion", "1")
    assert_refused(live, f"model_version_tags {tag}/explain-delay/2: {told}", rule="keep")


@pytest.mark.parametrize("rule", ["refuse", "keep"])
def test_changed_artifacts_of_the_model_are_never_taken_for_it(live: LiveRegistry, rule: OnConflict) -> None:
    """One byte of a model file is another, of the same size and time: no rule lets that pass."""
    file = version_folder(live) / "MLmodel"
    state = file.stat()
    data = bytearray(file.read_bytes())
    data[10] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    live.client.set_registered_model_alias(MODEL, "champion", "1")
    assert_refused(live, f"artifacts {file}: has another content now", rule=rule)


@pytest.mark.parametrize("rule", ["refuse", "keep"])
def test_a_file_more_in_the_models_folder_is_never_taken_for_it(live: LiveRegistry, rule: OnConflict) -> None:
    """A loader may read all that lies there, so that the model answers otherwise though each file of the point is as it was."""
    file = version_folder(live) / "data" / "weights-2.bin"
    file.parent.mkdir()
    file.write_text("more")
    live.client.set_registered_model_alias(MODEL, "champion", "1")
    assert_refused(live, f"artifacts {file}: was not there at the point", rule=rule)


def test_what_loading_a_model_writes_beside_it_is_no_conflict(live_sqlite: LiveRegistry) -> None:
    """MLflow's note beside the `MLmodel`, and what Python makes of the model's code; elsewhere the same names are files like others."""
    live, folder = live_sqlite, version_folder(live_sqlite)
    names = ["registered_model_meta", "deeper/registered_model_meta", "__pycache__/gone.cpython-311.pyc", "helper.pyc"]
    for path in [folder / name for name in names]:
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    told = {c.id.removeprefix(f"{folder}/") for c in live.plan(f"{MODEL}@champion").conflicts}
    assert told == set(names[1:])


def test_changed_notes_of_a_run_may_be_kept(live_sqlite: LiveRegistry) -> None:
    """What a run wrote besides its model is no part of it."""
    live = live_sqlite
    (notes,) = [
        p for p in live.artifacts.rglob("notes/*") if live.client.get_model_version(MODEL, "3").run_id in str(p)
    ]
    notes.write_text("rewritten")
    live.client.set_registered_model_alias(MODEL, "champion", "1")
    assert_refused(live, f"artifacts {notes}")
    live.roll_back(f"{MODEL}@champion", rule="keep")
    assert notes.read_text() == "rewritten"
    assert int(live.client.get_model_version_by_alias(MODEL, "champion").version) == 3


def test_a_name_that_belongs_to_another_experiment_is_refused(live_sqlite: LiveRegistry) -> None:
    """The experiment was removed, and another has its name now: nothing is renumbered or renamed to make it fit."""
    live = live_sqlite
    live.lose_a_version()
    (old,) = query(live.url, "SELECT experiment_id FROM experiments WHERE name LIKE 'flights%'")[0]
    query(live.url, f"UPDATE experiments SET experiment_id = 77 WHERE experiment_id = {old}")
    assert_refused(live, f"experiments {old}: is gone, and its workspace, name belongs to 77 now", rule="keep")


def test_another_experiment_of_the_same_number_is_refused(live_sqlite: LiveRegistry) -> None:
    """In a registry that was made anew, number 1 is something else."""
    live = live_sqlite
    query(live.url, "UPDATE experiments SET creation_time = 7, name = 'others' WHERE name LIKE 'flights%'")
    assert_refused(live, "experiments 1: has another name, creation_time now", rule="keep")


def test_another_schema_revision_is_refused(live_sqlite: LiveRegistry) -> None:
    """Rows of one schema are not put into another."""
    query(live_sqlite.url, "UPDATE alembic_version SET version_num = 'c48cb773bb87'")
    assert_refused(live_sqlite, "is at schema revision c48cb773bb87", "take a point of that")


def test_an_unknown_model_or_alias_is_answered_with_those_that_there_were(live_sqlite: LiveRegistry) -> None:
    """What the point does not have is not guessed."""
    with pytest.raises(NotFound, match=r"there is: empty-model, explain-delay, flight-delay, weather"):
        live_sqlite.plan("fligth-delay")
    with pytest.raises(NotFound, match=r"has no alias champoin[\s\S]*challenger, champion"):
        live_sqlite.plan(f"{MODEL}@champoin")


def test_a_point_of_the_api_is_refused(live_sqlite: LiveRegistry) -> None:
    """It has neither ids nor times."""
    live_sqlite.details["fidelity"] = "reduced"
    try:
        assert_refused(live_sqlite, "through its API", kind=SourceInvalid)
    finally:
        del live_sqlite.details["fidelity"]


# --- failures ---------------------------------------------------------------------------------------------------------


def test_a_damaged_file_of_the_point_leaves_everything_as_it_was(live: LiveRegistry) -> None:
    """Files that were put before it are removed again, and their folders."""
    live.lose_a_version()
    seen: list[str] = []

    def fail(path: str) -> None:
        seen.append(path)
        if path.startswith("artifacts/") and len([p for p in seen if p.startswith("artifacts/")]) > 4:
            raise IntegrityError("pack 12 is damaged")

    live.tree.before_extract = fail
    try:
        folders = sorted(p for p in live.artifacts.rglob("*") if p.is_dir())
        assert_refused(live, "pack 12", kind=IntegrityError)
        assert sorted(p for p in live.artifacts.rglob("*") if p.is_dir()) == folders
    finally:
        live.tree.before_extract = lambda _path: None


def refuse_rows(url: str, table: str) -> None:
    """Let the database refuse rows of a table, as it does when a disk is full or a rule forbids them."""
    if url.startswith("sqlite"):
        query(url, f"CREATE TRIGGER no BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'not here'); END")
    elif url.startswith("postgres"):
        query(url, "CREATE FUNCTION no() RETURNS trigger AS $$ BEGIN RAISE 'not here'; END $$ LANGUAGE plpgsql")
        query(url, f"CREATE TRIGGER no BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION no()")
    else:
        query(url, f"CREATE TRIGGER no BEFORE INSERT ON {table} FOR EACH ROW SIGNAL SQLSTATE '45000'")


def test_rows_that_the_database_refuses_leave_everything_as_it_was(live: LiveRegistry) -> None:
    """Runs and parameters are in already when metrics are refused: they go again, and the artifacts too."""
    live.lose_a_version()
    refuse_rows(live.url, "metrics")
    try:
        assert_refused(live, "refuses", kind=SourceInvalid)
    finally:
        query(live.url, "DROP TRIGGER no" + (" ON metrics" if live.url.startswith("postgres") else ""))


def test_rows_that_the_database_writes_otherwise_are_noticed(live_sqlite: LiveRegistry) -> None:
    """They are read again before anything is committed."""
    live = live_sqlite
    live.lose_a_version()
    query(live.url, "CREATE TRIGGER bend AFTER INSERT ON params BEGIN UPDATE params SET value = 'bent'; END")
    try:
        assert_refused(live, "params are not what they must be", kind=IntegrityError)
    finally:
        query(live.url, "DROP TRIGGER bend")


def test_a_change_meanwhile_is_noticed(live: LiveRegistry) -> None:
    """Somebody moves the alias while artifacts are put: what was looked at does not hold any more."""
    live.lose_a_version()

    def move(path: str) -> None:
        if path.endswith("MLmodel"):
            query(
                live.url,
                "UPDATE registered_model_aliases SET version = 2 WHERE alias = 'champion' AND name = 'flight-delay'",
            )

    live.tree.before_extract = move
    try:
        with pytest.raises(SourceChanged):
            live.roll_back(f"{MODEL}@champion")
    finally:
        live.tree.before_extract = lambda _path: None
    assert live.plan(f"{MODEL}@champion").aliases[0].before == 2
    assert live.plan(f"{MODEL}@champion").artifacts.add > 5


def test_a_change_under_way_is_waited_for_and_noticed(live: LiveRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody has moved the alias and commits while the rollback waits for that row: it is not written over."""
    import sqlalchemy as sa

    live.client.set_registered_model_alias(MODEL, "champion", "1")
    other = sa.create_engine(driven(live.url), poolclass=sa.NullPool).connect()
    moving = "UPDATE registered_model_aliases SET version = 2 WHERE alias = 'champion' AND name = 'flight-delay'"

    def begin(_self: Added) -> None:
        other.execute(sa.text(moving))
        threading.Timer(2.0, other.commit).start()

    monkeypatch.setattr(Added, "put", begin)
    with pytest.raises(SourceChanged):
        live.roll_back(f"{MODEL}@champion")
    other.close()
    assert live.plan(f"{MODEL}@champion").aliases[0].before == 2


def test_two_at_a_time_are_refused(live: LiveRegistry) -> None:
    """The second one might count on artifacts that the first one takes back."""
    live.lose_a_version()
    with alone(StoreUrl.parse(live.url)):
        assert_refused(live, "another rollback works on")
    assert live.roll_back(f"{MODEL}@champion").changes


KILLED = """
import os, pickle, signal, sys
from pathlib import Path
from muster.adapters import mlflow_merge, mlflow_merge_files
from muster.domain.selection import Wanted

def die(*_arguments):
    os.kill(os.getpid(), signal.SIGKILL)

details, tree, url, artifacts = pickle.loads(Path(sys.argv[1]).read_bytes())
tree.before_extract = lambda path: None
if sys.argv[2] == "artifacts":
    place, count = mlflow_merge_files.LocalAdding._place, []
    def some(self, *paths):
        count.append(1)
        die() if len(count) == 3 else place(self, *paths)
    mlflow_merge_files.LocalAdding._place = some
else:
    mlflow_merge_files.Added.confirm = die
mlflow_merge.MlflowMerge(url, artifacts).merge(details, tree, [Wanted("flight-delay", "champion")], "refuse")
"""


@pytest.mark.parametrize("when", ["artifacts", "rows"])
def test_killed_at_any_time_no_row_is_left_and_the_next_run_does_it(
    live: LiveRegistry, when: str, tmp_path: Path
) -> None:
    """Rows are as they were; no file of anybody is touched; what was put is whole, and taken for what it is by the next run."""
    whole = live.state()
    live.lose_a_version()
    rows, files = live.state()
    keep: Any = live.tree.before_extract
    live.tree.before_extract = None  # type: ignore[assignment]
    (tmp_path / "job").write_bytes(pickle.dumps((live.details, live.tree, live.url, str(live.artifacts))))
    live.tree.before_extract = keep
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "job"), when],
        env={"PYTHONPATH": f"{root}/include:{root}/tests", "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert live.state()[0] == rows
    left = live.state()[1]
    assert {path: left[path] for path in files} == files
    live.roll_back(f"{MODEL}@champion")
    assert live.state()[1] == whole[1]
    assert live.ask(f"models:/{MODEL}@champion") == live.answers[f"models:/{MODEL}@champion"]
    assert [p.name for p in live.artifacts.iterdir() if p.name.startswith(".")] == []
