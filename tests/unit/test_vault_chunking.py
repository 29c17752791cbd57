"""Content-defined chunks."""

from __future__ import annotations

import random
from collections.abc import Iterator

from fastcdc.fastcdc_cy import fastcdc_cy
from hypothesis import given, settings
from hypothesis import strategies as st

from muster.vault.buffers import fresh_buffer
from muster.vault.chunking import AVERAGE, MAXIMUM, MINIMUM, ROOM, Chunker
from vaults import noise

NOISE = noise(24 * 1024 * 1024)
ZEROS = bytes(len(NOISE))
MOST = ROOM - MAXIMUM
GOLDEN = [770566, 1215832, 1857006, 734565, 747946, 1158184, 1060761, 583572, 260176]


def chunks(blocks: list[bytes]) -> Iterator[memoryview]:
    """Views that are good until the next is asked for."""
    chunker = Chunker(fresh_buffer(ROOM))
    for block in (part for long in blocks for part in cut(long, [MOST] * (len(long) // MOST))):
        chunker.next(MOST)[: len(block)] = block
        yield from chunker.feed(len(block))
    yield from chunker.finish()


def lengths(blocks: list[bytes]) -> list[int]:
    return [len(chunk) for chunk in chunks(blocks)]


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    blocks, start = [], 0
    for size in sizes:
        blocks.append(data[start : start + size])
        start += size
    return [*blocks, data[start:]]


@settings(max_examples=25, deadline=None)
@given(
    data=st.sampled_from([NOISE, ZEROS, NOISE[: 9 << 20] + ZEROS[: 9 << 20]]),
    start=st.integers(0, 1 << 20),
    length=st.integers(0, 20 << 20),
    blocks=st.lists(st.integers(0, 9 << 20), max_size=12),
)
def test_a_stream_in_blocks_is_cut_where_the_whole_would_be(
    data: bytes, start: int, length: int, blocks: list[int]
) -> None:
    """However the bytes arrive, the chunks are those that FastCDC finds in all of them at once."""
    whole = data[start : start + length]
    expected = [chunk.length for chunk in fastcdc_cy(whole, MINIMUM, AVERAGE, MAXIMUM)]
    assert lengths(cut(whole, blocks)) == expected
    assert sum(expected) == len(whole)


def test_chunks_keep_to_their_bounds() -> None:
    """All but the last chunk are between the minimum and the maximum, and noise gives about the average."""
    sizes = lengths([NOISE])
    assert all(MINIMUM <= size <= MAXIMUM for size in sizes[:-1])
    assert AVERAGE / 2 < sum(sizes) / len(sizes) < AVERAGE * 2


def test_an_inserted_byte_moves_only_the_cuts_beside_it() -> None:
    """After an insertion the same chunks are found again."""
    changed = NOISE[: 10 << 20] + b"!" + NOISE[10 << 20 :]
    before, after = (set(map(bytes, chunks([data]))) for data in (NOISE, changed))
    assert len(after - before) <= 3


def test_the_cut_points_of_format_1_never_change() -> None:
    """Another FastCDC table or another bound would silently end all deduplication: these lengths were written down once."""
    data = random.Random(20261123).randbytes(8 * 1024 * 1024)
    assert lengths([data]) == GOLDEN
