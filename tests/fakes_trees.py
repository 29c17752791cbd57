"""A stored tree without a vault: what a source gives is kept in a folder, and can be damaged there."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from muster.domain.content import ContentRef, TreeEntry, checked_path
from muster.errors import IntegrityError, NotFound, SourceChanged, TargetNotEmpty
from muster.ports import SourceFile, StrPath


class FolderTree:
    """
    A `TreeReader` over a folder of ours. `opened` names the paths that were read from the source.

    :param before_extract: called with each path before it is written out; may raise
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.opened: list[str] = []
        self.before_extract: Callable[[str], None] = lambda _path: None
        self._entries: dict[str, TreeEntry] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def store(self, files: Iterable[SourceFile]) -> FolderTree:
        """Keep everything that a capture gives, holding each file to the size that was said."""
        for file in files:
            path = checked_path(file.path)
            if path in self._entries:
                raise IntegrityError(f"{path} was given twice")
            content = file.known or (self._content(file) if file.open else None)
            self._entries[path] = TreeEntry(path, file.kind, content, file.md5, file.mode, file.mtime_ns, file.link)
        return self

    def _content(self, file: SourceFile) -> ContentRef:
        assert file.open is not None
        self.opened.append(file.path)
        with file.open() as stream:
            data = stream.read()
        if file.size is not None and len(data) != file.size:
            raise SourceChanged(f"{file.path} has {len(data)} bytes instead of {file.size}")
        name = hashlib.sha256(data).hexdigest()
        (self.folder / name).write_bytes(data)
        return ContentRef(len(data), name, (name,))

    def keep(self, other: FolderTree) -> FolderTree:
        """Share the content of another tree, as points in one vault do."""
        for path in other.folder.iterdir():
            if not (self.folder / path.name).exists():
                os.link(path, self.folder / path.name)
        return self

    def flip(self, path: str) -> None:
        """Damage a file so that no reader would notice: one bit in its middle."""
        content = self.entry(path).content
        assert content is not None
        data = bytearray((self.folder / content.sha256).read_bytes())
        data[len(data) // 2] ^= 1
        (self.folder / content.sha256).unlink()
        (self.folder / content.sha256).write_bytes(data)

    def replace(self, path: str, data: bytes) -> None:
        """Put other bytes in place of a file, with a digest that fits."""
        del self._entries[path]
        self.store([SourceFile(path, lambda: io.BytesIO(data), size=len(data))])

    def drop(self, path: str) -> None:
        """Leave a file out, as a point that never had it."""
        del self._entries[path]

    def entries(self) -> Sequence[TreeEntry]:
        return [self._entries[path] for path in sorted(self._entries)]

    def stream(self) -> Iterator[TreeEntry]:
        return iter(self.entries())

    def entry(self, path: str) -> TreeEntry:
        if path not in self._entries:
            raise NotFound(f"there is no {path} in this tree")
        return self._entries[path]

    def read(self, entry: TreeEntry) -> bytes:
        assert entry.content is not None
        return (self.folder / entry.content.sha256).read_bytes()

    def extract(self, wanted: Iterable[tuple[TreeEntry, StrPath]]) -> int:
        total = 0
        for entry, place in wanted:
            path = Path(place)
            self.before_extract(entry.path)
            if path.exists() and entry.kind != "dir":
                raise TargetNotEmpty(f"{path} is there already")
            path.parent.mkdir(parents=True, exist_ok=True)
            if entry.kind == "dir":
                path.mkdir(exist_ok=True)
            elif entry.kind == "link":
                path.symlink_to(entry.link or "")
            else:
                path.write_bytes(self.read(entry))
                total += path.stat().st_size
            if entry.mode is not None and entry.kind != "link":
                path.chmod(entry.mode)
            if entry.mtime_ns is not None and entry.kind == "file":
                os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns))
        return total
