"""What a store takes as a key: the same for all, so that a vault can be copied from any of them to any other."""

from __future__ import annotations

import re

from muster.errors import UsageError

# A file name has 255 bytes at most, S3's prefix and key together 1,024.
_SEGMENT = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}"
_KEY = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*")
_LONGEST = 800


def is_key(text: str) -> bool:
    """Whether this may name an object: `muster.ports.BlobStore`, and no segment begins with a dot."""
    return len(text) <= _LONGEST and _KEY.fullmatch(text) is not None


def checked_key(key: str) -> str:
    """
    Return the key unchanged if every store can hold it.

    :raises UsageError: if it is empty, too long, or has other characters than the port allows
    """
    if not is_key(key):
        raise UsageError(
            f"{key!r} cannot name an object of a store",
            "use segments of A-Z a-z 0-9 . _ - joined by '/', none of which begins with a dot",
        )
    return key
