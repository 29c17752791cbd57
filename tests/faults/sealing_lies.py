"""Packs and indexes that somebody seals who has the master key: any rows, any payloads, any directory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from muster.vault.index_objects import HEADER as INDEX_HEADER
from muster.vault.index_objects import MAGIC
from muster.vault.keys import MasterKey
from muster.vault.layout import INDEXES, digest
from muster.vault.packs import ENTRY, FOOTER, FOOTER_MAGIC, HEADER, HEADER_MAGIC, TAG_BYTES, PackEntry

_DIRECTORY = (1 << 96) - 1


class Lie(NamedTuple):
    """What is sealed as a chunk, and what the directory says of it; None is the truth."""

    payload: bytes
    size: int
    flags: int
    chunk: bytes
    offset: int | None = None
    length: int | None = None


def sealed_pack(
    master: MasterKey, lies: Sequence[Lie], directory: bytes | None = None, count: int | None = None
) -> bytes:
    """
    A pack whose every seal is good.

    :param directory: another than the rows of the chunks
    :param count: another number of chunks than there are
    """
    salt = os.urandom(32)
    cipher = master.pack_cipher(salt)
    header, body, rows = HEADER.pack(HEADER_MAGIC, salt), b"", b""
    for ordinal, lie in enumerate(lies):
        offset = len(header) + len(body) if lie.offset is None else lie.offset
        length = len(lie.payload) + TAG_BYTES if lie.length is None else lie.length
        row = ENTRY.pack(*PackEntry(lie.chunk, offset, length, lie.size, lie.flags))
        body += cipher.encrypt(ordinal.to_bytes(12, "big"), lie.payload, row)
        rows += row
    rows = rows if directory is None else directory
    footer = FOOTER.pack(len(rows) + TAG_BYTES, len(rows) // ENTRY.size if count is None else count, FOOTER_MAGIC)
    return header + body + cipher.encrypt(_DIRECTORY.to_bytes(12, "big"), rows, header + footer) + footer


def sealed_index(master: MasterKey, rows: bytes) -> tuple[str, bytes]:
    """Key and bytes of an index over any rows."""
    header = INDEX_HEADER.pack(MAGIC, os.urandom(32))
    data = header + master.index_cipher(header[8:]).encrypt(bytes(12), rows, header)
    return f"{INDEXES}{digest(data)}", data
