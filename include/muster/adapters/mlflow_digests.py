"""
Which tables of a server are, row by row, what they were: the server computes it where the rows lie, and hands over a digest.

It is asked within the transaction that the rows are read in, so that both see the same moment, and no writer can come between: the
question itself locks a table's definition until the look ends. Every SHA-256 here is of bytes that stand for one content alone, null
told from text, and of all rows, in the order in which the server finds them. Another order gives another digest, which proves nothing:
such a table is read.
"""

from __future__ import annotations

import hashlib
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol

from muster.adapters import mlflow_mysql_types as mysql_types
from muster.adapters.mlflow_rows import Table
from muster.adapters.mlflow_store import Copy, exported_snapshot, translated
from muster.codec import canonical
from muster.domain.holdings import bounded
from muster.errors import MusterError, SourceInvalid

if TYPE_CHECKING:
    from sqlalchemy import Connection

logger = logging.getLogger(__name__)

RANGE = 256
"""Blocks of a PostgreSQL table that are digested at once: 2 MiB, some hundreds if all of it is compressed."""
LOCK_TIMEOUT_MS = 200
OLDEST_POSTGRESQL = (14,)
"""Earlier ones would read the whole table for each range."""

_ROW = "pg_catalog.record_send(ROW(r.*))"
"""
A row as it lies in memory: types, lengths, all bits of a float, and no setting of a session changes it. Functions are named with their
schema, since a ``search_path`` may lead to others of the same name.
"""
_DIGEST = "pg_catalog.encode(pg_catalog.sha256(pg_catalog.string_agg({row}, ''::pg_catalog.bytea)), 'hex')"
_SIZE = """
    SELECT pg_relation_size(oid) / CAST(current_setting('block_size') AS bigint),
        CASE WHEN reltoastrelid = 0 THEN false ELSE pg_relation_size(reltoastrelid) > 0 END
    FROM pg_class WHERE oid = CAST(quote_ident(:name) AS regclass)
"""
"""
Blocks of a table, and whether values lie outside of them, since they are long. Neither is trusted: whatever it says, every row is in a
range, and the server fails if a range is too much for it.
"""
_SHOWING = ("server_version_num", "client_encoding", "TimeZone", "DateStyle")
_CHAIN = "SELECT COUNT(*), SUM(OCTET_LENGTH(@muster := SHA2(CONCAT(@muster, {row}), 256))) FROM {table}"
"""
Each row with the digest of those before it. A row that is too long for one packet makes it null, and null it stays.
"""


class Asking(Protocol):
    """How the tables of an engine are asked for their digests."""

    def of(self, table: Table) -> list[Any]:
        """What stands for the content of a table, as JSON has it, the question included."""


def server_digests(connection: Connection, tables: Iterable[Table], copy: Copy) -> dict[str, str]:
    """
    Hex SHA-256 of each table's content, of the question that was asked for it, and of the settings by which the server shows values.

    Equal digests mean equal rows. Tables of which the server cannot tell are left out, and named in the log.

    :param copy: the server, of which the connection sees a moment
    :raises StoreUnavailable: if the server is gone
    """
    found: dict[str, str] = {}
    refused: dict[str, str] = {}
    shown = copy.store.shown
    with _helper(connection, copy) as helper, _attempt(connection, shown, refused, "all of them"):
        asking: Asking = _ENGINES[connection.dialect.name](connection, helper)
        for table in tables:
            with _attempt(connection, shown, refused, table.name):
                found[table.name] = hashlib.sha256(canonical(asking.of(table))).hexdigest()
    if refused:
        named, why = ", ".join(bounded(sorted(refused))), next(iter(refused.values()))
        logger.warning("%s cannot tell whether these tables changed, so they are read: %s (%s)", shown, named, why)
    return found


@contextmanager
def _attempt(connection: Connection, shown: str, refused: dict[str, str], what: str) -> Iterator[None]:
    """What the server refuses within is noted, and the transaction goes on as if it had not been asked."""
    try:
        with translated(shown), connection.begin_nested():
            yield
    except MusterError as error:
        if connection.invalidated or connection.closed:
            raise
        refused[what] = error.message


class _Helper:
    """
    One more connection that sees the same moment, made when it is first asked for: a server answers each with one processor.

    It never waits for a lock: somebody who waits for the other connection to let go of a table would keep it waiting, which waits for
    this one, and the server sees no circle in that. Whatever becomes of it, the other connection can be asked everything.
    """

    def __init__(self, copy: Copy, snapshot: str) -> None:
        self._copy, self._snapshot = copy, snapshot
        self._made: list[Connection] | None = None
        self._stack = ExitStack()

    def like(self, settings: Sequence[str]) -> Connection | None:
        """One that answers by the same settings, as `_settled` gives them; None if there is none."""
        if self._made is None:
            self._made = []
            with self._noticed(), translated(self._copy.store.shown):
                made = self._stack.enter_context(self._copy.again(self._snapshot))
                made.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_MS}ms'")
                if _settled(made) == settings:
                    self._made = [made]
                else:
                    logger.warning(
                        "%s answers two connections by two settings, so one is asked", self._copy.store.shown
                    )
        return self._made[0] if self._made else None

    def close(self) -> None:
        """It is not needed any more."""
        with self._noticed():
            self._stack.close()

    @contextmanager
    def _noticed(self) -> Iterator[None]:
        try:
            yield
        except MusterError as error:
            logger.warning("%s is asked by one connection alone: %s", self._copy.store.shown, error.message)


