"""Work that is killed as the out-of-memory killer does it: at a chosen moment, with nothing unwound."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any


def killed_at(event: str, when: Callable[..., bool], work: Callable[[], Any]) -> None:
    """
    Do the work in a child, which dies by SIGKILL right before the first of Python's audit events for which `when` holds.

    :param event: a name of Python's table of audit events, such as ``os.rename``
    :param when: gets the event's arguments
    """
    child = os.fork()
    if child == 0:
        try:
            sys.addaudithook(lambda name, given: _die() if name == event and when(*given) else None)
            work()
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"the work ended without the event {event}"
    assert os.WTERMSIG(status) == signal.SIGKILL


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
