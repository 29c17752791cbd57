"""How small files are fetched: one lot after the other from a store that is near, several at once from one that is far."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from fakes import MemoryStore
from muster.vault.layout import PACKS
from vaults import extract, make_vault, noise, reopen, store_tree

FILES = {f"f{number:03}": noise(2_000, number) for number in range(96)}


class Distant(MemoryStore):
    """A store whose packs take a while to come; counts how many are asked of it at once."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self._lock = threading.Lock()
        self._now = self.most = 0
        self.asked: list[int] = []

    def get_range(self, key: str, start: int, length: int) -> bytes:
        if not key.startswith(PACKS):
            return super().get_range(key, start, length)
        with self._lock:
            self._now += 1
            self.asked.append(self._now)
        try:
            time.sleep(self._seconds)
            return super().get_range(key, start, length)
        finally:
            with self._lock:
                self._now -= 1


@pytest.fixture(autouse=True)
def small_lots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("muster.vault.files._BATCH_FILES", 4)


@pytest.mark.parametrize(("seconds", "most"), [(0.0, 1), (0.05, 3)], ids=["near", "far"])
def test_lots_are_fetched_beside_one_another_if_that_means_waiting(tmp_path: Path, seconds: float, most: int) -> None:
    """From afar three are on their way after the first few; all come whole whatever the order."""
    store = Distant(seconds)
    vault, _ = make_vault(store)
    tree = store_tree(vault, FILES)
    again = reopen(store)
    store.asked.clear()
    assert extract(again, tree, tmp_path) == FILES
    assert len(store.asked) >= len(FILES) // 4
    assert max(store.asked[:2]) == 1
    assert max(store.asked) == most


def test_a_lot_with_a_chunk_that_nothing_names_is_looked_for_once_more(tmp_path: Path) -> None:
    """Another process stored it after the index was read: the list of this tree names chunks that are new to us."""
    store = Distant(0.0)
    vault, _ = make_vault(store)
    early = reopen(store)
    store_tree(early, {"a": b"x"})  # reads the index
    tree = store_tree(vault, FILES)
    assert extract(early, tree, tmp_path) == FILES
