"""What a store takes as a key or a range: the same for all, so that a vault can be copied from any of them to any other."""

from __future__ import annotations

import re

from muster.errors import IntegrityError, UsageError

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


def checked_prefix(prefix: str) -> str:
    """
    Return the prefix of a store unchanged if keys can follow it.

    :raises UsageError: if it is neither empty nor a key
    """
    if prefix and not is_key(prefix):
        raise UsageError(f"{prefix!r} cannot be the prefix of a store", "use segments of A-Z a-z 0-9 . _ -")
    return prefix


def path_below(prefix: str, key: str) -> str:
    """The name in a bucket of an object of a store that lies below a prefix, or the beginning of several."""
    return f"{prefix}/{key}" if prefix else key


def key_below(prefix: str, path: str) -> str:
    """What `path_below` was made of."""
    return path[len(prefix) + 1 :] if prefix else path


def check_range(url: str, key: str, size: int, start: int, length: int) -> None:
    """
    Make sure that a range lies within an object.

    :raises IntegrityError: if it does not
    """
    if start < 0 or length < 0 or start + length > size:
        raise IntegrityError(
            f"{key} in {url} has {size} bytes, and {length} bytes from {start} were asked for",
            "the object was cut short: verify the vault and fetch it from a replica",
        )
