"""Programs of the tests: modules with a ``main``, each run by a Python of its own; they begin when they are told to."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_PATHS = [str(_HERE.parent / "include"), str(_HERE)]


@contextlib.contextmanager
def started(module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A program that is on its way to being `ready`. It is killed if it still runs when the context is left."""
    code = f"import sys; sys.path[:0] = {_PATHS!r}; import {module}; {module}.main()"
    command = [sys.executable, "-c", code, *arguments]
    program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield program
    finally:
        if program.poll() is None:
            program.kill()
        program.wait()
        for stream in (program.stdin, program.stdout):
            if stream:
                stream.close()


def awaited(program: subprocess.Popen[str]) -> None:
    """Wait until it is ready: everything is imported."""
    assert program.stdout is not None
    assert program.stdout.readline() == "ready\n"


def begin(program: subprocess.Popen[str]) -> None:
    """Let a program that is ready go on."""
    assert program.stdin is not None
    program.stdin.close()


def ready() -> None:
    """Said by the program itself: wait until it may begin."""
    say("ready")
    sys.stdin.read()


def say(line: str) -> None:
    """Said by the program itself, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
