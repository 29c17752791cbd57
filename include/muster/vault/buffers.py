"""Large pieces of memory that are used again and again: the first touch of a page costs more than all that is done with its bytes."""

from __future__ import annotations

import mmap
import threading

Filled = bytes | bytearray | memoryview
"""Bytes, wherever they lie."""


def fresh_buffer(size: int) -> memoryview:
    """So many zero bytes that begin at a page of memory, as direct writes need it; what is not touched takes no memory."""
    return memoryview(mmap.mmap(-1, size))


class Buffers:
    """
    At most so many buffers of one size, each in the hands of one owner at a time. May be used from several threads.

    :param size: of each, in bytes
    :param most: how many there are; whoever wants one more waits
    """

    def __init__(self, size: int, most: int) -> None:
        self._size = size
        self._free: list[memoryview] = []
        self._room = threading.BoundedSemaphore(most)

    def take(self) -> memoryview:
        """One that nobody uses, with whatever is in it; waits until there is one."""
        self._room.acquire()
        try:
            return self._free.pop()
        except IndexError:
            return fresh_buffer(self._size)

    def give(self, buffer: memoryview) -> None:
        """Have one back, of which no part is used any more."""
        self._free.append(buffer)
        self._room.release()
