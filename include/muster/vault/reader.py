"""Read chunks back: neighbours in one request, each checked by its seal and its id, from another copy if one is damaged."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from typing import TypeVar

from muster.domain.content import ContentRef
from muster.errors import IntegrityError, NotFound
from muster.ports import BlobStore, KnownContent
from muster.vault.index import Index, Location
from muster.vault.keys import MasterKey
from muster.vault.layout import pack_key
from muster.vault.pace import Lanes, small_steps
from muster.vault.packs import open_chunk

SPAN = 8 * 1024 * 1024
_GAP = 256 * 1024
_AHEAD = 2
FETCHERS = 8
"""Most that fetch at once; as many as `_NEAR_FETCHERS` do from a store that is near."""
_NEAR_FETCHERS = 2
Item = TypeVar("Item")
Result = TypeVar("Result")


class ChunkReader:
    """Fetches chunks by their ids. May be used from several threads."""

    def __init__(self, store: BlobStore, master: MasterKey, index: Index) -> None:
        self._store, self._master, self._index = store, master, index
        self.lanes = Lanes(_NEAR_FETCHERS, FETCHERS)
        """To be taken by those who fetch beside others."""

    @property
    def master(self) -> MasterKey:
        """What opens them."""
        return self._master

    def locate(self, chunks: Sequence[bytes]) -> dict[bytes, Location]:
        """
        Where to read each of the chunks.

        :raises IntegrityError: if there is no copy of one
        """
        found = self._index.places(chunks)
        if None in found:
            if missing := self._index.missing(chunks):
                unread = list(self._index.damaged.values())
                because = f"; {len(unread)} packs or indexes cannot be read: {unread[0]}" if unread else ""
                raise IntegrityError(
                    f"chunk {missing[0].hex()} is in no pack of {self._store.url}, nor are {len(missing) - 1} others{because}",
                    "a pack was lost: restore it from a replica, or use another point; verify names what is affected",
                )
            found = self._index.places(chunks)
        return {chunk: place for chunk, place in zip(chunks, found, strict=True) if place}

    def places(self, chunks: Sequence[bytes]) -> list[Location | None]:
        """Where to read each of the chunks, as far as it is known without another look at the store."""
        return self._index.places(chunks)

    def fetch(self, chunks: Sequence[bytes]) -> dict[bytes, bytes]:
        """
        The plain bytes of all these chunks, which must fit into memory.

        :raises IntegrityError: if of any chunk no whole copy is left; the message names pack and chunk
        """
        return self._fetch(self.locate(chunks))

    def fetch_within(self, chunks: Sequence[bytes], room: int) -> dict[bytes, bytes]:
        """
        What `fetch` gives, of files that say how many bytes they have.

        :raises IntegrityError: also if the chunks have more; nothing was fetched then
        """
        return self.fetch_placed(self.locate(chunks), room)

    def fetch_placed(self, places: dict[bytes, Location], room: int) -> dict[bytes, bytes]:
        """The same, of chunks that were located."""
        if sum(place.entry.size for place in places.values()) > room:
            raise IntegrityError("it names chunks that have more bytes than it", "verify the vault; use another point")
        return self._fetch(places)

    def sealed_into(self, room: memoryview, places: dict[bytes, Location]) -> list[Location]:
        """
        Put chunks that were located into a room, one after the other, as they lie in their packs; return them in that order.

        :raises IntegrityError: if they do not fit, or a pack is shorter than it should be
        :raises NotFound: if a pack is gone
        """
        order, end = [], 0
        if sum(place.entry.length for place in places.values()) > len(room):
            raise IntegrityError("its chunks have more bytes than it", "verify the vault; use another point")
        for span in _spans(places):
            view, start = self._sealed(span)
            for place in span:
                at, end = end, end + place.entry.length
                offset = place.entry.offset - start
                room[at:end] = view[offset : offset + place.entry.length]
            order += span
        return order

    def stream(self, content: ContentRef, ahead: Executor) -> Iterator[bytes]:
        """The plain bytes of a file, chunk by chunk; the next ones are fetched by `ahead` meanwhile. Its digest is not checked."""
        for run, fetching in started(self._fetch_beside, self._runs(content), ahead, _AHEAD):
            found = fetching.result()
            yield from (found[chunk] for chunk in run)

    def read(self, content: ContentRef, what: str) -> bytes:
        """
        The plain bytes of a small file, whose digest is checked.

        :param what: its name, for the message
        """
        chunks = ids(content)
        plain = joined(chunks, self.fetch_within(chunks, content.size), content.size)
        if len(plain) != content.size or hashlib.sha256(plain).hexdigest() != content.sha256:
            raise digest_mismatch(what, content)
        return plain

    def _fetch_beside(self, chunks: Sequence[bytes]) -> dict[bytes, bytes]:
        with self.lanes.taken():
            return self.fetch(chunks)

    def _fetch(self, places: dict[bytes, Location]) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        damaged: list[bytes] = []
        for span in _spans(places):
            try:
                found.update(self._open(span))
            except (IntegrityError, NotFound):
                damaged += [place.entry.chunk for place in span]
        return found | self._copies(damaged) if damaged else found

    def _runs(self, content: ContentRef) -> Iterator[list[bytes]]:
        run: list[bytes] = []
        size = 0
        places = self.locate(ids(content))
        for chunk in ids(content):
            run.append(chunk)
            size += places[chunk].entry.size
            if size >= SPAN:
                yield run
                run, size = [], 0
        if run:
            yield run

    def _open(self, span: Sequence[Location]) -> dict[bytes, bytes]:
        pack = span[0].pack
        view, start = self._sealed(span)
        cipher = self._master.pack_cipher(pack.salt)
        found = {}
        with small_steps(len(view) // len(span)):
            for _, ordinal, entry in span:
                sealed = view[entry.offset - start : entry.offset - start + entry.length]
                found[entry.chunk] = open_chunk(self._master, cipher, pack.name, ordinal, entry, sealed)
        return found

    def _sealed(self, span: Sequence[Location]) -> tuple[memoryview, int]:
        """The bytes of a pack from the first of these chunks to the end of the last, and where they begin there."""
        start = span[0].entry.offset
        size = max(place.entry.offset + place.entry.length for place in span) - start
        with self.lanes.measured(size):
            return memoryview(self._store.get_range(pack_key(span[0].pack.name), start, size)), start

    def _copies(self, chunks: Sequence[bytes]) -> dict[bytes, bytes]:
        """Each of the chunks from whichever copy is whole; if none is, packs are looked for that were stored meanwhile."""
        found, left = self._whole(chunks)
        if left:
            self._index.refresh()
            self._index.reconcile()
            again, left = self._whole(list(left))
            found |= again
        for chunk, error in left.items():
            raise IntegrityError(f"chunk {chunk.hex()} cannot be read: {error.message}", error.hint) from error
        return found

    def _whole(self, chunks: Sequence[bytes]) -> tuple[dict[bytes, bytes], dict[bytes, IntegrityError | NotFound]]:
        """Those of the chunks of which a known copy is whole, and for the others what is wrong with the last."""
        found: dict[bytes, bytes] = {}
        left: dict[bytes, IntegrityError | NotFound] = {}
        for chunk in chunks:
            left[chunk] = NotFound("it is in no pack", "a pack was lost: verify names what is affected")
            for place in self._index.locations(chunk):
                try:
                    found |= self._open([place])
                    del left[chunk]
                    break
                except (IntegrityError, NotFound) as error:
                    left[chunk] = error
        return found, left


def joined(chunks: Sequence[bytes], found: Mapping[bytes, bytes], size: int) -> bytes:
    """The bytes of a small file; nothing if they are more than it has: one chunk may be named any number of times."""
    return b"".join([found[chunk] for chunk in chunks]) if sum(len(found[chunk]) for chunk in chunks) <= size else b""


def ids(content: KnownContent, most: int | None = None) -> list[bytes]:
    """The chunk ids of a file as bytes, or the first ones."""
    try:
        return [bytes.fromhex(chunk) for chunk in content.chunks[:most]]
    except ValueError as error:
        raise IntegrityError(
            f"the content {content.sha256} names a chunk that cannot be", "verify the vault"
        ) from error


def digest_mismatch(what: str, content: ContentRef) -> IntegrityError:
    """The failure of a file whose chunks are whole but are not the file."""
    return IntegrityError(
        f"{what} does not match its digest {content.sha256}", "verify the vault; use another point or a replica"
    )


def started(
    work: Callable[[Item], Result], items: Iterable[Item], workers: Executor, ahead: int | Callable[[], int]
) -> Iterator[tuple[Item, Future[Result]]]:
    """
    Each item with its work, in order; at most `ahead` are begun before they are asked for, so that no more wait in memory.

    :param ahead: asked again for each item if it may change

    If the iteration is given up, what was begun ends, and nothing else begins.
    """
    pending: deque[tuple[Item, Future[Result]]] = deque()
    for item in items:
        pending.append((item, workers.submit(work, item)))
        while len(pending) > (ahead if isinstance(ahead, int) else ahead()):
            yield pending.popleft()
    yield from pending


def _spans(places: dict[bytes, Location]) -> Iterator[list[Location]]:
    """Chunks that lie near each other in a pack, to be read at once."""
    span: list[Location] = []
    for place in sorted(places.values(), key=lambda place: (place.pack.name, place.entry.offset)):
        if span and not _near(span[0], span[-1], place):
            yield span
            span = []
        span.append(place)
    if span:
        yield span


def _near(first: Location, last: Location, place: Location) -> bool:
    end = last.entry.offset + last.entry.length
    return (
        place.pack.name == first.pack.name
        and place.entry.offset - end <= _GAP
        and place.entry.offset + place.entry.length - first.entry.offset <= 2 * SPAN
    )
