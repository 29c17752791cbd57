"""Store trees: many files side by side, read once, each chunk at most once."""

from __future__ import annotations

import functools
import io
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from muster.domain.content import ContentRef, TreeEntry, TreeRef
from muster.errors import SourceInvalid
from muster.ports import BlobStore, Progress, SourceFile
from muster.vault.index import Index
from muster.vault.intake import FileIntake, WriterStats
from muster.vault.keys import MasterKey
from muster.vault.sink import PackSink
from muster.vault.trees import find_clash, source_path, summarise, write_entries

__all__ = ["VaultWriter", "WriterStats"]

_WORKERS = 4
_HASHERS = 2
_BATCHES_AHEAD = 8
_BATCH_FILES = 64
_BATCH_BYTES = 4 * 1024 * 1024
_UNKNOWN_SIZE = 1024 * 1024
_ENTRIES_PATH = "the list of entries"

Batch = list[SourceFile]


class VaultWriter:
    """
    Takes trees into a vault; `Vault.writer` opens and closes it.

    Files are opened, read and closed in threads of the writer, up to `_WORKERS` at a time; the iterable of files is consumed in
    the caller's. Memory: a block of 4 MiB and what is left of the one before per worker, and the packs of `PackSink`.
    """

    def __init__(self, store: BlobStore, master: MasterKey, index: Index) -> None:
        self._master, self._index = master, index
        self._sink = PackSink(store, master, index)
        self._workers = ThreadPoolExecutor(_WORKERS, "muster-read")
        self._hashers = ThreadPoolExecutor(_HASHERS, "muster-hash")
        self._lock = threading.Lock()
        self._stats = WriterStats()

    @property
    def stats(self) -> WriterStats:
        """What was stored so far."""
        return self._stats

    def store_tree(self, files: Iterable[SourceFile], progress: Progress | None = None) -> TreeRef:
        """
        Store files, folders and links as one tree. It is durable when the writer has been closed.

        :raises SourceChanged: if a file is not of the size or MD5 that the source said, or changed while it was read
        :raises SourceInvalid: if a file cannot be read, or a path is bad or comes twice
        :raises StoreUnavailable: if the store did not take a pack
        """
        advance = _Counter(progress)
        entries = sorted(self._store_all(files, advance), key=lambda entry: entry.path)
        if clash := find_clash(entries):
            raise SourceInvalid(f"this tree could not be restored: {clash}", "look at how the source lists its files")
        listing = write_entries(entries)
        root = self._read(SourceFile(_ENTRIES_PATH, functools.partial(io.BytesIO, listing)), advance)
        return summarise(root, entries)

    def close(self) -> None:
        """Make everything durable."""
        self._stop()
        self._sink.close()

    def close_after(self, error: BaseException) -> None:
        """Keep what is whole when the work has failed."""
        self._stop()
        self._sink.close_after(error)

    def _stop(self) -> None:
        self._workers.shutdown(wait=True, cancel_futures=True)
        self._hashers.shutdown(wait=True)

    def _store_all(self, files: Iterable[SourceFile], advance: _Counter) -> Iterator[TreeEntry]:
        ahead: deque[Future[list[TreeEntry]]] = deque()
        try:
            for batch in _batches(files):
                ahead.append(self._workers.submit(self._store_batch, batch, advance))
                if len(ahead) >= _BATCHES_AHEAD:
                    yield from ahead.popleft().result()
            while ahead:
                yield from ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()

    def _store_batch(self, batch: Batch, advance: _Counter) -> list[TreeEntry]:
        return [self._store(source, advance) for source in batch]

    def _store(self, source: SourceFile, advance: _Counter) -> TreeEntry:
        content = None
        if source.kind == "file":
            content = self._known(source) or self._read(source, advance)
        return TreeEntry(source.path, source.kind, content, source.md5, source.mode, source.mtime_ns, source.link)

    def _known(self, source: SourceFile) -> ContentRef | None:
        """What an earlier point has of a file, if all of it is still there."""
        known = source.known
        if known is None or source.size not in (None, known.size):
            return None
        if not all(self._index.holds(bytes.fromhex(chunk)) for chunk in known.chunks):
            return None
        self._count(WriterStats(reused_chunks=len(known.chunks), known_files=1))
        return known

    def _read(self, source: SourceFile, advance: _Counter) -> ContentRef:
        intake = FileIntake(self._master, self._sink, self._hashers, advance)
        try:
            return intake.take(source)
        finally:
            self._count(intake.stats)

    def _count(self, more: WriterStats) -> None:
        with self._lock:
            self._stats += more


class _Counter:
    """Adds up bytes from several threads and reports the sum."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress, self._lock, self._done = progress, threading.Lock(), 0

    def __call__(self, size: int) -> None:
        if self._progress:
            with self._lock:
                self._done += size
                self._progress("store", self._done, None)


def _batches(files: Iterable[SourceFile]) -> Iterator[Batch]:
    """Small files in groups, so that handing over costs little; large ones alone. Paths are checked on the way."""
    batch: Batch = []
    size = 0
    taken: set[str] = set()
    for source in files:
        source_path(source.path, taken)
        batch.append(source)
        size += _UNKNOWN_SIZE if source.size is None else source.size
        if len(batch) >= _BATCH_FILES or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
