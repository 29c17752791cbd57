"""A terminal with a person in front of it."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

INCLUDE = Path(__file__).parents[1] / "include"


def on_a_terminal(*arguments: str, answers: tuple[str, ...] = ()) -> tuple[int, str]:
    """The real command at a terminal of its own, where a person answers each prompt; its exit code and everything shown."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MUSTER_")}
    person, terminal = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "muster", *arguments],
        env=clean | {"PYTHONPATH": str(INCLUDE), "TERM": "dumb", "COLUMNS": "200"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    shown, waiting = "", list(answers)
    while chunk := read_terminal(person):
        shown += chunk
        if waiting and shown.endswith(": "):
            os.write(person, f"{waiting.pop(0)}\n".encode())
    os.close(person)
    return child.wait(60), shown


def read_terminal(terminal: int) -> str:
    """What is shown next; nothing when the last process has gone."""
    try:
        return os.read(terminal, 65536).decode()
    except OSError:  # the last process at the terminal has gone
        return ""
