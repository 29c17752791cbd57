"""What a DVC source remembers of the point before: all that it is asked for, in little memory."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes_trees import FolderTree
from muster.adapters.dvc_known import Before
from muster.domain.content import ContentRef, TreeEntry
from muster.errors import IntegrityError
from vaults import memory_file

FILES = 20_000


def hex_of(word: object) -> str:
    return hashlib.sha256(str(word).encode()).hexdigest()


def entry_of(number: int, **more: object) -> TreeEntry:
    chunks = tuple(hex_of(f"{number} {part}") for part in range(number % 4))
    facts = {"path": f"data/{number:07}", "kind": "file", "content": ContentRef(number, hex_of(number), chunks)}
    return TreeEntry(**{"md5": hex_of(number)[:32], **facts, **more})  # type: ignore[arg-type]


class Listed:
    """A tree of which only the list is looked at."""

    def __init__(self, *entries: TreeEntry) -> None:
        self._entries = entries

    def stream(self) -> Iterator[TreeEntry]:
        return iter(self._entries) if self._entries else map(entry_of, range(FILES))


def test_every_content_is_found_again_by_its_md5() -> None:
    """Size, digest and chunks, of none to three."""
    before = Before(Listed())  # type: ignore[arg-type]
    for number in range(FILES):
        entry = entry_of(number)
        assert before.has(entry.md5 or "")
        assert before.content(entry.md5 or "") == entry.content
    assert not before.has("0" * 32)
    assert before.content("0" * 32) is None


def test_a_million_files_take_less_than_400_mib() -> None:
    """400 bytes a file, of one and a half chunks on the average; as objects they would be a thousand."""
    tracemalloc.start()
    try:
        before = Before(Listed())  # type: ignore[arg-type]
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert before.has(entry_of(1).md5 or "")
    assert held / FILES < 400


@pytest.mark.parametrize(
    "entry",
    [
        entry_of(1, md5=None),
        entry_of(1, md5="ABC"),
        entry_of(1, content=ContentRef(1, "no digest", ())),
        entry_of(1, content=ContentRef(1, hex_of(1), ("12",))),
        entry_of(1, content=None, kind="dir"),
        entry_of(1, path="repo/file"),
    ],
)
def test_what_could_not_be_told_again_is_not_remembered(entry: TreeEntry) -> None:
    """Nor what is no data."""
    assert not Before(Listed(entry)).has(entry_of(1).md5 or "")  # type: ignore[arg-type]


class Damaged(FolderTree):
    """A tree whose files are damaged, as a vault tells it."""

    def read(self, entry: TreeEntry) -> bytes:
        raise IntegrityError(f"{entry.path} does not match its digest")


def test_files_of_the_history_are_read_and_damaged_ones_are_not_there(tmp_path: Path) -> None:
    """Damage in the vault is no fault of the source."""
    files = [memory_file("git/refs", b"refs"), memory_file("git/history.bundle", b"bundle")]
    tree = FolderTree(tmp_path).store(files)
    before = Before(tree)
    assert before.read_history("git/refs") == b"refs"
    assert before.history("git/history.bundle") == tree.entry("git/history.bundle").content
    assert before.read_history("git/none") is None
    assert before.history("git/none") is None
    assert Before(Damaged(tmp_path / "damaged").store(files)).read_history("git/refs") is None
    assert Before(None).read_history("git/refs") is None
