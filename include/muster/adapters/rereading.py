"""Content that need not be read again is read again all the same, a share each day: equal size and time prove nothing."""

from __future__ import annotations

import functools
import hashlib
import io
from collections.abc import Callable
from datetime import datetime
from typing import BinaryIO

from muster.domain.content import ContentRef
from muster.errors import SourceInvalid

DAYS = 30
"""Within so many days every file is read once, if snapshots are taken daily."""


def due(path: str, at: datetime) -> bool:
    """Whether a file is of the share that is read anew on the day of a moment: always the same day for the same path."""
    day = int(at.timestamp() // 86_400)
    return int(hashlib.sha256(path.encode()).hexdigest()[:8], 16) % DAYS == day % DAYS


def compared(open_it: Callable[[], BinaryIO], known: ContentRef, path: str) -> Callable[[], BinaryIO]:
    """
    An opener of a stream that, when read to its end, is held to what the point before has of the same file.

    :raises SourceInvalid: (the stream) if the content is another one
    """
    return functools.partial(_open, open_it, known, path)


def _open(open_it: Callable[[], BinaryIO], known: ContentRef, path: str) -> BinaryIO:
    return io.BufferedReader(_Compared(open_it(), known, path), 1 << 20)


class _Compared(io.RawIOBase):
    def __init__(self, stream: BinaryIO, known: ContentRef, path: str) -> None:
        super().__init__()
        self._stream, self._known, self._path = stream, known, path
        self._digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        block = self._stream.read(len(buffer))
        if not block and self._digest.hexdigest() != self._known.sha256:
            raise SourceInvalid(
                f"the content of {self._path} is not what the point before has, though its size and time are the same",
                "if the file is damaged, bring it back from that point; if it was rewritten, touch it, so that it is taken anew",
            )
        self._digest.update(block)
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        self._stream.close()
        super().close()
