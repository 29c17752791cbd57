"""Where new chunks go: into packs, which are uploaded while the next ones are filled, and at last into an index."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

from muster.errors import MusterError
from muster.ports import BlobStore
from muster.vault.index import Index
from muster.vault.keys import MasterKey
from muster.vault.layout import pack_key, put_named
from muster.vault.packs import PACK_TARGET, Pack, PackBuilder, compress

_UPLOADS = 2
_MOST_IN_FLIGHT = 3


class PackSink:
    """
    Takes chunks from several threads; keeps at most `_MOST_IN_FLIGHT` packs and the one being filled in memory.

    Others are told of a chunk (through the index) only when its pack is durable.
    """

    def __init__(self, store: BlobStore, master: MasterKey, index: Index) -> None:
        self._store, self._master, self._index = store, master, index
        self._lock = threading.Lock()
        self._builder: PackBuilder | None = None
        self._claimed: set[bytes] = set()
        self._room = threading.BoundedSemaphore(_MOST_IN_FLIGHT)
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
        Store a claimed chunk; return its sealed length.

        :raises MusterError: if an upload, of this or of an earlier chunk, failed
        """
        try:
            payload, flags = compress(plain)
            with self._lock:
                self._check()
                builder = self._builder = self._builder or PackBuilder(self._master)
                length = builder.add(chunk, payload, len(plain), flags)
                if builder.size >= PACK_TARGET:
                    self._builder = None
        except BaseException as error:
            self._fail(error)
            raise
        if builder.size >= PACK_TARGET:
            self._send(builder)
        return length

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

    def _send(self, builder: PackBuilder) -> None:
        self._room.acquire()
        try:
            upload = self._uploaders.submit(self._upload, builder)
        except BaseException:
            self._room.release()
            raise
        with self._lock:
            self._uploads.append(upload)

    def _upload(self, builder: PackBuilder) -> None:
        try:
            pack, data = builder.finish()
            put_named(self._store, pack_key(pack.name), data)
            self._index.add(pack)
            with self._lock:
                self._durable.append(pack)
        except BaseException as error:
            self._fail(error)
            raise
        finally:
            self._room.release()

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error

    def _check(self) -> None:
        if self._failure:
            raise self._failure
