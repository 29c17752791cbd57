"""What the demonstration says while it goes on: chapters, steps with their times, tables."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table

PIPED_WIDTH = 110
GOOD, BAD, QUIET = "green", "bold red", "dim"


class Step:
    """One piece of work that is going on; `result` is what came of it."""

    def __init__(self) -> None:
        self.result = ""


class Story:
    """A narrator on a console; on a terminal, the step that is going on has a spinner."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)
        self._began = time.monotonic()
        self._chapters = 0

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began

    def chapter(self, title: str) -> None:
        """Begin a numbered chapter."""
        self._chapters += 1
        self.console.print(f"\n[bold cyan]{self._chapters}. {escape(title)}[/]  [dim]{self.elapsed:.0f} s[/]")

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Some work: shown while it goes on, and with its result and its time when it is done."""
        step, began = Step(), time.monotonic()
        with self.console.status(f"{escape(title)} …", spinner="dots"):
            try:
                yield step
            except BaseException:
                self._line(f"[{BAD}]✗[/]", title, "", time.monotonic() - began)
                raise
        self._line(f"[{GOOD}]✓[/]", title, step.result, time.monotonic() - began)

    def say(self, text: str) -> None:
        """A sentence, with rich's markup."""
        self.console.print(Padding(text, (0, 0, 0, 3)))

    def link(self, file: Path) -> None:
        """A file to open, never broken over lines."""
        self.console.print(f"     {file.as_uri()}", soft_wrap=True)

    def table(self, title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table whose columns, but for the first, are figures; cells may hold rich's markup."""
        table = Table(title=title, title_justify="left", title_style="bold", header_style=QUIET, border_style=QUIET)
        for index, name in enumerate(head):
            table.add_column(name, justify="right" if index else "left")
        for row in rows:
            table.add_row(*row)
        self.console.print(Padding(table, (1, 0, 0, 3)))

    def panel(self, text: str, *, good: bool) -> None:
        """The last word."""
        self.console.print()
        self.console.print(Panel(text, border_style=GOOD if good else BAD, expand=False, padding=(1, 3)))

    def _line(self, sign: str, title: str, result: str, seconds: float) -> None:
        shown = f"  [{QUIET}]{escape(result)}[/]" if result else ""
        self.console.print(f"   {sign} {escape(title)}{shown}  [{QUIET}]{seconds:.1f} s[/]", soft_wrap=True)


def mebibytes(size: float) -> str:
    """Bytes for people."""
    return f"{size / 2**20:,.1f} MiB"


def verdict(good: bool, yes: str = "equal", no: str = "DIFFERENT") -> str:
    """A word in its colour."""
    return f"[{GOOD}]{yes}[/]" if good else f"[{BAD}]{no}[/]"
