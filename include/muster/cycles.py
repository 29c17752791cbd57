"""Python's search for garbage in cycles, which large numbers of records set off again and again, though they are in none."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_collecting() -> Iterator[None]:
    """
    Python looks for garbage in cycles when told only (`gc.collect`).

    Looking every few hundred records took a seventh of the time of reading tables, and a sixth of that of restoring small files. Where
    several threads do this at a time, it begins again with the first that ends.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
