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
from muster.vault.buffers import Filled, fresh_buffer
from muster.vault.chunking import MAXIMUM
from muster.vault.keys import MasterKey
from muster.vault.layout import digest

PACK_TARGET = 32 * 1024 * 1024
HEADER = struct.Struct(">8s32s")  # magic, salt
ENTRY = struct.Struct(">32sIIIB")  # chunk id, offset, sealed length, plain length, flags
SIZE_AT = 40
"""Where in an entry the plain length stands."""
_ID = struct.Struct(f">32s{ENTRY.size - 32}x")
FOOTER = struct.Struct(">II8s")  # length of the sealed directory, number of chunks, magic
HEADER_MAGIC = b"MUSTERP\x01"
FOOTER_MAGIC = b"MUSTERD\x01"
TAG_BYTES = 16
FLAG_ZSTD = 1
PACK_ROOM = PACK_TARGET + MAXIMUM + ENTRY.size + FOOTER.size + 2 * TAG_BYTES
"""What the largest pack takes: one to which the last chunk is added when it is not full by a byte."""
_DIRECTORY = (1 << 96) - 1  # its place, by which its nonce is made, is after those of all chunks
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

    def chunks(self) -> Iterator[bytes]:
        """The ids of the chunks, in the order of the rows."""
        return (chunk for (chunk,) in _ID.iter_unpack(self.directory))


class PackBuilder:
    """
    A pack that is being filled. Not for several threads at once.

    :param room: where it is put together, `PACK_ROOM` bytes of which nobody else uses any until the pack is stored; None for
        memory of its own
    """

    def __init__(self, master: MasterKey, room: memoryview | None = None) -> None:
        self.room = fresh_buffer(PACK_ROOM) if room is None else room
        self._salt = master.new_salt()
        self._cipher = master.pack_cipher(self._salt)
        self._header = HEADER.pack(HEADER_MAGIC, self._salt)
        self._directory = bytearray()
        self._count = 0
        self._end = len(self._header)
        self.room[: self._end] = self._header

    @property
    def full(self) -> bool:
        """Whether the pack has come to its size: it then has room for no further chunk."""
        return self._end + len(self._directory) >= PACK_TARGET

    def add(self, chunk: bytes, payload: Filled, size: int, flags: int) -> int:
        """Seal a chunk whose plain length is `size`; return the sealed length."""
        length = len(payload) + TAG_BYTES
        row = ENTRY.pack(chunk, self._end, length, size, flags)
        self._seal(self._count, payload, row)
        self._directory += row
        self._count += 1
        return length

    def finish(self) -> tuple[Pack, memoryview]:
        """The whole pack, as it lies in `room`, and what an index says of it."""
        directory = bytes(self._directory)
        footer = FOOTER.pack(len(directory) + TAG_BYTES, self._count, FOOTER_MAGIC)
        self._seal(_DIRECTORY, directory, self._header + footer)
        data = self.room[: self._end + len(footer)]
        data[self._end :] = footer
        return Pack(digest(data), self._salt, len(data), directory), data

    def _seal(self, ordinal: int, payload: Filled, associated: bytes) -> None:
        end = self._end + len(payload) + TAG_BYTES
        self._cipher.encrypt_into(_nonce(ordinal), payload, associated, self.room[self._end : end])
        self._end = end


def read_pack(master: MasterKey, name: str, size: int, read: ReadRange) -> Pack:
    """
    A pack's directory from the pack itself.

    :param read: gives bytes of the pack by offset and length
    :raises IntegrityError: if it is damaged or of another vault
    """
    if size < HEADER.size + TAG_BYTES + FOOTER.size:
        raise _damaged(name, f"it has only {size} bytes")
    header, footer = read(0, HEADER.size), read(size - FOOTER.size, FOOTER.size)
    if (len(header), len(footer)) != (HEADER.size, FOOTER.size):
        raise _damaged(name, "the store gave fewer bytes of it than it was asked for")
    magic, salt = HEADER.unpack(header)
    length, count, end = FOOTER.unpack(footer)
    start = size - FOOTER.size - length
    if (magic, end) != (HEADER_MAGIC, FOOTER_MAGIC) or length != count * ENTRY.size + TAG_BYTES or start < HEADER.size:
        raise _damaged(name, "it does not begin or end as a pack does")
    master.admit(name, salt)
    try:
        directory = master.pack_cipher(salt).decrypt(_nonce(_DIRECTORY), read(start, length), header + footer)
    except InvalidTag as error:
        raise _damaged(name, "its directory does not match its seal") from error
    return Pack(name, salt, size, directory)


def open_chunk(master: MasterKey, cipher: AESGCM, name: str, ordinal: int, entry: PackEntry, sealed: Sealed) -> bytes:
    """
    The plain bytes of a chunk, checked by its seal and by its id.

    :raises IntegrityError: if they are not what was stored
    """
    if entry.size > MAXIMUM:  # before anything of that size is made room for
        raise _damaged(name, f"chunk {entry.chunk.hex()} is said to have {entry.size} bytes, more than any can have")
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
    return decompressor.decompress(payload, allow_extra_data=False)


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
