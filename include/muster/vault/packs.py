"""Packs: many sealed chunks in one object, with a sealed directory, named by the SHA-256 of all its bytes."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from muster.errors import IntegrityError
from muster.vault.keys import MasterKey
from muster.vault.layout import digest

PACK_TARGET = 32 * 1024 * 1024
HEADER = struct.Struct(">8s32s")  # magic, salt
ENTRY = struct.Struct(">32sIIIB")  # chunk id, offset, sealed length, plain length, flags
FOOTER = struct.Struct(">II8s")  # length of the sealed directory, number of chunks, magic
HEADER_MAGIC = b"MUSTERP\x01"
FOOTER_MAGIC = b"MUSTERD\x01"
TAG_BYTES = 16
FLAG_ZSTD = 1
_DIRECTORY_NONCE = b"\xff" * 12
_SAMPLE = 16 * 1024
_LEVEL = 1

Sealed = bytes | memoryview
ReadRange = Callable[[int, int], bytes]


class PackEntry(NamedTuple):
    """One row of a pack's directory."""

    chunk: bytes
    offset: int
    length: int
    size: int
    flags: int


class Pack(NamedTuple):
    """What an index remembers of a pack: its name, its salt, its size in bytes, and its directory as it lies in the pack."""

    name: str
    salt: bytes
    size: int
    directory: bytes

    def entries(self) -> Iterator[PackEntry]:
        """The rows of the directory; a chunk's ordinal is its place in it."""
        return map(PackEntry._make, ENTRY.iter_unpack(self.directory))


class PackBuilder:
    """A pack that is being filled. Not for several threads at once."""

    def __init__(self, master: MasterKey) -> None:
        self._salt = master.new_salt()
        self._cipher = master.pack_cipher(self._salt)
        self._header = HEADER.pack(HEADER_MAGIC, self._salt)
        self._parts = [self._header]
        self._rows: list[bytes] = []
        self.size = len(self._header)

    def add(self, chunk: bytes, payload: bytes | memoryview, size: int, flags: int) -> int:
        """Seal a chunk whose plain length is `size`; return the sealed length."""
        length = len(payload) + TAG_BYTES
        row = ENTRY.pack(chunk, self.size, length, size, flags)
        self._parts.append(self._cipher.encrypt(_nonce(len(self._rows)), payload, row))
        self._rows.append(row)
        self.size += length
        return length

    def finish(self) -> tuple[Pack, bytes]:
        """The whole pack and what an index says of it; the builder gives up its memory."""
        directory = b"".join(self._rows)
        footer = FOOTER.pack(len(directory) + TAG_BYTES, len(self._rows), FOOTER_MAGIC)
        sealed = self._cipher.encrypt(_DIRECTORY_NONCE, directory, self._header + footer)
        data = b"".join([*self._parts, sealed, footer])
        self._parts.clear()
        return Pack(digest(data), self._salt, len(data), directory), data


def read_pack(master: MasterKey, name: str, size: int, read: ReadRange) -> Pack:
    """
    A pack's directory from the pack itself.

    :param read: gives bytes of the pack by offset and length
    :raises IntegrityError: if it is damaged or of another vault
    """
    if size < HEADER.size + TAG_BYTES + FOOTER.size:
        raise _damaged(name, f"it has only {size} bytes")
    header, footer = read(0, HEADER.size), read(size - FOOTER.size, FOOTER.size)
    magic, salt = HEADER.unpack(header)
    length, count, end = FOOTER.unpack(footer)
    start = size - FOOTER.size - length
    if (magic, end) != (HEADER_MAGIC, FOOTER_MAGIC) or length != count * ENTRY.size + TAG_BYTES or start < HEADER.size:
        raise _damaged(name, "it does not begin or end as a pack does")
    master.admit(name, salt)
    try:
        directory = master.pack_cipher(salt).decrypt(_DIRECTORY_NONCE, read(start, length), header + footer)
    except InvalidTag as error:
        raise _damaged(name, "its directory does not match its seal") from error
    return Pack(name, salt, size, directory)


def open_chunk(master: MasterKey, cipher: AESGCM, name: str, ordinal: int, entry: PackEntry, sealed: Sealed) -> bytes:
    """
    The plain bytes of a chunk, checked by its seal and by its id.

    :raises IntegrityError: if they are not what was stored
    """
    try:
        payload = cipher.decrypt(_nonce(ordinal), sealed, ENTRY.pack(*entry))
        plain = _decompress(payload, entry.size) if entry.flags & FLAG_ZSTD else payload
    except InvalidTag as error:
        raise _damaged(name, f"chunk {entry.chunk.hex()} does not match its seal") from error
    except (zstandard.ZstdError, ValueError) as error:
        raise _damaged(name, f"chunk {entry.chunk.hex()} cannot be decompressed") from error
    if len(plain) != entry.size or master.chunk_id(plain) != entry.chunk:
        raise _damaged(name, f"chunk {entry.chunk.hex()} does not match its id")
    return plain


def compress(plain: memoryview) -> tuple[bytes | memoryview, int]:
    """What to seal of a chunk, and its flags: zstd, unless samples of it or the whole do not shrink by 3 % or more."""
    if len(plain) > 8 * _SAMPLE and not any(_shrinks(part) for part in _samples(plain)):
        return plain, 0
    packed = _zstd().compress(plain)
    return (packed, FLAG_ZSTD) if len(packed) <= len(plain) * 0.97 else (plain, 0)


_contexts = threading.local()


def _zstd() -> zstandard.ZstdCompressor:
    if not hasattr(_contexts, "compressor"):
        _contexts.compressor = zstandard.ZstdCompressor(level=_LEVEL)
    compressor: zstandard.ZstdCompressor = _contexts.compressor
    return compressor


def _decompress(payload: bytes, size: int) -> bytes:
    if zstandard.frame_content_size(payload) != size:
        raise ValueError("another length than the directory says")
    if not hasattr(_contexts, "decompressor"):
        _contexts.decompressor = zstandard.ZstdDecompressor()
    decompressor: zstandard.ZstdDecompressor = _contexts.decompressor
    return decompressor.decompress(payload)


def _samples(plain: memoryview) -> Iterator[memoryview]:
    last = len(plain) - _SAMPLE
    return (plain[start : start + _SAMPLE] for start in (0, last // 2, last))


def _shrinks(part: memoryview) -> bool:
    return len(_zstd().compress(part)) <= len(part) * 0.97


def _nonce(ordinal: int) -> bytes:
    return ordinal.to_bytes(12, "big")


def _damaged(name: str, why: str) -> IntegrityError:
    return IntegrityError(
        f"pack {name} is damaged: {why}", "restore the pack from a replica; verify names what needs it"
    )
