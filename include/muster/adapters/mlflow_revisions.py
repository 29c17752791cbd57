"""The schema revisions of MLflow's databases: which one has, and which the installed MLflow knows."""

from __future__ import annotations

import re
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muster.errors import SourceInvalid

if TYPE_CHECKING:
    from sqlalchemy import Connection

VERSION_TABLES = {"alembic_version": "store/db_migrations", "alembic_version_auth": "server/auth/db/migrations"}
"""Where Alembic keeps the revision of MLflow's two schemas, and where below the package their migrations are."""
_REVISION = re.compile(r"""^(revision|down_revision)\b[^=\n]*=\s*["'](\w+)["']""", re.MULTILINE)


def revisions_of(connection: Connection) -> dict[str, str]:
    """
    The schema revisions of a database: version table to revision, for MLflow's own and its basic-auth schema.

    :raises SourceInvalid: if a version table holds not exactly one revision
    """
    from sqlalchemy import inspect, text

    present = set(inspect(connection).get_table_names())
    found: dict[str, str] = {}
    for table in VERSION_TABLES:
        if table in present:
            rows = list(connection.execute(text(f"SELECT version_num FROM {table}")).scalars())  # noqa: S608 (a constant)
            if len(rows) != 1:
                raise SourceInvalid(f"{table} holds {len(rows)} revisions instead of one", "finish `mlflow db upgrade`")
            found[table] = str(rows[0])
    return found


def mlflow_version() -> str:
    """
    The version of MLflow that is installed here.

    :raises SourceInvalid: if none is
    """
    for package in ("mlflow", "mlflow-skinny"):
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    raise SourceInvalid("MLflow is not installed here", "install mlflow: its own migrations make the schema")


@cache
def migration_scripts(table: str) -> Any:
    """The `alembic.script.ScriptDirectory` of the schema whose revision is kept in this version table."""
    from alembic.script import ScriptDirectory

    return ScriptDirectory(str(_migrations(table)))


def known_revisions(table: str) -> frozenset[str]:
    """All revisions of a schema that the installed MLflow has a migration to."""
    return frozenset(_named_revisions(table)["revision"])


def newest_revision(table: str) -> str:
    """
    The revision of a schema to which the installed MLflow brings it.

    :raises SourceInvalid: if its migrations lead to none, or to several
    """
    named = _named_revisions(table)
    newest = named["revision"] - named["down_revision"]
    if len(newest) != 1:
        raise SourceInvalid(
            f"the migrations of the installed MLflow {mlflow_version()} lead to {len(newest)} revisions ({table})",
            "install MLflow again",
        )
    return next(iter(newest))


@cache
def _named_revisions(table: str) -> dict[str, set[str]]:
    """
    What the migrations of a schema are called, and what they build on.

    It is read out of the texts: Alembic imports every migration, and one of them all of MLflow, which takes seconds.
    """
    named: dict[str, set[str]] = {"revision": set(), "down_revision": set()}
    for path in (_migrations(table) / "versions").glob("*.py"):
        for what, revision in _REVISION.findall(path.read_text()):
            named[what].add(revision)
    return named


def _migrations(table: str) -> Path:
    spec = find_spec("mlflow")
    if spec is None or spec.origin is None:
        raise SourceInvalid("MLflow is not installed here", "install mlflow: its own migrations make the schema")
    return Path(spec.origin).parent / VERSION_TABLES[table]


def require_known(revisions: dict[str, str], what: str, needed: str) -> None:
    """
    See that the installed MLflow knows the revisions of a store.

    :param needed: the MLflow that would know them, in words for the hint
    :raises SourceInvalid: if it does not
    """
    for table, revision in revisions.items():
        if revision not in known_revisions(table):
            raise SourceInvalid(
                f"{what} is at schema revision {revision} ({table}), which the installed MLflow {mlflow_version()} does not know",
                f"install {needed}",
            )
