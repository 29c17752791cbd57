"""MLflow's schema, made by MLflow's own migrations inside a transaction of ours, and what a fresh one holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from muster.adapters import mlflow_mysql_types as mysql_types
from muster.adapters.mlflow_revisions import VERSION_TABLES, migration_scripts
from muster.adapters.mlflow_rows import Table
from muster.errors import SourceInvalid

if TYPE_CHECKING:
    from sqlalchemy import Connection

SEQUENCES = """
    SELECT t.relname, a.attname, format('%I.%I', n.nspname, c.relname), s.last_value,
        has_sequence_privilege(c.oid, 'USAGE, SELECT')
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = current_schema()
    JOIN pg_depend d ON d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
    JOIN pg_class t ON t.oid = d.refobjid
    JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
    JOIN pg_sequences s ON s.schemaname = n.nspname AND s.sequencename = c.relname
    WHERE c.relkind = 'S'
"""
"""
Table, column, name and last value of every sequence that belongs to a column, and whether this role may know the value: it is null if it
may not, and if no number was given out yet.
"""


INDEXES = {
    "sqlite": "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL AND tbl_name = :table",
    "postgresql": """
        SELECT c.relname, pg_get_indexdef(c.oid) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
        WHERE i.indrelid = CAST(quote_ident(:table) AS regclass)
        AND NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conindid = c.oid)
    """,
}
"""Name and statement of each index of a table, but for those that a constraint makes or needs."""
_MOVED = {"75868b020152": ("span_metrics", "trace_metrics", "trace_request_metadata", "trace_tags")}
"""Revision to the tables whose rows it turns into columns, by the code of MLflow 3.17; no other revision takes rows away."""


def create_schema(connection: Connection, revisions: Mapping[str, str]) -> None:
    """Make MLflow's tables as they were at these revisions, without the rows that migrations seed."""
    before = set(reflected(connection).tables)
    if "alembic_version" in revisions:
        from mlflow.store.tracking.dbmodels.initial_models import Base

        Base.metadata.create_all(connection)
    for table, revision in revisions.items():
        migrate(connection, table, revision)
    for table in reversed(list(reflected(connection).sorted_tables)):
        if table.name not in before and table.name not in VERSION_TABLES:
            connection.execute(table.delete())


def migrate(connection: Connection, version_table: str, revision: str) -> None:
    """
    Run MLflow's migrations up to a revision, or to ``heads``, in the transaction of this connection.

    MLflow's own ``env.py`` would open a second connection, so that nothing could be undone as a whole.
    """
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext

    scripts = migration_scripts(version_table)

    def steps(current: Any, _context: Any) -> Any:
        return scripts._upgrade_revs(revision, current)  # what alembic.command.upgrade calls; there is no public way

    with EnvironmentContext(Config(), scripts, fn=steps, destination_rev=revision) as environment:
        environment.configure(connection=connection, render_as_batch=True, version_table=version_table)
        with environment.begin_transaction():
            environment.run_migrations()


def rows_moved_by(old: Mapping[str, str]) -> set[str]:
    """
    Tables that have fewer rows after the migrations that follow these revisions, since MLflow keeps what they said in columns of others.

    :param old: version table to its revision
    """
    steps = {s.revision for name, at in old.items() for s in migration_scripts(name).iterate_revisions("heads", at)}
    return {table for step in steps & _MOVED.keys() for table in _MOVED[step]}


def rows_in(connection: Connection, table: str) -> int:
    """How many there are."""
    import sqlalchemy as sa

    return int(connection.execute(sa.select(sa.func.count()).select_from(sa.table(table))).scalar_one())


@contextmanager
def indexes_made_last(connection: Connection, table: str) -> Iterator[None]:
    """
    Put rows in without the indexes of a table, then make these as they were; not on MySQL, where that ends the transaction.

    Rows come in the order of the key, so that each would go to another place of every other index: of a million points of a metric that
    takes SQLite three times as long as making the indexes at once.
    """
    import sqlalchemy as sa

    if connection.dialect.name not in INDEXES:
        yield
        return
    made = connection.execute(sa.text(INDEXES[connection.dialect.name]), {"table": table}).all()
    quoted = connection.dialect.identifier_preparer.quote
    for name, _ in made:
        connection.exec_driver_sql(f"DROP INDEX {quoted(name)}")
    yield
    for _, statement in made:
        connection.exec_driver_sql(statement, execution_options={"no_parameters": True})  # a percent sign is one


def create_unknown(connection: Connection, table: Table) -> None:
    """Make a table that MLflow's migrations do not know: columns, types, key; without indexes and foreign keys."""
    import sqlalchemy as sa

    types = _unknown_types(connection, table)
    columns = [
        sa.Column(
            c.name,
            types.get(f"key {c.kind}", types[c.kind]) if c.name in table.key else types[c.kind],
            primary_key=c.name in table.key,
            nullable=c.nullable,
            autoincrement=False,
        )
        for c in table.columns
    ]
    sa.Table(table.name, sa.MetaData(), *columns).create(connection)


