"""Every byte of a small vault is damaged, one at a time: each is noticed, and none makes a restore give anything else."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

from fakes import MemoryStore
from faults.snapshots import FILES, examined, grown_vault, plain_vault

LONG = bool(os.environ.get("MUSTER_FAULTS_LONG"))
EVERY = {"RESTORE.md": 8, "condemned/": 3, "damaged/": 3, "generations/": 4, "rolls/": 3}
"""Of these kinds, only each so many-th byte is tried in a short run, from a place that changes from run to run."""
PLAIN = ("vault.json", "RESTORE.md", "keys/", "packs/", "indexes/", "points/", "marks/", "audit/")
GROWN = ("condemned/", "damaged/", "generations/", "rolls/")


@pytest.fixture(scope="module")
def plain() -> MemoryStore:
    """A vault that is not damaged yet."""
    return plain_vault()


@pytest.fixture(scope="module")
def grown() -> MemoryStore:
    """One that is older."""
    store = grown_vault()
    assert all(keys_of(store, kind) for kind in GROWN)
    return store


def keys_of(store: MemoryStore, kind: str) -> list[str]:
    """The objects of a kind."""
    return [key for key in store.objects if key.startswith(kind)]


def damaged(whole: bytes, every: int) -> Iterator[tuple[str, bytes]]:
    """The object with each of its bytes wrong by one bit, which is another one from byte to byte; all eight in a long run."""
    step = 1 if LONG else every
    for at in range(random.randrange(step), len(whole), step):
        for bit in range(8) if LONG else [at % 8]:
            yield f"byte {at} bit {bit}", whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :]


def resized(whole: bytes) -> Iterator[tuple[str, bytes]]:
    """The object without its end, at lengths that get shorter by a tenth, and with something added."""
    lengths = {len(whole) - 1, *(len(whole) * tenth // 10 for tenth in range(10))}
    yield from ((f"cut to {length}", whole[:length]) for length in sorted(lengths))
    yield from ((f"more by {end!r}", whole + end) for end in (b"\0", b"\n", b" ", whole))


def unnoticed(store: MemoryStore, key: str, versions: Iterator[tuple[str, bytes]]) -> list[str]:
    """Those of the damaged versions of an object that are not named, or with which a restore gives something else."""
    wrong = []
    whole = store.objects[key]
    try:
        for what, store.objects[key] in versions:
            found, restored = examined(store, 0)
            if not any(named(key, line) for line in found):
                wrong.append(f"{key} {what}: not named in {found}")
            if isinstance(restored, dict) and restored != FILES:
                wrong.append(f"{key} {what}: restored something else")
    finally:
        store.objects[key] = whole
    return wrong


def named(key: str, line: str) -> bool:
    """Whether a line names an object, by its key or its last part; or says that the vault is of a format yet to come."""
    return key.rpartition("/")[2] in line or "has format" in line


@pytest.mark.parametrize("kind", [*PLAIN, *GROWN])
def test_no_byte_can_be_wrong_without_notice(request: pytest.FixtureRequest, kind: str) -> None:
    """A verification, or opening the vault, names the object; a restore gives the same files or an error of ours."""
    store = request.getfixturevalue("plain" if kind in PLAIN else "grown")
    keys = keys_of(store, kind)
    every = EVERY.get(kind, 1)
    assert [line for key in keys for line in unnoticed(store, key, damaged(store.objects[key], every))] == []


@pytest.mark.parametrize("kind", [*PLAIN, *GROWN])
def test_no_object_can_be_cut_or_lengthened_without_notice(request: pytest.FixtureRequest, kind: str) -> None:
    """As above, for lengths."""
    store = request.getfixturevalue("plain" if kind in PLAIN else "grown")
    keys = keys_of(store, kind)
    assert [line for key in keys for line in unnoticed(store, key, resized(store.objects[key]))] == []


def assert_none_goes_unnoticed(store: MemoryStore, kind: str) -> None:
    """Take each object of a kind away; the newest record of the trail is left, since only a later one would name it."""
    newest = max(keys_of(store, "audit/"))
    for key in [key for key in keys_of(store, kind) if key != newest]:
        without = MemoryStore()
        without.objects = {name: data for name, data in store.objects.items() if name != key}
        found, restored = examined(without, 0)
        assert found, f"{key} is gone, and nothing says so"
        assert restored == FILES or not isinstance(restored, dict)


@pytest.mark.parametrize("kind", ["vault.json", "RESTORE.md", "keys/", "packs/", "points/", "marks/", "audit/"])
def test_no_object_can_be_taken_away_without_notice(plain: MemoryStore, kind: str) -> None:
    """What is gone is named, unless it is a mere cache, or the newest record of the audit trail: only a later one names that."""
    assert_none_goes_unnoticed(plain, kind)


@pytest.mark.parametrize("kind", ["generations/", "rolls/", "points/", "audit/"])
def test_what_a_rotation_wrote_cannot_be_taken_away_without_notice(grown: MemoryStore, kind: str) -> None:
    """As above; without its newest generation a vault is what it was before, with a trail that the old key has not signed."""
    assert_none_goes_unnoticed(grown, kind)
