"""A second process for small files, of which each costs the interpreter more than its bytes do: they keep one processor busy."""

from __future__ import annotations

import logging
import mmap
import os
import select
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from muster.errors import StoreUnavailable
from muster.own_python import own_python
from muster.vault.keys import MasterKey
from muster.vault.second_messages import Message, Ready, Start, receive, send

logger = logging.getLogger(__name__)

WORTH_IT = 8192
"""From so many small files on it is begun: they take as long as it takes to start, several times over."""


class SecondEnded(StoreUnavailable):
    """The second process is no more. Nothing else raises this, so that whoever can go on alone knows that he may."""


class SecondProcess:
    """
    ``python -m muster.vault.second_main``, and the memory that both see.

    It dies with the thread that began it. As it gets keys, it loads nothing from the working folder.

    :param room: bytes in each room
    """

    def __init__(self, master: MasterKey, rooms: int, room: int) -> None:
        handle = os.memfd_create("muster")
        try:
            os.ftruncate(handle, rooms * room)
            memory = memoryview(mmap.mmap(handle, rooms * room))
            self._process = subprocess.Popen(
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                pass_fds=[handle],
                **own_python("muster.vault.second_main"),
            )
            self.rooms = [memory[at * room : (at + 1) * room] for at in range(rooms)]
            self._ready = self._expected = self._warned = False
            self._telling = threading.Lock()
            try:
                self.tell(Start(master.generations(), handle, room, rooms, os.getpid()))
            except BaseException:
                self.close()
                raise
        finally:
            os.close(handle)

    @property
    def pid(self) -> int:
        """By which the system knows it."""
        return self._process.pid

    def ready(self) -> bool:
        """
        Whether it takes work by now.

        :raises SecondEnded: if it ended before it did
        """
        if not self._ready and self.spoke():
            self._ready = isinstance(self.answer(), Ready)
        return self._ready

    def spoke(self) -> bool:
        """Whether there is an answer, or an end, to be had at once."""
        assert self._process.stdout is not None  # noqa: S101 - for the type checker
        poll = select.poll()
        poll.register(self._process.stdout, select.POLLIN)
        return bool(poll.poll(0))

    def tell(self, message: Message) -> None:
        """
        Say something. May be called from several threads.

        :raises SecondEnded: if nobody listens
        """
        assert self._process.stdin is not None  # noqa: S101 - for the type checker
        try:
            with self._telling:
                send(self._process.stdin, message)
        except (OSError, ValueError) as error:  # its end of the pipe is gone, or ours
            raise self._ended() from error
        except BaseException:
            self._process.kill()  # half of a message may be on its way
            raise

    def answer(self) -> Message:
        """
        What it says next; waits for it.

        :raises SecondEnded: if it has
        """
        assert self._process.stdout is not None  # noqa: S101 - for the type checker
        message = receive(self._process.stdout)
        if message is None:
            raise self._ended()
        return message

    def kill(self) -> None:
        """End it, whatever it does: those who wait for it are told."""
        self._process.kill()

    def close(self) -> None:
        """End it for good, and give back what it took."""
        self._expected = True
        self._process.kill()
        with self._telling, self._process:
            pass

    def _ended(self) -> SecondEnded:
        self._process.kill()
        status = self._process.wait()
        if not self._expected and not self._warned:
            self._warned = True
            logger.warning("The second process for small files ended with %s.", status)
        return SecondEnded(f"the second process for small files ended with {status}", "see memory, and try again")


_one = threading.Lock()
"""Held by whoever has one: each takes memory, and there are not more processors than two for each of several."""


def in_use() -> bool:
    """Whether somebody has one now, so that there may be one later."""
    return _one.locked()


@contextmanager
def second_process(master: MasterKey, rooms: int, room: int) -> Iterator[SecondProcess | None]:
    """
    One, for as long as the context lasts. None where there can be none, or another thread has it: everything is then done here, and takes
    longer.
    """
    if not _one.acquire(blocking=False):
        yield None
        return
    try:
        process = _begun(master, rooms, room)
        try:
            yield process
        finally:
            if process:
                process.close()
    finally:
        _one.release()


def _begun(master: MasterKey, rooms: int, room: int) -> SecondProcess | None:
    try:
        return SecondProcess(master, rooms, room)
    except SecondEnded:
        return None
    except (OSError, AttributeError) as error:  # no processes left, no Linux
        logger.warning("There is no second process for small files, one processor does all: %s", error)
        return None
