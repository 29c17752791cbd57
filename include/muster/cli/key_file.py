"""A new file for a recovery key: made, with its room on the disk, before the key exists, so that the key cannot be lost to a full disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from muster.errors import AlreadyExists, Refused

ROOM = b"\n" * 1024


@contextmanager
def new_private_file(path: Path) -> Iterator[Callable[[str], None]]:
    """
    Make a file of mode 600 and give the function that fills it. If the context ends with an error, the file is removed again.

    :raises AlreadyExists: if there is something of this name
    :raises Refused: if no file can be made there
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise AlreadyExists(f"{path} exists, and no key is ever written over something", "name a new file") from None
    except OSError as error:
        raise Refused(
            f"{path} cannot be made: {error.strerror}", "name a file in a folder that is there and yours"
        ) from error

    def write(text: str) -> None:
        data = text.encode()
        os.pwrite(descriptor, data, 0)
        os.ftruncate(descriptor, len(data))
        os.fsync(descriptor)

    try:
        os.pwrite(descriptor, ROOM, 0)
        os.fsync(descriptor)
        yield write
    except BaseException as error:
        path.unlink()
        if isinstance(error, OSError):
            raise Refused(
                f"{path} cannot be written: {error.strerror}", "free some space, or name another file"
            ) from error
        raise
    finally:
        os.close(descriptor)
