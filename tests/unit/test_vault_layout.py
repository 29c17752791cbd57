"""Names of objects, and what is taken for whole."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from fakes import Fault, FaultyStore, MemoryStore
from muster.errors import IntegrityError, StoreUnavailable, UsageError
from muster.vault.layout import checked_name, digest, mark_key, pack_key, point_key, put_named, read_document

DATA = b"the bytes of a pack"
KEY = pack_key(digest(DATA))


def test_an_object_named_by_its_bytes_is_written_once_and_found_again() -> None:
    """A retry after a lost answer meets its own object, and that is success."""
    store = MemoryStore()
    losing = FaultyStore(store, Fault("lose_answer", "put"))
    with pytest.raises(StoreUnavailable):
        put_named(losing, KEY, DATA)
    put_named(losing, KEY, DATA)
    assert store.objects == {KEY: DATA}


def test_an_object_that_is_half_there_is_not_taken_for_whole() -> None:
    """Half a pack under a pack's name is damage, and stays as it is."""
    store = MemoryStore()
    store.put(KEY, DATA[:5])
    with pytest.raises(IntegrityError, match="has 5 bytes instead of 19"):
        put_named(store, KEY, DATA)
    assert store.objects == {KEY: DATA[:5]}


def test_keys_are_those_of_format_1() -> None:
    """The layout that docs/format.md states."""
    at = datetime(2026, 11, 23, 2, 0, 0, 7, tzinfo=UTC)
    assert f"packs/{digest(DATA)[:2]}/{digest(DATA)}" == KEY
    assert point_key("flights", "p-1") == "points/flights/p-1.json"
    assert mark_key("p-1", "drilled", at, 0) == "marks/p-1/drilled-20261123T020000.000007Z.json"
    assert mark_key("p-1", "drilled", at, 2) == "marks/p-1/drilled-20261123T020000.000007Z-2.json"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "-a", "\u00e4", "x" * 129])
def test_a_name_that_could_be_mistaken_is_refused(name: str) -> None:
    """Names of workloads and points are one plain segment of a key."""
    with pytest.raises(UsageError, match="cannot be the name"):
        checked_name("workload", name)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{", b'{"a": 1}', b'{"b":1,"a":2}', b'{"a":1}\n', b'{"a":1,"a":1}', b"\xff"]
)
def test_a_document_is_exactly_as_it_was_written(data: bytes) -> None:
    """Only canonical JSON is read, so that nothing can be added to it unseen."""
    with pytest.raises(IntegrityError, match=r"vault\.json is not"):
        read_document("vault.json", data)
    assert read_document("vault.json", b'{"a":1}') == {"a": 1}
