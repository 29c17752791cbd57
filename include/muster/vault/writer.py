"""Store trees: many files side by side, read once, each chunk at most once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace

from muster.domain.content import ContentRef, TreeRef
from muster.ports import BlobStore, KnownContent, Progress, SourceFile
from muster.vault.chunking import OF_FILES, OF_LISTS, Cutter
from muster.vault.entry_list import EntryList
from muster.vault.index import Index
from muster.vault.intake import Advance, WriterStats
from muster.vault.keys import MasterKey
from muster.vault.noted import MOST, Noted, NotedTrees
from muster.vault.reader import ids
from muster.vault.readers import Readers
from muster.vault.sink import PackSink
from muster.vault.small_files import SMALL
from muster.vault.sources import bytes_file
from muster.vault.trees import LIST, Row, Unchanged, chunk_ids, row_of

__all__ = ["VaultWriter", "WriterStats"]

_BATCHES_AHEAD = 8
_BATCH_FILES = 64
_BATCH_BYTES = 4 * 1024 * 1024
PAGED_FROM = 4096
"""Lists of so many entries are stored in small pieces."""


class VaultWriter:
    """
    Takes trees into a vault; `Vault.writer` opens and closes it.

    The iterable of files is consumed in the caller's thread. Memory: that of `Readers`, of `PackSink` and of `EntryList`, and what is
    noted of each tree.

    :param cut: what files are cut by
    :param noted: told what each tree needs
    """

    def __init__(
        self,
        store: BlobStore,
        master: MasterKey,
        index: Index,
        cut: Cutter,
        noted: NotedTrees,
    ) -> None:
        self._index, self._noted = index, noted
        self._sink = PackSink(store, master, index)
        self._readers = Readers(master, self._sink, cut)

    @property
    def stats(self) -> WriterStats:
        """What was stored so far."""
        return self._readers.stats

    def store_tree(self, files: Iterable[SourceFile | Unchanged], progress: Progress | None = None) -> TreeRef:
        """
        Store files, folders and links as one tree. It is durable when the writer has been closed.

        :raises SourceChanged: if a file is not of the size or MD5 that the source said, or changed while it was read
        :raises SourceInvalid: if a file cannot be read, or a path is bad or comes twice
        :raises StoreUnavailable: if the store did not take a pack
        """
        advance = _Counter(progress)
        storing = _Storing(self._index, self._readers, advance)
        entries = EntryList()
        try:
            for rows in storing.rows(files):
                entries.extend(rows)
        finally:
            self._readers.count(storing.taken_over)
        paged = entries.count >= PAGED_FROM
        listed = self._readers.read(SourceFile(LIST, entries.open), advance, OF_LISTS if paged else OF_FILES)
        root = self._table_of(listed, advance) if paged else listed
        ref = replace(entries.seen.ref(root), paged=paged)
        storing.note([listed, root])
        self._noted.add(ref, Noted(frozenset(storing.packs), bytes(storing.chunks)))
        return ref

    def _table_of(self, listed: ContentRef, advance: Advance) -> ContentRef:
        """What a long list is known by: its size and digest, and the chunks of the table of its pages."""
        table = self._readers.read(bytes_file(LIST, b"".join(ids(listed))), advance)
        return replace(listed, chunks=table.chunks)

    def close(self) -> None:
        """Make everything durable."""
        self._readers.close()
        self._sink.close()

    def close_after(self, error: BaseException) -> None:
        """Keep what is whole when the work has failed."""
        self._readers.close()
        self._sink.close_after(error)


class _Storing:
    """
    One tree on its way into the vault.

    :param packs: in which all contents lie that were taken over
    :param chunks: ids of the others' chunks, joined; not all of them if they are more than `MOST`
    """

    def __init__(self, index: Index, readers: Readers, advance: _Counter) -> None:
        self._index, self._readers, self._advance = index, readers, advance
        self._ahead: deque[Future[list[Row]]] = deque()
        self._batch: list[SourceFile] = []
        self._batch_size = 0
        self.packs: set[str] = set()
        self.chunks = bytearray()
        self.taken_over = WriterStats()

    def rows(self, files: Iterable[SourceFile | Unchanged]) -> Iterator[Sequence[Row]]:
        """The entries of the tree, in about the order in which the files come."""
        try:
            for source in files:
                yield self._taken_over(source) if isinstance(source, Unchanged) else self._taken(source)
                while self._ahead and (len(self._ahead) >= _BATCHES_AHEAD or self._ahead[0].done()):
                    yield self._next()
            self._end_batch()
            while self._ahead:
                yield self._next()
        finally:
            for future in self._ahead:
                future.cancel()

    def note(self, contents: Iterable[KnownContent]) -> None:
        """Contents that were stored or found, and that the tree needs."""
        if len(self.chunks) <= MOST:
            self.chunks += b"".join(chunk_ids(contents))

    def _next(self) -> Sequence[Row]:
        """The entries of files that were read first."""
        rows = self._ahead.popleft().result()
        self.note(row.content for row in rows if row.content)
        return rows

    def _taken_over(self, unchanged: Unchanged) -> Sequence[Row]:
        """Those entries of which the vault still has everything; the others are read."""
        packs, lost = self._index.sound(chunk_ids(row.content for row in unchanged.rows if row.content))
        rows = unchanged.rows
        if lost:
            gone = set(lost)
            rows = [row for row in rows if row.content and gone.isdisjoint(ids(row.content))]
            packs, _ = self._index.sound(chunk_ids(row.content for row in rows if row.content))
            there = {row.path for row in rows}
            for row in unchanged.rows:
                if row.path not in there:
                    self._read(unchanged.again(row))
        self.packs |= packs
        chunks = sum([len(row.content.chunks) for row in rows if row.content])
        self.taken_over += WriterStats(reused_chunks=chunks, known_files=len(rows))
        return rows

    def _taken(self, source: SourceFile) -> Sequence[Row]:
        """The entry of what need not be read; nothing yet of what is being read."""
        if source.kind != "file":
            return (row_of(source, None),)
        known = source.known
        if known is not None and source.size in (None, known.size):
            packs, lost = self._index.sound(ids(known))
            if not lost:
                self.packs |= packs
                self.taken_over += WriterStats(reused_chunks=len(known.chunks), known_files=1)
                return (row_of(source, known),)
        self._read(source)
        return ()

    def _read(self, source: SourceFile) -> None:
        if source.size is None or source.size > SMALL:
            self._ahead.append(self._readers.large(source, self._advance))
            return
        self._batch.append(source)
        self._batch_size += source.size
        if len(self._batch) >= _BATCH_FILES or self._batch_size >= _BATCH_BYTES:
            self._end_batch()

    def _end_batch(self) -> None:
        if self._batch:
            self._ahead.append(self._readers.small(self._batch, self._advance))
            self._batch, self._batch_size = [], 0


class _Counter:
    """Adds up bytes from several threads and reports the sum."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress, self._lock, self._done = progress, threading.Lock(), 0

    def __call__(self, size: int) -> None:
        if self._progress:
            with self._lock:
                self._done += size
                self._progress("store", self._done, None)
