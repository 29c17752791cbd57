"""Small files that the second process writes while this one writes others."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from muster.domain.content import TreeEntry
from muster.errors import IntegrityError, NotFound
from muster.vault.files import Located, content_of
from muster.vault.index import Location
from muster.vault.placing import folder_of, remove_partials
from muster.vault.reader import SPAN, ChunkReader, ids
from muster.vault.second_messages import Place, Placed, PlacedFile, put
from muster.vault.second_process import SecondEnded, SecondProcess

Wanted = tuple[TreeEntry, str]

FILE_ROOMS = 2, SPAN + 1024 * 1024
"""
A batch of files that is worked on, and one that waits; the bytes of each: sealed, `muster.vault.files` makes none larger, and what is
said of them.
"""


class SecondPlacer:
    """
    Gives batches of files to the second process, with their sealed bytes, and hears what became of them.

    What it does not find right, and what it leaves when it dies, is done by `here`, which knows of other copies and says what is wrong.

    :param here: writes files, and returns their size
    """

    def __init__(self, reader: ChunkReader, process: SecondProcess, here: Callable[[Sequence[Wanted]], int]) -> None:
        self._reader, self._process, self._here = reader, process, here
        self._free = list(range(len(process.rooms)))
        self._given: dict[int, Sequence[Wanted]] = {}
        self._size = 0
        self._gone = False

    def takes(self, batch: Located[str]) -> bool:
        """
        Give it a batch, unless it has enough to do.

        :raises OSError: that of a file that could not be written
        """
        try:
            if self._gone or not self._process.ready():
                return False
            while self._given and self._process.spoke():
                self._hear()
            return bool(self._free) and self._give(*batch)
        except SecondEnded:
            self._left_alone()
            return False

    def finish(self) -> int:
        """Wait until all is written that was given; return its size in bytes. Raises what `takes` does."""
        try:
            while self._given:
                self._hear()
        except SecondEnded:
            self._left_alone()
        size, self._size = self._size, 0
        return size

    def _give(self, pieces: Sequence[Wanted], found: Sequence[dict[bytes, Location | None]]) -> bool:
        places = {chunk: place for some in found for chunk, place in some.items() if place}
        if not all(chunk in places for some in found for chunk in some):
            return False
        if sum(place.entry.size for place in places.values()) > sum(content_of(entry).size for entry, _ in pieces):
            return False
        number = self._free[-1]
        room = self._process.rooms[number]
        try:
            with self._reader.lanes.taken():
                order = self._reader.sealed_into(room, places)
        except (IntegrityError, NotFound):
            return False
        look = put(room, number, sum(place.entry.length for place in order), _message(number, order, pieces))
        if look:
            self._process.tell(look)
            self._given[self._free.pop()] = pieces
        return look is not None

    def _hear(self) -> None:
        answer = self._process.answer()
        if not isinstance(answer, Placed):
            raise TypeError(answer)
        pieces = self._given.pop(answer.room)
        self._free.append(answer.room)
        if answer.failure:
            number, text, path = answer.failure
            raise OSError(number, text, os.fsdecode(path))
        self._size += answer.size
        if answer.undone:
            self._size += self._here([pieces[number] for number in answer.undone])

    def _left_alone(self) -> None:
        """It has ended. What it wrote of the files that it had is looked at; the others are written here."""
        self._gone = True
        pieces = [piece for given in self._given.values() for piece in given]
        self._given.clear()
        remove_partials(self._process.pid, {folder_of(path) for _, path in pieces})
        left = [piece for piece in pieces if not _is_there(*piece)]
        self._size += sum(content_of(entry).size for entry, _ in pieces) - sum(
            content_of(entry).size for entry, _ in left
        )
        self._size += self._here(left)


def _is_there(entry: TreeEntry, path: str) -> bool:
    """Whether a file has these bytes. Its mode and its time it got before its name."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest() == content_of(entry).sha256
    except FileNotFoundError:
        return False


def _message(room: int, order: Sequence[Location], pieces: Sequence[Wanted]) -> Place:
    packs = {place.pack.name: place.pack.salt for place in order}
    numbers = {name: number for number, name in enumerate(packs)}
    chunks = [(numbers[place.pack.name], place.ordinal, place.entry) for place in order]
    at = {place.entry.chunk: number for number, place in enumerate(order)}
    files = []
    for entry, path in pieces:
        content = content_of(entry)
        held = tuple([at[chunk] for chunk in ids(content)])
        mode = None if entry.mode is None else entry.mode & 0o7777
        files.append(PlacedFile(os.fsencode(path), mode, entry.mtime_ns, content.size, content.sha256, held))
    return Place(room, list(packs.items()), chunks, files)
