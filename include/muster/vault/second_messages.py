"""
What a process that restores or stores many small files and its second process say to each other.

Each message is its length in four bytes and MessagePack, in a pipe. Bytes of chunks and packs are not in them: they lie in *rooms*,
pieces of memory that both processes see, each in the hands of one of them at a time.
"""

from __future__ import annotations

import struct
from typing import IO

import msgspec

from muster.vault.packs import PackEntry

_LENGTH = struct.Struct(">I")


class _Message(msgspec.Struct, array_like=True, tag=True, gc=False):
    """One side's word to the other."""


class Start(_Message):
    """
    The first one. It goes through a pipe: keys stand in no argument and in no environment.

    :param keys: of all generations of the vault, the first first
    :param memory: the handle of the file that holds the rooms
    :param room: bytes in each
    :param caller: process id of who says it
    """

    keys: tuple[bytes, ...]
    memory: int
    room: int
    rooms: int
    caller: int


class Ready(_Message):
    """Work may come."""


class Look(_Message):
    """
    A message lies in a room: it is too long for a pipe, in which the one who sends it would have to wait for the other.

    :param at: where it begins
    """

    room: int
    at: int
    size: int


class PlacedFile(msgspec.Struct, array_like=True, gc=False):
    """A file to be written; its content is what these chunks of the message hold, one after the other."""

    path: bytes
    mode: int | None
    mtime_ns: int | None
    size: int
    sha256: str
    chunks: tuple[int, ...]


class Place(_Message):
    """
    Write files.

    :param room: where the sealed chunks lie, one after the other
    :param packs: names and salts
    :param chunks: of each its pack, its ordinal there, and its row in the directory
    """

    room: int
    packs: list[tuple[str, bytes]]
    chunks: list[tuple[int, int, PackEntry]]
    files: list[PlacedFile]


class Placed(_Message):
    """
    What became of them.

    :param size: bytes of those that were written
    :param undone: those whose content is not right
    :param failure: number, text and path of the system's error that ended it
    """

    room: int
    size: int
    undone: list[int]
    failure: tuple[int, str, bytes] | None


class Take(_Message):
    """Read files of these paths, sizes and, where known, MD5s; keep their bytes in mind."""

    lot: int
    files: list[tuple[bytes, int, str | None]]


class Taken(_Message):
    """SHA-256 and chunk id (none of an empty file) of each; None for one that is not what it was said to be, or cannot be read."""

    lot: int
    contents: list[tuple[str, bytes] | None]


class Keep(_Message):
    """Put those of a lot into a pack which are new, by their numbers, and forget the others."""

    lot: int
    new: list[int]


class Kept(_Message):
    """What they take there, in bytes."""

    lot: int
    stored: int


class Packed(_Message):
    """A pack is whole and lies in a room; as `muster.vault.packs.Pack`."""

    room: int
    name: str
    salt: bytes
    size: int
    directory: bytes


class Free(_Message):
    """That room may be filled again."""

    room: int


class End(_Message):
    """Nothing more comes: make the last pack whole."""


class Ended(_Message):
    """It is, if there was one."""


Message = Start | Ready | Look | Place | Placed | Take | Taken | Keep | Kept | Packed | Free | End | Ended
_decoder = msgspec.msgpack.Decoder(Message)
_encoder = msgspec.msgpack.Encoder()


def put(room: memoryview, number: int, at: int, message: Message) -> Look | None:
    """Put a message into a room, from a place on; None if it does not fit."""
    body = _encoder.encode(message)
    if at + len(body) > len(room):
        return None
    room[at : at + len(body)] = body
    return Look(number, at, len(body))


def seen(room: memoryview, look: Look) -> Message:
    """The message that lies in a room."""
    message: Message = _decoder.decode(room[look.at : look.at + look.size])
    return message


def send(stream: IO[bytes], message: Message) -> None:
    """Say something, at once."""
    body = _encoder.encode(message)
    left = memoryview(_LENGTH.pack(len(body)) + body)
    while left:
        left = left[stream.write(left) :]
    stream.flush()


def receive(stream: IO[bytes]) -> Message | None:
    """What is said next; None if the other side has ended."""
    head = _exactly(stream, _LENGTH.size)
    body = head and _exactly(stream, *_LENGTH.unpack(head))
    return _decoder.decode(body) if body else None


def _exactly(stream: IO[bytes], count: int) -> bytes | None:
    """So many bytes; None if it ends before. A stream without a buffer gives fewer at a time."""
    found = bytearray()
    while len(found) < count:
        part = stream.read(count - len(found))
        if not part:
            return None
        found += part
    return bytes(found)
