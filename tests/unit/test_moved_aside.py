"""What makes room for a restore, and comes back."""

from __future__ import annotations

from pathlib import Path

import pytest

from muster.adapters.moved_aside import MovedPaths, Together
from muster.errors import Refused
from muster.ports import Kept

STAMP = "20260101T000000Z"


def tree(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A database and artifacts that somebody uses."""
    (tmp_path / "db").write_text("old rows")
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "model").write_text("old model")
    return tmp_path


def places(folder: Path) -> Together:
    return Together((MovedPaths((folder / "db",)), MovedPaths((folder / "artifacts",))))


def test_all_of_it_moves_and_comes_back(old: Path) -> None:
    """What was made meanwhile is kept beside it; discarded, only the old state is left."""
    before = tree(old)
    assert len(places(old).set_aside(STAMP)) == 2
    assert not (old / "db").exists()
    (old / "db").write_text("new rows")
    assert len(places(old).put_back(STAMP)) == 2
    assert tree(old) == {**before, f"db.undone-{STAMP}": "new rows"}
    places(old).discard(STAMP)
    assert tree(old) == before


def test_a_second_try_does_not_bring_half_of_the_old_state_back(old: Path) -> None:
    """A worker was killed when the database was moved and new artifacts lay there: nothing is mixed, and both states stay."""
    places(old).set_aside(STAMP)
    (old / "artifacts").mkdir()
    (old / "artifacts" / "model").write_text("new model")
    before = tree(old)
    with pytest.raises(Refused, match="is there already"):
        places(old).set_aside(STAMP)
    assert tree(old) == before


def test_if_one_cannot_be_moved_none_is(old: Path) -> None:
    """Something lies where the artifacts would go: the database is not moved either."""
    (old / f"artifacts.before-{STAMP}").write_text("somebody's")
    before = tree(old)
    with pytest.raises(Refused, match="is there already"):
        places(old).set_aside(STAMP)
    assert tree(old) == before


def test_a_put_back_that_was_killed_is_ended_by_the_next(tmp_path: Path) -> None:
    """One of two paths was back already: it is not taken for what the restore had made, and does not go aside."""
    paths = MovedPaths((tmp_path / "db", tmp_path / "db-wal"))
    for path in paths.paths:
        path.write_text("old")
    paths.set_aside(STAMP)
    for path in paths.paths:
        path.write_text("new")
        path.rename(path.with_name(f"{path.name}.undone-{STAMP}"))
    (tmp_path / f"db.before-{STAMP}").rename(tmp_path / "db")
    assert paths.put_back(STAMP) == (str(tmp_path / "db-wal"),)
    assert tree(tmp_path) == {
        "db": "old",
        "db-wal": "old",
        f"db.undone-{STAMP}": "new",
        f"db-wal.undone-{STAMP}": "new",
    }


def test_a_look_tells_what_lies_where_and_moves_nothing(old: Path) -> None:
    """Before, undone and there: by what was done so far."""
    db, artifacts = str(old / "db"), str(old / "artifacts")
    assert places(old).kept(STAMP) == Kept((), (), (db, artifacts))
    places(old).set_aside(STAMP)
    before = (f"{db}.before-{STAMP}", f"{artifacts}.before-{STAMP}")
    assert places(old).kept(STAMP) == Kept(before, (), ())
    (old / "db").write_text("new rows")
    assert places(old).kept(STAMP) == Kept(before, (), (db,))
    places(old).put_back(STAMP)
    assert places(old).kept(STAMP) == Kept((), (f"{db}.undone-{STAMP}",), (db, artifacts))
