"""The audit trail tells of everything, and checking it stays cheap however long it grows."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from fakes import FrozenClock, MemoryStore
from muster.errors import IntegrityError
from muster.vault.audit import AuditRecord, check_chain
from muster.vault.layout import digest, point_key
from vaults import ACTOR, make_vault, point_over, reopen, store_tree

NOW = FrozenClock().now()


def record(seq: int, parents: tuple[str, ...], before: int, name: str) -> AuditRecord:
    return AuditRecord("v", seq, parents, before, NOW, ACTOR, "act", "x", "ok", {}, name)


def forked_trail(length: int, seed: int) -> list[AuditRecord]:
    """A trail to which machines appended that had listed it up to five records ago; oldest first."""
    chance = random.Random(seed)
    trail = [record(0, (), 0, "0")]
    for number in range(1, length):
        seen = trail[: max(1, len(trail) - chance.choice((0, 0, 0, 1, 5)))]
        named = {parent for known in seen for parent in known.parents}
        heads = [known for known in seen if known.digest not in named]
        seq = max(head.seq for head in heads) + 1
        trail.append(record(seq, tuple(head.digest for head in heads), len(seen), str(number)))
    return sorted(trail, key=lambda known: (known.seq, known.digest))


@pytest.mark.parametrize("seed", range(20))
def test_a_trail_with_forks_is_whole_and_no_record_of_it_can_be_taken_away(seed: int) -> None:
    """Whatever forked and joined again: a record that any later one follows is missed, and so is one that was altered."""
    trail = forked_trail(60, seed)
    check_chain(trail)
    named = {parent for known in trail for parent in known.parents}
    for number, known in enumerate(trail):
        if known.digest in named:
            with pytest.raises(IntegrityError, match="audit trail is broken"):
                check_chain(trail[:number] + trail[number + 1 :])
        for wrong in (
            record(known.seq, known.parents, known.before + 1, known.digest),
            record(known.seq, known.parents[1:], known.before, known.digest),
        ):
            if wrong != known:
                with pytest.raises(IntegrityError, match="audit trail is broken"):
                    check_chain([*trail[:number], wrong, *trail[number + 1 :]])


def test_checking_a_long_trail_takes_little_memory() -> None:
    """Of 40,000 records each costs some hundred bytes, not a bit for every one before it."""
    trail = [record(n, (str(n - 1),) if n else (), n, str(n)) for n in range(40_000)]
    tracemalloc.start()
    try:
        check_chain(trail)
        assert tracemalloc.get_traced_memory()[1] < 12_000_000
    finally:
        tracemalloc.stop()


def test_a_seal_that_was_killed_before_its_record_is_recorded_by_the_next_try() -> None:
    """Once, with the manifest's digest; so a manifest that is taken away later is missed."""
    store = MemoryStore()
    vault, _ = make_vault(store)
    point = point_over(vault, store_tree(vault, {"a": b"aaa"}))
    vault.seal(point)
    del store.objects[max(key for key in store.objects if key.startswith("audit/"))]
    assert not [known for known in reopen(store).audit() if known.action == "seal"]
    for _ in range(2):
        reopen(store).seal(point)
    (told,) = (known for known in reopen(store).audit() if known.action == "seal")
    key = point_key(point.workload, point.point)
    assert (told.subject, told.outcome, told.details) == (key, "sealed", {"sha256": digest(store.objects[key])})
    del store.objects[key]
    assert key in {finding.object for finding in reopen(store).verify().findings}
