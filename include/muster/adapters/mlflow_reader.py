"""
Tables of a large store, written to files by a process of their own, while this one goes on to the artifacts.

Rows keep one processor busy with Python. The process sees the very moment that the connection here sees: the copy of an SQLite store, or
the snapshot that PostgreSQL exports, which it joins while the transaction here is open. MariaDB and MySQL export none, so their rows are
read here.

``python -m muster.adapters.mlflow_reader`` takes a `Task` as a line of JSON from standard input, since it holds a password, and ends when
that input ends. Nobody but `Reader` begins it.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muster import errors
from muster.adapters.mlflow_lines import RowSum, write_lines
from muster.adapters.mlflow_rows import Table, batches_of
from muster.adapters.mlflow_store import Copy, StoreUrl, exported_snapshot
from muster.codec import from_json, to_json
from muster.errors import MusterError, StoreUnavailable
from muster.own_python import own_python

if TYPE_CHECKING:
    from sqlalchemy import Connection

LARGE = 64 << 20
"""Bytes of a store, above which reading it takes longer than the second that a process takes to start."""
_SIZE = "SELECT coalesce(sum(pg_table_size(quote_ident(name)::regclass)), 0) FROM unnest(:names) AS t(name)"


@dataclass(frozen=True, slots=True)
class Task:
    """
    :param url: with password
    :param file: the copy of an SQLite store
    :param snapshot: what PostgreSQL calls the moment
    :param tables: each with the file that its rows go to
    """

    url: str
    shown: str
    file: str | None
    snapshot: str | None
    tables: tuple[tuple[Table, str], ...]


class Reader:
    """Such a process. Its own errors are raised here, when its work is asked for."""

    def __init__(self, task: Task) -> None:
        self._shown = task.shown
        self._process = subprocess.Popen(
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            **own_python("muster.adapters.mlflow_reader"),
        )
        assert self._process.stdin is not None  # noqa: S101 - for the type checker
        with contextlib.suppress(BrokenPipeError):  # it has ended, which whoever asks for its answer is told
            self._process.stdin.write(json.dumps(to_json(task)).encode() + b"\n")
            self._process.stdin.flush()
        self._joined = False

    @staticmethod
    def of(connection: Connection, copy: Copy, tables: Sequence[tuple[Table, Path]]) -> Reader | None:
        """A process that reads these tables at the moment that a connection sees; None where that is not worth it, or not possible."""
        if not tables or connection.dialect.name not in ("sqlite", "postgresql"):
            return None
        if _size(connection, copy, [table.name for table, _ in tables]) < LARGE:
            return None
        snapshot = exported_snapshot(connection)
        files = tuple((table, str(path)) for table, path in tables)
        return Reader(Task(copy.store.url, copy.store.shown, str(copy.file) if copy.file else None, snapshot, files))

    def joined(self) -> None:
        """
        Wait until it sees the moment; a transaction that exported it may end then.

        :raises MusterError: what failed there
        """
        if not self._joined:
            self._answer()
            self._joined = True

    def sums(self) -> dict[str, RowSum]:
        """
        Wait until all is written: table to what its rows add up to.

        :raises MusterError: what failed there
        """
        self.joined()
        return {name: from_json(RowSum, total) for name, total in self._answer().items()}

    def close(self) -> None:
        """Nothing is read any more."""
        with contextlib.suppress(BrokenPipeError), self._process as process:
            process.kill()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None  # noqa: S101 - for the type checker
        try:
            answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        except ValueError:
            raise StoreUnavailable(
                f"the process that reads the tables of {self._shown} ended with {self._process.wait()}",
                "see memory, and space for temporary files; take the snapshot again",
            ) from None
        if "error" in answer:
            kind, message, hint = answer["error"]
            raise getattr(errors, kind)(message, hint)
        return dict(answer["done"])


def _size(connection: Connection, copy: Copy, names: Sequence[str]) -> int:
    import sqlalchemy as sa

    if copy.file:
        return copy.file.stat().st_size
    return int(connection.execute(sa.text(_SIZE), {"names": list(names)}).scalar_one())


def main() -> None:
    """Do what standard input says; the lines of standard output are that the moment is seen, and then the sums, or what failed."""
    task = from_json(Task, json.loads(sys.stdin.buffer.readline()))
    threading.Thread(target=_end_with_caller, daemon=True).start()
    try:
        _tell({"done": _written(task)})
    except MusterError as error:
        _tell({"error": [type(error).__name__, error.message, error.hint]})


def _written(task: Task) -> Mapping[str, Any]:
    copy = Copy(StoreUrl(task.url, task.shown), Path(task.file) if task.file else None)
    with copy.again(task.snapshot) as connection:
        _tell({"done": {}})
        return {
            table.name: to_json(write_lines(batches_of(connection, table), Path(path))) for table, path in task.tables
        }


def _tell(answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _end_with_caller() -> None:
    while os.read(0, 1):
        """Nothing more is said; the end of it is what is waited for."""
    os._exit(1)


if __name__ == "__main__":
    main()