def add_unknown(connection: Connection, stored: Table, here: Table) -> None:
    """Add the columns of a stored table that MLflow's migrations do not know to the one that they made; null may be put in."""
    types = _unknown_types(connection, stored)
    quote = connection.dialect.identifier_preparer.quote
    for column in stored.columns:
        if column.name not in here.names:
            type_: Any = types[column.kind]
            declared = (type_() if isinstance(type_, type) else type_).compile(connection.dialect)
            connection.exec_driver_sql(f"ALTER TABLE {quote(stored.name)} ADD COLUMN {quote(column.name)} {declared}")


def _unknown_types(connection: Connection, table: Table) -> dict[str, Any]:
    """Types for columns that MLflow does not make, by kind; ``key text`` and the like for those of a key, where they are others."""
    import sqlalchemy as sa

    types: dict[str, Any] = {
        "text": sa.Text,
        "json": sa.JSON,
        "integer": sa.BigInteger,
        "boolean": sa.Boolean,
        "float": sa.Double,
        "decimal": sa.Numeric,
        "bytes": sa.LargeBinary,
        "date": sa.Date,
        "datetime": sa.DateTime,
        "time": sa.Time,
    }
    return types | (mysql_types.unknown_types(table) if connection.dialect.name == "mysql" else {})


def reflected(connection: Connection) -> Any:
    """The `sqlalchemy.MetaData` of the default schema."""
    from sqlalchemy import MetaData

    found = MetaData()
    found.reflect(connection)
    return found


def drop_unused(connection: Connection) -> None:
    """Drop the tables of a schema that was made and never used, on PostgreSQL."""
    from sqlalchemy import text

    metadata = reflected(connection)
    if metadata.tables:
        connection.execute(text("SET LOCAL lock_timeout = '30s'"))
        metadata.drop_all(connection)


def sequences_of(connection: Connection) -> dict[str, int]:
    """
    The last number given out for each table that counts by itself, so that no number is given out twice.

    :raises SourceInvalid: if this role may not know one
    """
    from sqlalchemy import inspect, text

    if connection.dialect.name == "mysql":
        return mysql_types.last_numbers(connection)
    if connection.dialect.name == "postgresql":
        found = connection.execute(text(SEQUENCES)).all()
        if hidden := [sequence for _, _, sequence, _, readable in found if not readable]:
            raise SourceInvalid(
                f"this role may not read {', '.join(hidden)}: which numbers were given out already, a restore could not know",
                "GRANT SELECT ON ALL SEQUENCES IN SCHEMA … TO the role that snapshots are taken with, as on all tables",
            )
        return {table: last for table, _, _, last, _ in found if last is not None}
    if "sqlite_sequence" not in inspect(connection).get_table_names(sqlite_include_internal=True):
        return {}
    return {str(name): int(last) for name, last in connection.execute(text("SELECT name, seq FROM sqlite_sequence"))}


def reserve_numbers(connection: Connection, last: Mapping[str, int]) -> None:
    """On MySQL, do what `set_sequences` does elsewhere, while the tables are empty: it would end the transaction of their rows."""
    if connection.dialect.name == "mysql":
        mysql_types.count_on(connection, last)


def set_sequences(connection: Connection, last: Mapping[str, int]) -> list[str]:
    """
    Let every table go on counting after the last number that was given out, or that is there.

    :return: tables that will give numbers out once more whose rows are gone: SQLite counts on from the highest row in most tables
    """
    import sqlalchemy as sa

    if connection.dialect.name == "mysql":
        return []  # see `reserve_numbers`
    if connection.dialect.name == "postgresql":
        for table, column, sequence, *_ in connection.execute(sa.text(SEQUENCES)).all():
            highest = connection.execute(
                sa.select(sa.func.max(sa.column(column))).select_from(sa.table(table))
            ).scalar()
            if known := [n for n in (highest, last.get(table)) if n]:  # the default experiment is 0: nobody counted it
                connection.execute(sa.text("SELECT setval(:name, :last)"), {"name": sequence, "last": max(known)})
        return []
    present = sequences_of(connection)
    for table in present.keys() & last.keys():
        connection.execute(
            sa.text("UPDATE sqlite_sequence SET seq = max(seq, :last) WHERE name = :name"),
            {"name": table, "last": last[table]},
        )
    others = {
        table: sa.select(sa.func.max(sa.text("rowid"))).select_from(sa.table(table))
        for table in last
        if table not in present
    }
    return [table for table, highest in others.items() if last[table] > (connection.execute(highest).scalar() or 0)]
