"""A restored registry behind a server of its own, on each engine: its API shows what the old one's did."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from muster.adapters.mlflow_restore import MlflowTarget
from muster.adapters.mlflow_server import LocalMlflowServer
from registry_seed import ROWS, SeededRegistry, capture
from rest_registries import answers, seen


@pytest.mark.parametrize("engine", ["sqlite", "embedded_postgres", pytest.param("mariadb", marks=pytest.mark.servers)])
def test_the_api_of_a_restored_registry_shows_what_the_old_one_did(
    seeded_sqlite: SeededRegistry, request: pytest.FixtureRequest, engine: str, tmp_path: Path
) -> None:
    """All that `seen` asks a server for; and the champion, loaded through the new one, answers to the bit."""
    details, tree = capture(seeded_sqlite.store, str(seeded_sqlite.artifacts), tmp_path / "tree")
    url, root = f"sqlite:///{tmp_path}/new.db", tmp_path / "new"
    if engine != "sqlite":
        url = str(request.getfixturevalue(engine).database())
    MlflowTarget(url, str(root)).restore(details, tree)
    old = Path(shutil.copy(seeded_sqlite.store.removeprefix("sqlite:///"), tmp_path / "old.db"))
    with LocalMlflowServer().serve(f"sqlite:///{old}", str(seeded_sqlite.artifacts)) as uri:
        before = seen(uri, tmp_path / "seen before")
    with LocalMlflowServer().serve(url, str(root)) as uri:
        after = seen(uri, tmp_path / "seen after")
        assert answers(uri, "models:/flight-delay@champion", ROWS) == seeded_sqlite.predictions
    assert before.keys() == after.keys()
    for what in before:
        assert after[what] == before[what], what
    assert before["traces"]
    assert before["artifacts"]
