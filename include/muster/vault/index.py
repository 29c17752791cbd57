"""
Which chunk lies in which pack.

An index object repeats the directories of packs; it is a cache. What no readable index names, because its writer was killed
or the index was lost, is learned from the packs themselves.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from cryptography.exceptions import InvalidTag

from muster.errors import IntegrityError, NotFound
from muster.ports import BlobStore
from muster.vault.keys import MasterKey
from muster.vault.layout import INDEXES, PACKS, digest, put_named
from muster.vault.packs import ENTRY, Pack, PackEntry, read_pack

HEADER = struct.Struct(">8s32s")  # magic, salt
ROW = struct.Struct(">32s32sQI")  # pack name, salt, size, number of chunks; its directory follows
MAGIC = b"MUSTERI\x01"
_NONCE = bytes(12)
_PLACE = struct.Struct(">II13s")  # number of the pack, ordinal in it, the rest of the directory's row
_SPLIT = struct.Struct(">32s13s")
_READERS = 8


class Location(NamedTuple):
    """A copy of a chunk."""

    pack: Pack
    ordinal: int
    entry: PackEntry


class Index:
    """All chunks of a vault, loaded when first needed. May be used from several threads."""

    def __init__(self, store: BlobStore, master: MasterKey) -> None:
        self._store, self._master = store, master
        self._lock = threading.RLock()
        self._packs: list[Pack] = []
        self._numbers: dict[str, int] = {}
        self._places: dict[bytes, bytes] = {}
        self._copies: dict[bytes, list[bytes]] = {}
        self._seen: set[str] = set()
        self._loaded = False
        self._lost: set[str] = set()
        self._distrusted: set[str] = set()
        self.damaged: dict[str, str] = {}
        """Objects that could not be read as index or pack, each with the reason."""

    # --- asking -------------------------------------------------------------------------------------------------------

    def locations(self, chunk: bytes) -> list[Location]:
        """Every known copy of a chunk, best first; those in packs that are known to be missing are left out."""
        with self._lock:
            self._load()
            return self._known(chunk)

    def holds(self, chunk: bytes) -> bool:
        """Whether there is a copy of a chunk on which a new point may build: one in a pack that nothing is known against."""
        with self._lock:
            if not self._distrusted:
                return self._exists(chunk)
            self._load()
            return any(place.pack.name not in self._distrusted for place in self._known(chunk))

    def missing(self, chunks: Iterable[bytes]) -> list[bytes]:
        """Those of the chunks of which there is no copy at all, after looking again."""
        lacking = [chunk for chunk in chunks if not self._exists(chunk)]
        if lacking:
            self.refresh()
            self.reconcile()
            lacking = [chunk for chunk in lacking if not self._exists(chunk)]
        return lacking

    def packs(self) -> dict[str, Pack]:
        """All known packs, whether they are there or not."""
        with self._lock:
            return {pack.name: pack for pack in self._packs}

    # --- learning -----------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Read the index objects that were not read yet."""
        with self._lock:
            keys = [info.key for info in self._store.list(INDEXES) if info.key not in self._seen]
            with ThreadPoolExecutor(_READERS) as readers:
                for key, packs in zip(keys, readers.map(self._read, keys), strict=True):
                    self._seen.add(key)
                    for pack in packs:
                        self._learn(pack)
            self._loaded = True

    def reconcile(self) -> list[Pack]:
        """
        Compare with the packs that the store has: adopt those that no index names, give up those that are missing or cut.

        :return: the packs that were adopted
        """
        with self._lock:
            self._load()
            known = {pack.name: pack.size for pack in self._packs}
        there = {info.key.rpartition("/")[2]: info.size for info in self._store.list(PACKS)}
        adopted = [pack for name in there.keys() - known.keys() if (pack := self._adopt(name, there[name]))]
        with self._lock:
            lost = {name for name, size in known.items() if there.get(name) != size}
            self._lost = (self._lost - there.keys()) | lost
            for pack in adopted:
                self._learn(pack)
        return adopted

    def distrust(self, packs: Iterable[str]) -> None:
        """Packs that are damaged: what they hold is still read if there is no other copy, but nothing new builds on it."""
        with self._lock:
            self._distrusted.update(packs)

    def add(self, pack: Pack) -> None:
        """A pack that is durable now."""
        with self._lock:
            self._learn(pack)

    def save(self, packs: Sequence[Pack]) -> None:
        """Store an index object over these packs, if there are any."""
        if packs:
            data = write_index(self._master, packs)
            key = f"{INDEXES}{digest(data)}"
            put_named(self._store, key, data)
            with self._lock:
                self._seen.add(key)

    def _exists(self, chunk: bytes) -> bool:
        with self._lock:
            self._load()
            place = self._places.get(chunk)
            if place is None or not self._lost:
                return place is not None
            return bool(self._known(chunk))

    def _load(self) -> None:
        if not self._loaded:
            self.refresh()

    def _learn(self, pack: Pack) -> None:
        if pack.name in self._numbers:
            return
        number = self._numbers[pack.name] = len(self._packs)
        self._packs.append(pack)
        for ordinal, (chunk, rest) in enumerate(_SPLIT.iter_unpack(pack.directory)):
            place = _PLACE.pack(number, ordinal, rest)
            if self._places.setdefault(chunk, place) is not place:
                self._copies.setdefault(chunk, []).append(place)

    def _known(self, chunk: bytes) -> list[Location]:
        first = self._places.get(chunk)
        places = [first, *self._copies.get(chunk, ())] if first else []
        found = []
        for place in places:
            number, ordinal, rest = _PLACE.unpack(place)
            pack = self._packs[number]
            if pack.name not in self._lost:
                found.append(Location(pack, ordinal, PackEntry._make(ENTRY.unpack(chunk + rest))))
        return sorted(found, key=lambda place: place.pack.name in self._distrusted) if len(found) > 1 else found

    def _read(self, key: str) -> list[Pack]:
        try:
            return list(read_index(self._master, key, self._store.get(key)))
        except (IntegrityError, NotFound) as error:
            self.damaged[key] = error.message
            return []

    def _adopt(self, name: str, size: int) -> Pack | None:
        key = f"{PACKS}{name[:2]}/{name}"
        try:
            return read_pack(self._master, name, size, lambda start, length: self._store.get_range(key, start, length))
        except (IntegrityError, NotFound) as error:
            self.damaged[key] = error.message
            return None


