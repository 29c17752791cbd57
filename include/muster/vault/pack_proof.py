"""Prove one pack: the seal and the id of every chunk, its directory, and its name, in one pass over its bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

from muster.errors import IntegrityError
from muster.vault.keys import MasterKey
from muster.vault.pace import small_steps
from muster.vault.packs import ENTRY, HEADER, Pack, PackEntry, ReadRange, open_chunk, read_pack

_PIECE = 8 * 1024 * 1024
"""
Read at once: enough that a request pays. Memory of this size is used again, while glibc fetches blocks of more than 32 MiB, as a whole
pack is, from the kernel each time: a third of the time went there.
"""
Rows = list[tuple[int, PackEntry]]


class Damage(NamedTuple):
    """
    What is wrong with a pack.

    :param chunks: ids of those that cannot be read from it
    """

    why: str
    chunks: frozenset[bytes] = frozenset()


class Proven(NamedTuple):
    """
    What came of it.

    :param damage: None if the pack is whole
    :param pack: what it says of itself; None if it is not whole
    """

    damage: Damage | None
    pack: Pack | None = None


def prove_pack(master: MasterKey, name: str, size: int, read: ReadRange, known: Pack | None) -> Proven:
    """
    Read a pack from its beginning to its end, each byte once.

    A pack that is what an index says of it is not compared with its name besides: salt and directory, which the index fixes, fix every
    other byte (docs/adr/0011), and to hash it once more would take as long as all the rest.

    :param size: of the object
    :param known: what an index says of it, which tells where its chunks lie even if its own directory is damaged. If that turns out
        to be wrong while the pack is whole, the pack is read again by what it says itself
    """
    try:
        pack = known if known and known.size == size and _joined(known) else read_pack(master, name, size, read)
        if not _joined(pack):
            return Proven(Damage("its chunks do not lie one after the other", chunks_of(pack)))
        proof = _Proof(master, pack, read, named=pack is not known)
        proof.run()
    except IntegrityError as error:
        return Proven(Damage(error.message, chunks_of(known)))
    unreadable = frozenset(proof.bad)
    if proof.sha256 not in (None, name):
        return Proven(Damage("its bytes do not match its name", unreadable))
    try:
        own = read_pack(master, name, size, proof.kept)
    except IntegrityError as error:
        return Proven(Damage(error.message, unreadable))
    if own != pack:
        again = prove_pack(master, name, size, read, None)
        return Proven(again.damage._replace(chunks=unreadable)) if again.damage else again
    if unreadable:
        return Proven(Damage("chunks of it do not match their seals or ids", unreadable))
    return Proven(None, own)


def chunks_of(pack: Pack | None) -> frozenset[bytes]:
    """Ids of all chunks of a pack; none if nothing is known of it."""
    return frozenset(pack.chunks()) if pack else frozenset()


class _Proof:
    """
    The pass itself.

    :param pack: where its chunks lie
    :param named: whether its bytes are hashed, to be compared with its name
    """

    def __init__(self, master: MasterKey, pack: Pack, read: ReadRange, *, named: bool) -> None:
        self._master, self._pack, self._read = master, pack, read
        self._cipher = master.pack_cipher(pack.salt)
        self._sha256 = hashlib.sha256() if named else None
        self._header = self._rest = b""
        self._taken, self._end = 0, HEADER.size
        self.bad: set[bytes] = set()

    @property
    def sha256(self) -> str | None:
        """Of all that was read, if it was hashed."""
        return self._sha256.hexdigest() if self._sha256 else None

    def run(self) -> None:
        """Read all of it, the header with the first chunks and the directory with the last. What is wrong with chunks is in `bad` then."""
        pieces = _pieces(self._pack)
        rows = next(pieces, [])
        for following in pieces:
            self._open(rows, _end_of(rows))
            rows = following
        self._open(rows, self._pack.size)

    def kept(self, start: int, length: int) -> bytes:
        """Bytes of the header, or of what follows the chunks."""
        if start >= self._end:
            return self._rest[start - self._end : start - self._end + length]
        if start + length <= HEADER.size:
            return self._header[start : start + length]
        return self._read(start, length)

    def _open(self, rows: Rows, end: int) -> None:
        start, data = self._taken, self._take(end)
        self._header = self._header or data[: HEADER.size]
        self._end = _end_of(rows) if rows else self._end
        self._rest = data[self._end - start :]
        piece = memoryview(data)
        with small_steps(len(piece) // max(1, len(rows))):
            for ordinal, entry in rows:
                sealed = piece[entry.offset - start : entry.offset - start + entry.length]
                try:
                    open_chunk(self._master, self._cipher, self._pack.name, ordinal, entry, sealed)
                except IntegrityError:
                    self.bad.add(entry.chunk)

    def _take(self, end: int) -> bytes:
        data = self._read(self._taken, end - self._taken)
        if self._sha256:
            self._sha256.update(data)
        self._taken = end
        return data


def _joined(pack: Pack) -> bool:
    """Whether the chunks lie one after the other, from the header on, with room for a directory behind them."""
    end = HEADER.size
    for _, offset, length, *_ in ENTRY.iter_unpack(pack.directory):
        if offset != end:
            return False
        end += length
    return end + len(pack.directory) <= pack.size


def _end_of(rows: Rows) -> int:
    return rows[-1][1].offset + rows[-1][1].length


def _pieces(pack: Pack) -> Iterator[Rows]:
    """The rows of chunks to be read at once, each with its ordinal."""
    rows: Rows = []
    size = 0
    for row in enumerate(pack.entries()):
        rows.append(row)
        size += row[1].length
        if size >= _PIECE:
            yield rows
            rows, size = [], 0
    if rows:
        yield rows
