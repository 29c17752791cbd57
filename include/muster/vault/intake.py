"""Read one file of a source: cut it, hash it, keep what is new, and notice when it moves meanwhile."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from muster.domain.content import ContentRef
from muster.errors import SourceChanged, SourceInvalid
from muster.ports import SourceFile
from muster.vault.chunking import Chunker
from muster.vault.keys import MasterKey
from muster.vault.sink import PackSink

BLOCK = 4 * 1024 * 1024
WORTH_A_THREAD = 256 * 1024
"""From so many bytes on, hashing them in another thread takes less time than handing them over."""

Advance = Callable[[int], None]
"""Told the number of plain bytes after each piece that was read."""


@dataclass(frozen=True, slots=True)
class WriterStats:
    """
    What storing cost.

    :param read_bytes: plain bytes read from sources
    :param new_stored_bytes: bytes that the new chunks take in the vault
    :param known_files: files that were not opened, since an earlier point has their content
    """

    read_bytes: int = 0
    new_chunks: int = 0
    new_stored_bytes: int = 0
    reused_chunks: int = 0
    known_files: int = 0

    def __add__(self, other: WriterStats) -> WriterStats:
        return WriterStats(
            self.read_bytes + other.read_bytes,
            self.new_chunks + other.new_chunks,
            self.new_stored_bytes + other.new_stored_bytes,
            self.reused_chunks + other.reused_chunks,
            self.known_files + other.known_files,
        )


class FileIntake:
    """
    Reads a file once. Chunks are stored by the calling thread while another computes the digests of the same block.

    :param chunker: of its own
    :param advance: told the number of plain bytes after each block
    """

    def __init__(
        self,
        master: MasterKey,
        sink: PackSink,
        hashers: Executor,
        chunker: Chunker,
        advance: Advance,
    ) -> None:
        self._master, self._sink, self._hashers, self._advance = master, sink, hashers, advance
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._chunker = chunker
        self._chunks: list[str] = []
        self._size = self._new = self._stored = 0

    def take(self, source: SourceFile) -> ContentRef:
        """
        Store the content of a file.

        :raises SourceChanged: if it is not what the source said it would be, or changed while it was read
        :raises SourceInvalid: if it cannot be read
        """
        with opened(source) as stream:
            before = state(stream)
            self._read(stream, source)
            if before != state(stream):
                raise moved(source)
        compare(source, "size", source.size, self._size)
        compare(source, "MD5", source.md5, self._md5.hexdigest())
        return ContentRef(self._size, self._sha256.hexdigest(), tuple(self._chunks))

    @property
    def stats(self) -> WriterStats:
        """What this file cost."""
        return WriterStats(self._size, self._new, self._stored, len(self._chunks) - self._new)

    def _read(self, stream: BinaryIO, source: SourceFile) -> None:
        ask = BLOCK if source.size is None else min(BLOCK, source.size + 1)
        while size := _read_into(stream, room := self._chunker.next(ask)):
            self._size += size
            if source.size is not None and self._size > source.size:
                compare(source, "size", source.size, f"{self._size} or more")
            self._take_block(room[:size], with_md5=source.md5 is not None)
            self._advance(size)
        self._keep(self._chunker.finish())

    def _take_block(self, block: memoryview, *, with_md5: bool) -> None:
        if len(block) < WORTH_A_THREAD:
            self._hash(block, with_md5)
            self._keep(self._chunker.feed(len(block)))
            return
        hashing = self._hashers.submit(self._hash, block, with_md5)
        try:
            self._keep(self._chunker.feed(len(block)))
        finally:
            hashing.result()

    def _hash(self, block: memoryview, with_md5: bool) -> None:
        self._sha256.update(block)
        if with_md5:
            self._md5.update(block)

    def _keep(self, chunks: Iterator[memoryview]) -> None:
        for plain in chunks:
            chunk = self._master.chunk_id(plain)
            self._chunks.append(chunk.hex())
            if self._sink.claim(chunk):
                self._stored += self._sink.add(chunk, plain)
                self._new += 1


def _read_into(stream: BinaryIO, room: memoryview) -> int:
    """The next bytes of a stream, put where they are worked on; how many they are, none at its end."""
    if into := getattr(stream, "readinto", None):
        return into(room) or 0
    block = stream.read(len(room))
    room[: len(block)] = block
    return len(block)


def compare(source: SourceFile, what: str, expected: object, found: object) -> None:
    """
    Hold a file to what its source said.

    :raises SourceChanged: if it is something else
    """
    if expected is not None and expected != found:
        raise SourceChanged(
            f"{source.path} has {what} {found} instead of {expected}",
            "it changed under the snapshot, or its record is stale: let it settle and take the snapshot again",
        )


@contextmanager
def opened(source: SourceFile) -> Iterator[BinaryIO]:
    """
    A stream of a file's content.

    :raises SourceChanged: if the file is gone
    :raises SourceInvalid: if it cannot be read
    """
    if source.open is None:
        raise SourceInvalid(f"{source.path} is a file without content", "give it a stream to read")
    try:
        with source.open() as stream:
            yield stream
    except OSError as error:
        raise not_read(source, error) from error


def not_read(source: SourceFile, error: OSError) -> SourceChanged | SourceInvalid:
    """What the system says of a file, in our words."""
    if isinstance(error, FileNotFoundError):
        return SourceChanged(f"{source.path} is no longer there: {error}", "take the snapshot again")
    return SourceInvalid(f"{source.path} cannot be read: {error}", "let the user that takes snapshots read it")


def moved(source: SourceFile) -> SourceChanged:
    """The failure of a file that is written to."""
    return SourceChanged(f"{source.path} changed while it was read", "take the snapshot again")


def state(stream: BinaryIO) -> tuple[int, int, int] | None:
    """Size and times of the file behind a stream, or None if there is none."""
    try:
        return stamp(stream.fileno())
    except (OSError, AttributeError, ValueError):
        return None


def stamp(file: int) -> tuple[int, int, int]:
    """Size and times of an open file."""
    found = os.fstat(file)
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns
