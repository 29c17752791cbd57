"""A stored tree, opened for reading."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from muster.domain.content import ContentRef, TreeEntry, TreeRef
from muster.errors import IntegrityError, NotFound
from muster.vault.extract import extract
from muster.vault.files import FileReading, check_content
from muster.vault.layout import ID_BYTES
from muster.vault.reader import ChunkReader, ids, joined
from muster.vault.trees import LIST, Row, checked_rows


class StoredTree:
    """`muster.ports.TreeReader` over a vault. The list of entries is read once, when first needed."""

    def __init__(self, reader: ChunkReader, ref: TreeRef) -> None:
        self._reader, self._ref = reader, ref
        # One for each tree: under that of `functools.cached_property` in Python 3.11 all trees would wait for one.
        self._lock = threading.Lock()
        self._listed: Sequence[TreeEntry] | None = None
        self._paths: dict[str, TreeEntry] | None = None

    @property
    def ref(self) -> TreeRef:
        """What it is known by."""
        return self._ref

    def blocks(self) -> Iterator[tuple[bytes, list[Row]]]:
        """
        The list of entries as it is stored and as rows, some thousand lines at a time; what is wrong with the whole is found at its end.

        :raises IntegrityError: if it is not the list that the reference names
        """
        with FileReading(self._reader) as reading:
            pieces = reading.stream(TreeEntry(LIST, content=list_content(self._reader, self._ref)))
            yield from checked_rows(pieces, self._ref)

    def rows(self) -> Iterator[Row]:
        """All entries as they are stored, sorted by path, as `blocks` gives them."""
        for _, rows in self.blocks():
            yield from rows

    def stream(self) -> Iterator[TreeEntry]:
        """All entries, sorted by path, in little memory. See `muster.ports.TreeReader`."""
        return (row.entry() for row in self.rows())

    def beginnings(self, contents: Sequence[ContentRef], budget: int) -> list[bytes]:
        """
        The first chunk of each content, nothing of one that is empty; of as many, from the first on, as fit into the budget.

        :param budget: in bytes; the first content is read whatever it takes
        """
        first = [ids(content)[:1] for content in contents]
        places = self._reader.locate([chunk for chunks in first for chunk in chunks])
        taken: list[list[bytes]] = []
        for chunks in first:
            budget -= sum(places[chunk].entry.size for chunk in chunks)
            if budget < 0 and taken:
                break
            taken.append(chunks)
        found = self._reader.fetch([chunk for chunks in taken for chunk in chunks])
        return [b"".join(found[chunk] for chunk in chunks) for chunks in taken]

    def entries(self) -> Sequence[TreeEntry]:
        """All entries, sorted by path; reconciled with the sums in the reference."""
        return self._entries

    def entry(self, path: str) -> TreeEntry:
        """
        The entry at a path.

        :raises NotFound: if there is none
        """
        try:
            return self._by_path[path]
        except KeyError:
            some = ", ".join(list(self._by_path)[:5]) or "nothing"
            raise NotFound(f"the tree has no {path}", f"it has {len(self._by_path)} entries: {some} …") from None

    def read(self, entry: TreeEntry) -> bytes:
        """
        The bytes of a small file.

        :raises IntegrityError: if they do not match what is known of it
        """
        if entry.content is None:
            raise IntegrityError(f"{entry.path} is a {entry.kind}, not a file", "read files only")
        plain = self._reader.read(entry.content, entry.path)
        check_content(entry, plain)
        return plain

    def extract(self, wanted: Iterable[tuple[TreeEntry, Path]]) -> int:
        """Write entries to paths, in parallel; return the number of plain bytes. See `muster.ports.TreeReader`."""
        return extract(self._reader, wanted)

    @property
    def _entries(self) -> Sequence[TreeEntry]:
        with self._lock:
            if self._listed is None:
                self._listed = tuple(self.stream())
            return self._listed

    @property
    def _by_path(self) -> dict[str, TreeEntry]:
        if self._paths is None:
            self._paths = {entry.path: entry for entry in self._entries}
        return self._paths


def list_content(reader: ChunkReader, ref: TreeRef) -> ContentRef:
    """
    The content that is a tree's list of entries.

    :raises IntegrityError: if the table of its pages cannot be read
    """
    if not ref.paged:
        return ref.root
    table, most = ids(ref.root), ref.root.size * ID_BYTES  # were each page a single byte
    pages = joined(table, reader.fetch_within(table, most), most)
    return replace(ref.root, chunks=tuple(pages[at : at + ID_BYTES].hex() for at in range(0, len(pages), ID_BYTES)))


def list_chunks(reader: ChunkReader, ref: TreeRef) -> list[bytes]:
    """The ids of all chunks without which the list of a tree cannot be read. Errors as of `list_content`."""
    return [*ids(ref.root), *(ids(list_content(reader, ref)) if ref.paged else ())]
