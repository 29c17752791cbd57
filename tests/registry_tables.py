"""A registry on a real server, with all in it that is easily taken for equal, and captures of it that know the one before."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fakes_trees import FolderTree
from muster.adapters import mlflow_tables
from muster.adapters.mlflow_registry import MlflowSource, RegistryCapture
from registry_seed import driven, empty_store

RUNS, METRICS = 5, 40
LONG = "".join(hashlib.md5(b"%d" % n).hexdigest() for n in range(300))
"""Does not compress to where rows lie."""
ODD = 'odd %s of :x "it" `so`'
ENGINES = ["embedded_postgres", *(pytest.param(e, marks=pytest.mark.servers) for e in ("debian_postgres", "mariadb"))]
MARIADB = [pytest.param("mariadb", marks=pytest.mark.servers)]


@dataclass
class TablesOnServer:
    """A registry on a server, and captures of it, each of which knows the one before."""

    url: str
    folder: Path
    trees: list[FolderTree] = field(default_factory=list)

    @property
    def maria(self) -> bool:
        return self.url.startswith("mysql")

    def quoted(self, name: str) -> str:
        mark = "`" if self.maria else '"'
        return mark + name.replace(mark, mark * 2) + mark

    def change(self, *statements: str) -> None:
        """One transaction; names in ``[]`` are quoted as the engine wants it, ``:`` means nothing."""
        import sqlalchemy as sa

        with sa.create_engine(driven(self.url), poolclass=sa.NullPool).begin() as connection:
            for statement in statements:
                named = re.sub(r"\[(.*?)\]", lambda m: self.quoted(m.group(1)), statement)
                connection.execute(
                    sa.text(named.replace(":", "\\:").replace("ODD", self.quoted(ODD).replace(":", "\\:")))
                )

    def asked(self, question: str) -> Any:
        """The one value that the server answers, by another connection."""
        import sqlalchemy as sa

        with sa.create_engine(driven(self.url), poolclass=sa.NullPool).connect() as connection:
            return connection.exec_driver_sql(question).scalar()

    def source(self) -> MlflowSource:
        return MlflowSource("w", self.url, str(self.folder / "artifacts"))

    def take(self, *, alone: bool = False) -> tuple[set[str], dict[str, Any]]:
        """Tables that were read, and the details."""
        previous = self.trees[-1] if self.trees and not alone else None
        tree = FolderTree(self.folder / f"tree{len(list(self.folder.iterdir()))}")
        with self.source().capture(previous) as cut:
            read = tables_read(cut)
            tree.store(cut.files())
            cut.confirm()
            details = json.loads(json.dumps(cut.details()))
        self.trees.append(tree.keep(previous) if previous else tree)
        return read, details

    def table(self, name: str) -> bytes:
        """Its rows in the last capture."""
        return self.trees[-1].read(self.trees[-1].entry(f"tables/{name}.jsonl"))


def tables_read(cut: RegistryCapture) -> set[str]:
    return {name for dump in cut.dumps for name in dump.tables if dump.file(name).exists()}


@pytest.fixture(scope="session")
def server_stores() -> dict[str, str]:
    """The store of each engine, once it was made."""
    return {}


@pytest.fixture(params=ENGINES)
def on_server(
    request: pytest.FixtureRequest, server_stores: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> TablesOnServer:
    """Runs with parameters and metrics, a table of somebody else with all that is easily taken for equal, and a first capture."""
    monkeypatch.setattr(mlflow_tables, "due", lambda _path, _at: False)
    (tmp_path / "artifacts").mkdir()
    if request.param not in server_stores:
        server_stores[request.param] = request.getfixturevalue(request.param).database()
        empty_store(driven(server_stores[request.param]), tmp_path / "artifacts")
        seed(TablesOnServer(server_stores[request.param], tmp_path))
    server = TablesOnServer(server_stores[request.param], tmp_path)
    reset(server)
    server.change(f"UPDATE experiments SET artifact_location = '{tmp_path}/artifacts/0'")
    server.take()
    return server


def seed(server: TablesOnServer) -> None:
    long, double, single, raw = (
        ("LONGTEXT", "DOUBLE", "FLOAT", "LONGBLOB") if server.maria else ("TEXT", "DOUBLE PRECISION", "REAL", "BYTEA")
    )
    utf8 = " CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci" if server.maria else ""
    server.change(
        f"CREATE TABLE ODD (id INTEGER PRIMARY KEY, a {long}, b {long}, d {double}, s {single}, raw {raw}){utf8}",
        f"CREATE TABLE keyless (a {long}, n INTEGER){utf8}",
        *(
            "INSERT INTO runs (run_uuid, name, experiment_id, lifecycle_stage, status) "
            f"VALUES ('r{n}', 'n', 0, 'active', 'FINISHED')"
            for n in range(RUNS)
        ),
    )


def reset(server: TablesOnServer) -> None:
    """The rows that each test begins with."""
    metrics = ", ".join(f"('m{n}', {n} / 7.0, {n}, 'r{n % RUNS}', false, {n})" for n in range(METRICS))
    server.change(
        *(f"DELETE FROM {table}" for table in ("ODD", "keyless", "metrics", "params")),
        f"INSERT INTO metrics ([key], value, timestamp, run_uuid, is_nan, step) VALUES {metrics}",
        "INSERT INTO params ([key], value, run_uuid) VALUES ('alpha', '0.1', 'r0'), ('beta', '0.2', 'r0')",
        "INSERT INTO ODD VALUES (1, 'ab', 'c', 0.1, 0.1, NULL), (2, NULL, 'é', 0, 0, ''), (3, '', 'x', NULL, 16777216, NULL)",
        f"INSERT INTO ODD VALUES (4, '{LONG}', NULL, NULL, NULL, NULL)",
        "INSERT INTO keyless VALUES ('a', 1), ('a', 1), ('b', 2), ('b', 2)",
    )
