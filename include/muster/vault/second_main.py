"""
The second process: reads, hashes and seals small files, or opens and writes them, with the other processor of the machine.

``python -m muster.vault.second_main`` does what standard input says (see `muster.vault.second_messages`) and ends when that ends, or
when the thread that began it does. It has the vault's keys and no way to its store. Whatever is not as it should be it leaves to who
began it, who does it again and says what is wrong.
"""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
import signal
import sys
from collections import deque
from collections.abc import Sequence
from queue import SimpleQueue
from threading import Thread

from muster.errors import IntegrityError, MusterError
from muster.ports import LocalFile, SourceFile
from muster.vault.buffers import keep_freed_memory
from muster.vault.keys import MasterKey
from muster.vault.packs import PackBuilder, compress, open_chunk
from muster.vault.placing import Placement
from muster.vault.second_messages import (
    End,
    Ended,
    Free,
    Keep,
    Kept,
    Look,
    Message,
    Packed,
    Place,
    Placed,
    PlacedFile,
    Ready,
    Start,
    Take,
    Taken,
    receive,
    seen,
    send,
)
from muster.vault.small_files import bytes_of

PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Second:
    """What was begun, and what it works with."""

    def __init__(self, start: Start) -> None:
        self._master = MasterKey(start.keys[-1], start.keys[:-1])
        memory = memoryview(mmap.mmap(start.memory, start.room * start.rooms))
        self._rooms = [memory[at * start.room : (at + 1) * start.room] for at in range(start.rooms)]
        self._free = list(range(start.rooms))
        self._placement = Placement()
        self._lots: dict[int, list[tuple[bytes, bytes] | None]] = {}
        self._builder: PackBuilder | None = None
        self._room = 0
        self._said: SimpleQueue[Message | None] = SimpleQueue()
        self._waiting: deque[Message] = deque()
        self._ending = False

    def run(self) -> None:
        """
        Do what comes, until nothing does.

        It is read by a thread, whatever this one does: who sends it must never have to wait until what is said here was heard.
        """
        Thread(target=self._hear, daemon=True).start()
        while (message := self._next()) is not None:
            if isinstance(message, Look):
                message = seen(self._rooms[message.room], message)
            if answer := self._done(message):
                send(sys.stdout.buffer, answer)
            if self._ending and not self._lots:
                self._finish()
                send(sys.stdout.buffer, Ended())
                self._ending = False

    def _done(self, message: Message) -> Message | None:
        """Do one thing; what there is to say of it."""
        match message:
            case Place():
                return self._place(message)
            case Take():
                return self._take(message)
            case Keep():
                return self._keep(message)
            case End():
                self._ending = True
            case Free():
                self._free.append(message.room)
        return None

    def _hear(self) -> None:
        while (message := receive(sys.stdin.buffer)) is not None:
            self._said.put(message)
        self._said.put(None)

    def _next(self) -> Message | None:
        return self._waiting.popleft() if self._waiting else self._said.get()

    # --- restoring ----------------------------------------------------------------------------------------------------

    def _place(self, job: Place) -> Placed:
        opened = self._opened(job)
        done = Placed(job.room, 0, [], None)
        for number, file in enumerate(job.files):
            plain = _joined(file, opened)
            if plain is None:
                done.undone.append(number)
                continue
            path = os.fsdecode(file.path)
            try:
                done.size += self._placement.create(path, (plain,), file.mode, file.mtime_ns)
            except OSError as error:
                named = error.filename if isinstance(error.filename, str) else path
                done.failure = error.errno or 0, error.strerror or str(error), os.fsencode(named)
                break
        return done

    def _opened(self, job: Place) -> list[bytes | None]:
        """The plain bytes of each chunk; None of one that is damaged."""
        ciphers = [self._master.pack_cipher(salt) for _, salt in job.packs]
        opened: list[bytes | None] = []
        at, room = 0, self._rooms[job.room]
        for pack, ordinal, entry in job.chunks:
            sealed = room[at : at + entry.length]
            at += entry.length
            try:
                opened.append(open_chunk(self._master, ciphers[pack], job.packs[pack][0], ordinal, entry, sealed))
            except IntegrityError:
                opened.append(None)
        return opened

    # --- storing ------------------------------------------------------------------------------------------------------

    def _take(self, job: Take) -> Taken:
        self._lots[job.lot] = [self._read(*file) for file in job.files]
        read = self._lots[job.lot]
        return Taken(job.lot, [file and (hashlib.sha256(file[0]).hexdigest(), file[1]) for file in read])

    def _read(self, path: bytes, size: int, md5: str | None) -> tuple[bytes, bytes] | None:
        """The bytes of a file and the id of its chunk, of which an empty one has none."""
        try:
            plain = bytes_of(SourceFile("", LocalFile(os.fsdecode(path))), size)
        except MusterError:
            return None
        if len(plain) != size or (md5 is not None and hashlib.md5(plain, usedforsecurity=False).hexdigest() != md5):
            return None
        return plain, self._master.chunk_id(plain) if plain else b""

    def _keep(self, job: Keep) -> Kept:
        read, stored = self._lots.pop(job.lot), 0
        for file in map(read.__getitem__, job.new):
            if file:
                stored += self._add(*file)
        return Kept(job.lot, stored)

    def _add(self, plain: bytes, chunk: bytes) -> int:
        payload, flags = compress(memoryview(plain))
        if self._builder is None:
            self._room = self._taken_room()
            self._builder = PackBuilder(self._master, self._rooms[self._room])
        stored = self._builder.add(chunk, payload, len(plain), flags)
        if self._builder.full:
            self._finish()
        return stored

    def _taken_room(self) -> int:
        """One to fill; waits until there is one, and keeps what else is said meanwhile."""
        while not self._free:
            message = self._said.get()
            if message is None:
                raise SystemExit(1)
            if isinstance(message, Free):
                self._free.append(message.room)
            else:
                self._waiting.append(message)
        return self._free.pop()

    def _finish(self) -> None:
        if self._builder:
            pack, _ = self._builder.finish()
            send(sys.stdout.buffer, Packed(self._room, *pack))
            self._builder = None


def _joined(file: PlacedFile, opened: Sequence[bytes | None]) -> bytes | None:
    """The bytes of a file; None if they are not those that it had."""
    parts = [opened[number] for number in file.chunks]
    whole = [part for part in parts if part is not None]
    if len(whole) < len(parts) or sum(map(len, whole)) != file.size:
        return None
    plain = whole[0] if len(whole) == 1 else b"".join(whole)
    return plain if hashlib.sha256(plain).hexdigest() == file.sha256 else None


def main() -> None:
    """Work for whoever holds the other end of standard input."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    start = receive(sys.stdin.buffer)
    if not isinstance(start, Start) or os.getppid() != start.caller:
        raise SystemExit("nobody else begins this process than a Muster that restores or stores many small files")
    keep_freed_memory()
    send(sys.stdout.buffer, Ready())
    Second(start).run()


if __name__ == "__main__":
    main()
