"""What a writer and a seal must mind, since expiry may run beside them: condemned packs, and the time since they were looked up."""

from __future__ import annotations

import time
from collections.abc import Iterable

from muster.batches import batched
from muster.errors import StoreUnavailable
from muster.ports import BlobStore, Clock
from muster.vault.condemned import SEAL_WITHIN, Condemnations
from muster.vault.index import Index
from muster.vault.keys import MasterKey
from muster.vault.reader import ChunkReader
from muster.vault.sink import PackSink

_AT_ONCE = 8


class Gate:
    """
    One look at the condemnations of a vault, after which nothing builds on what they name.

    A seal must write its manifest within `SEAL_WITHIN` of this look. Two clocks are asked, and the one that says most counts: the
    vault's own, which may be set, and that of the kernel which also runs while the machine sleeps.

    :param index: told of all condemned packs
    """

    def __init__(self, condemnations: Condemnations, index: Index, clock: Clock) -> None:
        self._clock = clock
        self._began, self._ticks = clock.now(), _ticks()
        index.condemn(condemnations.packs())

    def check_time(self) -> None:
        """
        Refuse to go on when packs may be removed by now that were not condemned at the look.

        :raises StoreUnavailable: then; to seal again looks again
        """
        took = max((self._clock.now() - self._began).total_seconds(), _ticks() - self._ticks)
        if took > SEAL_WITHIN.total_seconds():
            raise StoreUnavailable(
                f"sealing took {took / 3600:.1f} h, longer than the {SEAL_WITHIN.total_seconds() / 3600:.0f} h after which expiry may "
                "have moved on",
                "nothing was sealed: seal it again, or take the snapshot again; what is there is not stored twice",
            )


def store_anew(store: BlobStore, master: MasterKey, index: Index, reader: ChunkReader, chunks: Iterable[bytes]) -> None:
    """
    Store chunks once more, in new packs.

    :raises IntegrityError: if there is no whole copy of one
    """
    sink = PackSink(store, master, index)
    try:
        for batch in batched(chunks, _AT_ONCE):
            for chunk, plain in reader.fetch(batch).items():
                if sink.claim(chunk):
                    sink.add(chunk, memoryview(plain))
    except BaseException as error:
        sink.close_after(error)
        raise
    sink.close()


def _ticks() -> float:
    """Seconds of a clock that nobody sets and that runs on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
