"""Read whole files of a tree, small ones many at a time, and compare each with all that is known of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from muster.domain.content import ContentRef, TreeEntry
from muster.errors import IntegrityError
from muster.vault.reader import SPAN, ChunkReader, digest_mismatch, ids

SMALL = 4 * 1024 * 1024
_BATCH_FILES = 256
_THREADS = 2
Piece = TypeVar("Piece")
Plain = Mapping[bytes, bytes]


class FileReading:
    """Reads files, each checked by its digest, and by its MD5 where that is known. Use as a context: it holds threads."""

    def __init__(self, reader: ChunkReader) -> None:
        self._reader = reader
        self._fetchers = ThreadPoolExecutor(_THREADS, "muster-fetch")
        self._hashers = ThreadPoolExecutor(_THREADS, "muster-hash")

    def __enter__(self) -> FileReading:
        return self

    def __exit__(self, *_: object) -> None:
        self._fetchers.shutdown(cancel_futures=True)
        self._hashers.shutdown(cancel_futures=True)

    def batches(self, pieces: Iterable[tuple[TreeEntry, Piece]]) -> Iterator[list[tuple[TreeEntry, Piece]]]:
        """Files in the order in which their bytes lie in packs, so that one request brings many small ones."""
        batch: list[tuple[TreeEntry, Piece]] = []
        size = 0
        for piece in sorted(pieces, key=lambda piece: self._reader.place(content_of(piece[0]))):
            batch.append(piece)
            size += content_of(piece[0]).size
            if size >= SPAN or len(batch) >= _BATCH_FILES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def fetch(self, entries: Iterable[TreeEntry]) -> Plain | None:
        """The chunks of small files; None if any of them is damaged: then `small` finds out which file is hit."""
        try:
            return self._reader.fetch(list({chunk: None for entry in entries for chunk in ids(content_of(entry))}))
        except IntegrityError:
            return None

    def small(self, entry: TreeEntry, fetched: Plain | None) -> bytes:
        """
        The bytes of a small file.

        :raises IntegrityError: naming the file
        """
        with _naming(entry):
            chunks = ids(content_of(entry))
            found = self._reader.fetch(chunks) if fetched is None else fetched
            plain = b"".join([found[chunk] for chunk in chunks])
            check_content(entry, plain)
        return plain

    def stream(self, entry: TreeEntry) -> Iterator[bytes]:
        """The bytes of a large file, piece by piece. The end is reached only if they match."""
        sha256, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
        with _naming(entry):
            for plain in self._reader.stream(content_of(entry), self._fetchers):
                hashing = self._hashers.submit(md5.update, plain) if entry.md5 else None
                sha256.update(plain)
                size += len(plain)
                yield plain
                if hashing:
                    hashing.result()
            _compare(entry, size, sha256.hexdigest(), md5.hexdigest())


def content_of(entry: TreeEntry) -> ContentRef:
    """The content of a file's entry."""
    if entry.content is None:
        raise IntegrityError(f"{entry.path} is a {entry.kind} without content", "verify the vault; use another point")
    return entry.content


def check_content(entry: TreeEntry, plain: bytes) -> None:
    """
    Compare the bytes of a small file with what is known of it.

    :raises IntegrityError: if anything differs
    """
    md5 = hashlib.md5(plain, usedforsecurity=False).hexdigest() if entry.md5 else ""
    _compare(entry, len(plain), hashlib.sha256(plain).hexdigest(), md5)


def _compare(entry: TreeEntry, size: int, sha256: str, md5: str) -> None:
    content = content_of(entry)
    if (size, sha256) != (content.size, content.sha256) or entry.md5 not in (None, md5):
        raise digest_mismatch(entry.path, content)


@contextmanager
def _naming(entry: TreeEntry) -> Iterator[None]:
    """Put the file's path before what is said of its chunks."""
    try:
        yield
    except IntegrityError as error:
        if entry.path in error.message:
            raise
        raise IntegrityError(f"{entry.path}: {error.message}", error.hint) from error
