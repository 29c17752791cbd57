"""Harm that drills do to what was restored: it is there, and only there."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from muster.adapters.harm import NOWHERE, corrupt_revision, lose_database, poison_files, poison_model
from muster.errors import NotFound

SIGNATURE = """\
signature:
  inputs: '[{"type": "double", "name": "distance", "required": true}]'
  outputs: '[{"type": "double"}]'
"""
TENSOR = """\
signature:
  inputs: '[{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 2]}}]'
"""


def test_poisoned_texts_have_absent_and_impossible_values_under_the_same_heading(tmp_path: Path) -> None:
    """Every line but the first is altered; DVC's own files, and the other name of the same bytes in its cache, are not."""
    cache = tmp_path / ".dvc" / "cache"
    cache.mkdir(parents=True)
    (cache / "object").write_text("id,mass\n1,3000\n2,4000\n")
    (tmp_path / "data").mkdir()
    os.link(cache / "object", tmp_path / "data" / "a.csv")
    (tmp_path / "data" / "b.parquet").write_bytes(bytes(range(128, 228)))
    (tmp_path / "data.dvc").write_text("outs:\n- md5: 1\n")
    assert poison_files(tmp_path) == 2
    assert (tmp_path / "data" / "a.csv").read_text() == "id,mass\n-999999,-999999\n,\n"
    assert (cache / "object").read_text() == "id,mass\n1,3000\n2,4000\n"
    assert (tmp_path / "data.dvc").read_text() == "outs:\n- md5: 1\n"
    spoiled = (tmp_path / "data" / "b.parquet").read_bytes()
    assert (len(spoiled), spoiled[:25], spoiled[25:75]) == (100, bytes(range(128, 153)), bytes(50))
    with pytest.raises(NotFound):
        poison_files(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("text", "found", "told"),
    [
        (SIGNATURE, '"name": "not_distance"', "the signature"),
        (TENSOR, '"shape": [-1, 2, 7]', "the signature"),
        ("flavors: {}\n", "flavors: {}", "what it has learned"),
    ],
)
def test_a_poisoned_model_has_another_signature_or_has_learned_nothing(
    tmp_path: Path, text: str, found: str, told: str
) -> None:
    """Columns are called otherwise, or a tensor has one more dimension; without a signature, the largest file is zeros."""
    model = tmp_path / "1" / "models" / "m" / "artifacts"
    model.mkdir(parents=True)
    (model / "MLmodel").write_text(text)
    (model / "model.skops").write_bytes(b"weights")
    (model / "conda.yaml").write_bytes(b"x")
    assert poison_model(tmp_path) == told
    assert found in (model / "MLmodel").read_text()
    assert (model / "model.skops").read_bytes() == (b"weights" if told == "the signature" else bytes(7))
    with pytest.raises(NotFound):
        poison_model(tmp_path / "nowhere")


def test_a_database_is_lost_whole_or_claims_a_schema_that_nobody_knows(tmp_path: Path) -> None:
    """What belongs to it goes with it; the claim changes nothing else."""
    database = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('abc')")
    corrupt_revision(database)
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(NOWHERE,)]
    (tmp_path / "mlflow.db-wal").write_text("")
    (tmp_path / "other.db").write_text("")
    lose_database(database)
    assert [path.name for path in tmp_path.iterdir()] == ["other.db"]
