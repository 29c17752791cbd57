"""Read small files of a source, each of which is one chunk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence

from muster.ports import LocalFile, SourceFile
from muster.vault.chunking import MINIMUM
from muster.vault.intake import Advance, WriterStats, compare, moved, not_read, opened, stamp, state
from muster.vault.keys import MasterKey
from muster.vault.pace import Pace
from muster.vault.sink import PackSink
from muster.vault.trees import Content

SMALL = MINIMUM
"""Up to this size in bytes a file is not cut."""


class SmallIntake:
    """
    Reads files whose size is known and at most `SMALL`, one after the other, with as few calls as can be.

    :param pace: told how long the files took to be read
    :param advance: told the number of plain bytes after each file
    """

    def __init__(self, master: MasterKey, sink: PackSink, pace: Pace, advance: Advance) -> None:
        self._master, self._sink, self._pace, self._advance = master, sink, pace, advance
        self._read = self._chunks = self._new = self._stored = 0

    @property
    def stats(self) -> WriterStats:
        """What these files cost."""
        return WriterStats(self._read, self._new, self._stored, self._chunks - self._new)

    def take(self, sources: Sequence[SourceFile]) -> list[Content]:
        """
        Store the contents of files. Errors as of `FileIntake.take`.
        """
        with self._pace.measured(len(sources)):
            plains = [bytes_of(source, source.size or 0) for source in sources]
        return [self._take(source, plain) for source, plain in zip(sources, plains, strict=True)]

    def _take(self, source: SourceFile, plain: bytes) -> Content:
        self._read += len(plain)
        self._advance(len(plain))
        if len(plain) != source.size:
            more = " or more" if len(plain) > (source.size or 0) else ""
            compare(source, "size", source.size, f"{len(plain)}{more}")
        if source.md5 is not None:
            compare(source, "MD5", source.md5, hashlib.md5(plain, usedforsecurity=False).hexdigest())
        return Content(self._keep(plain), hashlib.sha256(plain).hexdigest(), len(plain))

    def _keep(self, plain: bytes) -> tuple[str, ...]:
        if not plain:
            return ()
        self._chunks += 1
        chunk = self._master.chunk_id(plain)
        if self._sink.claim(chunk):
            self._stored += self._sink.add(chunk, memoryview(plain))
            self._new += 1
        return (chunk.hex(),)


def bytes_of(source: SourceFile, size: int) -> bytes:
    """
    All bytes of a file, or one more than the `size` that it should have.

    :raises SourceChanged: if it is gone, or changed while it was read
    :raises SourceInvalid: if it cannot be read
    """
    if not isinstance(source.open, LocalFile):
        return _from_stream(source, size)
    try:
        return _from_disk(source, source.open.path, size)
    except OSError as error:
        raise not_read(source, error) from error


def _from_disk(source: SourceFile, path: str, size: int) -> bytes:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        before = stamp(file)
        plain = os.read(file, size + 1)
        while 0 < len(plain) < size and (more := os.read(file, size + 1 - len(plain))):
            plain += more
        if before != stamp(file):
            raise moved(source)
    finally:
        os.close(file)
    return plain


def _from_stream(source: SourceFile, size: int) -> bytes:
    plain = b""
    with opened(source) as stream:
        before = state(stream)
        while len(plain) <= size and (more := stream.read(size + 1 - len(plain))):
            plain += more
        if before != state(stream):
            raise moved(source)
    return plain
