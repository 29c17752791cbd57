"""Every byte of a small vault is damaged, one at a time: each is noticed, and none makes a restore give anything else."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from fakes import FrozenClock, MemoryStore
from faults.snapshots import FILES, examined, take
from muster.domain.recovery_point import Mark
from vaults import make_vault

ALL_BITS = bool(os.environ.get("MUSTER_FAULTS_LONG"))
KINDS = ("vault.json", "RESTORE.md", "keys/", "packs/", "indexes/", "points/", "marks/", "audit/")


@pytest.fixture(scope="module")
def whole() -> MemoryStore:
    """A vault of a few kilobytes with an object of every kind."""
    store = MemoryStore()
    vault, _ = make_vault(store)
    point = take(vault, FILES)
    vault.mark(Mark(point.workload, point.point, "verified", FrozenClock().now()))
    vault.record("look", vault.id, "ok")
    assert examined(store, 0) == ([], FILES)
    return store


def damaged(store: MemoryStore, key: str) -> Iterator[tuple[str, bytes]]:
    """The object with each of its bytes wrong by one bit, which is another one from byte to byte; all eight in a long run."""
    whole = store.objects[key]
    for at in range(len(whole)):
        for bit in range(8) if ALL_BITS else [at % 8]:
            yield f"byte {at} bit {bit}", whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :]


def cut_short(store: MemoryStore, key: str) -> Iterator[tuple[str, bytes]]:
    """The object without its end, at lengths that get shorter by a tenth, and with something added."""
    whole = store.objects[key]
    lengths = {len(whole) - 1, *(len(whole) * tenth // 10 for tenth in range(10))}
    yield from ((f"cut to {length}", whole[:length]) for length in sorted(lengths))
    yield from ((f"more by {end!r}", whole + end) for end in (b"\0", b"\n", b" ", whole))


def unnoticed(store: MemoryStore, key: str, versions: Iterator[tuple[str, bytes]]) -> list[str]:
    """
    Those of the damaged versions of an object that are not named, or with which a restore gives something else.

    A version that nothing is said of is harmless only if it is the same text to every reader: hex digits in another case.
    """
    wrong = []
    whole = store.objects[key]
    try:
        for what, store.objects[key] in versions:
            found, restored = examined(store, 0)
            if not found and store.objects[key].lower() != whole.lower():
                wrong.append(f"{key} {what}: not noticed")
            if found and not any(named(key, line) for line in found):
                wrong.append(f"{key} {what}: noticed, but not named: {found}")
            if isinstance(restored, dict) and restored != FILES:
                wrong.append(f"{key} {what}: restored something else")
    finally:
        store.objects[key] = whole
    return wrong


def named(key: str, line: str) -> bool:
    """Whether a line names an object, by its key or its last part; the header also goes by what it is."""
    return key.rpartition("/")[2] in line or (key == "vault.json" and "Header" in line) or "has format" in line


@pytest.mark.parametrize("kind", KINDS)
def test_no_byte_can_be_wrong_without_notice(whole: MemoryStore, kind: str) -> None:
    """A verification, or opening the vault, names the object; a restore gives the same files or an error of ours."""
    keys = [key for key in whole.objects if key.startswith(kind)]
    assert keys
    assert [line for key in keys for line in unnoticed(whole, key, damaged(whole, key))] == []


@pytest.mark.parametrize("kind", KINDS)
def test_no_object_can_be_cut_or_lengthened_without_notice(whole: MemoryStore, kind: str) -> None:
    """As above, for lengths."""
    keys = [key for key in whole.objects if key.startswith(kind)]
    assert [line for key in keys for line in unnoticed(whole, key, cut_short(whole, key))] == []


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("vault.json", "indexes/")])
def test_no_object_can_be_taken_away_without_notice(whole: MemoryStore, kind: str) -> None:
    """What is gone is named, unless it is a mere cache, or the newest record of the audit trail: only a later one names that."""
    newest = max(key for key in whole.objects if key.startswith("audit/"))
    for key in [key for key in whole.objects if key.startswith(kind) and key != newest]:
        without = MemoryStore()
        without.objects = {name: data for name, data in whole.objects.items() if name != key}
        found, restored = examined(without, 0)
        assert found, f"{key} is gone, and nothing says so"
        assert restored == FILES or not isinstance(restored, dict)
