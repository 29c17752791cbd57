"""A store as a drill sees it: nothing reaches the true one, whatever is done, and harm stands only before what is read from there."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from fakes import MemoryStore
from muster.adapters.sandboxed_store import SandboxedStore
from muster.domain.drill import Harm
from muster.errors import AlreadyExists, IntegrityError, NotFound, Refused, StoreUnavailable


@pytest.fixture
def truth() -> MemoryStore:
    store = MemoryStore()
    store.put("packs/aa/one", b"0123456789")
    store.put("packs/bb/two", b"abc")
    return store


def seen(truth: MemoryStore, folder: Path, harm: Harm | None = None) -> SandboxedStore:
    return SandboxedStore(truth, folder / "over", harm)


def keys(store: SandboxedStore, prefix: str = "") -> list[str]:
    return [info.key for info in store.list(prefix)]


def test_what_is_written_is_read_again_and_never_reaches_the_true_store(truth: MemoryStore, tmp_path: Path) -> None:
    """Reads join both; writes, and what another view of the same sandbox reads, lie in the folder; nothing is overwritten or deleted."""
    before = dict(truth.objects)
    view = seen(truth, tmp_path)
    view.put("packs/ab/new", b"new")
    for same in (view, seen(truth, tmp_path)):
        assert keys(same) == ["packs/aa/one", "packs/ab/new", "packs/bb/two"]
        assert (same.get("packs/ab/new"), same.get("packs/bb/two")) == (b"new", b"abc")
        assert (same.get_range("packs/aa/one", 2, 3), same.get_range("packs/ab/new", 1, 2)) == (b"234", b"ew")
        assert (same.info("packs/aa/one").size, same.info("packs/ab/new").size) == (10, 3)
    for taken in ("packs/aa/one", "packs/ab/new"):
        with pytest.raises(AlreadyExists):
            view.put(taken, b"other")
        with pytest.raises(Refused, match="a drill removes nothing"):
            view.delete(taken)
    with pytest.raises(NotFound):
        view.get("packs/cc/none")
    assert truth.objects == before
    assert (view.url, view.locks(), view.versions(), list(view.prove())) == (truth.url, None, None, [])


def test_a_hidden_object_is_gone_and_can_be_put_back(truth: MemoryStore, tmp_path: Path) -> None:
    """As after a removal: no call finds it, and healing may store it again, over the true one."""
    view = seen(truth, tmp_path, Harm(hidden=("packs/aa/one",)))
    assert keys(view) == ["packs/bb/two"]
    for ask in (view.get, view.info, lambda key: view.get_range(key, 0, 1)):
        with pytest.raises(NotFound):
            ask("packs/aa/one")
    view.put("packs/aa/one", b"0123456789")
    assert keys(view, "packs/aa") == ["packs/aa/one"]
    assert view.get("packs/aa/one") == b"0123456789"


def test_one_bit_is_wrong_however_it_is_read(truth: MemoryStore, tmp_path: Path) -> None:
    """The same byte is spoiled in the whole object and in every range that has it, and in no other."""
    view = seen(truth, tmp_path, Harm(rotten={"packs/aa/one": 4}))
    assert view.get("packs/aa/one") == b"0123556789"
    assert [view.get_range("packs/aa/one", *part) for part in ((4, 1), (3, 3), (0, 4), (5, 5))] == [
        b"5",
        b"355",
        b"0123",
        b"56789",
    ]
    assert view.get("packs/bb/two") == b"abc"
    with pytest.raises(IntegrityError):
        view.get_range("packs/aa/one", 8, 9)


def test_a_silent_store_answers_nothing_and_a_slow_one_takes_its_time(truth: MemoryStore, tmp_path: Path) -> None:
    """A region that is gone is told as any store that does not answer; a slow one gives the same bytes."""
    gone = seen(truth, tmp_path, Harm(silent=True))
    for ask in (gone.get, gone.info, gone.list, lambda key: gone.put(key, b"x")):
        with pytest.raises(StoreUnavailable, match="does not answer"):
            ask("packs/aa/one")
    slow = seen(truth, tmp_path, Harm(delay=0.05))
    began = time.monotonic()
    assert slow.get("packs/bb/two") == b"abc"
    assert time.monotonic() - began >= 0.05
