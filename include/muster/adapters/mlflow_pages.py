"""Which tables of an SQLite file are, page by page, what they were: their rows need not be read again."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from itertools import groupby
from operator import itemgetter
from pathlib import Path

_PAGES = """
    SELECT t.name, d.pageno FROM sqlite_schema t CROSS JOIN dbstat d ON d.name = t.name
    WHERE t.type = 'table' ORDER BY t.name, d.pageno
"""
"""Asked for name by name, ``dbstat`` does not walk through indexes, which have most of the pages."""
_TABLES = "SELECT name, sql FROM sqlite_schema WHERE type = 'table'"


def page_digests(file: Path) -> dict[str, str]:
    """
    Hex SHA-256 of each table: of its definition, and of the numbers and bytes of all pages that its rows lie in.

    Rows are nothing but what stands in these pages, so equal digests mean equal rows; different ones mean nothing, since SQLite
    may move rows as it likes. Indexes are other pages. Nothing is said of a damaged file, nor where this SQLite was built without
    ``dbstat``, which tells whose page is which.

    :param file: of a database that nobody writes to
    """
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
        try:
            owned = connection.execute(_PAGES).fetchall()
        except sqlite3.DatabaseError:
            return {}
        tables = dict(connection.execute(_TABLES).fetchall())
        settings = [connection.execute(f"PRAGMA {name}").fetchone() for name in ("page_size", "encoding")]
    size = int(settings[0][0])
    with file.open("rb", buffering=0) as opened:
        return {
            name: _digest(json.dumps([*settings, tables[name]]), (page for _, page in pages), opened.fileno(), size)
            for name, pages in groupby(owned, itemgetter(0))
            if name in tables
        }


def _digest(definition: str, pages: Iterable[int], content: int, size: int) -> str:
    """Read, not mapped: mapped pages count as memory of the process, and there may be gigabytes of them."""
    digest = hashlib.sha256(definition.encode())
    for page in pages:
        digest.update(page.to_bytes(4, "big"))
        digest.update(os.pread(content, size, (page - 1) * size))
    return digest.hexdigest()