@contextmanager
def _helper(connection: Connection, copy: Copy) -> Iterator[_Helper | None]:
    snapshot = exported_snapshot(connection)
    helper = _Helper(copy, snapshot) if snapshot else None
    try:
        yield helper
    finally:
        if helper:
            helper.close()


class _PostgreSql:
    """Ranges of blocks, in the order of the blocks, as pages are on SQLite; those of a large table by two connections."""

    def __init__(self, connection: Connection, helper: _Helper | None) -> None:
        version = connection.dialect.server_version_info or ()
        if version < OLDEST_POSTGRESQL:
            raise SourceInvalid("PostgreSQL before 14 reads a whole table for each part of it", "upgrade the server")
        self._connection = connection
        self._helper = helper
        self._settings = _settled(connection)
        self._shown = self._settings[: len(_SHOWING)]

    def of(self, table: Table) -> list[Any]:
        import sqlalchemy as sa

        blocks, long = self._connection.execute(sa.text(_SIZE), {"name": table.name}).one()
        digest = _DIGEST.format(row=f"pg_catalog.sha256({_ROW})" if long else _ROW)
        sums: list[Any] = [sa.literal_column(text) for text in ("pg_catalog.count(*)", digest)]
        rows = sa.table(table.name).alias("r")
        starts = range(0, max(blocks, 1), RANGE)

        def part(connection: Connection, start: int) -> list[Any]:
            asked = sa.select(*sums).select_from(rows).where(_block(">=", start))
            if start != starts[-1]:
                asked = asked.where(_block("<", start + RANGE))
            return [start, *connection.execute(asked).one()]

        helper = self._helper.like(self._settings) if self._helper and len(starts) > 1 else None
        parts = _shared(part, starts, self._connection, helper)
        return ["postgresql", digest, self._shown, [part for part in parts if part[1]]]


def _settled(connection: Connection) -> list[str]:
    """Have the server answer in one order, from one place; give the settings by which it shows values, and where it looks for tables."""
    for setting in ("jit", "synchronize_seqscans"):
        connection.exec_driver_sql(f"SET LOCAL {setting} = off")
    connection.exec_driver_sql("SET LOCAL max_parallel_workers_per_gather = 0")
    return [connection.exec_driver_sql(f"SHOW {name}").scalar_one() for name in (*_SHOWING, "search_path")]


def _shared(
    ask: Callable[[Connection, int], list[Any]],
    starts: Sequence[int],
    connection: Connection,
    helper: Connection | None,
) -> list[list[Any]]:
    """
    The answers for all starts, in their order; each connection is asked the next one as soon as it has answered.

    The first is asked by the connection whose transaction goes on, which locks the table's definition, before a helper is asked anything.
    What a helper is refused, the connection is asked again; then the helper goes on with the next table, unless its connection is lost.
    """
    first, *others = starts
    answers = {first: ask(connection, first)}
    waiting = deque(others)

    def work(by: Connection) -> None:
        with suppress(IndexError):
            while True:
                start = waiting.popleft()
                answers[start] = ask(by, start)

    def help_out(by: Connection) -> None:
        with by.begin_nested():
            work(by)

    with ThreadPoolExecutor(1, "muster-digest") as aside:
        helping = aside.submit(help_out, helper) if helper is not None else None
        try:
            work(connection)
        finally:
            waiting.clear()
    if helping and (failure := helping.exception()):
        logger.warning("of two connections one gave up (%s); the other is asked the rest", type(failure).__name__)
    return [answers.get(start) or ask(connection, start) for start in starts]


def _block(operator: str, number: int) -> Any:
    import sqlalchemy as sa

    place = f"'({number},0)'::pg_catalog.tid"
    return sa.literal_column(f"r.ctid OPERATOR(pg_catalog.{operator}) {place}", sa.Boolean)


class _MySql:
    """One digest through all rows, in the order of their keys, in which InnoDB keeps them."""

    def __init__(self, connection: Connection, _helper: _Helper | None) -> None:
        self._connection = connection
        self._version = connection.exec_driver_sql("SELECT VERSION()").scalar_one()

    def of(self, table: Table) -> list[Any]:
        asked = _CHAIN.format(
            row=mysql_types.row_text(self._connection, table),
            table=self._connection.dialect.identifier_preparer.quote(table.name),
        )
        self._connection.exec_driver_sql("SET @muster = ''")
        count, length = self._connection.exec_driver_sql(asked).one()
        digest = self._connection.exec_driver_sql("SELECT @muster").scalar_one()
        if int(length or 0) != 64 * count or digest is None:
            raise SourceInvalid("a row is too long for one packet", "raise max_allowed_packet")
        return ["mysql", asked, self._version, count, digest]


_ENGINES: Mapping[str, Any] = {"postgresql": _PostgreSql, "mysql": _MySql}
