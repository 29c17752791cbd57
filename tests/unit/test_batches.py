"""Lists of things that come one after the other: all of them, in order, none too long, none too heavy, none needlessly short."""

from __future__ import annotations

from itertools import chain, pairwise

from hypothesis import given
from hypothesis import strategies as st

from muster.batches import batched, batched_by


@given(items=st.lists(st.integers()), size=st.integers(1, 9))
def test_so_many_at_a_time(items: list[int], size: int) -> None:
    """Each list but the last is full."""
    lists = list(batched(items, size))
    assert list(chain(*lists)) == items
    assert all(len(some) == size for some in lists[:-1])
    assert all(0 < len(some) <= size for some in lists)


@given(items=st.lists(st.text(max_size=9)), heaviest=st.integers(0, 20), most=st.none() | st.integers(1, 4))
def test_so_much_at_a_time(items: list[str], heaviest: int, most: int | None) -> None:
    """Too heavy is only what is alone; and where a list ends, the next item had no room in it."""
    lists = list(batched_by(len, items, heaviest, most))
    assert list(chain(*lists)) == items
    assert all(len(some) == 1 or sum(map(len, some)) <= heaviest for some in lists)
    assert most is None or all(len(some) <= most for some in lists)
    for some, following in pairwise(lists):
        assert len(some) == most or sum(map(len, [*some, following[0]])) > heaviest


def test_nothing_is_taken_before_it_is_asked_for() -> None:
    """Of an endless source a list can be had."""
    endless = iter(int, 1)
    assert next(batched(endless, 3)) == [0, 0, 0]
    assert next(batched_by(lambda _: 1, endless, 2)) == [0, 0]
