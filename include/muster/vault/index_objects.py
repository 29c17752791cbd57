"""Index objects: the directories of many packs in one sealed object, and the names of the index objects that it stands for."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from cryptography.exceptions import InvalidTag

from muster.batches import batched_by
from muster.errors import IntegrityError, NotFound
from muster.ports import BlobInfo, BlobStore
from muster.vault.index_table import MOST_ROWS
from muster.vault.keys import MasterKey
from muster.vault.layout import INDEXES, digest, put_named
from muster.vault.packs import ENTRY, Pack

HEADER = struct.Struct(">8s32s")  # magic, salt
ROW = struct.Struct(">32s32sQI")  # pack name, salt, size, number of chunks; its directory follows
MAGIC = b"MUSTERI\x01"
LARGEST = 16 * 1024 * 1024
"""About how many bytes of rows an index object has at most; what is more goes into another, so that reading needs little memory."""
_NONCE = bytes(12)
_NO_PACK = bytes(32)
_REPLACED = struct.Struct(">32s13x")
_READERS = 4


class IndexObject(NamedTuple):
    """
    What an index object says.

    :param replaces: keys of older index objects all of whose packs this one names as well, as far as they were there
    """

    packs: list[Pack]
    replaces: frozenset[str]


class IndexObjects:
    """The index objects of a store: each is read once, and none for which another that was read stands."""

    def __init__(self, store: BlobStore, master: MasterKey) -> None:
        self._store, self._master = store, master
        self._there: set[str] = set()
        self._seen: set[str] = set()
        self._replaced: set[str] = set()
        self._replaces: dict[str, frozenset[str]] = {}
        self.damaged: dict[str, str] = {}
        """Those that could not be read, each with the reason."""

    def new(self) -> list[BlobInfo]:
        """Those that were neither read nor replaced so far, the largest first, since it may stand for others."""
        listed = list(self._store.list(INDEXES))
        self._there = {info.key for info in listed}
        fresh = [info for info in listed if info.key not in self._seen and self.stands(info.key)]
        return sorted(fresh, key=lambda info: info.size, reverse=True)

    def read(self, wanted: Iterable[BlobInfo]) -> Iterator[tuple[str, list[Pack]]]:
        """
        The packs that index objects name, by key; those that one read before replaces are passed over.

        A damaged one replaces nothing: those for which it was to stand are read. At most `_READERS` are in memory at a time.
        """
        ahead: deque[tuple[str, Future[IndexObject | None]]] = deque()
        with ThreadPoolExecutor(_READERS, "muster-index") as readers:
            for info in wanted:
                if self.stands(info.key):
                    ahead.append((info.key, readers.submit(self._read, info.key)))
                if len(ahead) >= _READERS:
                    yield from self._taken(*ahead.popleft())
            while ahead:
                yield from self._taken(*ahead.popleft())

    def write(self, packs: Sequence[Pack], replaced: Iterable[str] = ()) -> list[tuple[str, list[Pack]]]:
        """
        Store the rows of packs, in several objects if they are many; return the key of each with the packs that it names.

        :param replaced: keys of index objects whose packs these are; each new object stands for them and for all for which they
            stood, so the packs must fit into one
        """
        keys = set(replaced).union(*(self._replaces[key] for key in replaced)) & self._there
        return [(self._put(part, frozenset(keys)), part) for part in batched_by(row_bytes, packs, LARGEST)]

    def there(self, key: str) -> bool:
        """Whether it was listed at the last look, or written here since."""
        return key in self._there

    def stands(self, key: str) -> bool:
        """Whether no other that was read or written here stands for this one."""
        return key not in self._replaced

    def _put(self, packs: Sequence[Pack], replaces: frozenset[str]) -> str:
        data = write_index(self._master, packs, sorted(replaces))
        key = f"{INDEXES}{digest(data)}"
        put_named(self._store, key, data)
        self._there.add(key)
        self._note(key, replaces)
        return key

    def _taken(self, key: str, reading: Future[IndexObject | None]) -> Iterator[tuple[str, list[Pack]]]:
        found = reading.result()
        self._note(key, found.replaces if found else frozenset())
        if found:
            yield key, found.packs

    def _note(self, key: str, replaces: frozenset[str]) -> None:
        self._seen.add(key)
        self._replaces[key] = replaces
        self._replaced |= replaces

    def _read(self, key: str) -> IndexObject | None:
        try:
            return open_index(self._master, key, self._store.get(key))
        except (IntegrityError, NotFound) as error:
            self.damaged[key] = error.message
            return None


def write_index(master: MasterKey, packs: Iterable[Pack], replaces: Sequence[str] = ()) -> bytes:
    """The bytes of an index object; see `IndexObject` for what it `replaces`."""
    header = HEADER.pack(MAGIC, master.new_salt())
    rows = []
    if replaces:
        names = [_REPLACED.pack(bytes.fromhex(key.removeprefix(INDEXES))) for key in replaces]
        rows += [ROW.pack(_NO_PACK, _NO_PACK, 0, len(names)), *names]
    for pack in packs:
        count = len(pack.directory) // ENTRY.size
        rows += [ROW.pack(bytes.fromhex(pack.name), pack.salt, pack.size, count), pack.directory]
    return header + master.index_cipher(header[8:]).encrypt(_NONCE, b"".join(rows), header)


def read_index(master: MasterKey, key: str, data: bytes) -> Iterator[Pack]:
    """
    The packs that an index object describes.

    :raises IntegrityError: if it is damaged or of another vault
    """
    return iter(open_index(master, key, data).packs)


def open_index(master: MasterKey, key: str, data: bytes) -> IndexObject:
    """
    All that an index object says.

    :raises IntegrityError: if it is damaged or of another vault
    """
    header, sealed = data[: HEADER.size], memoryview(data)[HEADER.size :]
    if key != f"{INDEXES}{digest(data)}" or header[:8] != MAGIC:
        raise _damaged(key, "its bytes do not match its name")
    master.admit(key.removeprefix(INDEXES), header[8:])
    try:
        rows = master.index_cipher(header[8:]).decrypt(_NONCE, sealed, header)
    except InvalidTag as error:
        raise _damaged(key, "it does not match its seal") from error
    packs = list(_packs_of(key, rows))
    notes = [pack.directory for pack in packs if pack.name == _NO_PACK.hex()]
    replaces = frozenset(f"{INDEXES}{name.hex()}" for note in notes for (name,) in _REPLACED.iter_unpack(note))
    return IndexObject([pack for pack in packs if pack.name != _NO_PACK.hex()], replaces)


def checked_rows(key: str, pack: Pack) -> Pack:
    """
    A pack that was read, if it has no more rows than a pack can have.

    :param key: of the object that says so
    :raises IntegrityError: if it has
    """
    if len(pack.directory) >= MOST_ROWS * ENTRY.size:
        raise IntegrityError(
            f"{key} gives pack {pack.name} {len(pack.directory) // ENTRY.size} chunks, more than any can have",
            "no writer of Muster made this: find out who else has a key of the vault",
        )
    return pack


def row_bytes(pack: Pack) -> int:
    """What a pack takes in an index object."""
    return ROW.size + len(pack.directory)


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
        yield checked_rows(key, Pack(name.hex(), salt, size, directory))


def _damaged(key: str, why: str) -> IntegrityError:
    return IntegrityError(
        f"{key} is damaged: {why}", "what it says is also in the packs: remove it, and the next snapshot writes it anew"
    )
