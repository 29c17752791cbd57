"""A stored tree, opened for reading."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from muster.domain.content import ContentRef, TreeEntry, TreeRef
from muster.errors import IntegrityError, NotFound
from muster.ports import StrPath
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
        self._listing = ref.root
        self._listed: Sequence[TreeEntry] | None = None
        self._paths: dict[str, TreeEntry] | None = None

    @property
    def ref(self) -> TreeRef:
        """What it is known by."""
        return self._ref

    def lots(self) -> Iterator[list[Row]]:
        """
        All entries as they are stored, sorted by path, some thousand at a time; what is wrong with the whole is found at its end.

        :raises IntegrityError: if it is not the list that the reference names
        """
        with FileReading(self._reader) as reading:
            yield from checked_rows(reading.stream(TreeEntry(LIST, content=self.listing)), self._ref)

    def rows(self) -> Iterator[Row]:
        """The same, one after the other."""
        for rows in self.lots():
            yield from rows

    @property
    def listing(self) -> ContentRef:
        """
        The content that is the list of entries.

        :raises IntegrityError: if the table of its pages cannot be read
        """
        if self._ref.paged and self._listing is self._ref.root:
            table, most = ids(self._ref.root), self._ref.root.size * ID_BYTES  # were each page a single byte
            pages = joined(table, self._reader.fetch_within(table, most), most)
            chunks = tuple(pages[at : at + ID_BYTES].hex() for at in range(0, len(pages), ID_BYTES))
            self._listing = replace(self._ref.root, chunks=chunks)
        return self._listing

    @property
    def list_chunks(self) -> list[bytes]:
        """The ids of all chunks without which the list cannot be read. Errors as of `listing`."""
        return [*ids(self._ref.root), *(ids(self.listing) if self._ref.paged else ())]

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

    def extract(self, wanted: Iterable[tuple[TreeEntry, StrPath]]) -> int:
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
