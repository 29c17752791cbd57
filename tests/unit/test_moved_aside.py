"""What makes room for a restore, and comes back."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from killed import killed_at
from muster.adapters.moved_aside import MovedPaths, Together
from muster.errors import Refused, StoreUnavailable
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
    places(old).discard(STAMP, [f"{old}/db.undone-{STAMP}"])
    assert tree(old) == before


def test_what_must_not_lie_beside_is_moved_further(old: Path) -> None:
    """It goes to a hidden folder at its own path, and comes back from there, or from beside, where another version put it."""
    hidden = MovedPaths((old / "artifacts" / "model",), old, ".own")
    before = tree(old)
    assert hidden.set_aside(STAMP) == (f"{old}/.own/artifacts/model.before-{STAMP}",)
    assert hidden.kept(STAMP) == Kept((f"{old}/.own/artifacts/model.before-{STAMP}",), (), ())
    (old / "artifacts" / "model").write_text("new model")
    hidden.put_back(STAMP)
    assert tree(old) == {**before, f".own/artifacts/model.undone-{STAMP}": "new model"}
    hidden.discard(STAMP, [f"{old}/.own/artifacts/model.undone-{STAMP}"])
    MovedPaths((old / "artifacts" / "model",)).set_aside(STAMP)
    assert hidden.kept(STAMP).before == (f"{old}/artifacts/model.before-{STAMP}",)
    hidden.put_back(STAMP)
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


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_put_back_that_was_killed_is_ended_by_the_next(tmp_path: Path, number: int) -> None:
    """Killed before any of its moves: what is back already is not taken for what the restore had made, and does not go aside."""
    database = MovedPaths([tmp_path / name for name in ("db", "db-wal", "db-shm")])
    for path in database.paths:
        path.write_text("old")
    database.set_aside(STAMP)
    (tmp_path / "db").write_text("new")
    moves: list[str] = []

    def due(source: str, *_: object) -> bool:
        moves.append(source)
        return len(moves) == number

    killed_at("os.rename", due, lambda: database.put_back(STAMP))
    database.put_back(STAMP)
    assert tree(tmp_path) == {"db": "old", "db-wal": "old", "db-shm": "old", f"db.undone-{STAMP}": "new"}
    assert database.put_back(STAMP) == ()


def test_what_cannot_be_looked_at_is_not_taken_for_gone(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that answers with an error, and one that is not mounted, are told."""
    places(old).set_aside(STAMP)

    def broken(path: Path) -> object:
        raise OSError(errno.EIO, "Input/output error", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "lstat", broken)
        for act in (places(old).kept, places(old).put_back):
            with pytest.raises(StoreUnavailable, match="cannot be looked at"):
                act(STAMP)
    old.rename(old.with_name("unmounted"))
    with pytest.raises(Refused, match=r"the folder .* is not there"):
        places(old).kept(STAMP)


def test_only_what_was_named_is_deleted(old: Path) -> None:
    """What came aside since is not, and nothing of its place is."""
    places(old).set_aside(STAMP)
    named = places(old).kept(STAMP).before
    (old / f"artifacts.undone-{STAMP}").mkdir()
    before = tree(old)
    with pytest.raises(Refused, match="was not there when this was planned"):
        MovedPaths((old / "artifacts",)).discard(STAMP, named)
    assert tree(old) == before


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
