"""A restored file stands under its name only when it is whole, and never in the place of another."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from killed import killed_at
from muster.vault.placing import Placement
from vaults import listing

WAYS = ("nameless", "named", "named, without hard links")


@pytest.fixture(params=WAYS)
def placement(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Placement:
    """One that creates files as this file system lets it, and as those do that lack files without a name, or hard links too."""
    placed = Placement()
    if request.param != "nameless":
        placed._nameless = False
    if "without" in request.param:
        monkeypatch.setattr(os, "link", _no_links)
    return placed


def _no_links(*_: object, **__: object) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def test_a_file_has_its_content_mode_and_time(placement: Placement, tmp_path: Path) -> None:
    """All of it is set before anybody can see the file."""
    path = tmp_path / "f"
    assert placement.create(str(path), [b"one ", b"", b"two"], 0o4640, 1_700_000_000_123_456_789) == 7
    found = path.stat()
    assert path.read_bytes() == b"one two"
    assert (stat.S_IMODE(found.st_mode), found.st_mtime_ns, found.st_nlink) == (0o4640, 1_700_000_000_123_456_789, 1)
    assert listing(tmp_path) == {"f"}


def test_a_file_of_no_known_mode_is_like_any_new_one(placement: Placement, tmp_path: Path) -> None:
    """The mask of the process holds."""
    (tmp_path / "usual").touch()
    placement.create(str(tmp_path / "f"), [], None, None)
    assert (tmp_path / "f").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("kind", ["file", "folder", "link", "link to nothing"])
def test_what_is_there_stays(placement: Placement, tmp_path: Path, kind: str) -> None:
    """Neither replaced nor followed, and nothing is left beside it."""
    path, other = tmp_path / "f", tmp_path / "other"
    other.write_text("other")
    if kind == "file":
        path.write_text("mine")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(other if kind == "link" else tmp_path / "nowhere")
    before = path.lstat()
    with pytest.raises(FileExistsError) as failure:
        placement.create(str(path), [b"x"], 0o600, 1)
    assert failure.value.filename == str(path)
    assert path.lstat() == before
    assert other.read_text() == "other"
    assert listing(tmp_path) == {"f", "other"}


def test_parts_that_fail_leave_nothing(placement: Placement, tmp_path: Path) -> None:
    """Bytes that turn out wrong at their end were never a file."""

    def parts() -> Iterator[bytes]:
        yield b"x" * 100_000
        assert listing(tmp_path) <= {name for name in listing(tmp_path) if name.startswith(".muster-")}
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - it is ours
        placement.create(str(tmp_path / "f"), parts(), None, None)
    assert listing(tmp_path) == set()


@pytest.mark.parametrize("nameless", [True, False])
def test_of_many_that_create_one_file_one_succeeds(tmp_path: Path, *, nameless: bool) -> None:
    """The others are told that it is there. (Where there are no hard links either, nothing but a look tells.)"""
    placement = Placement()
    placement._nameless = nameless
    outcomes: list[str] = []

    def create(content: bytes) -> None:
        try:
            placement.create(str(tmp_path / "f"), [content] * 50, None, None)
            outcomes.append("made")
        except FileExistsError:
            outcomes.append("there")

    threads = [threading.Thread(target=create, args=(b"%d" % number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["made"] + ["there"] * 7
    assert len(set((tmp_path / "f").read_bytes())) == 1


def test_a_process_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    """Not even a name to be cleared away, where files may have none."""
    killed_at("os.link", lambda *_: True, lambda: Placement().create(str(tmp_path / "f"), [b"x"], None, None))
    assert listing(tmp_path) == set()


def test_a_file_system_without_nameless_files_is_noticed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first file already takes the other way, and later ones do not ask again."""
    asked, usual = [], os.open

    def refuse(path: str, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            asked.append(path)
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return usual(path, flags, mode)

    monkeypatch.setattr(os, "open", refuse)
    placement = Placement()
    for name in ("a", "b"):
        placement.create(str(tmp_path / name), [b"x"], None, None)
    assert len(asked) == 1
    assert listing(tmp_path) == {"a", "b"}


def test_a_missing_folder_is_a_failure_like_any(placement: Placement, tmp_path: Path) -> None:
    """It is not taken for a file system that can do less."""
    before = placement._nameless
    with pytest.raises(FileNotFoundError):
        placement.create(str(tmp_path / "none" / "f"), [b"x"], None, None)
    assert placement._nameless == before
