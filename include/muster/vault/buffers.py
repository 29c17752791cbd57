"""Large pieces of memory that are used again and again: the first touch of a page costs more than all that is done with its bytes."""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
from functools import cache

Filled = bytes | bytearray | memoryview
"""Bytes, wherever they lie."""


def fresh_buffer(size: int) -> memoryview:
    """So many zero bytes that begin at a page of memory, as direct writes need it; what is not touched takes no memory."""
    return memoryview(mmap.mmap(-1, size))


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h of glibc
_KEPT = 128 * 1024 * 1024
_FROM_KERNEL = 32 * 1024 * 1024


@cache
def keep_freed_memory() -> None:
    """
    Let the C library use freed memory again, for this process and as long as it runs.

    Left alone, glibc gives the megabytes of a chunk back to the kernel whenever they lie at the end of what it has, and gets them
    anew, page by page, for the next: a fifth of what a restore took (docs/adr/0010). And each thread has a pool of its own, so that
    what one frees the others do not get. Here up to `_KEPT` bytes are kept, and threads that begin later share one pool; only what is
    larger than `_FROM_KERNEL` still comes from the kernel. Where there is no glibc, or somebody has set it himself, nothing happens.
    """
    if any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    for setting, value in ((_M_ARENA_MAX, 1), (_M_MMAP_THRESHOLD, _FROM_KERNEL), (_M_TRIM_THRESHOLD, _KEPT)):
        mallopt(setting, value)


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
