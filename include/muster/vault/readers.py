"""Who reads the files that a writer stores: large ones each in a thread, small ones in batches, where that is fastest."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

from muster.domain.content import ContentRef
from muster.ports import SourceFile
from muster.vault.buffers import Buffers
from muster.vault.chunking import OF_FILES, ROOM, Chunker, Cutter, Sizes
from muster.vault.intake import Advance, FileIntake, WriterStats
from muster.vault.keys import MasterKey
from muster.vault.pace import Pace
from muster.vault.second_process import WORTH_IT, second_process
from muster.vault.second_store import PACK_ROOMS, SecondReader
from muster.vault.sink import PackSink
from muster.vault.small_files import SmallIntake
from muster.vault.trees import Row, row_of

_WORKERS = 4
_MANY = WORTH_IT // 4
"""Small files after which more are expected, so many that a second process helps."""
_HASHERS = 2


class Readers:
    """
    Reads files side by side and stores their chunks.

    Large files are opened, read and closed in threads, up to `_WORKERS` at a time. Batches of small ones are read where they are asked
    for, unless reading them means waiting (see `Pace`), and by a second process if there are many. Memory: `ROOM` for each worker and
    for whoever reads here, and `PACK_ROOMS`.

    :param cut: what files are cut by
    """

    def __init__(self, master: MasterKey, sink: PackSink, cut: Cutter) -> None:
        self._master, self._sink, self._cut = master, sink, cut
        self._workers = ThreadPoolExecutor(_WORKERS, "muster-read")
        self._hashers = ThreadPoolExecutor(_HASHERS, "muster-hash")
        self._rooms = Buffers(ROOM, _WORKERS + 1)
        self._pace = Pace()
        self._lock = threading.Lock()
        self._small = 0
        self._second: SecondReader | None = None
        self._held = ExitStack()
        self.stats = WriterStats()

    def large(self, source: SourceFile, advance: Advance) -> Future[list[Row]]:
        """A file of any size, or of one that is not known."""
        return self._workers.submit(lambda: [row_of(source, self.read(source, advance))])

    def small(self, batch: list[SourceFile], advance: Advance) -> Future[list[Row]]:
        """Files whose sizes are known and small."""
        if self._pace.waits:
            return self._workers.submit(self._read_small, batch, advance)
        if taken := self._taken(batch, advance):
            return taken
        done: Future[list[Row]] = Future()
        done.set_result(self._read_small(batch, advance))
        return done

    def read(self, source: SourceFile, advance: Advance, sizes: Sizes = OF_FILES) -> ContentRef:
        """Store the content of one file, here, in chunks of these sizes."""
        room = self._rooms.take()
        intake = FileIntake(self._master, self._sink, self._hashers, Chunker(room, self._cut, sizes), advance)
        try:
            return intake.take(source)
        finally:
            self._rooms.give(room)
            self.count(intake.stats)

    def count(self, more: WriterStats) -> None:
        """Add to what was stored so far."""
        with self._lock:
            self.stats += more

    def close(self) -> None:
        """Wait for what has begun; begin nothing more."""
        with self._held:
            if self._second:
                self._second.close()
        self._workers.shutdown(wait=True, cancel_futures=True)
        self._hashers.shutdown(wait=True)

    def _taken(self, batch: list[SourceFile], advance: Advance) -> Future[list[Row]] | None:
        """What another process reads, once there were many small files and if it has time; None if the batch is to be read here."""
        before, self._small = self._small, self._small + len(batch)
        if before < _MANY <= self._small and (
            process := self._held.enter_context(second_process(self._master, *PACK_ROOMS))
        ):
            self._second = SecondReader(process, self._sink, self._read_small, self.count)
        return self._second.takes(batch, advance) if self._second else None

    def _read_small(self, batch: list[SourceFile], advance: Advance) -> list[Row]:
        intake = SmallIntake(self._master, self._sink, self._pace, advance)
        try:
            return [row_of(*stored) for stored in zip(batch, intake.take(batch), strict=True)]
        finally:
            self.count(intake.stats)
