"""Content-defined chunks."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muster.vault.buffers import fresh_buffer
from muster.vault.chunking import AVERAGE, CUTTERS, MAXIMUM, MINIMUM, OF_FILES, OF_LISTS, ROOM, Chunker, Sizes
from vaults import noise

NOISE = noise(24 * 1024 * 1024)
ZEROS = bytes(len(NOISE))
MOST = ROOM - MAXIMUM
GOLDEN = {
    "fastcdc": [770566, 1215832, 1857006, 734565, 747946, 1158184, 1060761, 583572, 260176],
    "fastcdc-2020": [1097029, 1139407, 1082448, 1249598, 1528956, 1534338, 316575, 440257],
}
every_cutter = pytest.mark.parametrize("name", sorted(CUTTERS))


def chunks(name: str, blocks: list[bytes], sizes: Sizes = OF_FILES) -> Iterator[memoryview]:
    """Views that are good until the next is asked for."""
    chunker = Chunker(fresh_buffer(ROOM), CUTTERS[name], sizes)
    for block in (part for long in blocks for part in cut(long, [MOST] * (len(long) // MOST))):
        chunker.next(MOST)[: len(block)] = block
        yield from chunker.feed(len(block))
    yield from chunker.finish()


def lengths(name: str, blocks: list[bytes], sizes: Sizes = OF_FILES) -> list[int]:
    return [len(chunk) for chunk in chunks(name, blocks, sizes)]


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    blocks, start = [], 0
    for size in sizes:
        blocks.append(data[start : start + size])
        start += size
    return [*blocks, data[start:]]


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(sorted(CUTTERS)),
    data=st.sampled_from([NOISE, ZEROS, NOISE[: 9 << 20] + ZEROS[: 9 << 20]]),
    start=st.integers(0, 1 << 20),
    length=st.integers(0, 20 << 20),
    blocks=st.lists(st.integers(0, 9 << 20), max_size=12),
)
def test_a_stream_in_blocks_is_cut_where_the_whole_would_be(
    name: str, data: bytes, start: int, length: int, blocks: list[int]
) -> None:
    """However the bytes arrive, the chunks are those that FastCDC finds in all of them at once."""
    whole = data[start : start + length]
    expected = list(CUTTERS[name](memoryview(whole), OF_FILES))
    assert lengths(name, cut(whole, blocks)) == expected
    assert sum(expected) == len(whole)


@every_cutter
def test_chunks_keep_to_their_bounds(name: str) -> None:
    """All but the last chunk are between the minimum and the maximum, and noise gives about the average."""
    sizes = lengths(name, [NOISE])
    assert all(MINIMUM <= size <= MAXIMUM for size in sizes[:-1])
    assert AVERAGE / 2 < sum(sizes) / len(sizes) < AVERAGE * 2


@every_cutter
def test_lists_are_cut_into_small_pieces(name: str) -> None:
    """The sizes are those that are asked for."""
    sizes = lengths(name, [NOISE[: 1 << 20]], OF_LISTS)
    assert all(OF_LISTS.minimum <= size <= OF_LISTS.maximum for size in sizes[:-1])
    assert OF_LISTS.average / 2 < sum(sizes) / len(sizes) < OF_LISTS.average * 2


@every_cutter
def test_an_inserted_byte_moves_only_the_cuts_beside_it(name: str) -> None:
    """After an insertion the same chunks are found again."""
    changed = NOISE[: 10 << 20] + b"!" + NOISE[10 << 20 :]
    before, after = (set(map(bytes, chunks(name, [data]))) for data in (NOISE, changed))
    assert len(after - before) <= 3


@every_cutter
def test_the_cut_points_of_format_1_never_change(name: str) -> None:
    """Another FastCDC table or another bound would silently end all deduplication: these lengths were written down once."""
    data = random.Random(20261123).randbytes(8 * 1024 * 1024)
    assert lengths(name, [data]) == GOLDEN[name]
