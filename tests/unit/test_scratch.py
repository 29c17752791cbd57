"""Folders for a while: gone when it is over, and gone with the next one where a process was killed."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from muster.scratch import held_folder, remove_abandoned, scratch_folder

HOLDING = """
import sys
from pathlib import Path
from muster.scratch import scratch_folder
with scratch_folder("rows", Path(sys.argv[1])) as folder:
    (folder / "users.jsonl").write_text("of somebody")
    (folder / "locked").mkdir(mode=0o500)
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def held(tmp_path: Path) -> Any:
    """A process that has such a folder, and the folder."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout
        yield process, Path(process.stdout.readline().decode().strip())
        process.kill()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_it_is_empty_its_owners_alone_and_gone_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where what was done in it fails, or has moved it away."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with scratch_folder("rows") as folder:
        assert folder.parent == tmp_path
        assert names(folder) == []
        assert folder.stat().st_mode & 0o777 == 0o700
    with pytest.raises(IsADirectoryError), scratch_folder("rows") as folder:
        folder.write_text("x")
    assert names(tmp_path) == []
    with scratch_folder("rows") as folder:
        folder.rename(tmp_path / "kept")
    assert names(tmp_path) == ["kept"]


def test_what_a_killed_process_left_goes_with_the_next_one(held: Any, tmp_path: Path) -> None:
    """As long as it lives, its folder is left alone, whoever comes, in this process too; one for something else is never touched."""
    process, left = held
    with scratch_folder("other", tmp_path), scratch_folder("rows", tmp_path) as mine, scratch_folder("rows", tmp_path):
        assert (left / "users.jsonl").read_text() == "of somebody"
        assert mine.exists()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert left.exists()
    with scratch_folder("other", tmp_path), scratch_folder("row", tmp_path):
        assert left.exists()
    with scratch_folder("rows", tmp_path):
        assert not left.exists()


def test_a_link_is_not_followed_and_a_file_is_no_folder(tmp_path: Path) -> None:
    """Anybody may put something of this name into a folder for temporary files."""
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("x")
    (tmp_path / "muster-scratch-rows-link").symlink_to(tmp_path / "precious")
    (tmp_path / "muster-scratch-rows-file").write_text("x")
    with scratch_folder("rows", tmp_path):
        pass
    assert names(tmp_path / "precious") == ["file"]
    assert names(tmp_path) == ["muster-scratch-rows-file", "muster-scratch-rows-link", "precious"]


def test_where_nothing_can_be_locked_nothing_is_taken_for_abandoned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some network file systems know no locks."""

    def refused(*_: Any) -> None:
        raise OSError

    monkeypatch.setattr(fcntl, "flock", refused)
    with scratch_folder("rows", tmp_path) as one, scratch_folder("rows", tmp_path) as two:
        assert one.exists()
        assert two.exists()
    assert names(tmp_path) == []


@pytest.mark.parametrize("before", ["open", "flock"])
def test_one_that_was_taken_for_abandoned_before_it_was_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    """Between making a folder and locking it, somebody else may look."""
    module: Any = os if before == "open" else fcntl
    plain, taken = getattr(module, before), []

    def late(what: Any, *more: Any) -> Any:
        if not taken:
            taken.append(what)
            monkeypatch.setattr(module, before, plain)
            remove_abandoned(tmp_path, "held-")
        return plain(what, *more)

    monkeypatch.setattr(module, before, late)
    with held_folder(tmp_path, "held-") as folder:
        assert len(taken) == 1
        assert names(tmp_path) == [folder.name]
    assert names(tmp_path) == []
