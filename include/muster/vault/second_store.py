"""Small files that the second process reads, hashes and seals while this one does so with others."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock, Thread

from muster.errors import MusterError, StoreUnavailable
from muster.ports import LocalFile, SourceFile
from muster.vault.intake import Advance, WriterStats
from muster.vault.packs import PACK_ROOM, Pack
from muster.vault.second_messages import End, Ended, Free, Keep, Kept, Packed, Take, Taken
from muster.vault.second_process import SecondEnded, SecondProcess
from muster.vault.sink import PackSink
from muster.vault.trees import Content, Row, row_of

PACK_ROOMS = 2, -(-PACK_ROOM // mmap.PAGESIZE) * mmap.PAGESIZE
"""A pack that is filled, and one that is stored; the bytes of each, which begins at a page, as direct writes need it."""
_AHEAD = 6
"""Lots that it is given before it has answered: each is some milliseconds of work."""


class _Lot:
    """Files that were given to it."""

    def __init__(self, files: list[SourceFile], advance: Advance) -> None:
        self.files, self.advance = files, advance
        self.rows: Future[list[Row]] = Future()
        self.rows.set_running_or_notify_cancel()  # nobody can take it back
        self.stats = WriterStats()


class SecondReader:
    """
    Gives lots of small files to the second process. Which chunks are new is decided here; packs that it fills are stored from here.

    A file that it does not find right, or cannot read, is read again by `here`, which says what is wrong. If it dies, what it had read
    and not handed over is lost, and the writer fails.

    :param here: reads files and returns their entries
    :param count: told what files cost
    """

    def __init__(
        self,
        process: SecondProcess,
        sink: PackSink,
        here: Callable[[list[SourceFile], Advance], list[Row]],
        count: Callable[[WriterStats], None],
    ) -> None:
        self._process, self._sink, self._here, self._count = process, sink, here, count
        self._lots: dict[int, _Lot] = {}
        self._number = 0
        self._lock = Lock()
        self._listener: Thread | None = None
        self._lost: Exception | None = None
        self._over = False

    def takes(self, files: list[SourceFile], advance: Advance) -> Future[list[Row]] | None:
        """Give it files, unless it has enough to do; in time their entries, or what is wrong with one."""
        if not all(isinstance(file.open, LocalFile) for file in files) or not self._ready():
            return None
        lot = _Lot(files, advance)
        with self._lock:
            if self._lost or len(self._lots) >= _AHEAD:
                return None
            self._number += 1
            number = self._number
            self._lots[number] = lot
        told = [(os.fsencode(file.open.path), file.size or 0, file.md5) for file in files]  # type: ignore[union-attr]
        try:
            self._process.tell(Take(number, told))
        except SecondEnded as error:
            self._lose(error)
        return lot.rows

    def close(self) -> None:
        """Wait until all that was given is in packs that are on their way to the store; failures are the sink's."""
        if self._listener is None:
            return
        try:
            self._process.tell(End())
        except SecondEnded as error:
            self._lose(error)
        self._listener.join()
        self._over = True

    def _ready(self) -> bool:
        if self._lost:
            return False
        if self._listener is None:
            try:
                if not self._process.ready():
                    return False
            except SecondEnded as error:  # nothing was given to it yet
                self._lost = error
                return False
            self._listener = Thread(target=self._listen, name="muster-second", daemon=True)
            self._listener.start()
        return True

    # --- in a thread of its own ---------------------------------------------------------------------------------------

    def _listen(self) -> None:
        try:
            while not isinstance(answer := self._process.answer(), Ended):
                if isinstance(answer, Taken):
                    self._claim(answer)
                elif isinstance(answer, Kept):
                    self._settle(answer)
                elif isinstance(answer, Packed):
                    self._store(answer)
        except Exception as error:  # noqa: BLE001 - whatever it is, the writer fails by it
            self._lose(error)

    def _claim(self, taken: Taken) -> None:
        with self._lock:
            lot = self._lots[taken.lot]
        rows: list[Row] = []
        again: list[SourceFile] = []
        new: list[int] = []
        chunks = size = 0
        for number, (file, read) in enumerate(zip(lot.files, taken.contents, strict=True)):
            if read is None:
                again.append(file)
                continue
            sha256, chunk = read
            if chunk:
                chunks += 1
                if self._sink.claim(chunk):
                    new.append(number)
            size += file.size or 0
            rows.append(row_of(file, Content((chunk.hex(),) if chunk else (), sha256, file.size or 0)))
        self._process.tell(Keep(taken.lot, new))
        lot.stats = WriterStats(size, len(new), 0, chunks - len(new))
        lot.advance(size)
        try:
            if again:
                rows += self._here(again, lot.advance)
        except MusterError as error:
            lot.rows.set_exception(error)
        else:
            lot.rows.set_result(rows)

    def _settle(self, kept: Kept) -> None:
        with self._lock:
            lot = self._lots.pop(kept.lot)
        self._count(lot.stats + WriterStats(new_stored_bytes=kept.stored))

    def _store(self, packed: Packed) -> None:
        pack = Pack(packed.name, packed.salt, packed.size, packed.directory)
        data = self._process.rooms[packed.room][: packed.size]
        self._sink.send(pack, data, lambda: self._free(packed.room))

    def _free(self, room: int) -> None:
        if self._over:  # its last packs are stored after it has ended
            return
        try:
            self._process.tell(Free(room))
        except SecondEnded as error:
            if not self._over:
                self._lose(error)

    def _lose(self, error: Exception) -> None:
        """It has ended before it should, or cannot be heard any more: chunks that were claimed for it are nowhere."""
        if isinstance(error, SecondEnded):  # which is for those who go on without it
            error = StoreUnavailable(error.message, error.hint)
        with self._lock:
            self._lost = error
            lots, self._lots = list(self._lots.values()), {}
        self._process.kill()
        self._sink.fail(error)
        for lot in lots:
            if not lot.rows.done():
                lot.rows.set_exception(error)