def write_index(master: MasterKey, packs: Iterable[Pack]) -> bytes:
    """The bytes of an index object."""
    header = HEADER.pack(MAGIC, master.new_salt())
    rows = []
    for pack in packs:
        count = len(pack.directory) // ENTRY.size
        rows += [ROW.pack(bytes.fromhex(pack.name), pack.salt, pack.size, count), pack.directory]
    return header + master.index_cipher(header[8:]).encrypt(_NONCE, b"".join(rows), header)


def read_index(master: MasterKey, key: str, data: bytes) -> Iterator[Pack]:
    """
    The packs that an index object describes.

    :raises IntegrityError: if it is damaged or of another vault
    """
    header, sealed = data[: HEADER.size], data[HEADER.size :]
    if key != f"{INDEXES}{digest(data)}" or header[:8] != MAGIC:
        raise _damaged(key, "its bytes do not match its name")
    try:
        rows = master.index_cipher(header[8:]).decrypt(_NONCE, sealed, header)
    except InvalidTag as error:
        raise _damaged(key, "it does not match its seal") from error
    return _packs_of(key, rows)


def _packs_of(key: str, rows: bytes) -> Iterator[Pack]:
    start = 0
    while start < len(rows):
        try:
            name, salt, size, count = ROW.unpack_from(rows, start)
        except struct.error as error:
            raise _damaged(key, "it ends within a row") from error
        directory = rows[start + ROW.size : start + ROW.size + count * ENTRY.size]
        start += ROW.size + count * ENTRY.size
        if start > len(rows):
            raise _damaged(key, "it ends within a directory")
        yield Pack(name.hex(), salt, size, directory)


def _damaged(key: str, why: str) -> IntegrityError:
    return IntegrityError(
        f"{key} is damaged: {why}", "what it says is also in the packs: remove it, and the next snapshot writes it anew"
    )
