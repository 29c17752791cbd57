"""What a command shows: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn
from rich.table import Table

from muster import ports

WIDTH_OF_A_PIPE = 240
"""Columns when nobody looks: wide enough that no table is cut."""
PROGRESS_EVERY_S = 0.5
SHOWN_AT_ONCE = 6


class Screen:
    """
    One command's output.

    :param as_json: results as one JSON document, progress as JSON lines
    """

    def __init__(self, *, as_json: bool, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.as_json = as_json
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        width = None if self._out.isatty() else WIDTH_OF_A_PIPE
        self._console = Console(file=self._out, width=width, markup=False, highlight=False, emoji=False)

    @property
    def interactive(self) -> bool:
        """Whether a person sits at both ends."""
        return sys.stdin.isatty() and self._err.isatty()

    def result(self, document: Any, *lines: str | Table) -> None:
        """The outcome of a command: the document for machines, or the lines and tables for people."""
        if self.as_json:
            self._out.write(json.dumps(document, indent=2, ensure_ascii=False, default=str) + "\n")
        else:
            for line in lines:
                self._console.print(line, soft_wrap=isinstance(line, str))
        self._out.flush()

    def lines(self, documents: Iterable[Any]) -> None:
        """Many small documents for machines, one a line."""
        for document in documents:
            self._out.write(json.dumps(document, ensure_ascii=False, default=str) + "\n")
        self._out.flush()

    def note(self, text: str) -> None:
        """Something worth knowing that is not the result."""
        if not self.as_json:
            print(text, file=self._err, flush=True)

    def failure(self, *, kind: str, message: str, hint: str, exit_code: int) -> None:
        """Why a command did not do what it was asked."""
        if self.as_json:
            fields = {"kind": kind, "message": message, "hint": hint, "exit_code": exit_code}
            self.result({"error": fields})
            return
        print(f"muster: {message}", file=self._err)
        if hint:
            print(f"  hint: {hint}", file=self._err)
        self._err.flush()

    @contextmanager
    def progress(self) -> Iterator[ports.Progress | None]:
        """Bars on a terminal, JSON lines for machines, nothing in a pipe."""
        if self.as_json:
            yield self._line_by_line()
        elif self._err.isatty():
            with _bars(Console(file=self._err)) as show:
                yield show
        else:
            yield None

    def _line_by_line(self) -> ports.Progress:
        lock, told = threading.Lock(), {"at": 0.0}

        def show(what: str, done: int, total: int | None) -> None:
            now = time.monotonic()
            with lock:
                if now - told["at"] < PROGRESS_EVERY_S:
                    return
                told["at"] = now
                line = {"progress": {"what": what, "done": done, "total": total}}
                print(json.dumps(line, ensure_ascii=False), file=self._err, flush=True)

        return show


@contextmanager
def _bars(console: Console) -> Iterator[Callable[[str, int, int | None], None]]:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    lock = threading.Lock()
    with Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False) as bars:
        tasks: dict[str, TaskID] = {}

        def show(what: str, done: int, total: int | None) -> None:
            with lock:
                if what not in tasks:
                    if len(tasks) >= SHOWN_AT_ONCE:
                        bars.remove_task(tasks.pop(next(iter(tasks))))
                    tasks[what] = bars.add_task(what, total=total)
                bars.update(tasks[what], completed=done, total=total)

        yield show


def table(headings: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[str] = ()) -> Table:
    """A plain table; `right` names the columns of figures."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        made.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(str(cell) for cell in row))
    return made
