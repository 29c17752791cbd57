"""A registry that is there: left if it is whole and equal, moved aside if it is not, and put back."""

from __future__ import annotations

import gc
import shutil
from pathlib import Path

import pytest

from muster.adapters.mlflow_registry import MlflowTarget
from muster.errors import Refused, TargetNotEmpty
from postgres import Cluster
from registry_seed import Captured, SmallStore, capture, content, query

STAMP = "20260101T000000000000Z"


@pytest.fixture(params=["sqlite", "embedded_postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place for a store, on each engine whose databases can be moved aside."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/new/mlflow.db"
    cluster: Cluster = request.getfixturevalue(request.param)
    return str(cluster.database())


def test_what_was_restored_is_known_again(captured: Captured, url: str, tmp_path: Path) -> None:
    """Every row and every artifact is read: the facts are those of the restore. One changed value, or file, and it is not known."""
    details, tree = captured
    target = MlflowTarget(url, str(tmp_path / "back"))
    assert target.holds(details, tree) is None
    facts = target.restore(details, tree)
    assert target.holds(details, tree) == facts
    query(url, "UPDATE params SET value = 'w'")
    assert target.holds(details, tree) is None
    query(url, "UPDATE params SET value = 'v'")
    assert target.holds(details, tree) == facts
    file = next(path for path in sorted((tmp_path / "back").rglob("*")) if path.is_file())
    file.write_bytes(file.read_bytes() + b" ")
    assert target.holds(details, tree) is None


def test_what_is_there_makes_room_and_comes_back(captured: Captured, url: str, tmp_path: Path) -> None:
    """Moved aside, the place is empty and can be restored to; put back, rows and artifacts are what they were; then it can go."""
    details, tree = captured
    target = MlflowTarget(url, str(tmp_path / "back"))
    target.restore(details, tree)
    query(url, "INSERT INTO registered_models (name, workspace) VALUES ('live', 'default')")
    (tmp_path / "back" / "live").write_text("made after the restore")
    before = content(url)
    with pytest.raises(TargetNotEmpty):
        target.check(details)
    assert len(target.aside().set_aside(STAMP)) == 2
    assert [len(found) for found in as_counted(target)] == [2, 0]
    target.check(details)
    target.restore(details, tree)
    assert query(url, "SELECT name FROM registered_models WHERE name = 'live'") == []
    assert len(target.aside().put_back(STAMP)) == 2
    assert [len(found) for found in as_counted(target)] == [0, 2]
    assert content(url) == before
    assert (tmp_path / "back" / "live").read_text() == "made after the restore"
    assert target.aside().put_back(STAMP) == ()
    undone = target.aside().kept(STAMP).undone
    with pytest.raises(Refused, match="was not there when this was planned"):
        target.aside().discard(STAMP, undone[:1])
    assert content(url) == before
    assert len(target.aside().discard(STAMP, undone)) == 2
    assert content(url) == before
    assert target.aside().discard(STAMP, undone) == ()


def as_counted(target: MlflowTarget) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What a look finds aside: of before, and what was undone."""
    kept = target.aside().kept(STAMP)
    return kept.before, kept.undone


def test_nothing_is_moved_onto_what_was_moved_before(captured: Captured, url: str, tmp_path: Path) -> None:
    """A second move under the same name is refused, and both states stay where they are."""
    details, tree = captured
    target = MlflowTarget(url, str(tmp_path / "back"))
    target.restore(details, tree)
    target.aside().set_aside(STAMP)
    target.restore(details, tree)
    before = content(url)
    with pytest.raises(Refused, match="is there already"):
        target.aside().set_aside(STAMP)
    assert content(url) == before
    target.aside().put_back(STAMP)
    assert content(url) == before


def test_an_original_with_artifacts_outside_of_its_root_is_not_taken_for_restored(
    small_store: SmallStore, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """They would come back below the root. The comparison ends at the first row that says so, and leaves no trace of errors."""
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    (outside / "a.txt").write_text("a")
    small_store.add_run("r", str(outside))
    details, tree = capture(small_store.url, str(small_store.artifacts), tmp_path / "tree")
    assert MlflowTarget(small_store.url, str(small_store.artifacts)).holds(details, tree) is None
    gc.collect()
    assert "closing cursor" not in caplog.text + "".join(capfd.readouterr())


def test_a_place_outside_of_the_root_that_nobody_used_stays_what_it_was(
    small_store: SmallStore, tmp_path: Path
) -> None:
    """MLflow's client names ``./mlruns`` for an experiment that is never used. At its own root the registry is there already, and comes
    back as it was; elsewhere, what is written there later shall not land in the old place."""
    folder = small_store.add_run("r")
    folder.mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    small_store.execute(
        "INSERT INTO experiments (name, artifact_location, lifecycle_stage, workspace)"
        " VALUES ('unused', '/home/ada/mlruns/1', 'active', 'default')"
    )
    before = content(small_store.url)
    details, tree = capture(small_store.url, str(small_store.artifacts), tmp_path / "tree")
    assert len(details["roots"]) == 2
    origin = MlflowTarget(small_store.url, str(small_store.artifacts))
    held = origin.holds(details, tree)
    assert held
    assert held["roots"] == [str(small_store.artifacts)]
    small_store.file.unlink()
    shutil.rmtree(small_store.artifacts)
    origin.restore(details, tree)
    assert content(small_store.url) == before
    elsewhere = f"sqlite:///{tmp_path}/elsewhere.db"
    MlflowTarget(elsewhere, str(tmp_path / "back")).restore(details, tree)
    places = query(elsewhere, "SELECT artifact_location FROM experiments WHERE name = 'unused'")
    assert places[0][0].startswith(f"{tmp_path}/back/outside-")


def test_what_cannot_be_moved_is_said_in_the_plan(tmp_path: Path) -> None:
    """A MySQL database has no name that could be changed, and objects on S3 have none either."""
    with pytest.raises(Refused, match="MySQL has no way to rename a database"):
        MlflowTarget("mysql+pymysql://u:p@localhost/mlflow", str(tmp_path / "a")).aside()
    with pytest.raises(Refused, match=r"s3://bucket/a cannot be moved aside"):
        MlflowTarget(f"sqlite:///{tmp_path}/m.db", "s3://bucket/a").aside()
