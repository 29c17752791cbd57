"""
Which chunk lies in which pack.

An index object repeats the directories of packs; it is a cache. What no readable index names, because its writer was killed
or the index was lost, is learned from the packs themselves.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import IntEnum
from typing import NamedTuple

from muster.errors import IntegrityError, NotFound
from muster.ports import BlobStore
from muster.vault.index_listing import packs_there
from muster.vault.index_merge import due
from muster.vault.index_objects import IndexObjects, checked_rows, read_index, row_bytes, write_index
from muster.vault.index_table import ChunkTable, added_up
from muster.vault.keys import MasterKey
from muster.vault.layout import pack_key
from muster.vault.packs import ENTRY, Pack, PackEntry, read_pack

__all__ = ["Index", "Location", "Standing", "read_index", "write_index"]

_READERS = 8
_MANY = 256
_NUMPY_PAYS = 16_384
"""To load numpy takes as long as to look up so many chunks without it: 75 ms."""
_NOWHERE = (-1, -1, -1)


class Location(NamedTuple):
    """A copy of a chunk."""

    pack: Pack
    ordinal: int
    entry: PackEntry


class Standing(IntEnum):
    """What is known of a pack, best first. Chunks are read from the best copy; only on a sound one a new point may build."""

    SOUND = 0
    CONDEMNED = 1
    """Expiry is about to remove it; until then it is as good as any to read from."""
    DISTRUSTED = 2
    """It was found damaged: read if there is no other copy."""
    LOST = 3
    """It is not there, or has another size: not read."""


class Index:
    """
    All chunks of a vault, loaded when first needed. May be used from several threads.

    Whoever learns holds the lock; whoever asks does not: what the table of chunks names is complete before it is named.
    Memory, in bytes: about 60 a chunk, of which 45 are its row in the directory of its pack, and about 450 a pack.
    """

    def __init__(self, store: BlobStore, master: MasterKey) -> None:
        self._store, self._master = store, master
        self._lock = threading.RLock()
        self._objects = IndexObjects(store, master)
        self._contents: dict[str, array[int]] = {}
        self._packs: list[Pack] = []
        self._numbers: dict[str, int] = {}
        self._standings = bytearray()
        self._shunned: dict[str, Standing] = {}
        self._table = ChunkTable()
        self._loaded = False
        self.damaged = self._objects.damaged
        """Objects that could not be read as index or pack, each with the reason."""

    # --- asking -------------------------------------------------------------------------------------------------------

    def locations(self, chunk: bytes) -> list[Location]:
        """Every known copy of a chunk, best first; those in packs that are known to be missing are left out."""
        self._load()
        rows = [row for row in self._table.find(chunk) if self._standings[row[0]] != Standing.LOST]
        if len(rows) > 1:
            rows.sort(key=lambda row: self._standings[row[0]])
        return [self._location(number, ordinal) for number, ordinal in rows]

    def places(self, chunks: Sequence[bytes]) -> list[Location | None]:
        """The best known copy of each chunk; None if there is none. As the first of `locations` of each, and faster."""
        return [self._location(number, ordinal) if number >= 0 else None for number, ordinal, _ in self._best(chunks)]

    def sizes(self, chunks: Sequence[bytes]) -> list[int | None]:
        """The plain length of each chunk, by what is said of the best known copy; None if there is no copy."""
        return [size if number >= 0 else None for number, _, size in self._best(chunks)]

    def sums(self, chunks: Sequence[bytes], counts: Sequence[int]) -> Sequence[int | None]:
        """
        The plain lengths of contents, by what is said of the best known copies of their chunks; None of one that lacks a chunk.

        :param chunks: of all contents, one after the other
        :param counts: how many chunks each has
        """
        self._load()
        if not self._few(chunks):
            found = self._table.find_first(b"".join(chunks))
            packs = set(found[:, 0].tolist())
            if self._sound(packs) == packs:
                return added_up(found[:, 2], counts)
        sizes, whole, start = self.sizes(chunks), list[int | None](), 0
        for count in counts:
            some = [size for size in sizes[start : start + count] if size is not None]
            whole.append(sum(some) if len(some) == count else None)
            start += count
        return whole

    def best(self, chunk: bytes) -> tuple[str, int]:
        """The pack of the best known copy of a chunk, and its standing; an empty name, and `Standing.LOST`, if there is none."""
        if not self._loaded:
            self._load()
        name, best = "", int(Standing.LOST)
        for number, _ in self._table.find(chunk):
            if self._standings[number] < best:
                name, best = self._packs[number].name, self._standings[number]
        return name, best

    def sound(self, chunks: Sequence[bytes]) -> tuple[set[str], list[bytes]]:
        """
        Of many chunks: the packs in which those lie of which there is a sound copy, and the other chunks. As `best` of each, and faster.
        """
        self._load()
        if self._few(chunks):
            names, others = set(), list(chunks)
        else:
            found = self._table.find_first(b"".join(chunks))[:, 0].tolist()
            firsts = self._sound(found)
            names = {self._packs[number].name for number in firsts}
            others = [chunk for chunk, number in zip(chunks, found, strict=True) if number not in firsts]
        left = []
        for chunk in others:
            name, standing = self.best(chunk)
            if standing == Standing.SOUND:
                names.add(name)
            else:
                left.append(chunk)
        return names, left

    def holds(self, chunk: bytes) -> bool:
        """Whether there is a copy of a chunk on which a new point may build: one in a pack that nothing is known against."""
        return self._has(chunk, Standing.SOUND)

    def missing(self, chunks: Iterable[bytes]) -> list[bytes]:
        """Those of the chunks of which there is no copy at all, after looking again."""
        lacking = [chunk for chunk in chunks if not self._has(chunk, Standing.DISTRUSTED)]
        if lacking:
            self.refresh()
            self.reconcile()
            lacking = [chunk for chunk in lacking if not self._has(chunk, Standing.DISTRUSTED)]
        return lacking

    def packs(self) -> dict[str, Pack]:
        """All known packs, whether they are there or not."""
        with self._lock:
            return {pack.name: pack for pack in self._packs}

    def objects(self) -> list[str]:
        """
        Keys of the index objects that were read or written and are there, except those for which another stands.

        What an expiry elsewhere has removed is known here until the next look, `refresh`.
        """
        with self._lock:
            return [key for key in self._contents if self._objects.there(key) and self._objects.stands(key)]

    def named_by(self, objects: Iterable[str]) -> set[str]:
        """Names of the packs, there or not, that these index objects name, as far as they were read."""
        with self._lock:
            return {self._packs[number].name for key in objects for number in self._contents.get(key, ())}

    def standing(self, pack: str) -> Standing:
        """What is known of a pack; one that is not known at all is lost."""
        self._load()
        number = self._numbers.get(pack)
        return Standing.LOST if number is None else Standing(self._standings[number])

    # --- learning -----------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Read the index objects that were not read yet, except those for which another stands that was."""
        with self._lock:
            found = list(self._objects.read(self._objects.new()))
            rows = sum(len(pack.directory) // ENTRY.size for _, packs in found for pack in packs)
            self._table.reserve(rows + rows // 4)  # so that what a writer adds does not make all of it grow at once
            for key, packs in found:
                self._contents[key] = array("Q", [self._learn(pack) for pack in packs])
            self._loaded = True

    def reconcile(self) -> list[Pack]:
        """
        Compare with the packs that the store has: adopt those that no index names, give up those that are missing or cut.

        :return: the packs that were adopted
        """
        self._load()
        whole = bytearray(len(self._packs))
        strangers = {}
        for name, size in packs_there(self._store, len(whole)):
            number = self._numbers.get(name)
            if number is None:
                strangers[name] = size
            elif number < len(whole) and size == self._packs[number].size:
                whole[number] = True
        adopted = self._adopt(strangers)
        with self._lock:
            for number, there in enumerate(whole):
                self._judge(number, there=bool(there))
            for pack in adopted:
                self._learn(pack)
        return adopted

    def distrust(self, packs: Iterable[str]) -> None:
        """Packs that are damaged: what they hold is still read if there is no other copy, but nothing new builds on it."""
        self._shun(packs, Standing.DISTRUSTED)

    def condemn(self, packs: Iterable[str]) -> None:
        """Packs that expiry is about to remove: what they hold is read as before, but nothing new builds on it."""
        self._shun(packs, Standing.CONDEMNED)

    def add(self, pack: Pack) -> None:
        """A pack that is durable now."""
        with self._lock:
            self._learn(pack)

    def save(self, packs: Sequence[Pack]) -> None:
        """
        Store index objects over these packs, if there are any; then, if many small ones lie side by side, one over all of theirs.

        Nothing is removed: the small ones are passed over by whoever can read the one that stands for them.
        """
        if packs:
            with self._lock:
                self._write(packs)
                if self._due():
                    self.refresh()
                    self._merge(self._due())

    # --- inside -------------------------------------------------------------------------------------------------------

    def _few(self, chunks: Sequence[bytes]) -> bool:
        """Whether it is faster to look these up one by one."""
        return len(chunks) < _MANY or len(self._table) < _NUMPY_PAYS

    def _sound(self, numbers: Iterable[int]) -> set[int]:
        """Those of these packs on which a new point may build; -1 is no pack."""
        return {number for number in set(numbers) if number >= 0 and self._standings[number] == Standing.SOUND}

    def _best(self, chunks: Sequence[bytes]) -> Iterable[tuple[int, int, int]]:
        """Of the best known copy of each chunk the number of its pack, its ordinal there and its plain length; -1 if there is none."""
        self._load()
        if self._few(chunks):
            return map(self._best_of, chunks)
        found = self._table.find_first(b"".join(chunks))
        sound = self._sound(found[:, 0].tolist())
        return [
            (number, ordinal, size) if number in sound else self._best_of(chunk)
            for chunk, (number, ordinal, size) in zip(chunks, found.tolist(), strict=True)
        ]

    def _best_of(self, chunk: bytes) -> tuple[int, int, int]:
        places = self.locations(chunk)
        if not places:
            return _NOWHERE
        return self._numbers[places[0].pack.name], places[0].ordinal, places[0].entry.size

    def _has(self, chunk: bytes, worst: int) -> bool:
        """Whether there is a copy of a chunk in a pack of this standing or a better one."""
        if not self._loaded:
            self._load()
        for number, _ in self._table.find(chunk):  # noqa: SIM110  any() with a generator takes half as long again
            if self._standings[number] <= worst:
                return True
        return False

    def _load(self) -> None:
        if not self._loaded:
            with self._lock:
                if not self._loaded:
                    self.refresh()

    def _learn(self, pack: Pack) -> int:
        number = self._numbers.get(pack.name)
        if number is None:
            number = len(self._packs)
            self._packs.append(pack)
            self._standings.append(self._shunned.get(pack.name, Standing.SOUND))
            self._numbers[pack.name] = number
            self._table.add(pack.directory)
        return number

    def _judge(self, number: int, *, there: bool) -> None:
        sound = self._shunned.get(self._packs[number].name, Standing.SOUND) if self._shunned else Standing.SOUND
        self._standings[number] = sound if there else Standing.LOST

    def _shun(self, packs: Iterable[str], why: Standing) -> None:
        with self._lock:
            for name in packs:
                self._shunned[name] = max(why, self._shunned.get(name, why))
                number = self._numbers.get(name)
                if number is not None and self._standings[number] != Standing.LOST:
                    self._judge(number, there=True)

    def _location(self, number: int, ordinal: int) -> Location:
        return Location(self._packs[number], ordinal, self._table.entry(number, ordinal))

    def _adopt(self, sizes: dict[str, int]) -> list[Pack]:
        """Packs by what they say of themselves; those that are damaged are left out, and noted."""
        with ThreadPoolExecutor(_READERS, "muster-adopt") as readers:
            return [pack for pack in readers.map(self._read_pack, sizes, sizes.values()) if pack]

    def _read_pack(self, name: str, size: int) -> Pack | None:
        key = pack_key(name)
        try:
            pack = read_pack(self._master, name, size, lambda start, length: self._store.get_range(key, start, length))
            return checked_rows(key, pack)
        except (IntegrityError, NotFound) as error:
            self.damaged[key] = error.message
            return None

    # --- index objects ------------------------------------------------------------------------------------------------

    def _write(self, packs: Sequence[Pack], replaced: Iterable[str] = ()) -> None:
        for key, part in self._objects.write(packs, replaced):
            self._contents[key] = array("Q", [self._learn(pack) for pack in part])

    def _due(self) -> list[str]:
        """The index objects to merge: among those that nothing stands for, as large as the packs make them that are still there."""
        self._contents = {key: numbers for key, numbers in self._contents.items() if self._objects.stands(key)}
        return due({key: sum(map(row_bytes, self._there(numbers))) for key, numbers in self._contents.items()})

    def _merge(self, keys: Sequence[str]) -> None:
        if keys:
            numbers = dict.fromkeys(number for key in keys for number in self._contents[key])
            self._write(self._there(numbers), keys)

    def _there(self, numbers: Iterable[int]) -> list[Pack]:
        return [self._packs[number] for number in numbers if self._standings[number] != Standing.LOST]
