"""JSON on MySQL itself, which keeps what a text means, and shows it as MySQL writes it. MariaDB keeps the text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from muster.adapters import mlflow_mysql as mysql
from muster.adapters.mlflow_store import StoreUrl, connect, translated
from muster.batches import batched_by
from muster.errors import SourceInvalid

if TYPE_CHECKING:
    from sqlalchemy import Connection

MOST_TEXTS, MOST_CHARACTERS = 500, 1 << 16
"""That are asked for at once, but for a longer text alone."""


@dataclass(frozen=True, slots=True)
class MySqlJson:
    """How a server writes JSON. It is asked by connections of their own, for others may be reading rows meanwhile."""

    store: StoreUrl

    def written(self, where: str, texts: Sequence[str]) -> Mapping[str, str]:
        """
        Texts to those that the server will show instead.

        :param where: the column, for messages
        :raises SourceInvalid: if it does not take one of them, or takes it for another value
        """
        found: dict[str, str] = {}
        with translated(self.store.shown), connect(self.store).connect() as connection:
            for some in batched_by(len, dict.fromkeys(texts), MOST_CHARACTERS, MOST_TEXTS):
                found |= zip(some, _asked(connection, where, some), strict=True)
        if not all(text == there or same_value(text, there) for text, there in found.items()):
            raise SourceInvalid(
                f"{where} holds a number that MySQL would keep as another one: JSON has double precision there",
                "restore to PostgreSQL or SQLite, which keep the text",
            )
        return found


def same_value(one: str, other: str) -> bool:
    """Whether two JSON texts mean the same to MLflow; of equal keys the last counts, to Python as to MySQL."""
    try:
        return _meaning(one) == _meaning(other)
    except (ValueError, RecursionError):
        return False


def _meaning(text: str) -> str:
    """Tells 1 from 1.0 and true, and both zeros."""
    return json.dumps(json.loads(text), sort_keys=True)


def _asked(connection: Connection, where: str, texts: Sequence[str]) -> Sequence[str]:
    question = ", ".join(["CAST(%s AS JSON)"] * len(texts))
    with mysql.taking(connection, where, "text", max(map(len, texts))):
        return connection.exec_driver_sql(f"SELECT {question}", tuple(texts)).one()
