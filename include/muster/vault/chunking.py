"""
Content-defined chunks: an insertion moves the cut points beside it and no others, so what follows is found again.

FastCDC (Xia et al., USENIX ATC 2016) as the ``fastcdc`` package does it, at 256 KiB, 1 MiB and 4 MiB.
"""

from __future__ import annotations

from collections.abc import Iterator

from fastcdc.fastcdc_cy import fastcdc_cy

MINIMUM = 256 * 1024
AVERAGE = 1024 * 1024
MAXIMUM = 4 * 1024 * 1024


class Chunker:
    """
    Cuts a stream that is fed in blocks of any size, where the whole stream would be cut.

    A cut depends only on the `MAXIMUM` bytes that follow the one before: as long as so many are there, or the end is,
    it is final.
    """

    def __init__(self) -> None:
        self._tail = b""

    def feed(self, block: bytes) -> Iterator[memoryview]:
        """The chunks that are whole now. Consume all before feeding again."""
        data = self._tail + block if self._tail else block
        cut = 0
        view = memoryview(data)
        if len(data) >= MAXIMUM:
            for end, chunk in _cuts(view, len(data) - MAXIMUM):
                cut = end
                yield chunk
        self._tail = data[cut:]

    def finish(self) -> Iterator[memoryview]:
        """The chunks that are left when the stream has ended."""
        data, self._tail = self._tail, b""
        if 0 < len(data) <= MINIMUM:
            yield memoryview(data)
        elif data:
            for _, chunk in _cuts(memoryview(data), len(data) - 1):
                yield chunk


def _cuts(view: memoryview, last_start: int) -> Iterator[tuple[int, memoryview]]:
    """Chunks that begin at or before `last_start`, each with the offset of its end."""
    found = fastcdc_cy(view, MINIMUM, AVERAGE, MAXIMUM, False, None)
    end = 0
    while end <= last_start:
        chunk = next(found)
        end = chunk.offset + chunk.length
        yield end, view[chunk.offset : end]
