"""Where new chunks go: into packs, which are uploaded while the next ones are filled, and at last into an index."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from muster.errors import MusterError
from muster.ports import BlobStore
from muster.vault.buffers import Buffers
from muster.vault.index import Index
from muster.vault.keys import MasterKey
from muster.vault.layout import pack_key, put_named
from muster.vault.packs import PACK_ROOM, Pack, PackBuilder, compress

_UPLOADS = 2
_MOST_PACKS = 4


class PackSink:
    """
    Takes chunks from several threads; keeps at most `_MOST_PACKS` packs in memory, the one being filled among them, besides those
    that it is sent.

    Others are told of a chunk (through the index) only when its pack is durable.
    """

    def __init__(self, store: BlobStore, master: MasterKey, index: Index) -> None:
        self._store, self._master, self._index = store, master, index
        self._lock = threading.Lock()
        self._builder: PackBuilder | None = None
        self._claimed: set[bytes] = set()
        self._rooms = Buffers(PACK_ROOM, _MOST_PACKS)
        self._uploaders = ThreadPoolExecutor(_UPLOADS, "muster-upload")
        self._uploads: list[Future[None]] = []
        self._durable: list[Pack] = []
        self._failure: BaseException | None = None
        self._durable += index.reconcile()

    def claim(self, chunk: bytes) -> bool:
        """Whether the chunk is new; whoever is told so must `add` it."""
        with self._lock:
            if chunk in self._claimed or self._index.holds(chunk):
                return False
            self._claimed.add(chunk)
            return True

    def add(self, chunk: bytes, plain: memoryview) -> int:
        """
        Store a claimed chunk; return its sealed length. Waits while the store is behind.

        :raises MusterError: if an upload, of this or of an earlier chunk, failed
        """
        try:
            payload, flags = compress(plain)
            with self._lock:
                self._check()
                if self._builder is None:
                    # Whoever uploads gives a room back without this lock, so that waiting for one here comes to an end.
                    self._builder = PackBuilder(self._master, self._rooms.take())
                length = self._builder.add(chunk, payload, len(plain), flags)
                full = self._full()
        except BaseException as error:
            self.fail(error)
            raise
        if full:
            self._send(full)
        return length

    def send(self, pack: Pack, data: memoryview, done: Callable[[], None]) -> None:
        """
        Store a pack that was made elsewhere, of claimed chunks.

        :param done: called when its bytes are needed no more, whether it could be stored or not
        """
        self._begin(lambda: self._upload(pack, data), done)

    def fail(self, error: BaseException) -> None:
        """Something that was claimed cannot be added: what follows is refused, and `close` raises the first such error."""
        self._failure = self._failure or error

    def close(self) -> None:
        """
        Make everything durable: packs, then the index over them.

        :raises MusterError: if anything could not be stored; what could be is named by an index all the same
        """
        with self._lock:
            builder, self._builder = self._builder, None
        try:
            if builder:
                self._send(builder)
        finally:
            self._uploaders.shutdown(wait=True)
        failures = [error for upload in self._uploads if (error := upload.exception())]
        self._index.save(self._durable)
        if failures or self._failure:
            raise failures[0] if failures else self._failure  # type: ignore[misc]

    def close_after(self, error: BaseException) -> None:
        """Keep what is whole when the work has failed; a failure to do so is noted on the error."""
        try:
            self.close()
        except MusterError as second:
            if second is not error:
                error.add_note(f"besides, not everything that was read could be kept: {second.message}")

    def _full(self) -> PackBuilder | None:
        """The pack that is full now, which is no longer the one being filled."""
        if self._builder is None or not self._builder.full:
            return None
        builder, self._builder = self._builder, None
        return builder

    def _send(self, builder: PackBuilder) -> None:
        self._begin(lambda: self._upload(*builder.finish()), lambda: self._rooms.give(builder.room))

    def _begin(self, work: Callable[[], None], done: Callable[[], None]) -> None:
        upload = self._uploaders.submit(self._watched, work, done)
        with self._lock:
            self._uploads.append(upload)

    def _watched(self, work: Callable[[], None], done: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self.fail(error)
            raise
        finally:
            done()

    def _upload(self, pack: Pack, data: memoryview) -> None:
        put_named(self._store, pack_key(pack.name), data)
        self._index.add(pack)
        self._durable.append(pack)
        self._claimed.difference_update(pack.chunks())

    def _check(self) -> None:
        if self._failure:
            raise self._failure
