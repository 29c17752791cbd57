"""The faults that other tests rely on do happen, where and as often as they say."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

import muster
from fakes import Fault, FaultyStore, FrozenClock, MemoryStore
from muster.errors import NotFound, StoreUnavailable

_DIES = """
import sys
from pathlib import Path
from fakes import Fault, FaultyStore
from muster.adapters.local_store import LocalStore

store = FaultyStore(LocalStore(Path(sys.argv[1])), Fault(sys.argv[2], "put", at=2))
for key in "abc":
    store.put(key, b"x")
"""


@pytest.mark.parametrize(("kind", "stored"), [("fail", False), ("full", False), ("lose_answer", True)])
def test_a_put_fails(kind: str, stored: bool) -> None:
    """Only the named call fails, and the object is there exactly if the answer alone was lost."""
    store = FaultyStore(MemoryStore(), Fault(kind, "put", at=2, prefix="packs/"))
    store.put("packs/1", b"x")
    store.put("other", b"x")
    with pytest.raises(StoreUnavailable):
        store.put("packs/2", b"x")
    store.put("packs/3", b"x")
    assert ("packs/2" in {info.key for info in store.list()}) is stored


@pytest.mark.parametrize(("kind", "given"), [("truncate", b"01234"), ("flip", b"0123446789")])
def test_bytes_are_damaged(kind: str, given: bytes) -> None:
    """Damage on the way back leaves the object alone, damage on the way in stays."""
    inner = MemoryStore()
    store = FaultyStore(inner, Fault(kind, "get"), Fault(kind, "put", at=2))
    store.put("a", b"0123456789")
    assert store.get("a") == given
    assert store.get("a") == b"0123456789"
    store.put("b", b"0123456789")
    assert inner.get("b") == given


@pytest.mark.parametrize(("kind", "left"), [("kill", ["a"]), ("kill_after", ["a", "b"])])
def test_the_process_is_killed(tmp_path: Path, kind: str, left: list[str]) -> None:
    """The process is gone before the call, or right after it."""
    path = f"{Path(muster.__file__).parents[1]}:{Path(__file__).parents[1]}"
    done = subprocess.run([sys.executable, "-c", _DIES, str(tmp_path), kind], env={"PYTHONPATH": path})
    assert done.returncode == -signal.SIGKILL
    assert sorted(file.name for file in tmp_path.iterdir()) == left


def test_a_fault_can_last_and_be_mended() -> None:
    """A fault without an end hits until it is taken away; every call is on record."""
    store = FaultyStore(MemoryStore(), Fault("fail", times=None))
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            store.info("a")
    store.faults.clear()
    with pytest.raises(NotFound):
        store.info("a")
    assert store.calls == [("info", "a")] * 4


def test_the_clock_stands_still() -> None:
    """Time passes when it is told to."""
    clock = FrozenClock()
    before = clock.now()
    assert clock.now() == before
    assert clock.advance(90) == clock.now()
    assert (clock.now() - before).total_seconds() == 90
