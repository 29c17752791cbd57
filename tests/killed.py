"""Work that is killed as the out-of-memory killer does it: at a chosen moment, with nothing unwound."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import muster

_OURS = f"{Path(muster.__file__).parent}/"
Work = Callable[[], Any]
Functions = frozenset[str]
Trace = Callable[[FrameType, str, Any], Any]


def killed_at(event: str, when: Callable[..., bool], work: Work) -> None:
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


def steps_of(work: Work, inside: Functions = frozenset()) -> int:
    """
    Do the work in a child; return in how many steps. A step is one instruction of Python in the code of Muster, in any thread.

    :param inside: count only those that are taken inside of these functions, each as ``file name``; empty for all
    """
    taken = itertools.count()
    code, said = _in_child(work, inside, lambda _: next(taken), lambda: str(next(taken)))
    assert code == 0, f"the work ended with {code}"
    return int(said)


def killed_at_step(step: int, work: Work, inside: Functions = frozenset()) -> str | None:
    """
    Do the work in a child, which dies by SIGKILL right before the step of this number, counted from 1 as `steps_of` does.

    :return: where in the code that was; None if the work ended in fewer steps. Threads take turns as they like, so the same number may
        be a neighbouring place in another run
    """
    ahead = itertools.count(1)
    told, tell = os.pipe()

    def strike(frame: FrameType) -> None:
        if next(ahead) == step:
            file = frame.f_code.co_filename.removeprefix(_OURS)
            os.write(tell, f"{file}:{frame.f_lineno} {frame.f_code.co_name}".encode())
            _die()

    try:
        code, _ = _in_child(work, inside, strike, lambda: "")
        os.set_blocking(told, False)
        if code == 0:
            return None
        assert code == -signal.SIGKILL, f"the work that was to be killed at step {step} ended with {code}"
        return os.read(told, 1000).decode()
    finally:
        os.close(told)
        os.close(tell)


def _in_child(
    work: Work, inside: Functions, at_step: Callable[[FrameType], object], saying: Callable[[], str]
) -> tuple[int, str]:
    """Do the work with something happening right before each of its steps; exit code or minus the signal, and what is said at the end."""
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        code = 99
        try:
            trace = _at_each_step(at_step, inside)
            threading.settrace(trace)
            sys.settrace(trace)
            work()
            sys.settrace(None)
            os.write(tell, saying().encode())
            code = 0
        finally:
            os._exit(code)
    os.close(tell)
    with os.fdopen(told) as heard:
        said = heard.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said


def _at_each_step(act: Callable[[FrameType], object], inside: Functions) -> Trace:
    def within(frame: FrameType, event: str, _: Any) -> Trace:
        if event == "opcode":
            act(frame)
        return within

    def entered(frame: FrameType, event: str, _: Any) -> Trace | None:
        code = frame.f_code
        if not code.co_filename.startswith(_OURS):
            return None
        called = frame.f_back is not None and frame.f_back.f_trace is within
        if inside and not called and f"{code.co_filename.removeprefix(_OURS)} {code.co_name}" not in inside:
            return None
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        return within

    return entered


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
