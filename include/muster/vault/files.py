"""Read whole files of a tree, small ones many at a time, and compare each with its digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from muster.batches import batched_by
from muster.domain.content import ContentRef, TreeEntry
from muster.errors import IntegrityError
from muster.vault.index import Location
from muster.vault.intake import WORTH_A_THREAD
from muster.vault.reader import FETCHERS, SPAN, ChunkReader, digest_mismatch, ids, joined, started
from muster.vault.trees import chunk_ids

SMALL = 4 * 1024 * 1024
_BATCH_FILES = 1024
_BATCHES_AHEAD = 2
_HASHERS = 2
Piece = TypeVar("Piece")
Pieces = list[tuple[TreeEntry, Piece]]
Plain = Mapping[bytes, bytes]
Batch = tuple[Pieces[Piece], Future[Plain | None]]
"""Small files that lie near each other, and their chunks, which are being fetched."""
Found = dict[bytes, Location | None]
"""Where the chunks of a file lie, as far as known."""
Located = tuple[Pieces[Piece], list[Found]]
"""Small files, and where the chunks of each lie."""


class FileReading:
    """
    Reads files, each checked by its SHA-256. Use as a context: it holds threads.

    MD5 is not computed again: it is DVC's identity of a file and was compared, when the file was captured, over the same bytes as the
    SHA-256 that is compared here (docs/adr/0011).
    """

    def __init__(self, reader: ChunkReader) -> None:
        self._reader = reader
        self._fetchers = ThreadPoolExecutor(FETCHERS, "muster-fetch")
        self._hashers = ThreadPoolExecutor(_HASHERS, "muster-hash")

    def __enter__(self) -> FileReading:
        return self

    def __exit__(self, *_: object) -> None:
        self._fetchers.shutdown(cancel_futures=True)
        self._hashers.shutdown(cancel_futures=True)

    @property
    def reader(self) -> ChunkReader:
        """What it reads by."""
        return self._reader

    def far(self) -> bool:
        """Whether the store was found to be."""
        return self._reader.lanes.far

    def located(self, pieces: Iterable[tuple[TreeEntry, Piece]]) -> Iterator[Located[Piece]]:
        """Small files in the order in which their bytes lie in packs, so that one request brings many; nothing is fetched."""
        wanted = list(pieces)
        contents = [content_of(entry) for entry, _ in wanted]
        chunks = chunk_ids(contents)
        found = zip(chunks, self._reader.places(chunks), strict=True)
        places = [dict(islice(found, len(content.chunks))) for content in contents]
        order = sorted(range(len(wanted)), key=lambda number: _start(places[number]))
        for some in batched_by(lambda number: contents[number].size, order, SPAN, _BATCH_FILES):
            yield [wanted[number] for number in some], [places[number] for number in some]

    def batches(self, located: Iterable[Located[Piece]]) -> Iterator[Batch[Piece]]:
        """
        The files with their chunks.

        They are fetched ahead if that means waiting for a network; otherwise two threads, of which each gives the interpreter up
        several times a file, would only take it from one another.
        """
        batches = started(self._fetch, located, self._fetchers, self._ahead)
        return ((some, fetching) for (some, _), fetching in batches)

    def small(self, batch: Batch[Piece]) -> Iterator[tuple[TreeEntry, Piece, bytes]]:
        """
        The files of a batch with their bytes.

        :raises IntegrityError: naming the file
        """
        pieces, fetching = batch
        fetched = fetching.result()
        for entry, piece in pieces:
            yield entry, piece, self.bytes_of(entry, fetched)

    def bytes_of(self, entry: TreeEntry, fetched: Plain | None) -> bytes:
        """
        The bytes of a small file.

        :param fetched: its chunks; None if they could not be fetched together with those of others
        :raises IntegrityError: naming the file
        """
        try:
            chunks = ids(content_of(entry))
            size = content_of(entry).size
            found = self._reader.fetch_within(chunks, size) if fetched is None else fetched
            plain = found[chunks[0]] if len(chunks) == 1 else joined(chunks, found, size)
            check_content(entry, plain)
        except IntegrityError as error:
            raise named(entry, error) from error
        return plain

    def stream(self, entry: TreeEntry) -> Iterator[bytes]:
        """The bytes of a large file, piece by piece. The end is reached only if they match."""
        content, sha256, size = content_of(entry), hashlib.sha256(), 0
        try:
            for plain in self._reader.stream(content, self._fetchers):
                size += len(plain)
                if size > content.size:
                    raise digest_mismatch(entry.path, content)
                if len(plain) < WORTH_A_THREAD:
                    sha256.update(plain)
                    yield plain
                    continue
                hashing = self._hashers.submit(sha256.update, plain)
                yield plain
                hashing.result()
            if (size, sha256.hexdigest()) != (content.size, content.sha256):
                raise digest_mismatch(entry.path, content)
        except IntegrityError as error:
            raise named(entry, error) from error

    def _ahead(self) -> int:
        return _BATCHES_AHEAD if self.far() else 0

    def _fetch(self, batch: Located[Piece]) -> Plain | None:
        """The chunks of small files; None if any of them is damaged: then `bytes_of` finds out which file is hit."""
        pieces, found = batch
        room = sum(content_of(entry).size for entry, _ in pieces)
        places = {chunk: place for some in found for chunk, place in some.items()}
        known = {chunk: place for chunk, place in places.items() if place}
        try:
            with self._reader.lanes.taken():
                if len(known) == len(places):
                    return self._reader.fetch_placed(known, room)
                return self._reader.fetch_within(list(places), room)
        except IntegrityError:
            return None


def _start(places: Found) -> tuple[str, int]:
    """Where the first chunk of a file lies, as far as known."""
    place = next(iter(places.values()), None)
    return (place.pack.name, place.entry.offset) if place else ("", 0)


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
    content = content_of(entry)
    if len(plain) != content.size or hashlib.sha256(plain).hexdigest() != content.sha256:
        raise digest_mismatch(entry.path, content)


def named(entry: TreeEntry, error: IntegrityError) -> IntegrityError:
    """The same failure, with the file's path before what is said of its chunks."""
    return error if entry.path in error.message else IntegrityError(f"{entry.path}: {error.message}", error.hint)
