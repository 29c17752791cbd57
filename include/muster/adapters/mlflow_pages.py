"""Which tables of an SQLite file are, page by page, what they were: their rows need not be read again."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from muster.adapters.beside import StillWanted

_AT_ONCE = 1 << 20
"""Bytes that are read at once."""
_STEPS = 100_000
"""Of SQLite's, between two looks whether it shall go on."""

_PAGES = """
    SELECT t.name, group_concat(d.pageno) FROM sqlite_schema t CROSS JOIN dbstat d ON d.name = t.name
    WHERE t.type = 'table' GROUP BY t.name
"""
"""Asked for name by name, ``dbstat`` does not walk through indexes, which have most of the pages."""
_TABLES = "SELECT name, sql FROM sqlite_schema WHERE type = 'table'"


def page_digests(file: Path, wanted: StillWanted) -> dict[str, str]:
    """
    Hex SHA-256 of each table: of its definition, of the numbers of all pages that its rows lie in, and of their bytes in this order.

    Rows are nothing but what stands in these pages, so equal digests mean equal rows; different ones mean nothing, since SQLite
    may move rows as it likes. Indexes are other pages. Nothing is said of a damaged file, nor where this SQLite was built without
    ``dbstat``, which tells whose page is which.

    :param file: of a database that nobody writes to
    :raises CancelledError: when they are not wanted any more
    """
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
        connection.set_progress_handler(wanted.given_up, _STEPS)
        try:
            owned = connection.execute(_PAGES).fetchall()
        except sqlite3.DatabaseError:
            wanted.check()
            return {}
        tables = dict(connection.execute(_TABLES).fetchall())
        settings = [connection.execute(f"PRAGMA {name}").fetchone() for name in ("page_size", "encoding")]
    size = int(settings[0][0])
    with file.open("rb", buffering=0) as opened:
        return {
            name: _digest([*settings, tables[name]], sorted(map(int, pages.split(","))), opened.fileno(), size, wanted)
            for name, pages in owned
            if name in tables
        }


def _digest(definition: list[Any], pages: list[int], content: int, size: int, wanted: StillWanted) -> str:
    """Read, not mapped: mapped pages count as memory of the process, and there may be gigabytes of them."""
    digest = hashlib.sha256(json.dumps([*definition, pages]).encode())
    for first, count in wanted.each(_runs(pages, max(1, _AT_ONCE // size))):
        digest.update(os.pread(content, count * size, (first - 1) * size))
    return digest.hexdigest()


def _runs(pages: list[int], longest: int) -> Iterator[tuple[int, int]]:
    """Pages that follow each other: the first one, and how many."""
    start = 0
    for at in range(1, len(pages) + 1):
        if at == len(pages) or pages[at] != pages[at - 1] + 1 or at - start == longest:
            yield pages[start], at - start
            start = at
