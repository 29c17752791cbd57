"""
What bytes look like: text, a format that is dense by its nature, noise, or something else.

Encrypted bytes cannot be told from compressed ones by their entropy (De Gaspari et al., "EnCoD", 2020, tried all the usual tests).
So a compressed format is known by how it begins, and noise is what is as dense and begins like none of them. That can be forged; see
docs/adr/0017.
"""

from __future__ import annotations

import functools
from collections import Counter
from math import log, log2

NOISE, CODED, TEXT, BLANK, OTHER = "noise", "coded text", "text", "blank", "other"
WINDOW = 16 * 1024
"""How much of the beginning and of the end of a content is looked at, in bytes."""
_ENOUGH = 64
_NEAR = 0.98
_BASE64 = 64
_BEGINNINGS = (
    (b"PAR1", "parquet"),
    (b"ARROW1", "arrow"),
    (b"ORC", "orc"),
    (b"Obj\x01", "avro"),
    (b"\x89HDF\r\n\x1a\n", "hdf5"),
    (b"\x93NUMPY", "numpy"),
    (b"SQLite format 3\0", "sqlite"),
    (b"PK\x03\x04", "zip"),
    (b"\x1f\x8b\x08", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\xff\x06\x00\x00sNaPpY", "snappy"),
    (b"\xfd7zXZ\0", "xz"),
    (b"BZh", "bzip2"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!\x1a\x07", "rar"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"GIF8", "gif"),
    (b"RIFF", "riff"),
    (b"OggS", "ogg"),
    (b"fLaC", "flac"),
    (b"ID3", "mp3"),
    (b"\x1aE\xdf\xa3", "matroska"),
    (b"%PDF-", "pdf"),
)
"""
How formats begin whose bytes may be dense. Formats of tools that encrypt are left out on purpose: what they make is noise, and a
dataset that is kept encrypted is noise before and after.
"""


def format_of(head: bytes, tail: bytes) -> str:
    """
    Name what a content looks like.

    :param head: how it begins
    :param tail: its last bytes, or as far from the beginning as one looks: programs that encrypt may leave the beginning
    """
    if not any(head) and not any(tail):
        return BLANK
    known = next((name for beginning, name in _BEGINNINGS if head.startswith(beginning)), None)
    if known is None and head[4:8] == b"ftyp":
        known = "mp4"
    if known:
        return known
    if _is_text(head) and _is_text(tail):
        return CODED if len(tail) >= _ENOUGH and entropy(tail) >= _NEAR * noise_entropy(len(tail), _BASE64) else TEXT
    return NOISE if len(tail) >= _ENOUGH and entropy(tail) >= _NEAR * noise_entropy(len(tail), 256) else OTHER


def entropy(data: bytes) -> float:
    """Shannon entropy of the bytes as they are counted, in bits per byte."""
    size = len(data)
    return log2(size) - sum(count * log2(count) for count in Counter(data).values()) / size if size else 0.0


@functools.cache
def noise_entropy(size: int, symbols: int) -> float:
    """
    The entropy that `entropy` finds, on average, in `size` bytes of which each is one of `symbols` with equal chance.

    It is below log2(symbols), the more so the fewer bytes there are: each symbol is met k times with the binomial chance of k, and
    the expectation of ``k log2 k`` is summed over all k that matter.
    """
    chance = 1 / symbols
    logarithm = size * log(1 - chance)
    total = 0.0
    for count in range(1, size + 1):
        logarithm += log((size - count + 1) / count) + log(chance) - log(1 - chance)
        if count > size * chance and logarithm < -40:
            break
        total += count * log2(count) * 2.718281828459045**logarithm
    return log2(size) - symbols * total / size


def _is_text(data: bytes) -> bool:
    """Whether it is UTF-8 without control characters, but for a character that is cut at either end."""
    if data.translate(None, _PRINTABLE):
        return False
    for cut in range(4):
        try:
            data[cut:].decode()
        except UnicodeDecodeError as error:
            if error.start >= len(data) - cut - 3:
                return True
        else:
            return True
    return False


_PRINTABLE = bytes([*b"\t\n\v\f\r\x1b", *range(0x20, 0x7F), *range(0x80, 0x100)])
