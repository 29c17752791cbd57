"""What adapters and operations read from trees of a point: DVC's folders, MLflow's rows and schema, records, predictions, samples."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from fakes import MemoryStore
from faults.fuzzing import ANYTHING, altered, bounded, by_chance, documents, mutate, ours, raw_json
from muster.adapters.dvc_objects_map import folder_object, read_folder_object
from muster.adapters.mlflow_lines import Batch, read_batches, sum_of_file
from muster.adapters.mlflow_rows import Column, Table, insert_rows
from muster.adapters.mlflow_tables import Schema
from muster.codec import to_json
from muster.domain.predictions import compare, count_values
from muster.domain.recovery_point import Component
from muster.errors import IntegrityError, MusterError
from muster.operations.anomaly import looked_at
from muster.operations.snapshot import RECORD, Handover, json_of, take_over
from muster.vault.sources import bytes_file
from vaults import component, make_vault

FOLDER = folder_object({"a": "0" * 32, "b/c": "1" * 32})


@given(by_chance(lambda chance: mutate(FOLDER, chance)) | documents(json.loads(FOLDER)))
@example(b"[" * 100_000)
@example(raw_json([{"md5": "0" * 32, "relpath": "\ud800"}]))
@bounded(120)
def test_any_bytes_are_a_folder_of_dvc_or_damaged(content: bytes) -> None:
    """With the digest that they have, since whoever stores an object names it."""
    found = ours(lambda: read_folder_object(f"{hashlib.md5(content).hexdigest()}.dir", content))
    if isinstance(found, dict):
        for path, md5 in found.items():
            assert path.encode()
            assert len(bytes.fromhex(md5)) == 16
    else:
        assert isinstance(found, IntegrityError)


COLUMNS = tuple(
    Column(kind, kind, nullable=True) for kind in ("text", "integer", "float", "decimal", "bytes", "datetime", "json")
)
TABLE = Table("t", COLUMNS, ())
ROW = ["text", 1, 0.5, {"decimal": "1.5"}, {"bytes": "AAAA"}, {"datetime": "2026-11-23T02:00:00"}, "{}"]
ODD = (
    {"decimal": "x"},
    {"float": 10**400},
    {"bytes": "x"},
    {"date": 5},
    {"time": "25:00"},
    {"a": 1, "b": 2},
    {},
    {"x": []},
    10**30,
    "\ud800",
)


@given(
    st.builds(
        lambda place, odd: [*ROW[:place], odd, *ROW[place + 1 :]], st.integers(0, len(ROW) - 1), st.sampled_from(ODD)
    ).map(raw_json)
    | documents(ROW)
)
@example(b"[NaN,1,1,1,1,1,1]")
@example(b"\xff")
@example(b"[" * 100_000)
@example(b"5")
@bounded(150)
def test_any_line_is_a_row_or_damaged(line: bytes) -> None:
    """A row that no capture wrote ends the restore with an error of ours, before anything of it is kept."""
    with tempfile.TemporaryDirectory() as folder, database() as connection:
        path = Path(folder, "t.jsonl")
        path.write_bytes(line + b"\n")
        found = ours(lambda: insert_rows(connection, TABLE, read_batches(path)))
        assert isinstance(found, MusterError) or found.rows == path.read_bytes().count(b"\n")  # type: ignore[attr-defined]


@contextmanager
def database() -> Iterator[Any]:
    """One in memory, with the table."""
    import sqlalchemy

    engine = sqlalchemy.create_engine("sqlite://")
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(f"CREATE TABLE t ({', '.join(column.name for column in COLUMNS)})"))
        yield connection
    engine.dispose()


def test_a_whole_row_goes_in(tmp_path: Path) -> None:
    """So that what is refused above is refused for what is wrong with it."""
    (tmp_path / "t").write_bytes(Batch([ROW]).lines)
    with database() as connection:
        assert insert_rows(connection, TABLE, read_batches(tmp_path / "t")) == sum_of_file(tmp_path / "t")


SCHEMA = to_json(
    Schema(1, "sqlite", "3.1", 0.5, {"alembic_version": "x"}, (TABLE,), {"t": 1}, ({"tree": "artifacts"},))
)


@given(altered(SCHEMA) | ANYTHING)
@bounded(150)
def test_any_json_is_a_schema_of_a_registry_or_none(data: Any) -> None:
    """What is taken for one has its columns and its key."""
    found = ours(lambda: Schema.read(data))
    assert isinstance(found, Schema | IntegrityError)


ANSWER: dict[str, Any] = {
    "dtype": "dict",
    "keys": ["a", "b"],
    "shape": [2],
    "values": [
        {"dtype": "float64", "shape": [2, 1], "values": ["0.1", "nan"]},
        {"dtype": "list", "shape": [1], "values": [{"dtype": "str", "shape": [], "values": ["x"]}]},
    ],
}


def deep_answer(depth: int) -> Mapping[str, Any]:
    found: Mapping[str, Any] = {"dtype": "none", "shape": [], "values": []}
    for _ in range(depth):
        found = {"dtype": "list", "shape": [1], "values": [found]}
    return found


@given(altered(ANSWER) | ANYTHING, altered(ANSWER) | st.just(ANSWER))
@example({"dtype": "float64", "shape": [1], "values": [10**400]}, {"dtype": "float64", "shape": [1], "values": [1]})
@example({"dtype": "list", "shape": [1], "values": [5]}, ANSWER)
@bounded(180)
def test_any_json_is_an_answer_of_a_model_or_none(golden: Any, found: Any) -> None:
    """Golden predictions are compared, or cannot be read."""
    ours(lambda: count_values(golden))
    ours(lambda: compare(golden, found, rtol=0.1, atol=0))
    ours(lambda: compare(found, golden, rtol=0.1, atol=0))
    ours(lambda: compare(golden, golden, rtol=0, atol=0))


def test_an_answer_within_answers_without_end_cannot_be_read() -> None:
    """It has the form of one; what is compared level by level would not come to its end."""
    golden = deep_answer(5000)
    assert isinstance(ours(lambda: count_values(golden)), IntegrityError)
    assert isinstance(ours(lambda: compare(golden, deep_answer(5000), rtol=0, atol=0)), IntegrityError)


def test_any_record_of_a_component_is_one_or_none() -> None:
    """What one task hands to the next by way of the vault, and what a comparison looked at."""
    vault, _ = make_vault(MemoryStore())
    with vault.writer() as writer:
        whole = to_json(component(writer.store_tree([bytes_file("a", b"a")])))

    @given(documents(whole), documents({"lost": [["a", 1, "text"]], "new": []}))
    @bounded(60)
    def run(record: bytes, names: bytes) -> None:
        with vault.writer() as writer:
            stored = writer.store_tree([bytes_file(RECORD, record), bytes_file("changes.json", names)])
        assert isinstance(
            ours(lambda: take_over(vault, [Handover("dataset/flights", stored, 1, 1)])), list | MusterError
        )
        assert isinstance(ours(lambda: json_of(vault.tree(stored), "missing")), MusterError)
        ours(lambda: looked_at(vault, Component("changes", "x", stored, component(stored).cut_at, "", {})))

    run()
