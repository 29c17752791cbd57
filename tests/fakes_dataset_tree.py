"""A vault's tree in memory: stores what a capture gives, under the checks that the port promises, and gives it back."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from muster.domain.content import ContentRef, TreeEntry, checked_path
from muster.errors import IntegrityError, NotFound, SourceChanged, TargetNotEmpty
from muster.ports import ComponentSource, Json, SourceFile, StrPath, TreeReader


class MemoryTree:
    """A `TreeReader` over bytes in a dictionary; tests damage what it holds through `contents`."""

    def __init__(self, entries: Sequence[TreeEntry], contents: dict[str, bytes]) -> None:
        self._entries = sorted(entries, key=lambda entry: entry.path)
        self.contents = contents

    def entries(self) -> Sequence[TreeEntry]:
        return self._entries

    def stream(self) -> Iterator[TreeEntry]:
        return iter(self.entries())

    def entry(self, path: str) -> TreeEntry:
        for entry in self._entries:
            if entry.path == path:
                return entry
        raise NotFound(f"the tree has no {path}", "look at its entries")

    def read(self, entry: TreeEntry) -> bytes:
        assert entry.content is not None
        content = self.contents[entry.content.sha256]
        if hashlib.sha256(content).hexdigest() != entry.content.sha256:
            raise IntegrityError(f"{entry.path} is damaged", "verify the vault")
        return content

    def extract(self, wanted: Iterable[tuple[TreeEntry, StrPath]]) -> int:
        size = 0
        for entry, path in sorted(wanted, key=lambda item: item[0].kind == "dir"):
            size += self._extract_one(entry, Path(path))
        return size

    def _extract_one(self, entry: TreeEntry, path: Path) -> int:
        path.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(path) and entry.kind != "dir":
            raise TargetNotEmpty(f"{path} is there", "restore elsewhere")
        if entry.kind == "link":
            path.symlink_to(entry.link or "")
            return 0
        content = b""
        if entry.kind == "dir":
            path.mkdir(exist_ok=True)
        else:
            content = self.read(entry)
            path.write_bytes(content)
        if entry.mode is not None:
            path.chmod(entry.mode)
        if entry.mtime_ns is not None:
            os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns))
        return len(content)

    def paths(self) -> list[str]:
        return [entry.path for entry in self._entries]


def take(source: ComponentSource, previous: MemoryTree | None = None) -> tuple[MemoryTree, dict[str, Json]]:
    """Capture a source to the end, as the vault's writer does."""
    with source.capture(previous) as cut:
        tree = store(cut.files(), previous)
        cut.confirm()
        return tree, cut.details()


def store(files: Iterable[SourceFile], previous: TreeReader | None = None) -> MemoryTree:
    """Store files, checking the length and MD5 that they announce."""
    contents = dict(previous.contents) if isinstance(previous, MemoryTree) else {}
    entries = [_entry(file, contents) for file in files]
    paths = [entry.path for entry in entries]
    assert len(set(paths)) == len(paths), "a path is there twice"
    return MemoryTree(entries, contents)


def content_of(tree: MemoryTree, prefix: str) -> Iterator[tuple[str, bytes]]:
    """Path and bytes of all files below a prefix."""
    for entry in tree.entries():
        if entry.kind == "file" and entry.path.startswith(prefix):
            yield entry.path.removeprefix(prefix), tree.read(entry)


def _entry(file: SourceFile, contents: dict[str, bytes]) -> TreeEntry:
    checked_path(file.path)
    ref = file.known
    if ref is not None:
        assert ref.sha256 in contents, "known content is not stored"
    elif file.kind == "file":
        assert file.open is not None
        with file.open() as stream:
            content = stream.read()
        if file.size is not None and len(content) != file.size:
            raise SourceChanged(f"{file.path} has {len(content)} bytes instead of {file.size}", "again")
        if file.md5 is not None and hashlib.md5(content).hexdigest() != file.md5:
            raise SourceChanged(f"{file.path} has another MD5", "again")
        sha256 = hashlib.sha256(content).hexdigest()
        contents[sha256] = content
        ref = ContentRef(len(content), sha256, (sha256,))
    return TreeEntry(file.path, file.kind, ref, file.md5, file.mode, file.mtime_ns, file.link)
